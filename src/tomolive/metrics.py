"""Prometheus metrics, one name for each, declared in one place so that no two mean different things."""

from prometheus_client import Counter, Gauge

__all__ = ["Counter", "Gauge"]

VIEWERS = Gauge("tomolive_page_viewers", "pages that are open now")
PICTURES_SENT = Counter("tomolive_page_pictures_sent", "pictures sent to pages")
WISHES = Counter("tomolive_page_wishes", "changes asked for on a page or through the API")

PUBLISHER_LOST = Counter("tomolive_publisher_lost", "documents that could not be encoded or spooled")
PUBLISHER_REFUSED = Counter("tomolive_publisher_refused", "documents that the hub refused")
PUBLISHER_WAITING = Gauge("tomolive_publisher_waiting", "documents in the spool")
HUB_IN = Counter("tomolive_hub_documents_in", "documents journaled")
HUB_OUT = Counter("tomolive_hub_documents_out", "documents sent to consumers, once for each")
HUB_DUPLICATES = Counter("tomolive_hub_duplicates", "documents that came again and were dropped")
HUB_REFUSED = Counter("tomolive_hub_refused", "documents that were not valid")
HUB_DENIED = Counter("tomolive_hub_denied", "peers that were refused")
HUB_JOURNAL_BYTES = Gauge("tomolive_hub_journal_bytes", "size of the journal")
HUB_JOURNAL_DOCUMENTS = Gauge("tomolive_hub_journal_documents", "documents in the journal")
HUB_LAG = Gauge("tomolive_hub_cursor_lag", "documents that a named cursor is behind", ["cursor"])
HUB_CURSORS_EXPIRED = Counter("tomolive_hub_cursors_expired", "named cursors that nobody used for too long")
HUB_SPOOLED = Gauge("tomolive_hub_spooled", "documents that a connected Publisher still holds", ["publisher"])
HUB_STOCK_LOST = Counter(
    "tomolive_hub_stock_lost", "documents known to be lost to RemoteDispatchers of bluesky that took none"
)
HUB_FULL = Gauge("tomolive_hub_journal_refuses", "1 while the journal takes no documents")
DISPATCHER_DOCUMENTS = Counter("tomolive_dispatcher_documents", "documents given to callbacks")
DISPATCHER_ERRORS = Counter("tomolive_dispatcher_errors", "callbacks that raised")
DISPATCHER_LOST = Counter("tomolive_dispatcher_lost", "documents that the hub no longer had")

LIVE_PROJECTIONS = Counter("tomolive_live_projections", "projections that were reconstructed")
LIVE_MISSING = Counter("tomolive_live_missing", "projections of finished scans that no file held")
LIVE_SCANS = Counter("tomolive_live_scans", "tomography scans that are over", ["outcome"])
LIVE_LAG = Gauge("tomolive_live_lag_seconds", "from a frame's announcement to the picture that holds it")

FRAMES_READ = Counter("tomolive_files_frames", "announced frames that were read")
BYTES_READ = Counter("tomolive_files_bytes", "bytes of the frames that were read")
FRAMES_LATE = Counter("tomolive_files_late", "announced frames that did not come in time")
FRAMES_MISSING = Counter("tomolive_files_missing", "announced frames that were given up")

"""Prometheus metrics, one name for each, declared in one place so that no two mean different things."""

from prometheus_client import Counter, Gauge

__all__ = ["Counter", "Gauge"]

VIEWERS = Gauge("tomolive_page_viewers", "pages that are open now")
PICTURES_SENT = Counter("tomolive_page_pictures_sent", "pictures sent to pages")
WISHES = Counter("tomolive_page_wishes", "changes asked for on a page or through the API")

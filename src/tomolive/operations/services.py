"""Where each service tells how it is, and what it says."""

import http.client
import time
from email.utils import parsedate_to_datetime
from urllib.parse import urlsplit

from tomolive.config import Settings

TIMEOUT_S = 3.0


def service_urls(settings: Settings) -> dict[str, str]:
    """Return key and address of what tells how each service is."""
    urls = {"hub.http": f"http://{settings.hub.http}/healthz"}
    if settings.page.listen:
        urls["page.listen"] = f"http://{settings.page.listen}/healthz"
    if settings.archive.http:
        urls["archive.http"] = f"http://{settings.archive.http}/healthz"
    if settings.catalog.uri:
        parts = urlsplit(settings.catalog.uri)
        urls["catalog.uri"] = f"{parts.scheme}://{parts.netloc}/healthz"
    elif settings.catalog.directory:
        urls["catalog.listen"] = f"http://{settings.catalog.listen}/healthz"
    return {key: url.replace("//0.0.0.0:", "//127.0.0.1:") for key, url in urls.items()}


def fetch(url: str) -> tuple[int, float | None, bytes] | str:
    """Return code, by how many seconds the clock there is ahead, and body; or in words why there is none."""
    parts = urlsplit(url)
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    try:
        connection = kind(parts.hostname or "", parts.port, timeout=TIMEOUT_S)
        try:
            connection.request("GET", parts.path or "/")
            answer = connection.getresponse()
            date, body = answer.getheader("Date"), answer.read()
        finally:
            connection.close()
    except (OSError, http.client.HTTPException) as error:
        return getattr(error, "strerror", None) or str(error) or type(error).__name__
    ahead = parsedate_to_datetime(date).timestamp() - time.time() if date else None
    # The header is cut to whole seconds.
    return answer.status, ahead if ahead is None or ahead > 0 or ahead < -1 else 0.0, body

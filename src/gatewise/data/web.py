"""Robust HTTP requests for one file from an untrusted or slow server."""

import threading
import urllib.error
import urllib.parse
import urllib.request
from typing import Any

from gatewise.errors import DataError
from gatewise.wording import option

PATIENCE_S = 60.0
"""Timeout in seconds of each network operation, and of the whole request until the response starts."""


def is_address(url: str) -> bool:
    """Return whether a text is a valid http or https URL in printable ASCII."""
    try:
        parts = urllib.parse.urlsplit(url)
        known = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False
    return known and url.isascii() and url.isprintable() and " " not in url


def ask(url: str, first: int) -> Any:
    """Request a file from byte ``first`` on, and return the ``urllib`` response once it starts.

    The request runs in its own thread, because a server that sends one byte per minute never triggers the timeout of a
    single operation.

    Raises:
        DataError: the server redirects to something other than http or https, in a loop, or from https to http.
        OSError, http.client.HTTPException, ValueError: from ``urllib``.
    """
    opener = urllib.request.OpenerDirector()  # unlike Python's default, no ftp: and no file:
    for handler in (
        urllib.request.ProxyHandler(),
        urllib.request.HTTPHandler(),
        urllib.request.HTTPSHandler(),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPErrorProcessor(),
        urllib.request.UnknownHandler(),
        _Redirects(),
    ):
        opener.add_handler(handler)
    request = urllib.request.Request(url, headers={"Range": f"bytes={first}-"} if first else {})
    found: list[Any] = []

    def ask() -> None:
        try:
            found.append(opener.open(request, timeout=PATIENCE_S))
        except Exception as problem:  # raised again in the calling thread
            found.append(problem)

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(PATIENCE_S)
    if not found:
        raise TimeoutError(f"no response within {PATIENCE_S:.0f} seconds")
    if isinstance(found[0], Exception):
        raise found[0]
    return found[0]


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects only to http or https, and from https only to https."""

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        """Return the request for the new URL."""
        if not is_address(newurl) or (req.type == "https" and not newurl.lower().startswith("https:")):
            raise DataError(
                f"{req.full_url}: the server redirects to {newurl!r}; expected https, try another {option('mirror')}"
            )
        return super().redirect_request(req, fp, code, msg, headers, newurl)

    def http_error_302(self, req: Any, fp: Any, code: int, msg: str, headers: Any) -> Any:
        """Follow a redirect; Python's own handler fails on an invalid URL."""
        try:
            return super().http_error_302(req, fp, code, msg, headers)
        except ValueError as problem:
            raise DataError(
                f"{req.full_url}: invalid redirect ({problem}); try later, or use another {option('mirror')}"
            ) from None
        except urllib.error.HTTPError as problem:
            if "infinite loop" in str(problem.reason):
                raise DataError(
                    f"{req.full_url}: redirect loop; try later, or use another {option('mirror')}"
                ) from None
            raise

    http_error_301 = http_error_303 = http_error_307 = http_error_308 = http_error_302

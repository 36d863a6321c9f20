"""One file asked of a server on the web, which may answer anything and at any pace."""

import threading
import urllib.error
import urllib.parse
import urllib.request
from typing import Any

from gatewise.errors import DataError

PATIENCE_S = 60.0
"""Seconds of one wait for the server, and of all it does until its answer begins."""


def is_address(url: str) -> bool:
    """Whether a text is an address of http or https, in letters that may stand in one."""
    try:
        parts = urllib.parse.urlsplit(url)
        known = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False
    return known and url.isascii() and url.isprintable() and " " not in url


def ask(url: str, first: int) -> Any:
    """Ask for a file from a byte on, and return the answer once it begins, as ``urllib`` does.

    The wait is done in a thread of its own: a server that sends a byte a minute keeps every single wait short.

    Raises:
        DataError: the server leads elsewhere than to the web, in a circle, or from https to http.
        OSError, http.client.HTTPException, ValueError: as ``urllib`` does.
    """
    opener = urllib.request.OpenerDirector()  # no ftp and no file, as Python's own would have
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
        except Exception as problem:  # it is raised below, where it can be caught
            found.append(problem)

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(PATIENCE_S)
    if not found:
        raise TimeoutError(f"no answer within {PATIENCE_S:.0f} seconds")
    if isinstance(found[0], Exception):
        raise found[0]
    return found[0]


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows to the web alone, and from https to https alone."""

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        """Return the request of the new address."""
        if not is_address(newurl) or (req.type == "https" and not newurl.lower().startswith("https:")):
            raise DataError(f"{req.full_url}: the server leads to {newurl!r}; expected https, try another --mirror")
        return super().redirect_request(req, fp, code, msg, headers, newurl)

    def http_error_302(self, req: Any, fp: Any, code: int, msg: str, headers: Any) -> Any:
        """Follow a redirect; Python's own loses its way in an address that is none."""
        try:
            return super().http_error_302(req, fp, code, msg, headers)
        except ValueError as problem:
            raise DataError(
                f"{req.full_url}: the server leads to no address ({problem}); try later, or another --mirror"
            ) from None
        except urllib.error.HTTPError as problem:
            if "infinite loop" in str(problem.reason):
                raise DataError(
                    f"{req.full_url}: the server leads in a circle; try later, or another --mirror"
                ) from None
            raise

    http_error_301 = http_error_303 = http_error_307 = http_error_308 = http_error_302

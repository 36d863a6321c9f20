"""What every request passes first: where it comes from, and its key. An ASGI middleware."""

import base64
import binascii
import hmac
import ipaddress
import re
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from gatewise.serving.refusals import Refusal
from gatewise.wording import option

PROTOCOL = "gatewise"
"""The subprotocol of the WebSocket; with ``.key.`` and the key in base64url, another brings the key."""
_KEY_PROTOCOL = f"{PROTOCOL}.key."
_OPEN = ("/v1/", "/metrics", "/openapi.json")
"""The paths that need the key begin so; the page asks for it, and the probes of a balancer have none."""


class Guard:
    """Refuses requests from elsewhere, and those without the key.

    A page of another site that asks this server, by a name that its owner lets point here, has a foreign Host; one that
    asks by the server's own name has a foreign Origin.

    Args:
        app: what is guarded.
        key: what clients must send, if anything.
        hosts: the names of this server besides loopback's.
    """

    def __init__(self, app: ASGIApp, key: str | None, hosts: Sequence[str] = ()) -> None:
        self._app, self._key = app, key.encode() if key is not None else None
        self._hosts = {host.lower() for host in hosts}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        try:
            self._check_origin(headers)
            if scope["path"].startswith(_OPEN):
                self._check_key(headers)
        except Refusal as refusal:
            await _refuse(refusal.response(), scope, receive, send)
            return
        await self._app(scope, receive, send)

    def _check_origin(self, headers: Headers) -> None:
        host = headers.get("host", "")
        if not self._is_ours(host):
            raise Refusal(
                403,
                f"the Host is not this server's; {option('allow_host', 'NAME')} adds one",
                "forbidden_host",
            )
        origin = headers.get("origin")
        if origin is None:
            return
        found = urlsplit(origin).netloc.lower() if origin.startswith(("http://", "https://")) else ""
        if found != host.lower() and not (found and self._is_ours(found) and not _is_loopback(_name(found))):
            raise Refusal(403, "the Origin is another site; expected this server's own page", "forbidden_origin")

    def _is_ours(self, host: str) -> bool:
        name = _name(host)
        return _is_loopback(name) or name in self._hosts

    def _check_key(self, headers: Headers) -> None:
        if self._key is not None and not hmac.compare_digest(_sent(headers), self._key):
            raise Refusal(401, "a key is needed; send it as Authorization: Bearer KEY")


def is_loopback(host: str) -> bool:
    """Return whether only this machine can reach an address to listen on."""
    return _is_loopback(host.lower())


def host_name(host: str) -> str | None:
    """Return a name to be allowed as it is in a request, in lower case; None where no request has it so."""
    name = host.lower()
    try:
        return str(ipaddress.ip_address(name.removeprefix("[").removesuffix("]")))
    except ValueError:
        return name if re.fullmatch("[a-z0-9_-][a-z0-9_.-]*", name) else None


def _name(host: str) -> str:
    """Return the name in HOST or HOST:PORT, in lower case; "" where it is neither."""
    try:
        found = urlsplit(f"//{host}")
        _ = found.port
        return (found.hostname or "").lower() if found.netloc == host and "@" not in host else ""
    except ValueError:
        return ""


def _is_loopback(name: str) -> bool:
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return name == "localhost"


def _sent(headers: Headers) -> bytes:
    """Return the key that a client sends, or nothing."""
    scheme, _, key = headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        return key.strip().encode()
    for protocol in headers.get("sec-websocket-protocol", "").split(","):
        encoded = protocol.strip()
        if encoded.startswith(_KEY_PROTOCOL):
            padded = encoded.removeprefix(_KEY_PROTOCOL) + "==="
            try:
                return base64.urlsafe_b64decode(padded[: len(padded) // 4 * 4])
            except (binascii.Error, ValueError):
                return b""
    return b""


async def _refuse(response: Response, scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "http":
        await response(scope, receive, send)
        return
    await refuse_handshake(response, send)


async def refuse_handshake(response: Response, send: Send) -> None:
    """Answer the handshake of a WebSocket with a response of HTTP."""
    start: dict[str, Any] = {"status": response.status_code, "headers": response.raw_headers}
    await send({"type": "websocket.http.response.start", **start})
    await send({"type": "websocket.http.response.body", "body": response.body})

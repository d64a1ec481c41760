"""What stands before every page, whoever asks: each is a small ASGI middleware that refuses, or passes on.

SecurityHeaders   every answer tells browsers what they may do with it: scripts of ours alone, no frame, no copy kept
KnownHosts        400 unless the Host header is an address, this machine or a name of `web.names` (DNS rebinding)
SameOrigin        403 for what changes something unless its Origin is this page (cross-site request forgery)
Bounded           413 for a body over `BODY_BYTES`, 408 for one that takes longer than `BODY_S`
"""

from __future__ import annotations

import asyncio
import ipaddress
import re
import socket
from typing import Final

from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

SECURITY_HEADERS: Final = {
    "content-security-policy": "default-src 'none'; script-src 'self'; connect-src 'self'; img-src 'self' data:; "
    "style-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
    "cache-control": "no-store",
}
"""Of every answer. With referrer-policy `no-referrer` browsers would send `Origin: null` with our own forms.

Scripts are files of this page, never a line within one; pictures in an address (data:) are the viewer's own letters.
"""

UNDER_TLS: Final = {"strict-transport-security": "max-age=31536000"}

BODY_BYTES: Final = 16_384
"""A reason of 1000 characters, percent-encoded, and room."""

BODY_S: Final = 10.0

READING: Final = ("GET", "HEAD")
"""Methods that change nothing."""


class SecurityHeaders:
    """Adds `SECURITY_HEADERS` to every answer; one that the answer has already stays as it is."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, and its answer back with the headers."""
        extra = SECURITY_HEADERS | (UNDER_TLS if scope.get("scheme") == "https" else {})

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                own = list(message.get("headers", ()))
                given = {name.lower() for name, _ in own}
                more = [(name.encode(), value.encode()) for name, value in extra.items()]
                message["headers"] = [*own, *(one for one in more if one[0] not in given)]
            await send(message)

        await self._app(scope, receive, send_with_headers)


class AllowedHosts:
    """Refuses a request that calls the page by a name which is not its own."""

    def __init__(self, app: ASGIApp, names: tuple[str, ...]) -> None:
        self._app = app
        self._names = {*names, "localhost", socket.gethostname().lower()}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or answer 400."""
        if scope["type"] == "http" and not self._known(Headers(scope=scope).getlist("host")):
            text = "This page is not called by that name; the key web.names of the configuration holds its names.\n"
            await PlainTextResponse(text, 400)(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    def _known(self, hosts: list[str]) -> bool:
        found = _HOST.fullmatch(hosts[0].lower()) if len(hosts) == 1 else None
        return found is not None and (found["name"] in self._names or _is_address(found["name"].strip("[]")))


_HOST: Final = re.compile(r"(?P<name>[a-z0-9.-]+|\[[0-9a-f:.]+\])(:[0-9]{1,5})?")


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


class SameOrigin:
    """Refuses what changes something and does not come from a form of this page (RFC 6454; browsers always say)."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or answer 403."""
        if scope["type"] == "http" and scope["method"] not in READING and not _own(scope):
            text = "Only a form of this page may send that; its Origin is another.\n"
            await PlainTextResponse(text, 403)(scope, receive, send)
        else:
            await self._app(scope, receive, send)


def _own(scope: Scope) -> bool:
    headers = Headers(scope=scope)
    mine = f"{scope['scheme']}://{headers.get('host', '')}".lower()
    return [origin.lower() for origin in headers.getlist("origin")] == [mine]


class Bounded:
    """Reads a request's body whole before anybody sees it; one that is too large or too slow is refused."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on with its body, or answer 413 or 408."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        try:
            async with asyncio.timeout(BODY_S):
                body = await _whole(receive)
        except TimeoutError:
            await _close(408, "The request took too long.\n")(scope, receive, send)
            return
        if body is None:
            await _close(413, f"A request to this page holds at most {BODY_BYTES} bytes.\n")(scope, receive, send)
            return
        await self._app(scope, _replay(body, receive), send)


async def _whole(receive: Receive) -> bytes | None:
    """The body; None when it is too large, unread from there."""
    body, more = b"", True
    while more:
        message = await receive()
        body += message.get("body", b"")
        more = message.get("more_body", False)
        if len(body) > BODY_BYTES:
            return None
    return body


def _replay(body: bytes, receive: Receive) -> Receive:
    """What a body that was read already is received by."""
    left: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def again() -> Message:
        return left.pop() if left else await receive()

    return again


def _close(status: int, text: str) -> PlainTextResponse:
    """A refusal after which the connection ends: the rest of the body is not read."""
    return PlainTextResponse(text, status, {"connection": "close"})

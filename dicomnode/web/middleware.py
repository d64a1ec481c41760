"""The checks before every page, for every caller: each is an ASGI middleware that refuses a request or passes it on.

middleware        refuses                                                              against
SecurityHeaders   nothing: it adds headers that restrict what a browser may do         scripts, frames, stored copies
AllowedHosts      400 unless Host is an address, this machine or in `web.names`        DNS rebinding (RFC 9110 7.2)
SameOrigin        403 for a method that changes something and another Origin           request forgery (RFC 6454 7)
BodyLimit         413 for a body over `BODY_BYTES`, 408 for one slower than `BODY_S`   exhausted memory, slow callers
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
"""Headers of every answer (RFC 7034 for x-frame-options, RFC 9111 5.2.2.5 for no-store).

With the referrer-policy `no-referrer`, browsers would send `Origin: null` with our own forms. Scripts are files of this
page and never inline; images in data: addresses are the letters of the viewer.
"""

UNDER_TLS: Final = {"strict-transport-security": "max-age=31536000"}
"""Header of answers over TLS: for a year the browser uses no other transport (RFC 6797 6.1.1)."""

BODY_BYTES: Final = 16_384
"""Longest body: a reason of 1000 characters, percent-encoded (RFC 3986 2.1), and some reserve."""

BODY_S: Final = 10.0
"""Longest time for a body to arrive."""

SAFE_METHODS: Final = ("GET", "HEAD")
"""Methods that change nothing (RFC 9110 9.2.1)."""

HOST: Final = re.compile(r"(?P<name>[a-z0-9.-]+|\[[0-9a-f:.]+\])(:[0-9]{1,5})?")
"""A Host header in lower case: a name, an IPv4 address or an IPv6 address in brackets, and a port (RFC 9110 7.2)."""


class SecurityHeaders:
    """Adds `SECURITY_HEADERS` to every answer; a header that the answer already has stays unchanged."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, and add the headers to its answer."""
        extra = SECURITY_HEADERS | (UNDER_TLS if scope.get("scheme") == "https" else {})

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = list(message.get("headers", ()))
                present = {name.lower() for name, _ in headers}
                added = [(name.encode(), value.encode()) for name, value in extra.items()]
                message["headers"] = headers + [one for one in added if one[0] not in present]
            await send(message)

        await self._app(scope, receive, send_with_headers)


class AllowedHosts:
    """Refuses a request whose Host header is not a name of this page, or appears twice (RFC 9112 3.2)."""

    def __init__(self, app: ASGIApp, names: tuple[str, ...]) -> None:
        self._app = app
        self._names = {*names, "localhost", socket.gethostname().lower()}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or answer 400."""
        if scope["type"] == "http" and not self.knows(Headers(scope=scope).getlist("host")):
            text = "This page is not called by that name; the key web.names of the configuration holds its names.\n"
            await PlainTextResponse(text, 400)(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    def knows(self, hosts: list[str]) -> bool:
        """Return whether the values of the Host header are one IP address or one name of this page."""
        host = HOST.fullmatch(hosts[0].lower()) if len(hosts) == 1 else None
        if host is None or host["name"] in self._names:
            return host is not None
        try:
            ipaddress.ip_address(host["name"].strip("[]"))
        except ValueError:
            return False
        return True


class SameOrigin:
    """Refuses a request that changes something unless its Origin header, which browsers always send, is this page."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or answer 403."""
        if scope["type"] == "http" and scope["method"] not in SAFE_METHODS:
            headers = Headers(scope=scope)
            own = f"{scope['scheme']}://{headers.get('host', '')}".lower()
            if [origin.lower() for origin in headers.getlist("origin")] != [own]:
                text = "Only a form of this page may send that; its Origin is another.\n"
                await PlainTextResponse(text, 403)(scope, receive, send)
                return
        await self._app(scope, receive, send)


class BodyLimit:
    """Reads the whole body of a request before it passes it on; refuses one that is too large or too slow."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on with its body, or answer 413 or 408."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        try:
            async with asyncio.timeout(BODY_S):
                body = await body_of(receive)
        except TimeoutError:
            await refusal(408, "The request took too long.\n")(scope, receive, send)
            return
        if body is None:
            await refusal(413, f"A request to this page holds at most {BODY_BYTES} bytes.\n")(scope, receive, send)
            return
        unread: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

        async def receive_again() -> Message:
            return unread.pop() if unread else await receive()

        await self._app(scope, receive_again, send)


async def body_of(receive: Receive) -> bytes | None:
    """Read the body of a request; return None, and leave the rest unread, if it exceeds `BODY_BYTES`."""
    body, more = b"", True
    while more:
        message = await receive()
        body += message.get("body", b"")
        more = message.get("more_body", False)
        if len(body) > BODY_BYTES:
            return None
    return body


def refusal(status: int, text: str) -> PlainTextResponse:
    """Return an answer after which the connection is closed (RFC 9112 9.6): the rest of the body is not read."""
    return PlainTextResponse(text, status, {"connection": "close"})

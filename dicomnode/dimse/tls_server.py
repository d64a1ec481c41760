"""The TCP ports on which DICOM is spoken: a plain one, one over TLS, or both."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from dicomnode.dimse.server import Server
from dicomnode.errors import PortTaken
from dicomnode.security.tls import Inwards, TlsServer

if TYPE_CHECKING:
    from pynetdicom import AE, evt

    from dicomnode.config.peers import Tls
    from dicomnode.config.sections import Node, Receive
    from dicomnode.dimse.admission import Door


class Ports:
    """The listening sockets of a receiver; all share its limits, and each accepts in a thread of its own."""

    def __init__(self, node: Node, receive: Receive, tls: Tls, door: Door) -> None:
        self._node = node
        self._receive = receive
        self._tls = tls
        self._door = door
        self.plain: Server | None = None
        self.secured: Server | None = None

    def open(self, ae: AE, events: list[evt.EventHandlerType]) -> None:
        """Listen; returns at once. Raises PortTaken, and ConfigError for TLS files that are no good."""
        inwards = None if self._tls.port is None else Inwards(self._tls)
        if self._tls.plain:
            self.plain = self._listening(ae, events, "node.port", self._node.port, {})
        if self._tls.port is not None and inwards is not None:
            more = {
                "server_class": TlsServer,
                "inwards": inwards,
                "handshake_s": self._tls.handshake_s,
                "refused": lambda address, why: self._door.turned_away("tls", "", address, why),
            }
            self.secured = self._listening(ae, events, "tls.port", self._tls.port, more)
            if self.plain is not None:
                self.secured.room, self.secured.waiting = self.plain.room, self.plain.waiting
        for server in self._open():
            threading.Thread(target=server.serve_forever, name="dicom-listener", daemon=True).start()

    def close(self) -> None:
        """Listen no more."""
        for server in self._open():
            server.shutdown()
        self.plain = self.secured = None

    def _open(self) -> list[Server]:
        return [server for server in (self.plain, self.secured) if server is not None]

    def _listening(
        self, ae: AE, events: list[evt.EventHandlerType], key: str, port: int, more: dict[str, Any]
    ) -> Server:
        """A listening socket that does not accept yet."""
        address = (self._node.bind, port)
        named: dict[str, Any] = {"server_class": Server, "limits": self._receive, "admits": self._door.admits}
        try:
            server = ae.make_server(address, evt_handlers=events, **named | more)
        except OSError as error:
            raise PortTaken(key, *address) from error
        assert isinstance(server, Server)
        return server

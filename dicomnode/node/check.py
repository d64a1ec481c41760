"""`sct-node check`: could the node work? `sct-node ready`: does it?"""

from __future__ import annotations

import hashlib
import http.client
import json
import shutil
import socket
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dicomnode.config.peers import EVERYONE, Destination
from dicomnode.config.rules import models_of, unreachable
from dicomnode.delivery.attempt import reach
from dicomnode.dimse import client
from dicomnode.errors import NodeError, NotReady, Undelivered
from dicomnode.ledger.database import database_url
from dicomnode.ledger.ledger import Ledger
from dicomnode.node.supervisor import listening_ports
from dicomnode.notify import channels
from dicomnode.security import tls
from dicomnode.security.tls import when_it_ends
from dicomnode.security.users import Users, check_reachable, users_path
from dicomnode.web.server import Certificate
from models.inference.card import card_path, find
from pipeline.preflight.profile import load_profile

if TYPE_CHECKING:
    from dicomnode.config.load import Config


@dataclass(frozen=True, slots=True)
class Check:
    """One check: its name, whether it is good, and a sentence."""

    name: str
    good: bool
    sentence: str


def checks(config: Config) -> list[Check]:
    """Every check, none stopping the others. That the configuration is valid was shown by loading it."""
    return [
        Check("configuration", True, f"valid; AE title {config.node.ae_title}, data in {config.node.data}"),
        *(_checked(path, _weights(name)) for path, name in models_of(config).items()),
        _checked("rules", lambda: _rules(config)),
        _checked("disk", lambda: _disk(config)),
        _checked("web page", lambda: _page(config)),
        _checked("TLS", lambda: _tls(config)),
        _checked("admission", lambda: _admission(config)),
        _checked("notifications", lambda: _notify(config)),
        _checked("database", lambda: _database(config)),
        *(_checked(f"profile of {one.name}", _profile(one)) for one in config.destinations),
        *(_checked(f"destination {one.name}", _echoes(one, config.node.ae_title)) for one in config.destinations),
    ]


def _checked(name: str, check: Callable[[], str]) -> Check:
    """The check's good sentence, or what it raised."""
    try:
        return Check(name, True, check())
    except (NodeError, OSError, ValueError) as error:
        return Check(name, False, str(error))


def _weights(name: str) -> Callable[[], str]:
    """The weights' SHA-256 is the one in their card (no torch needed to know)."""

    def check() -> str:
        card = find(name)
        found = hashlib.sha256(card_path(name).with_suffix(".safetensors").read_bytes()).hexdigest()
        if found != card.digest:
            raise ValueError(
                f"weights of {card.name} have SHA-256 {found}, the card says {card.digest}: reinstall the model"
            )
        return f"{card.name} {card.version}, weights are those of the card"

    return check


def _rules(config: Config) -> str:
    """Each rule can take a series; that its destinations exist was shown by loading it."""
    lost = [f"'{late.name}' takes nothing, '{early.name}' before it takes all" for late, early in unreachable(config)]
    if lost:
        raise ValueError(f"{'; '.join(lost)}: put the narrower rule first, or take it out")
    ends = "ignored" if config.otherwise is None else "converted"
    return f"{len(config.rules)} rules; a series that none takes is {ends}"


def _disk(config: Config) -> str:
    """More is free than the reserve."""
    folder = config.node.data
    while not folder.exists():
        folder = folder.parent
    free, reserve = shutil.disk_usage(folder).free, config.receive.disk_reserve_bytes
    sentence = f"{free / 2**30:.1f} GiB free at {config.node.data}, reserve {reserve / 2**30:.1f} GiB"
    if free <= reserve:
        raise ValueError(f"{sentence}: make room, instances are refused with 0xA700")
    return sentence


def _page(config: Config) -> str:
    """Who may come in; what `serve` would refuse is refused here."""
    check_reachable(config)
    if config.web.certificate:
        Certificate(config.web)
    users = Users(users_path(config)).all()
    if not users:
        return "everybody on this machine may read it, nobody decides there; sct-node user add NAME --role physicist"
    roles = Counter(user.role.value for user in users.values())
    return "users: " + ", ".join(f"{count} {role}" for role, count in sorted(roles.items()))


def _tls(config: Config) -> str:
    """Every certificate, key and CA is there, fits and is valid now."""
    tls.check(config)
    called = [one.name for one in config.destinations if one.tls is not None]
    outwards = f"; destinations called over TLS: {', '.join(called)}" if called else ""
    if config.tls.port is None:
        return f"port {config.node.port} is plain text, for a protected network{outwards}"
    ends = when_it_ends(config.tls.certificate) if config.tls.certificate else ""
    plain = f", port {config.node.port} plain text" if config.tls.plain else ""
    return f"port {config.tls.port} over TLS{plain}; the certificate ends {ends}{outwards}"


def _admission(config: Config) -> str:
    """Who may call."""
    callers = [one.ae_title for one in config.admission.callers]
    return f"AEs that may call: {', '.join(callers)}" if callers else "any AE that reaches the port may call"


def _notify(config: Config) -> str:
    """Who is told what, and how; nothing is sent: that does `sct-node notify`."""
    settings = config.notify
    ways = [channels.check_mail(settings.mail)] if settings.mail is not None else []
    ways += [channels.check_webhook(settings.webhook)] if settings.webhook is not None else []
    told = f"{', '.join(settings.about)} ({settings.contents}): {'; '.join(ways)}"
    return told if ways else "nobody is told anything; see notify in the configuration"


def _database(config: Config) -> str:
    """It answers; a SQLite file that is not there yet is made at the first start."""
    if config.database == "sqlite" and not (config.node.data / "node.sqlite").exists():
        return "SQLite, made at the first start"
    ledger = Ledger(database_url(config))
    ledger.reach()
    ledger.close()
    return f"{ledger.engine.dialect.name} answers"


def _profile(destination: Destination) -> Callable[[], str]:
    def check() -> str:
        profile = load_profile(destination.profile)
        return f"{profile.name}, {len(profile.rules)} rules, for {profile.purpose}"

    return check


def _echoes(destination: Destination, calling_ae: str) -> Callable[[], str]:
    def check() -> str:
        return reach(destination, calling_ae)

    return check


ANSWER_S = 5.0
"""Within this time the page, /readyz or the receiver answers when it is asked whether the node is ready."""


def wait_until_ready(config: Config, timeout_s: float) -> str:
    """Wait until a node that runs all roles on this machine is ready; return a sentence that says so.

    Raises:
        NotReady: it is not ready after `timeout_s` seconds; the sentence says what was missing last.
    """
    deadline = time.monotonic() + timeout_s
    while (missing := _missing(config)) is not None:
        if time.monotonic() >= deadline:
            raise NotReady(f"the node is not ready after {timeout_s:g} s: {missing}")
        time.sleep(0.25)
    return f"ready: {config.node.ae_title} answers on port {config.node.port}, the page on port {config.web.port}"


def _missing(config: Config) -> str | None:
    """Return what a node lacks to be ready, or None.

    /readyz alone does not show it: after a restart it still knows the last ticks of the processes before it. The
    receiver is asked by C-ECHO (PS3.4 A); where admission or TLS may refuse a caller, an open port has to do.
    """
    connection = http.client.HTTPConnection(_reached(config.metrics.bind), config.metrics.port, timeout=ANSWER_S)
    try:
        connection.request("GET", "/readyz")
        checks: dict[str, str] = json.loads(connection.getresponse().read())["checks"]
    except (OSError, http.client.HTTPException, ValueError, LookupError) as error:
        return f"/readyz does not answer on port {config.metrics.port} ({error})"
    finally:
        connection.close()
    bad = [f"{name}: {found}" for name, found in checks.items() if found != "ok"]
    if bad:
        return f"/readyz says {'; '.join(bad)}"
    for key, bind, port in listening_ports(config):
        try:
            socket.create_connection((_reached(bind), port), ANSWER_S).close()
        except OSError as error:
            return f"{key}: {port} does not accept a connection ({error.strerror or error})"
    if config.tls.plain and config.admission == EVERYONE:
        host, itself = _reached(config.node.bind), config.node.ae_title
        try:
            client.echo(Destination("the receiver", itself, host, config.node.port, timeout_s=ANSWER_S), itself)
        except Undelivered as error:
            return error.sentence
    return None


def _reached(bind: str) -> str:
    """The address on which this machine reaches what listens on `bind`."""
    return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(bind, bind)  # noqa: S104, compared, not bound

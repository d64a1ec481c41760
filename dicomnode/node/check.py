"""The checks of `sct-node check`, before the start, and of `sct-node ready`, after it."""

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
from functools import partial
from typing import TYPE_CHECKING, Final

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
from dicomnode.security.users import Users, check_reachable, users_path
from dicomnode.web.server import Certificate
from models.inference.card import card_path, find
from pipeline.preflight.profile import load_profile

if TYPE_CHECKING:
    from dicomnode.config.load import Config


@dataclass(frozen=True, slots=True)
class Check:
    """The result of one check: its name, whether all is well, and a sentence."""

    name: str
    good: bool
    sentence: str


def checks(config: Config) -> list[Check]:
    """Return the result of every check; none stops the others. Loading the configuration has shown that it is valid."""
    asked: list[tuple[str, Callable[[], str]]] = [
        *((path, partial(check_weights, name)) for path, name in models_of(config).items()),
        ("rules", partial(check_rules, config)),
        ("disk", partial(check_disk, config)),
        ("web page", partial(check_page, config)),
        ("TLS", partial(check_tls, config)),
        ("admission", partial(check_admission, config)),
        ("notifications", partial(check_notify, config)),
        ("database", partial(check_database, config)),
        *((f"profile of {one.name}", partial(check_profile, one)) for one in config.destinations),
        *((f"destination {one.name}", partial(reach, one, config.node.ae_title)) for one in config.destinations),
    ]
    found = [Check("configuration", True, f"valid; AE title {config.node.ae_title}, data in {config.node.data}")]
    for name, check in asked:
        try:
            found.append(Check(name, True, check()))
        except (NodeError, OSError, ValueError) as error:
            found.append(Check(name, False, str(error)))
    return found


def check_weights(name: str) -> str:
    """Compare the SHA-256 (FIPS 180-4) of a model's weights with its card; torch is not needed for that.

    Returns: a sentence that all is well, as every check does. Raises ValueError when they differ.
    """
    card = find(name)
    found = hashlib.sha256(card_path(name).with_suffix(".safetensors").read_bytes()).hexdigest()
    if found != card.digest:
        raise ValueError(
            f"weights of {card.name} have SHA-256 {found}, the card says {card.digest}: reinstall the model"
        )
    return f"{card.name} {card.version}, weights are those of the card"


def check_rules(config: Config) -> str:
    """Find rules that can take no series. Loading the configuration has shown that their destinations exist."""
    lost = [f"'{late.name}' takes nothing, '{early.name}' before it takes all" for late, early in unreachable(config)]
    if lost:
        raise ValueError(f"{'; '.join(lost)}: put the narrower rule first, or take it out")
    ends = "ignored" if config.otherwise is None else "converted"
    return f"{len(config.rules)} rules; a series that none takes is {ends}"


def check_disk(config: Config) -> str:
    """Compare the free disk space with receive.disk_reserve_bytes; below it instances are refused (PS3.4 B.2.3)."""
    folder = config.node.data
    while not folder.exists():
        folder = folder.parent
    free, reserve = shutil.disk_usage(folder).free, config.receive.disk_reserve_bytes
    sentence = f"{free / 2**30:.1f} GiB free at {config.node.data}, reserve {reserve / 2**30:.1f} GiB"
    if free <= reserve:
        raise ValueError(f"{sentence}: make room, instances are refused with 0xA700")
    return sentence


def check_page(config: Config) -> str:
    """Check who may use the web page. Raises ConfigError where `serve` would refuse to start."""
    check_reachable(config)
    if config.web.certificate:
        Certificate(config.web)
    users = Users(users_path(config)).all()
    if not users:
        return "everybody on this machine may read it, nobody decides there; sct-node user add NAME --role physicist"
    roles = Counter(user.role.value for user in users.values())
    return "users: " + ", ".join(f"{count} {role}" for role, count in sorted(roles.items()))


def check_tls(config: Config) -> str:
    """Check that every certificate, key and CA is there, fits and is valid now (PS3.15 B.12)."""
    tls.check(config)
    called = [one.name for one in config.destinations if one.tls is not None]
    outwards = f"; destinations called over TLS: {', '.join(called)}" if called else ""
    if config.tls.port is None:
        return f"port {config.node.port} is plain text, for a protected network{outwards}"
    ends = tls.when_it_ends(config.tls.certificate) if config.tls.certificate else ""
    plain = f", port {config.node.port} plain text" if config.tls.plain else ""
    return f"port {config.tls.port} over TLS{plain}; the certificate ends {ends}{outwards}"


def check_admission(config: Config) -> str:
    """Say which AEs may call (PS3.8 9.3.4: the others get an A-ASSOCIATE-RJ)."""
    callers = [one.ae_title for one in config.admission.callers]
    return f"AEs that may call: {', '.join(callers)}" if callers else "any AE that reaches the port may call"


def check_notify(config: Config) -> str:
    """Check the channels by which people get notices. Nothing is sent; `sct-node notify` sends a test message."""
    settings = config.notify
    ways = [channels.check_mail(settings.mail)] if settings.mail is not None else []
    ways += [channels.check_webhook(settings.webhook)] if settings.webhook is not None else []
    if not ways:
        return "nobody is told anything; see notify in the configuration"
    return f"{', '.join(settings.about)} ({settings.contents}): {'; '.join(ways)}"


def check_database(config: Config) -> str:
    """Check that the database answers. A SQLite file that is not there yet is made at the first start."""
    if config.database == "sqlite" and not (config.node.data / "node.sqlite").exists():
        return "SQLite, made at the first start"
    ledger = Ledger(database_url(config))
    ledger.reach()
    ledger.close()
    return f"{ledger.engine.dialect.name} answers"


def check_profile(destination: Destination) -> str:
    """Check that the preflight profile of a destination can be read."""
    profile = load_profile(destination.profile)
    return f"{profile.name}, {len(profile.rules)} rules, for {profile.purpose}"


ANSWER_S: Final = 5.0
"""Time limit for each answer of the page, /readyz and the receiver, when they are asked whether the node is ready."""


def wait_until_ready(config: Config, timeout_s: float) -> str:
    """Wait until a node that runs all roles on this machine is ready; return a sentence that says so.

    Raises:
        NotReady: it is not ready after `timeout_s` seconds; the sentence says what was missing last.
    """
    deadline = time.monotonic() + timeout_s
    while (lacking := missing(config)) is not None:
        if time.monotonic() >= deadline:
            raise NotReady(f"the node is not ready after {timeout_s:g} s: {lacking}")
        time.sleep(0.25)
    return f"ready: {config.node.ae_title} answers on port {config.node.port}, the page on port {config.web.port}"


def missing(config: Config) -> str | None:
    """Return what a node lacks to be ready, or None.

    /readyz alone does not show it: after a restart it still knows the last ticks of the processes before it. The
    receiver is asked by C-ECHO (PS3.4 A, PS3.7 9.1.5); where admission or TLS may refuse it, an open port is enough.
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
    """Return the address on which this machine reaches what listens on `bind`."""
    return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(bind, bind)  # noqa: S104, compared, not bound

"""Admission: who may connect, associate and ask for what. Decisions are functions of values; `AssociationAdmission`
applies them.

    what is wrong                                          answer (PS3.8 9.3.4, table 9-21)
    the address is outside admission.addresses             the connection is closed before a word is read
    the called AE title is none of the node's              A-ASSOCIATE-RJ permanent, user, called AE not recognized
    the calling AE title is none of admission.callers      A-ASSOCIATE-RJ permanent, user, calling AE not recognized
    ... or comes from elsewhere, or with another           the same: an attacker learns nothing about which it is
        certificate than its entry says
    the AE has as many associations as it may              A-ASSOCIATE-RJ transient, presentation, local limit exceeded
    the audit trail is required and cannot be written      A-ASSOCIATE-RJ transient, presentation, temporary congestion
    it asks for a service it has no right to               the presentation context is rejected (PS3.8 9.3.3.2)
    it asks of others' images whether they are safe        they are reported as not there (0x0112, PS3.3 C.14.1.1)

Each refusal is logged, counted, and recorded as a Security Alert (PS3.15 A.5.3.11), the same one once a minute.

Associations at once: how many in all, and how many a sender (PS3.8 9.3.4).
"""

from __future__ import annotations

import fnmatch
import ipaddress
import threading
import time
import weakref
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

from pynetdicom import evt
from pynetdicom.pdu_primitives import A_ASSOCIATE

from dicomnode import log, metrics
from dicomnode.config.peers import Caller
from dicomnode.config.values import ae_title
from dicomnode.dimse.presentation_contexts import SOP_CLASSES, VERIFICATION
from dicomnode.errors import OutOfResources
from dicomnode.security.audit_message import Event as Audited
from dicomnode.security.tls import names_of

if TYPE_CHECKING:
    from pydicom.uid import UID
    from pynetdicom.association import Association
    from pynetdicom.events import Event

    from dicomnode.config.peers import Admission, Right
    from dicomnode.security.audit_trail import AuditTrail

ALERT_EVERY_S: Final = 60.0
ALERTS_REMEMBERED: Final = 1000

CALLED: Final = (1, 1, 7)
CALLING: Final = (1, 1, 3)
CONGESTION: Final = (2, 3, 1)
"""Result, source and reason of an A-ASSOCIATE-RJ (PS3.8 table 9-21)."""

ANYONE: Final = Caller("*", commits_for=("*",))
"""Who calls where `admission.callers` is empty."""


@dataclass(frozen=True, slots=True)
class Call:
    """An A-ASSOCIATE-RQ as far as admission looks at it; `certificate` holds the names of a TLS certificate."""

    calling: str
    called: str
    address: str
    certificate: frozenset[str] | None = None


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a call is not admitted, for metrics and log, and the A-ASSOCIATE-RJ that it gets."""

    reason: str
    reject: tuple[int, int, int]


def within(address: str, networks: Sequence[str]) -> bool:
    """Whether an address is in one of the networks; none named is all. An IPv4 address may come as IPv6."""
    if not networks:
        return True
    found = ipaddress.ip_address(address.partition("%")[0])
    mapped = found.ipv4_mapped if isinstance(found, ipaddress.IPv6Address) else None
    return any((mapped or found) in ipaddress.ip_network(one) for one in networks)


def matches(ae_title: str, pattern: str) -> bool:
    """Whether an AE title, its outer spaces aside (PS3.5 6.2), is one of a pattern with * and ?; capitals count."""
    return fnmatch.fnmatchcase(ae_title.strip(), pattern.strip().replace("[", "[[]"))


def judged(admission: Admission, own: Sequence[str], call: Call) -> Caller | Refusal:
    """The first entry that admits a call, or why none does; how many there are is not counted here.

    `own`: the AE titles as which the node may be called, none for any. An AE title may have several entries, such as
    one for each of its addresses.
    """
    if ae_title(call.calling) is not None:
        return Refusal("calling_ae", CALLING)
    if own and call.called.strip() not in own:
        return Refusal("called_ae", CALLED)
    if not admission.callers:
        return ANYONE
    entries = [one for one in admission.callers if matches(call.calling, one.ae_title)]
    here = [one for one in entries if within(call.address, one.addresses)]
    shown = call.certificate or frozenset()
    certified = [one for one in here if one.certificate is None or one.certificate in shown]
    if certified:
        return certified[0]
    return Refusal("certificate" if here else "caller_address" if entries else "calling_ae", CALLING)


def right_to(sop_class: UID | str | None) -> Right:
    """The right that a SOP class takes."""
    if sop_class == VERIFICATION:
        return "echo"
    return "store" if sop_class in SOP_CLASSES else "commitment"


class AssociationAdmission:
    """Applies what is decided to connections and associations. Thread-safe."""

    def __init__(
        self, admission: Admission, own: Sequence[str], places: AssociationSlots, trail: AuditTrail | None = None
    ) -> None:
        self._admission = admission
        self._own = tuple(title.strip() for title in own)
        self._places = places
        self._trail = trail
        self._alerts = Alerts()

    def admits(self, address: str) -> bool:
        """Whether a connection from an address is served at all."""
        if within(address, self._admission.addresses):
            return True
        self.turned_away("address", "", address)
        return False

    def requested(self, event: Event) -> None:
        """Reject an association, or leave it the services that its caller has a right to (EVT_REQUESTED)."""
        association = event.assoc
        try:
            refusal = self._refusal(association)
        except Exception:
            refuse(association, *CONGESTION)
            raise
        if refusal is not None:
            refuse(association, *refusal.reject)

    def turned_away(self, reason: str, calling: str, address: str, why: str = "") -> None:
        """Count, log and record that somebody was not let in; `calling` is the AE title, if there was one."""
        metrics.CALLS_REFUSED.labels(reason=reason).inc()
        before = self._alerts.due(reason, address, why)
        if before is None:
            return
        times = {"times_before": before} if before else {}
        named = {"calling_ae": calling} if calling else {}
        log.event("call_refused", level="warning", reason=reason, address=address, why=why, **named, **times)
        if self._trail is not None:
            words = f"{before} times more in the minutes before" if before else ""
            by = f"ae:{calling}" if calling else "unknown"
            failed = f"{reason}: {why}" if why else reason
            self._trail.record(Audited.ALERT, by=by, address=address, failed=failed, words=words)

    def _refusal(self, association: Association) -> Refusal | None:
        """Why an association is rejected, if it is; its contexts are narrowed down if it is not."""
        call = call_of(association)
        judgement = self._judgement(association, call)
        if isinstance(judgement, Refusal):
            self.turned_away(judgement.reason, call.calling.strip(), call.address)
            return judgement
        acceptor = association.acceptor
        mine = acceptor.supported_contexts
        acceptor.supported_contexts = [one for one in mine if right_to(one.abstract_syntax) in judgement.rights]
        return None

    def _judgement(self, association: Association, call: Call) -> Caller | Refusal:
        """Who calls, or why not; then it has its place."""
        caller = judged(self._admission, self._own, call)
        if isinstance(caller, Refusal):
            return caller
        try:
            if self._trail is not None:
                self._trail.check()
        except OutOfResources:
            return Refusal("audit", CONGESTION)
        full = self._places.take(association, call.calling.strip(), caller.max_associations)
        if full is not None:
            metrics.LIMITS.labels(limit=full).inc()
            return Refusal("too_many", LIMIT_EXCEEDED)
        return caller


def call_of(association: Association) -> Call:
    """What an association that is asked for says of itself."""
    asked = association.requestor.primitive
    assert isinstance(asked, A_ASSOCIATE)
    transport = association.dul.socket
    shown = names_of(transport.socket) if transport is not None else None
    address = association.requestor.address or ""
    return Call(asked.calling_ae_title or "", asked.called_ae_title or "", address, shown)


class Alerts:
    """One alert for each kind and address a minute, however many there are. Thread-safe, bounded."""

    def __init__(self) -> None:
        self._said: OrderedDict[tuple[str, ...], tuple[float, int]] = OrderedDict()
        self._lock = threading.Lock()

    def due(self, *alert: str) -> int | None:
        """None when the same was said lately; otherwise how often it was not said since the last time."""
        now = time.monotonic()
        with self._lock:
            at, unsaid = self._said.pop(alert, (-ALERT_EVERY_S, 0))
            quiet = now - at < ALERT_EVERY_S
            self._said[alert] = (at, unsaid + 1) if quiet else (now, 0)
            while len(self._said) > ALERTS_REMEMBERED:
                self._said.popitem(last=False)
        return None if quiet else unsaid


Limit = Literal["associations", "ae"]
LIMIT_EXCEEDED: Final = (0x02, 0x03, 0x02)
"""Result, source and reason of a refusal (PS3.8 Table 9-21): transient, presentation service, local limit exceeded."""


class AssociationSlots:
    """Who has a place; an association gives its own back by ending. Thread-safe."""

    def __init__(self, most: int, most_of_one: int) -> None:
        self._most = most
        self._most_of_one = most_of_one
        self._taken: weakref.WeakKeyDictionary[Association, str] = weakref.WeakKeyDictionary()
        self._lock = threading.Lock()

    def take(self, association: Association, calling_ae: str, most_of_it: int | None = None) -> Limit | None:
        """Take a place; the limit that stands in the way, or None. `most_of_it`: a limit of this AE's own."""
        with self._lock:
            here = [ae for one, ae in self._taken.items() if _lasts(one)]
            if len(here) >= self._most:
                return "associations"
            if here.count(calling_ae) >= (most_of_it or self._most_of_one):
                return "ae"
            self._taken[association] = calling_ae
            return None


def _lasts(association: Association) -> bool:
    """Whether an association is there, or being negotiated."""
    return association.is_alive() and not (association.is_released or association.is_aborted or association.is_rejected)


def refuse(association: Association, result: int, source: int, reason: int) -> None:
    """Answer the request of an association with A-ASSOCIATE-RJ (PS3.8 Table 9-21); it ends."""
    association.acse.send_reject(result, source, reason)
    evt.trigger(association, evt.EVT_REJECTED, {})
    association.kill()

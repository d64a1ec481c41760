"""Admission decides who may connect, who may associate and which services a caller may use.

The decisions are functions of values; `AssociationAdmission` applies them to connections and associations.

    reason for the refusal                                 answer (PS3.8 9.3.4, table 9-21)
    the address is outside admission.addresses             the connection is closed before anything is read
    the called AE title is none, or none of the node's     A-ASSOCIATE-RJ permanent, user, called AE not recognized
    the calling AE title is none, or has no entry          A-ASSOCIATE-RJ permanent, user, calling AE not recognized
    ... or its address or certificate is not the one       the same: an attacker does not learn which of them is wrong
        of its entry
    the AE has as many associations as it may have         A-ASSOCIATE-RJ transient, presentation, local limit exceeded
    the audit trail is required and cannot be written      A-ASSOCIATE-RJ transient, presentation, temporary congestion
    the caller has no right to a service                   the presentation context is rejected (PS3.8 9.3.3.2)
    it asks for commitment of another AE's images          they are reported as missing (0x0112, PS3.3 C.14.1.1)

Each refusal is logged, counted and recorded as a Security Alert (PS3.15 A.5.3.11); the same refusal is logged and
recorded at most once a minute.
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
from dicomnode.dimse.association_pdu import TolerantDUL
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
LIMIT_EXCEEDED: Final = (2, 3, 2)
"""Result, source and reason of an A-ASSOCIATE-RJ (PS3.8 table 9-21)."""

ANYONE: Final = Caller("*", commits_for=("*",))
"""The entry of every caller where `admission.callers` is empty."""

Limit = Literal["associations", "ae"]
"""The limit that an association would exceed: of all associations, or of those of its AE."""


@dataclass(frozen=True, slots=True)
class Call:
    """The part of an A-ASSOCIATE-RQ that admission reads (PS3.8 9.3.2).

    `certificate` holds the names in the caller's TLS certificate, None without one.
    """

    calling: str
    called: str
    address: str
    certificate: frozenset[str] | None = None


@dataclass(frozen=True, slots=True)
class Refusal:
    """The reason why a call is not admitted, for metrics and log, and the A-ASSOCIATE-RJ that answers it."""

    reason: str
    reject: tuple[int, int, int]


def within(address: str, networks: Sequence[str]) -> bool:
    """Return whether an address is in one of the networks; an empty list holds every address.

    An IPv4 address may be written as IPv6 (RFC 4291 2.5.5.2), as a socket that serves both does.
    """
    if not networks:
        return True
    found = ipaddress.ip_address(address.partition("%")[0])
    mapped = found.ipv4_mapped if isinstance(found, ipaddress.IPv6Address) else None
    return any((mapped or found) in ipaddress.ip_network(one) for one in networks)


def matches(ae_title: str, pattern: str) -> bool:
    """Return whether an AE title fits a pattern with * and ?; capitals count, outer spaces do not (PS3.5 6.2)."""
    return fnmatch.fnmatchcase(ae_title.strip(), pattern.strip().replace("[", "[[]"))


def admit(admission: Admission, own_titles: Sequence[str], call: Call) -> Caller | Refusal:
    """Return the first entry that admits a call, or the refusal; the number of associations is not checked here.

    An AE title may have several entries, for example one for each of its addresses.

    Args:
        admission: The section `admission` of the configuration.
        own_titles: The called AE titles that are accepted; empty accepts any.
        call: The association request.
    """
    if ae_title(call.calling) is not None:
        return Refusal("calling_ae", CALLING)
    if ae_title(call.called) is not None or (own_titles and call.called.strip() not in own_titles):
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
    """Return the right that a caller needs for a SOP class."""
    if sop_class == VERIFICATION:
        return "echo"
    return "store" if sop_class in SOP_CLASSES else "commitment"


class AssociationAdmission:
    """Applies the admission rules to connections and associations. Thread-safe."""

    def __init__(
        self, admission: Admission, own_titles: Sequence[str], slots: AssociationSlots, trail: AuditTrail | None = None
    ) -> None:
        self._rules = admission
        self._own_titles = tuple(title.strip() for title in own_titles)
        self._slots = slots
        self._trail = trail
        self._alerts = Alerts()

    def admits(self, address: str) -> bool:
        """Return whether a connection from an address is served; a refusal is recorded."""
        if within(address, self._rules.addresses):
            return True
        self.record_refusal("address", "", address)
        return False

    def answer_request(self, event: Event) -> None:
        """Reject an association, or restrict it to the services that its caller has a right to (EVT_REQUESTED)."""
        association = event.assoc
        try:
            decision = self.decide(association, call_of(association))
        except Exception:
            refuse(association, *CONGESTION)
            raise
        if isinstance(decision, Refusal):
            refuse(association, *decision.reject)

    def record_refusal(self, reason: str, calling: str, address: str, why: str = "") -> None:
        """Count, log and record that a call was refused; `calling` is the AE title, empty when there was none."""
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

    def decide(self, association: Association, call: Call) -> Caller | Refusal:
        """Admit an association, which takes a slot, or record its refusal."""
        decision = admit(self._rules, self._own_titles, call)
        if isinstance(decision, Caller):
            try:
                if self._trail is not None:
                    self._trail.check()
            except OutOfResources:
                decision = Refusal("audit", CONGESTION)
        if isinstance(decision, Caller):
            full = self._slots.take(association, call.calling.strip(), decision.max_associations)
            if full is not None:
                metrics.LIMITS.labels(limit=full).inc()
                decision = Refusal("too_many", LIMIT_EXCEEDED)
        if isinstance(decision, Refusal):
            self.record_refusal(decision.reason, call.calling.strip(), call.address)
        else:
            mine = association.acceptor.supported_contexts
            granted = [one for one in mine if right_to(one.abstract_syntax) in decision.rights]
            association.acceptor.supported_contexts = granted
        return decision


def call_of(association: Association) -> Call:
    """Return the request of an association that is being negotiated."""
    asked = association.requestor.primitive
    assert isinstance(asked, A_ASSOCIATE)
    transport = association.dul.socket
    shown = names_of(transport.socket) if transport is not None else None
    address = association.requestor.address or ""
    titles = association.dul.titles if isinstance(association.dul, TolerantDUL) else None
    called, calling = titles or (asked.called_ae_title or "", asked.calling_ae_title or "")
    return Call(calling, called, address, shown)


def calling_ae(association: Association) -> str:
    """Return the AE title of the peer that asked for an association; empty before it has asked."""
    if isinstance(association.dul, TolerantDUL) and association.dul.titles is not None:
        return association.dul.titles.calling
    asked = association.requestor.primitive
    return (asked.calling_ae_title if asked is not None else association.requestor.ae_title).strip()


class Alerts:
    """Limits alerts to one a minute for each kind and address. Thread-safe, bounded."""

    def __init__(self) -> None:
        self._given: OrderedDict[tuple[str, ...], tuple[float, int]] = OrderedDict()
        self._lock = threading.Lock()

    def due(self, *alert: str) -> int | None:
        """Return how often this alert was suppressed since it was last given; None when it is suppressed again."""
        now = time.monotonic()
        with self._lock:
            at, suppressed = self._given.pop(alert, (-ALERT_EVERY_S, 0))
            quiet = now - at < ALERT_EVERY_S
            self._given[alert] = (at, suppressed + 1) if quiet else (now, 0)
            while len(self._given) > ALERTS_REMEMBERED:
                self._given.popitem(last=False)
        return None if quiet else suppressed


class AssociationSlots:
    """Counts the associations that are open, in all and for each AE; one that ends frees its slot. Thread-safe."""

    def __init__(self, limit: int, limit_per_ae: int) -> None:
        self._limit = limit
        self._limit_per_ae = limit_per_ae
        self._taken: weakref.WeakKeyDictionary[Association, str] = weakref.WeakKeyDictionary()
        self._lock = threading.Lock()

    def take(self, association: Association, calling: str, limit_of_ae: int | None = None) -> Limit | None:
        """Take a slot, or return the limit that is reached; `limit_of_ae` replaces the common limit per AE."""
        with self._lock:
            open_titles = [
                title
                for one, title in self._taken.items()
                if one.is_alive() and not (one.is_released or one.is_aborted or one.is_rejected)
            ]
            if len(open_titles) >= self._limit:
                return "associations"
            if open_titles.count(calling) >= (limit_of_ae or self._limit_per_ae):
                return "ae"
            self._taken[association] = calling
            return None


def refuse(association: Association, result: int, source: int, reason: int) -> None:
    """Answer an association request with A-ASSOCIATE-RJ (PS3.8 table 9-21) and end the association."""
    association.acse.send_reject(result, source, reason)
    evt.trigger(association, evt.EVT_REJECTED, {})
    association.kill()

"""The C-STORE SCU: one association, one attempt, one receipt for each instance as the answer comes.

When the next attempt is made is not decided here. Nothing but NodeError leaves this module for what a destination does;
an unreadable file of our own is our fault and stays an OSError or InvalidDicomError.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Final

from pydicom.filereader import dcmread
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom.association import Association
from pynetdicom.presentation import PresentationContext, build_context

from dicomnode import metrics
from dicomnode.config.peers import Destination
from dicomnode.dimse.client import AssociationLost, answer, associated, described
from dicomnode.errors import Undelivered
from dicomnode.receipt import Receipt
from dicomnode.spool.instance_file import Parcel, parcel

_UNCOMPRESSED: Final = (ExplicitVRLittleEndian, ImplicitVRLittleEndian)


def send(
    paths: Sequence[Path],
    destination: Destination,
    calling_ae: str,
    on_receipt: Callable[[Receipt], None],
    already: Collection[str] = (),
    before: Callable[[], None] = lambda: None,
) -> list[Receipt]:
    """Send files over one association; those whose SOP Instance UID is in `already` are left out.

    `before` is called when an instance is about to be sent, and may stop the whole by raising an error of its own.
    `on_receipt` is called with each answer before the next instance is sent. A refused instance does not stop the
    others. Returns all receipts, warnings among them. Raises Undelivered when any instance is not at the destination
    afterwards, with the receipts of this attempt and a sentence that names the destination.
    """
    parcels = [one for one in map(parcel, paths) if one.sop_instance_uid not in already]
    if not parcels:
        return []
    receipts: list[Receipt] = []
    why: list[str] = []
    try:
        with associated(destination, calling_ae, _contexts(parcels)) as association:
            welcome = [one for one in parcels if _acceptable(association, one)]
            why += _unwelcome([one for one in parcels if one not in welcome])
            for one in welcome:
                before()
                receipts.append(_sent(association, one, destination))
                metrics.DELIVERED_INSTANCES.labels(destination.name, receipts[-1].outcome).inc()
                on_receipt(receipts[-1])
    except AssociationLost as error:
        why.append(str(error))
    return concluded(destination, parcels, receipts, why)


def concluded(
    destination: Destination, parcels: Sequence[Parcel], receipts: list[Receipt], why: Sequence[str]
) -> list[Receipt]:
    """All receipts of an attempt. Raises Undelivered when an instance is not there; `why` is what else went wrong."""
    unsent = len(parcels) - len(receipts)
    metrics.DELIVERED_INSTANCES.labels(destination.name, "unsent").inc(unsent)
    reasons = [*why, *_refusals(receipts)]
    if reasons:
        arrived = sum(receipt.stored for receipt in receipts)
        raise Undelivered(
            receipts, f"{described(destination)} {', '.join(reasons)}; {arrived} of {len(parcels)} arrived"
        )
    return receipts


def _contexts(parcels: Sequence[Parcel]) -> list[PresentationContext]:
    """A presentation context for each class and syntax that is sent (PS3.8 7.1.1.13).

    Uncompressed files are offered in both little endian syntaxes, each in a context of its own, so that the
    destination may accept the one it wants and explicit VR is used where both are welcome.
    """
    wanted = {
        (one.sop_class_uid, syntax)
        for one in parcels
        for syntax in (_UNCOMPRESSED if one.transfer_syntax_uid in _UNCOMPRESSED else (one.transfer_syntax_uid,))
    }
    return [build_context(sop_class, syntax) for sop_class, syntax in sorted(wanted)]


def _sent(association: Association, one: Parcel, destination: Destination) -> Receipt:
    """Send one instance and wait for its answer. Raises Lost."""
    data_set = dcmread(one.path)
    status = answer(destination, lambda: association.send_c_store(data_set))
    comment = str(status.get("ErrorComment", "") or "")
    return Receipt(one.sop_instance_uid, int(status.Status), datetime.datetime.now(datetime.UTC), comment)


def _acceptable(association: Association, one: Parcel) -> bool:
    """Whether the destination accepted a context in which this file can be sent, converted between VRs if need be."""
    possible = _UNCOMPRESSED if one.transfer_syntax_uid in _UNCOMPRESSED else (one.transfer_syntax_uid,)
    return any(
        context.abstract_syntax == one.sop_class_uid and context.transfer_syntax[0] in possible
        for context in association.accepted_contexts
    )


def _unwelcome(parcels: Sequence[Parcel]) -> list[str]:
    """What a destination does not accept, as the middle of a sentence."""
    kinds = sorted({f"{one.sop_class_uid.name} as {one.transfer_syntax_uid.name}" for one in parcels})
    return [f"does not accept {kind}" for kind in kinds]


def _refusals(receipts: Sequence[Receipt]) -> list[str]:
    """With which statuses a destination refused how many instances; its comments stay in the receipts."""
    statuses = [receipt.status for receipt in receipts if not receipt.stored]
    return [f"refused {statuses.count(status)} with status 0x{status:04X}" for status in sorted(set(statuses))]

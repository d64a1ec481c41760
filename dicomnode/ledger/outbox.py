"""What of all that happens people are to be told: decided here, and written with the fact, in its transaction.

So nothing is told that did not happen, and nothing is forgotten when its process dies. `notices` sends it.

    fact                                              kind
    a job is held for a fault of the node             failure
    a finding rejects a case                          failure
    a job is held for anything else                   hold
    undelivered or unproven for too long, lost by a   alarm
    destination, replaced after it had been sent
    a series is unsuitable                            rejection
    the daily check of the whole chain failed         constancy
    a process hangs, or ends again and again          failure
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final

import sqlalchemy as sa

from dicomnode.config.sections import Kind
from dicomnode.ledger.states import Fact
from dicomnode.ledger.tables import notices
from pipeline.findings.meanings import MEANINGS

if TYPE_CHECKING:
    from collections.abc import Mapping


FAULTS: Final = frozenset(
    {
        "FAILED",
        "PROCESS_DIED",
        "DELIVERY_FAILED",
        "WRONG_DIGEST",
        "UNKNOWN_MODEL",
        "BAD_CARD",
        "UNKNOWN_SETTINGS",
    }
)
"""Reason codes of holds for which nobody needs to look at the images: the node, or its installation, is at fault."""

NOT_TOLD: Final = "IGNORED_BY_RULE"
"""Reason code of the rejection of what a site does not want to have converted."""

ALARMS: Final = (Fact.ALARMED, Fact.UNCOMMITTED, Fact.REPLACED)


def kind_of(fact: Fact, values: Mapping[str, Any]) -> Kind | None:
    """What a fact is to people; `values` are the job's columns that it changes. None: not worth a message."""
    if values.get("held"):
        return Kind.FAILURE if values["reason_code"] in FAULTS else Kind.HOLD
    if fact in ALARMS:
        return Kind.ALARM
    code = values.get("reason_code")
    if fact is not Fact.UNSUITABLE or code == NOT_TOLD:
        return None
    return Kind.FAILURE if str(code).lower() in MEANINGS else Kind.REJECTION


def note(connection: sa.Connection, fact: Fact, job: str, words: str, values: Mapping[str, Any]) -> None:
    """Put what a fact is to people into the queue of notices, in the transaction of the fact."""
    kind = kind_of(fact, values)
    if kind is not None:
        code = values.get("reason_code") or str(fact).upper()
        put(connection, kind, code, values.get("reason_sentence") or words, job)


def put(connection: sa.Connection, kind: Kind, code: str, words: str, job: str | None = None) -> None:
    """Put a notice into the queue, in the caller's transaction; it is about `job`, or about the node."""
    now = time.time()
    row = {"kind": str(kind), "job": job, "code": code, "words": words, "at": now, "due_at": now}
    connection.execute(sa.insert(notices).values(row | {"attempt": 1, "sent": False, "sentence": ""}))

"""The commands by which a person decides about a job: `release`, `reject`, `retry`, `cancel`, `resend`."""

from __future__ import annotations

import argparse
import getpass
import json
from typing import TYPE_CHECKING, Any, Final

from dicomnode.config.load import load
from dicomnode.errors import NodeError

if TYPE_CHECKING:
    from collections.abc import Callable

    from dicomnode.engine.contract import Queues
    from dicomnode.ledger.ledger import Ledger
    from dicomnode.ledger.rows import JobRow

    Decide = Callable[[Ledger, Queues, argparse.Namespace], JobRow]

TOLD: Final = {
    "release": ("Let a held job go on", "A job held after synthesis is sent; one held before it is tried again."),
    "reject": ("End a held job", "Nothing more of it is sent, and it is not tried again."),
    "retry": (
        "Try at once what waits for its next try",
        "The synthesis, or the next attempt of each destination. A job held for a fault of the node is released.",
    ),
    "cancel": ("End a job that is not held", "It stops before the next instance; what a destination has stays there."),
    "resend": ("Send all of a delivered CT once more", "The same objects under the same UIDs."),
}
"""Command -> its summary and details."""


PAST: Final = {
    "release": "RELEASED",
    "reject": "REJECTED",
    "retry": "RETRIED",
    "cancel": "CANCELLED",
    "resend": "RESENT",
}
"""Command -> the event of the audit trail (`audit.Event`)."""


def add_commands(commands: Any, add: Callable[..., argparse.ArgumentParser]) -> None:
    """The commands of `TOLD`; `add` makes a command with its help."""
    for name, (summary, details) in TOLD.items():
        added = add(commands, name, _decide, summary, details, "json")
        added.set_defaults(decision=name)
        added.add_argument("job", metavar="JOB", help="the job's key, or its first characters (at least 6)")
        added.add_argument("--reason", required=True, metavar="TEXT", help="why; kept with the job's events")
        text = "who decides; kept with the job's events (default: the user of this machine)"
        added.add_argument("--by", metavar="NAME", default=None, help=text)
        if name == "release":
            text = "for a job held because a SOP instance came with two contents: use the one that came first, or last"
            added.add_argument("--use", choices=("first", "last"), help=text)
        if name == "resend":
            text = "a destination of the job, may be repeated (default: those that have got everything)"
            added.add_argument("--to", action="append", default=[], metavar="NAME", help=text)


def _decide(given: argparse.Namespace) -> int:
    from dicomnode.cases import wording
    from dicomnode.engine import queues as engine
    from dicomnode.ledger.ledger import existing
    from dicomnode.security import audit_trail

    config = load(given.config)
    ledger = existing(config)
    by = f"cli:{given.by or getpass.getuser()}"
    trail = audit_trail.AuditTrail(config.audit, config.node.data, config.node.ae_title)
    event = audit_trail.Event[PAST[given.decision]]
    try:
        row = _row(ledger, engine.open_queues(ledger), given, by)
    except NodeError as error:
        trail.record(event, by=by, job=given.job, failed=str(error), words=given.reason)
        raise
    trail.record(event, by=by, job=row.job, series=[row.source_series_uid], words=given.reason)
    if given.json:
        print(json.dumps(wording.job(row), indent=2, default=str))
    else:
        print(f"{given.decision}: {row.job}: {row.state}")
    return 0


def _row(ledger: Ledger, queues: Queues, given: argparse.Namespace, by: str) -> JobRow:
    """The job after the decision."""
    from dicomnode.engine import review

    said = {"by": by, "reason": given.reason}
    if given.decision == "release":
        return review.release(ledger, queues, given.job, use=given.use, **said)
    if given.decision == "resend":
        return review.resend(ledger, queues, given.job, to=given.to, **said)
    decide = {"reject": review.reject, "retry": review.retry, "cancel": review.cancel}[given.decision]
    return decide(ledger, queues, given.job, **said)

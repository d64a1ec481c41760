"""The commands about jobs: `jobs` and `show` tell of them; `release`, `reject`, `retry`, `cancel`, `resend` decide."""

from __future__ import annotations

import argparse
import getpass
from typing import TYPE_CHECKING, Any, Final

from dicomnode.cli.printing import print_json, print_table
from dicomnode.config.load import load
from dicomnode.errors import NodeError

if TYPE_CHECKING:
    from collections.abc import Callable

DECISIONS: Final = {
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

EVENTS: Final = {
    "release": "RELEASED",
    "reject": "REJECTED",
    "retry": "RETRIED",
    "cancel": "CANCELLED",
    "resend": "RESENT",
}
"""Command -> the event of the audit trail, `audit_message.Event` (PS3.15 A.5)."""

JOB_HELP: Final = "the job's key, or its first characters (at least 6)"


def add_commands(commands: Any, add: Callable[..., argparse.ArgumentParser]) -> None:
    """Add `jobs`, `show` and the commands of `DECISIONS`; `add` makes a command with its help."""
    details = "A series still arriving is listed as RECEIVING, without a job key yet."
    add(commands, "jobs", list_jobs, "List jobs, the newest first", details, "json")
    added = add(commands, "show", show, "Show a job: its events, deliveries and receipts", "", "json")
    added.add_argument("job", metavar="JOB", help=JOB_HELP)
    for name, (summary, details) in DECISIONS.items():
        added = add(commands, name, decide, summary, details, "json")
        added.set_defaults(decision=name)
        added.add_argument("job", metavar="JOB", help=JOB_HELP)
        added.add_argument("--reason", required=True, metavar="TEXT", help="why; kept with the job's events")
        text = "who decides; kept with the job's events (default: the user of this machine)"
        added.add_argument("--by", metavar="NAME", default=None, help=text)
        if name == "release":
            text = "for a job held because a SOP instance came with two contents: use the one that came first, or last"
            added.add_argument("--use", choices=("first", "last"), help=text)
        if name == "resend":
            text = "a destination of the job, may be repeated (default: those that have got everything)"
            added.add_argument("--to", action="append", default=[], metavar="NAME", help=text)


def list_jobs(given: argparse.Namespace) -> int:
    """Print every series that arrives and every job; return the exit status."""
    from dicomnode.cases import wording
    from dicomnode.ledger.ledger import existing

    ledger = existing(load(given.config))
    rows = [wording.series(one) for one in ledger.receiving()] + [wording.job(one) for one in ledger.jobs()]
    if given.json:
        print_json(rows)
    else:
        columns = ("job", "state", "held", "source_series_uid", "ct_series_uid", "rule", "reason_code")
        print_table((*columns, "superseded_by", "updated_at"), rows)
    return 0


def show(given: argparse.Namespace) -> int:
    """Print all that the ledger knows of a job; return the exit status."""
    from dicomnode.cases import wording
    from dicomnode.ledger.ledger import existing

    ledger = existing(load(given.config))
    shown = wording.whole(ledger, ledger.job(given.job))
    if given.json:
        print_json(shown)
        return 0
    for key, value in shown.items():
        if isinstance(value, list) and value and isinstance(value[0], dict):
            print(f"\n{key}")
            print_table(tuple(value[0]), value)
        elif key != "sop_instance_uids":
            print(f"{key:<22} {'' if value is None else value}")
    return 0


def decide(given: argparse.Namespace) -> int:
    """Carry out a person's decision and write it into the audit trail (PS3.15 A.5); return the exit status."""
    from dicomnode.cases import wording
    from dicomnode.engine import queues, review
    from dicomnode.ledger.ledger import existing
    from dicomnode.security import audit_trail

    config = load(given.config)
    ledger = existing(config)
    by = f"cli:{given.by or getpass.getuser()}"
    trail = audit_trail.AuditTrail(config.audit, config.node.data, config.node.ae_title)
    event = audit_trail.Event[EVENTS[given.decision]]
    on = (ledger, queues.open_queues(ledger), given.job)
    why = {"by": by, "reason": given.reason}
    try:
        match given.decision:
            case "release":
                row = review.release(*on, use=given.use, **why)
            case "resend":
                row = review.resend(*on, to=given.to, **why)
            case "reject":
                row = review.reject(*on, **why)
            case "retry":
                row = review.retry(*on, **why)
            case _:
                row = review.cancel(*on, **why)
    except NodeError as error:
        trail.record(event, by=by, job=given.job, failed=str(error), words=given.reason)
        raise
    trail.record(event, by=by, job=row.job, series=[row.source_series_uid], words=given.reason)
    if given.json:
        print_json(wording.job(row))
    else:
        print(f"{given.decision}: {row.job}: {row.state}")
    return 0

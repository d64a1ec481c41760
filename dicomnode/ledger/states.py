"""The states of a job and what leads from one to the next, as one table; README's picture is drawn from it.

A state names the last durable fact. `held` is no state: a held job stays where it is, and waits for a person.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final


class State(StrEnum):
    """The last durable fact about a series or its job."""

    RECEIVING = "RECEIVING"  # instances of the series are on disk; no job has taken the series yet
    RECEIVED = "RECEIVED"  # the series is complete and a job has taken it
    SYNTHESIZED = "SYNTHESIZED"  # the CT series lies in out/<job>/, finished; it stays so where there is no destination
    DELIVERED = "DELIVERED"  # every destination has every instance of it
    REJECTED = "REJECTED"  # there will be no CT series of this job, with a reason


class JobEvent(StrEnum):
    """What can happen; each is one transaction of the ledger and one row in its events."""

    ARRIVED = "arrived"
    SETTLED = "settled"
    SYNTHESIZED = "synthesized"
    UNSUITABLE = "unsuitable"
    FAILED = "failed"
    HELD = "held"
    RELEASED = "released"
    REFUSED = "refused"
    POSTPONED = "postponed"
    TAKEN = "taken"
    DELIVERED = "delivered"
    SUPERSEDED = "superseded"
    REPLACED = "replaced"
    CONFLICTED = "conflicted"
    RETRIED = "retried"
    CANCELLED = "cancelled"
    RESENT = "resent"
    ALARMED = "alarmed"
    COMMITTED = "committed"
    UNCOMMITTED = "uncommitted"
    DELETED = "deleted"


@dataclass(frozen=True, slots=True)
class Transition:
    """A fact leads a job from `before` to `after`; `held` says whether it must (or must not) be held; None: either."""

    fact: JobEvent
    before: State
    after: State
    held: bool | None
    words: str


TRANSITIONS: Final = (
    Transition(JobEvent.SETTLED, State.RECEIVING, State.RECEIVED, False, "the series is complete"),
    Transition(JobEvent.SYNTHESIZED, State.RECEIVED, State.SYNTHESIZED, False, "the CT series is on disk"),
    Transition(JobEvent.UNSUITABLE, State.RECEIVED, State.REJECTED, False, "no suitable input, or a rule ignores it"),
    Transition(JobEvent.FAILED, State.RECEIVED, State.RECEIVED, False, "our fault: tried again"),
    Transition(JobEvent.HELD, State.RECEIVED, State.RECEIVED, False, "our fault, 3 times: a person looks"),
    Transition(JobEvent.RELEASED, State.RECEIVED, State.RECEIVED, True, "a person had it tried again"),
    Transition(JobEvent.REFUSED, State.RECEIVED, State.REJECTED, True, "a person rejected it"),
    Transition(JobEvent.HELD, State.SYNTHESIZED, State.SYNTHESIZED, False, "a finding: a person looks"),
    Transition(JobEvent.POSTPONED, State.SYNTHESIZED, State.SYNTHESIZED, None, "a destination is down: tried later"),
    Transition(JobEvent.TAKEN, State.SYNTHESIZED, State.SYNTHESIZED, None, "one destination has everything"),
    Transition(JobEvent.RELEASED, State.SYNTHESIZED, State.SYNTHESIZED, True, "a person had it sent"),
    Transition(JobEvent.REFUSED, State.SYNTHESIZED, State.REJECTED, True, "a person rejected it"),
    Transition(JobEvent.DELIVERED, State.SYNTHESIZED, State.DELIVERED, False, "every destination has everything"),
    Transition(
        JobEvent.SUPERSEDED, State.RECEIVED, State.REJECTED, None, "more instances came: another job takes over"
    ),
    Transition(JobEvent.SUPERSEDED, State.SYNTHESIZED, State.REJECTED, None, "the same, and nothing had been sent"),
    Transition(JobEvent.REPLACED, State.SYNTHESIZED, State.SYNTHESIZED, None, "the same, but some of it had been sent"),
    Transition(JobEvent.REPLACED, State.DELIVERED, State.DELIVERED, None, "the same, but it had been sent"),
    Transition(JobEvent.CONFLICTED, State.RECEIVED, State.RECEIVED, None, "a UID with two contents: a person looks"),
    Transition(JobEvent.CONFLICTED, State.SYNTHESIZED, State.SYNTHESIZED, None, "the same: nothing more is sent"),
    Transition(JobEvent.CONFLICTED, State.DELIVERED, State.DELIVERED, None, "the same, too late to keep it back"),
    Transition(JobEvent.RELEASED, State.DELIVERED, State.DELIVERED, True, "a person looked"),
    Transition(JobEvent.RETRIED, State.RECEIVED, State.RECEIVED, False, "a person had it tried at once"),
    Transition(JobEvent.RETRIED, State.SYNTHESIZED, State.SYNTHESIZED, False, "a person had it sent at once"),
    Transition(JobEvent.CANCELLED, State.RECEIVED, State.REJECTED, False, "a person stopped it"),
    Transition(JobEvent.CANCELLED, State.SYNTHESIZED, State.REJECTED, False, "a person stopped it: no more is sent"),
    Transition(JobEvent.RESENT, State.DELIVERED, State.SYNTHESIZED, False, "a person had all of it sent once more"),
    Transition(
        JobEvent.RESENT, State.SYNTHESIZED, State.SYNTHESIZED, False, "the same, for one destination of several"
    ),
    Transition(JobEvent.ALARMED, State.SYNTHESIZED, State.SYNTHESIZED, None, "undelivered or unproven for too long"),
    Transition(JobEvent.ALARMED, State.DELIVERED, State.DELIVERED, None, "unproven for too long"),
    Transition(JobEvent.DELETED, State.DELIVERED, State.DELIVERED, False, "delivered long ago: its files are deleted"),
    Transition(JobEvent.COMMITTED, State.SYNTHESIZED, State.SYNTHESIZED, None, "a destination keeps all it got"),
    Transition(JobEvent.COMMITTED, State.DELIVERED, State.DELIVERED, None, "a destination keeps all it got"),
    Transition(JobEvent.UNCOMMITTED, State.SYNTHESIZED, State.SYNTHESIZED, None, "a destination lost some of it"),
    Transition(JobEvent.UNCOMMITTED, State.DELIVERED, State.DELIVERED, None, "a destination lost some of it"),
)
"""All that may happen, and when. More instances after a job took the series open a second job for the larger set."""


def state_picture() -> str:
    """The table as a Mermaid state diagram, for README."""
    lines = ["stateDiagram-v2", f"    [*] --> {State.RECEIVING}: {JobEvent.ARRIVED}, first instances"]
    for step in TRANSITIONS:
        held = {True: "held and ", False: "", None: ""}[step.held]
        lines.append(f"    {step.before} --> {step.after}: {held}{step.fact}, {step.words.replace(':', ',')}")
    lines += [f"    {state} --> [*]" for state in (State.DELIVERED, State.REJECTED)]
    return "\n".join(lines) + "\n"

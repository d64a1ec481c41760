"""The states of a job and the events that lead from one to the next, as one table; README's picture is drawn from it.

A state names the last durable fact. `held` is not a state: a held job keeps its state and waits for a person.
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
    """Everything that can happen to a job; each event is one transaction of the ledger and one row in its events."""

    ARRIVED = "arrived"
    SETTLED = "settled"
    SYNTHESIZED = "synthesized"
    REJECTED = "rejected"
    FAILED = "failed"
    HELD = "held"
    RELEASED = "released"
    REJECTED_BY_PERSON = "rejected_by_person"
    POSTPONED = "postponed"
    ACCEPTED = "accepted"
    DELIVERED = "delivered"
    SUPERSEDED = "superseded"
    REPLACED = "replaced"
    CONFLICTED = "conflicted"
    RETRIED = "retried"
    CANCELLED = "cancelled"
    RESENT = "resent"
    ALARMED = "alarmed"
    COMMITTED = "committed"
    COMMITMENT_FAILED = "commitment_failed"
    DELETED = "deleted"


@dataclass(frozen=True, slots=True)
class Transition:
    """An event leads a job from `before` to `after`; `held` says whether the job must be held or not; None: either."""

    event: JobEvent
    before: State
    after: State
    held: bool | None
    words: str


_RECEIVED, _SYNTHESIZED, _DELIVERED, _REJECTED = State.RECEIVED, State.SYNTHESIZED, State.DELIVERED, State.REJECTED

TRANSITIONS: Final = (
    Transition(JobEvent.SETTLED, State.RECEIVING, _RECEIVED, False, "the series is complete"),
    Transition(JobEvent.SYNTHESIZED, _RECEIVED, _SYNTHESIZED, False, "the CT series is on disk"),
    Transition(JobEvent.REJECTED, _RECEIVED, _REJECTED, False, "no suitable input, or a rule ignores it"),
    Transition(JobEvent.FAILED, _RECEIVED, _RECEIVED, False, "our fault: tried again"),
    Transition(JobEvent.HELD, _RECEIVED, _RECEIVED, False, "our fault, 3 times: a person looks"),
    Transition(JobEvent.RELEASED, _RECEIVED, _RECEIVED, True, "a person had it tried again"),
    Transition(JobEvent.REJECTED_BY_PERSON, _RECEIVED, _REJECTED, True, "a person rejected it"),
    Transition(JobEvent.HELD, _SYNTHESIZED, _SYNTHESIZED, False, "a finding: a person looks"),
    Transition(JobEvent.POSTPONED, _SYNTHESIZED, _SYNTHESIZED, None, "a destination is down: tried later"),
    Transition(JobEvent.ACCEPTED, _SYNTHESIZED, _SYNTHESIZED, None, "one destination has everything"),
    Transition(JobEvent.RELEASED, _SYNTHESIZED, _SYNTHESIZED, True, "a person had it sent"),
    Transition(JobEvent.REJECTED_BY_PERSON, _SYNTHESIZED, _REJECTED, True, "a person rejected it"),
    Transition(JobEvent.DELIVERED, _SYNTHESIZED, _DELIVERED, False, "every destination has everything"),
    Transition(JobEvent.SUPERSEDED, _RECEIVED, _REJECTED, None, "more instances came: another job takes over"),
    Transition(JobEvent.SUPERSEDED, _SYNTHESIZED, _REJECTED, None, "the same, and nothing had been sent"),
    Transition(JobEvent.REPLACED, _SYNTHESIZED, _SYNTHESIZED, None, "the same, but some of it had been sent"),
    Transition(JobEvent.REPLACED, _DELIVERED, _DELIVERED, None, "the same, but it had been sent"),
    Transition(JobEvent.CONFLICTED, _RECEIVED, _RECEIVED, None, "a UID with two contents: a person looks"),
    Transition(JobEvent.CONFLICTED, _SYNTHESIZED, _SYNTHESIZED, None, "the same: nothing more is sent"),
    Transition(JobEvent.CONFLICTED, _DELIVERED, _DELIVERED, None, "the same, too late to keep it back"),
    Transition(JobEvent.RELEASED, _DELIVERED, _DELIVERED, True, "a person looked"),
    Transition(JobEvent.RETRIED, _RECEIVED, _RECEIVED, False, "a person had it tried at once"),
    Transition(JobEvent.RETRIED, _SYNTHESIZED, _SYNTHESIZED, False, "a person had it sent at once"),
    Transition(JobEvent.CANCELLED, _RECEIVED, _REJECTED, False, "a person stopped it"),
    Transition(JobEvent.CANCELLED, _SYNTHESIZED, _REJECTED, False, "a person stopped it: no more is sent"),
    Transition(JobEvent.RESENT, _DELIVERED, _SYNTHESIZED, False, "a person had all of it sent once more"),
    Transition(JobEvent.RESENT, _SYNTHESIZED, _SYNTHESIZED, False, "the same, for one destination of several"),
    Transition(JobEvent.ALARMED, _SYNTHESIZED, _SYNTHESIZED, None, "undelivered or unproven for too long"),
    Transition(JobEvent.ALARMED, _DELIVERED, _DELIVERED, None, "unproven for too long"),
    Transition(JobEvent.DELETED, _DELIVERED, _DELIVERED, False, "delivered long ago: its files are deleted"),
    Transition(JobEvent.COMMITTED, _SYNTHESIZED, _SYNTHESIZED, None, "a destination keeps all it got"),
    Transition(JobEvent.COMMITTED, _DELIVERED, _DELIVERED, None, "a destination keeps all it got"),
    Transition(JobEvent.COMMITMENT_FAILED, _SYNTHESIZED, _SYNTHESIZED, None, "a destination lost some of it"),
    Transition(JobEvent.COMMITMENT_FAILED, _DELIVERED, _DELIVERED, None, "a destination lost some of it"),
)
"""All that may happen, and when. More instances after a job took the series open a second job for the larger set."""


def state_picture() -> str:
    """Draw the table as a Mermaid state diagram for README, one arrow for each pair of states, with its events."""
    arrows: dict[tuple[State, State], list[str]] = {}
    for step in TRANSITIONS:
        event = str(step.event).replace("_", " ") + (" (of a held job)" if step.held else "")
        arrows.setdefault((step.before, step.after), []).append(event)
    lines = ["stateDiagram-v2", f"    [*] --> {State.RECEIVING}: {JobEvent.ARRIVED}"]
    lines += [f"    {before} --> {after}: {', '.join(events)}" for (before, after), events in arrows.items()]
    lines += [f"    {state} --> [*]" for state in (State.DELIVERED, State.REJECTED)]
    return "\n".join(lines) + "\n"

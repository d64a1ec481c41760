"""The help page: what each state, finding and reason code means, and what to do. It says nothing of any case.

    GET /help            #GAP, #soft_tissue_median: where the other pages lead

Nothing is written here: the sentences are those of `states`, `pipeline.errors`, `pipeline.findings.findings`, the rules
of `pipeline.preflight.rules`, and `advice`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from dicomnode.ledger.states import State
from dicomnode.reason_codes import ANY_OTHER_RULE, HELD_BEFORE_SENDING, OWN, REJECTED
from dicomnode.web.rendering import pages_of
from pipeline.errors import REASONS
from pipeline.findings.findings import MEANINGS
from pipeline.preflight.rules import FILE_RULES, SERIES_RULES

STATES: Final = {
    State.RECEIVING: "images of the series are on the disk; more may come",
    State.RECEIVED: "the series is complete; its synthetic CT is due, or being computed",
    State.SYNTHESIZED: "the CT series is on the disk, finished; it is being sent, unless it is held",
    State.DELIVERED: "every destination has every image of the CT series",
    State.REJECTED: "there will be no CT series of this case, for the reason that it names",
}
"""What each state says of a case."""

HELD: Final = "a physicist must look first: nothing is sent before it is released, and a rejected one never is"


@dataclass(frozen=True, slots=True)
class HelpEntry:
    """A word that the other pages use: what it means, and what to do."""

    name: str
    means: str
    do: str


def routes() -> list[Route]:
    """The page."""
    return [Route("/help", _help, methods=["GET"])]


def anchor(code: str) -> str:
    """The id of a reason code on the page: a case held for a finding or a rule has its name in capitals."""
    return code if code in REASONS or code in OWN else code.lower()


def reason_codes() -> list[HelpEntry]:
    """The codes of the pipeline, then the node's own."""
    refused = [HelpEntry(code, _spoken(text), REJECTED[code]) for code, text in REASONS.items()]
    return refused + [HelpEntry(code, own.means, own.do) for code, own in OWN.items()]


def rules() -> list[HelpEntry]:
    """What the destinations' profiles ask of a finished CT."""
    return [HelpEntry(rule.__name__, _first(rule.__doc__ or ""), _cure(rule.__name__)) for rule in _RULES]


_RULES: Final = (*FILE_RULES, *SERIES_RULES)


def _cure(rule: str) -> str:
    return HELD_BEFORE_SENDING.get(rule, HELD_BEFORE_SENDING[ANY_OTHER_RULE])


def _first(docstring: str) -> str:
    """A docstring's first paragraph, in one line."""
    return " ".join(docstring.split("\n\n")[0].split())


def _spoken(template: str) -> str:
    """A sentence with its fields left open: `gap of … mm at slice … of …`."""
    return re.sub(r"\{\w+\}", "…", template)


def _help(request: Request) -> Response:
    """GET /help"""
    states = [HelpEntry(state.value, words, "") for state, words in STATES.items()] + [HelpEntry("HELD", HELD, "")]
    return pages_of(request).page(
        request, "help.html", {"states": states, "codes": reason_codes(), "rules": rules(), "findings": MEANINGS}
    )

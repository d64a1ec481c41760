"""The help page: the meaning of each state, finding and reason code, and the recommended action.

    GET /help            other pages link to an entry by its id: #GAP, #soft_tissue_median

The page shows nothing about any case. Its sentences are those of `STATES`, `pipeline.errors`, `pipeline.findings`, the
rules of `pipeline.preflight.rules` and `dicomnode.reason_codes`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from dicomnode.ledger.states import State
from dicomnode.reason_codes import ANY_OTHER_RULE, HELD_BEFORE_SENDING, NODE_CODES, REJECTED
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
"""State -> its meaning for a case."""

HELD: Final = "a physicist must look first: nothing is sent before it is released, and a rejected one never is"


@dataclass(frozen=True, slots=True)
class HelpEntry:
    """A word that other pages use: its meaning, and the recommended action."""

    name: str
    meaning: str
    action: str


def routes() -> list[Route]:
    """Return the route of the page."""
    return [Route("/help", help_page, methods=["GET"])]


def anchor(code: str) -> str:
    """Return the id of a reason code on the page; the code of a finding or a rule is its name in capitals."""
    return code if code in REASONS or code in NODE_CODES else code.lower()


def reason_codes() -> list[HelpEntry]:
    """List the reason codes of the pipeline, then those of the node; `…` stands for the numbers of a sentence."""
    rejected = [HelpEntry(code, re.sub(r"\{\w+\}", "…", text), REJECTED[code]) for code, text in REASONS.items()]
    return rejected + [HelpEntry(code, own.meaning, own.action) for code, own in NODE_CODES.items()]


def rules() -> list[HelpEntry]:
    """List the rules that destination profiles check on a finished CT, each with the start of its docstring.

    A rule without an entry in `HELD_BEFORE_SENDING` has the action of `ANY_OTHER_RULE`.
    """
    entries = []
    for rule in (*FILE_RULES, *SERIES_RULES):
        paragraph = " ".join((rule.__doc__ or "").split("\n\n")[0].split())
        action = HELD_BEFORE_SENDING.get(rule.__name__, HELD_BEFORE_SENDING[ANY_OTHER_RULE])
        entries.append(HelpEntry(rule.__name__, paragraph, action))
    return entries


def help_page(request: Request) -> Response:
    """Answer GET /help."""
    states = [HelpEntry(state.value, text, "") for state, text in STATES.items()] + [HelpEntry("HELD", HELD, "")]
    values = {"states": states, "codes": reason_codes(), "rules": rules(), "findings": MEANINGS}
    return pages_of(request).page(request, "help.html", values)

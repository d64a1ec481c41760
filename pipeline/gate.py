"""The gate: a finished case is sent, held for a person, or rejected.

    gate          findings that ask for a review    no such findings
    auto          held                              sent
    always_hold   held                              held
    never_hold    sent, with a warning in the CT    sent

With every setting of the gate, a finding that rejects ends the job, a broken rule of a destination's profile holds it,
and a model whose card has `gate: always_hold` holds it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

from pipeline.errors import PipelineError

if TYPE_CHECKING:
    from models.inference.card import ModelCard
    from pipeline.findings.findings import Finding
    from pipeline.preflight.check import Complaint

Gate = Literal["auto", "always_hold", "never_hold"]

ALWAYS_HELD: Final = "ALWAYS_HELD"
"""Reason code of a case that is held because the site, or the model's card, holds every case."""


@dataclass(frozen=True)
class Hold:
    """The reason why a person should look at a case.

    Attributes:
        code: name of the first finding or rule, in capitals, or `ALWAYS_HELD`.
        sentence: all findings and rules.
    """

    code: str
    sentence: str


def also(hold: Hold | None, finding: Finding) -> Hold:
    """Return the hold of a case after one more finding that holds it."""
    if hold is None:
        return Hold(finding.name.upper(), str(finding))
    code = finding.name.upper() if hold.code == ALWAYS_HELD else hold.code
    return Hold(code, f"{hold.sentence}; {finding}")


def refuse(findings: Sequence[Finding]) -> None:
    """Raise Implausible when a finding rejects the case."""
    if any(finding.verdict == "reject" for finding in findings):
        raise Implausible(findings)


def hold_of(
    gate: Gate, findings: Sequence[Finding], overridden: bool, complaints: Sequence[Complaint], card: ModelCard
) -> Hold | None:
    """Return why a person should look at a case, or None.

    Args:
        gate: the setting of the site.
        findings: all of the case; none rejects.
        overridden: the findings stand in the CT as warnings and hold nothing.
        complaints: broken rules of the destinations' profiles.
        card: of the model.
    """
    failed = [] if overridden else [finding for finding in findings if finding.verdict != "pass"]
    reasons = [(one.name.upper(), str(one)) for one in failed] + [(one.rule.upper(), str(one)) for one in complaints]
    if card.gate == "always_hold":
        reasons.append((ALWAYS_HELD, f"every case of {card.name} is held for a person (the model's card)"))
    elif gate == "always_hold":
        reasons.append((ALWAYS_HELD, "every case is held for a person (quality.gate)"))
    return Hold(reasons[0][0], "; ".join(sentence for _, sentence in reasons)) if reasons else None


class Implausible(PipelineError):
    """A finding rejects the case.

    Attributes:
        findings: all findings of the case.
        code: name of the first finding that rejects, in capitals.
        sentence: all findings that reject.
    """

    def __init__(self, findings: Sequence[Finding]) -> None:
        super().__init__(tuple(findings))
        self.findings = tuple(findings)
        failed = [finding for finding in self.findings if finding.verdict == "reject"]
        self.code = failed[0].name.upper()
        self.sentence = "; ".join(map(str, failed))

    def __str__(self) -> str:
        return f"{self.code}: {self.sentence}"

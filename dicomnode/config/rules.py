"""Which series is converted, with what, to where: the rules of the configuration, asked in order. No I/O.

The first rule whose conditions all hold decides; when none does, `otherwise`. Every rule that was asked before says
which of its conditions failed, with the value found (`sct-node explain` prints that).

What of the configuration decides the result of a job, kept with the job when it is made.

A job is made with what it was given then; a configuration that changes later is for later jobs.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from dicomnode.config.load import AS_CONFIGURED, AnatomyCheck, StackTolerances, Volume
from dicomnode.config.sections import Output, Quality
from dicomnode.config.validation import STRICT, build, plain
from pipeline.ct.write import Labels
from pipeline.series.stack import TOLERANCES
from pipeline.series.volume_choice import UNAMBIGUOUS
from pipeline.volume.ct_grid import OutputGrid

if TYPE_CHECKING:
    from dicomnode.config.load import Config, Rule, RuleAction
    from pipeline.series.series import Series

OTHERWISE: Final = "otherwise"
"""What a job is told to have been decided by when no rule took its series."""


@dataclass(frozen=True, slots=True)
class Trial:
    """A rule that was asked and did not take the series: its number from 1, its name, and the condition that failed."""

    number: int
    rule: str
    failure: str

    def __str__(self) -> str:
        return f"rule {self.number} '{self.rule}': {self.failure}"


@dataclass(frozen=True, slots=True)
class Decision:
    """What is to become of a series.

    Attributes: `rule` (the name of the rule that took it, or OTHERWISE), `converts` (or it is ignored), `model` and
    `destinations` (names), `settings`, `trials` (the rules before, and why they did not take it).
    """

    rule: str
    converts: bool
    model: str
    destinations: tuple[str, ...]
    settings: JobSettings
    trials: tuple[Trial, ...] = ()

    @property
    def action(self) -> str:
        """`convert` or `ignore`, as the configuration writes it."""
        return "convert" if self.converts else "ignore"

    @property
    def sentence(self) -> str:
        """Which rule ignores the series, for a person."""
        by = "no rule takes it" if self.rule == OTHERWISE else f"rule '{self.rule}' takes it"
        return f"{by}: the series is {'converted' if self.converts else 'ignored'}"


def choose(series: Series, calling_ae: str, config: Config) -> Decision:
    """Ask the rules in order; the first that takes the series decides. Raises nothing for odd headers.

    `calling_ae` is the AE title of the sender; empty when nobody sent it.
    """
    trials: list[Trial] = []
    for number, rule in enumerate(config.rules, start=1):
        failure = rule.when.failure(series, calling_ae)
        if failure is None:
            return decision(rule.name, rule.then, config, trials)
        trials.append(Trial(number, rule.name, failure))
    return decision(OTHERWISE, config.otherwise, config, trials)


def decision(rule: str, then: RuleAction | None, config: Config, trials: Sequence[Trial] = ()) -> Decision:
    """What a `then` means in this configuration: what it leaves out is the node's own setting."""
    settings = settings_of(config, then or AS_CONFIGURED)
    if then is None:
        return Decision(rule, False, "", (), settings, tuple(trials))
    every = tuple(destination.name for destination in config.destinations)
    destinations = every if then.destinations is None else then.destinations
    return Decision(rule, True, then.model or config.model, destinations, settings, tuple(trials))


def settings_of(config: Config, then: RuleAction) -> JobSettings:
    """What decides a result: what a rule says, else the node's own settings."""
    check = then.anatomy_check or config.anatomy_check
    quality = dataclasses.replace(config.quality, gate=then.gate or config.quality.gate)
    return JobSettings(check, then.volume, config.stack, config.output, config.receive.accept_lossy, quality)


def models_of(config: Config) -> dict[str, str]:
    """Dotted path -> model, of each place that names one which is used."""
    named = {f"{path}.model": then.model for path, then in config.thens() if then.model is not None}
    return {"model": config.model, **named}


def unreachable(config: Config) -> Iterator[tuple[Rule, Rule]]:
    """Rules that can take nothing, each with an earlier one that takes all it could take."""
    for index, rule in enumerate(config.rules):
        earlier = next((one for one in config.rules[:index] if one.when.takes_all_that(rule.when)), None)
        if earlier is not None:
            yield rule, earlier


DEFAULT_OUTPUT: Final = Output()


@dataclass(frozen=True, slots=True)
class JobSettings:
    """All that changes a result, but for the MR series and the model.

    Attributes: `anatomy_check` (what becomes of a series of another anatomy), `volume` (which volume of the series is
    meant), `stack` (how regular it must be), `output` (how the CT is written), `accept_lossy` (whether a series
    that was compressed with loss is converted), `quality` (which cases are held).
    """

    anatomy_check: AnatomyCheck = "hold"
    volume: Volume = UNAMBIGUOUS
    stack: StackTolerances = TOLERANCES
    output: Output = DEFAULT_OUTPUT
    accept_lossy: bool = False
    quality: Quality = field(default_factory=Quality)
    __pydantic_config__ = STRICT

    @property
    def digest(self) -> str:
        """SHA-256 (hex); a job's key holds it beside the model's digest."""
        return hashlib.sha256(self.as_json().encode()).hexdigest()

    @property
    def grid(self) -> OutputGrid:
        """What is asked of the CT's grid; one number is the spacing along all axes."""
        output = self.output
        steps = output.spacing_mm
        if steps is None:
            return OutputGrid(None, output.orientation, output.field, output.body_margin_mm)
        slice_mm, row_mm, column_mm = steps if isinstance(steps, tuple) else (steps,) * 3
        return OutputGrid((slice_mm, row_mm, column_mm), output.orientation, output.field, output.body_margin_mm)

    @property
    def labels(self) -> Labels:
        """What the CT writer is told."""
        said = self.output
        low, high = said.hu_range
        return Labels((low, high), said.research_label, said.image_type, said.series_description, said.equipment)

    def as_json(self) -> str:
        """For the job's row; `read` takes it again."""
        return json.dumps(plain(self), sort_keys=True)

    @classmethod
    def read(cls, text: str) -> JobSettings:
        """From a job's row. Raises ConfigError when this version does not know one of its keys."""
        return build(cls, json.loads(text), "settings")

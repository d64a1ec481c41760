"""The rules of the configuration decide what is done with a series; the decision holds the job's settings. No I/O.

The rules are asked in order. The first rule whose conditions all hold decides; when none does, `otherwise` decides.
Every rule that was asked before reports which of its conditions failed, with the value found (`sct-node explain`).

The settings that affect a job's result are stored with the job when it is made: a configuration that changes later
counts for later jobs only.
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
"""The rule name of a job whose series no rule has taken."""


@dataclass(frozen=True, slots=True)
class Trial:
    """A rule that did not take the series: its number (from 1), its name, and the condition that failed."""

    number: int
    rule: str
    failure: str

    def __str__(self) -> str:
        return f"rule {self.number} '{self.rule}': {self.failure}"


@dataclass(frozen=True, slots=True)
class Decision:
    """The decision about a series.

    Attributes:
        rule: name of the rule that takes the series, or OTHERWISE.
        converts: whether the series is converted; otherwise it is ignored.
        model: name of the model.
        destinations: names of the destinations.
        settings: the other settings of the job.
        trials: the rules that were asked before, and why they did not take it.
    """

    rule: str
    converts: bool
    model: str
    destinations: tuple[str, ...]
    settings: JobSettings
    trials: tuple[Trial, ...] = ()

    @property
    def action(self) -> str:
        """The word of the configuration, `convert` or `ignore`."""
        return "convert" if self.converts else "ignore"

    @property
    def sentence(self) -> str:
        """The sentence for a person that names the rule and the action."""
        by = "no rule takes it" if self.rule == OTHERWISE else f"rule '{self.rule}' takes it"
        return f"{by}: the series is {'converted' if self.converts else 'ignored'}"


def choose(series: Series, calling_ae: str, config: Config) -> Decision:
    """Return the decision of the first rule that takes the series. Raises nothing for odd headers.

    Args:
        series: the MR series.
        calling_ae: AE title of the sender; empty when nobody has sent it.
        config: the configuration with the rules.
    """
    trials: list[Trial] = []
    for number, rule in enumerate(config.rules, start=1):
        failure = rule.when.failure(series, calling_ae)
        if failure is None:
            return decision(rule.name, rule.then, config, trials)
        trials.append(Trial(number, rule.name, failure))
    return decision(OTHERWISE, config.otherwise, config, trials)


def decision(rule: str, then: RuleAction | None, config: Config, trials: Sequence[Trial] = ()) -> Decision:
    """Return the decision of a rule's `then`; where it sets nothing, the node's own setting counts."""
    settings = settings_of(config, then or AS_CONFIGURED)
    if then is None:
        return Decision(rule, False, "", (), settings, tuple(trials))
    every = tuple(destination.name for destination in config.destinations)
    destinations = every if then.destinations is None else then.destinations
    return Decision(rule, True, then.model or config.model, destinations, settings, tuple(trials))


def settings_of(config: Config, then: RuleAction) -> JobSettings:
    """Return the settings of a job: those of the rule, otherwise those of the node."""
    check = then.anatomy_check or config.anatomy_check
    quality = dataclasses.replace(config.quality, gate=then.gate or config.quality.gate)
    return JobSettings(check, then.volume, config.stack, config.output, config.receive.accept_lossy, quality)


def models_of(config: Config) -> dict[str, str]:
    """Return the models that are used, by the dotted path of the key that names each."""
    named = {f"{path}.model": then.model for path, then in config.thens() if then.model is not None}
    return {"model": config.model, **named}


def unreachable(config: Config) -> Iterator[tuple[Rule, Rule]]:
    """Yield each rule that can take nothing, with an earlier rule that takes everything it could take."""
    for index, rule in enumerate(config.rules):
        earlier = next((one for one in config.rules[:index] if one.when.takes_all_that(rule.when)), None)
        if earlier is not None:
            yield rule, earlier


DEFAULT_OUTPUT: Final = Output()


@dataclass(frozen=True, slots=True)
class JobSettings:
    """The settings that affect a job's result, beside the MR series and the model.

    Attributes:
        anatomy_check: hold or warn about a series of another anatomy.
        volume: the volume that is chosen from a series of several.
        stack: tolerances of the regular stack.
        output: content and grid of the CT.
        accept_lossy: whether a series that was compressed with loss is converted.
        quality: limits of findings, and the gate.
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
        """The SHA-256 (hex) of the settings; a job's key holds it beside the model's digest."""
        return hashlib.sha256(self.as_json().encode()).hexdigest()

    @property
    def grid(self) -> OutputGrid:
        """The grid that is asked for; a single number is the spacing (mm) along all axes."""
        output = self.output
        steps = output.spacing_mm
        if steps is None:
            return OutputGrid(None, output.orientation, output.field, output.body_margin_mm)
        slice_mm, row_mm, column_mm = steps if isinstance(steps, tuple) else (steps,) * 3
        return OutputGrid((slice_mm, row_mm, column_mm), output.orientation, output.field, output.body_margin_mm)

    @property
    def labels(self) -> Labels:
        """The texts and the HU range for the CT writer."""
        said = self.output
        low, high = said.hu_range
        return Labels((low, high), said.research_label, said.image_type, said.series_description, said.equipment)

    def as_json(self) -> str:
        """Return JSON for the job's row; `read` is the inverse."""
        return json.dumps(plain(self), sort_keys=True)

    @classmethod
    def read(cls, text: str) -> JobSettings:
        """Return the settings of a job's row. Raises ConfigError when this version does not know one of its keys."""
        return build(cls, json.loads(text), "settings")

"""What of the configuration decides the result of a job, kept with the job when it is made.

A job is made with what it was given then; a configuration that changes later is for later jobs.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from typing import Final

from dicomnode.config.load import VOLUME, AnatomyCheck
from dicomnode.config.plain import build, plain
from dicomnode.config.sections import Output, Quality
from pipeline.ct.write import Labels
from pipeline.series.stack import TOLERANCES, Tolerances
from pipeline.series.volume_choice import UNAMBIGUOUS, Choice
from pipeline.volume.ct_grid import OutputGrid

DEFAULT_OUTPUT: Final = Output()


@dataclass(frozen=True, slots=True)
class Settings:
    """All that changes a result, but for the MR series and the model.

    Attributes: `anatomy_check` (what becomes of a series of another anatomy), `volume` (which volume of the series is
    meant), `stack` (how regular it must be), `output` (how the CT is written), `accept_lossy` (whether a series
    that was compressed with loss is converted), `quality` (which cases are held).
    """

    anatomy_check: AnatomyCheck = "hold"
    volume: Choice = field(default=UNAMBIGUOUS, metadata=VOLUME)
    stack: Tolerances = TOLERANCES
    output: Output = DEFAULT_OUTPUT
    accept_lossy: bool = False
    quality: Quality = field(default_factory=Quality)

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
    def read(cls, text: str) -> Settings:
        """From a job's row. Raises ConfigError when this version does not know one of its keys."""
        return build(cls, json.loads(text), "settings")

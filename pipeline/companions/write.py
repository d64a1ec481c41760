"""The companions that are made together with the CT: outline, segments and uncertainty, in a folder of their own.

A kind that a destination asks for and that cannot be made of this case is not written, and the report says why.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np
from highdicom import Volume, VolumeGeometry
from numpy.typing import NDArray

from models.data.body import voids
from pipeline.companions.companion import CtSeries
from pipeline.companions.kinds import COMPANIONS, MADE_WITH_THE_CT, CompanionKind
from pipeline.companions.parametric_map import parametric_map
from pipeline.companions.rtstruct import Region, rtstruct
from pipeline.companions.segmentation import segmentation
from pipeline.durable_files import write_all
from pipeline.volume.resampling import resample
from pipeline.volume.synthesize import Synthesis

NO_BODY: Final = "no outline of a body was found"
NO_SD: Final = "the model gives no uncertainty"
DECIDED: Final = "written when the case is first sent"
EXTERNAL_COLOUR: Final = (0, 200, 0)
VOID_COLOUR: Final = (230, 159, 0)

Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Content:
    """What companions show, arrays (slice, row, column) on the CT's grid.

    Attributes:
        hu: the synthetic CT, HU.
        body: the MR's outline.
        sd: standard deviation in HU, or None.
        voids: where the MR has no signal within the outline; all False where none was found.
    """

    hu: NDArray[np.floating] = field(repr=False)
    body: Mask = field(repr=False)
    sd: NDArray[np.floating] | None = field(default=None, repr=False)
    voids: Mask | None = field(default=None, repr=False)


def content_of(made: Synthesis) -> Content:
    """What companions show of a synthesis."""
    grid = made.hu.get_geometry()
    sd = None if made.sd is None else resample(made.sd, grid, fill=0.0).array
    return Content(made.hu.array, _on(made.body, grid), sd, _on(_voids(made), grid))


def _voids(made: Synthesis) -> Volume:
    """Where the MR has no signal within the outline, on the model's grid."""
    slice_mm, row_mm, column_mm = (float(step) for step in made.mr.spacing)
    return made.body.with_array(voids(made.mr.array, made.body.array > 0, (slice_mm, row_mm, column_mm)))


def _on(mask: Volume, grid: VolumeGeometry) -> Mask:
    """A mask on another grid: what lies at least half inside."""
    inside: Mask = resample(mask.with_array(mask.array.astype(np.float32)), grid, fill=0.0).array >= 0.5
    return inside


def companions_beside(
    ct: Sequence[Path], made: Synthesis, asked: Collection[CompanionKind], into: Path
) -> dict[str, str]:
    """Write what is asked beside the CT that was made; -> as `write_companions`."""
    return write_companions(asked, content_of(made), ct, into) if asked else {}


def write_companions(
    asked: Collection[CompanionKind], content: Content, ct: Sequence[Path], into: Path
) -> dict[str, str]:
    """Write those of `asked` that are made with the CT into `into`/companions/; -> kind: `written`, or why it is not.

    `ct` are the CT's files in the order of `content`'s slices. Raises OSError.
    """
    series = CtSeries.read(ct)
    made = {kind: _made(kind, content, series) for kind in COMPANIONS if kind in asked}
    files = [(f"{kind}.dcm", file) for kind, file in made.items() if isinstance(file, bytes)]
    if files:
        write_all(files, into / MADE_WITH_THE_CT)
    return {kind: "written" if isinstance(file, bytes) else file for kind, file in made.items()}


def _made(kind: CompanionKind, content: Content, ct: CtSeries) -> bytes | str:
    """The file of a companion, or why there is none."""
    if COMPANIONS[kind].decided:
        return DECIDED
    if kind == "uncertainty":
        return NO_SD if content.sd is None else parametric_map(ct, content.sd)
    if not content.body.any():
        return NO_BODY
    return rtstruct(ct, list(regions(content))) if kind == "rtstruct" else segmentation(ct, content.hu, content.body)


def regions(content: Content) -> Iterator[Region]:
    """The regions of the structure set: External, and the voids where there are any."""
    yield Region("External", "EXTERNAL", "outline of the MR, holes filled", EXTERNAL_COLOUR, content.body)
    if content.voids is not None and content.voids.any():
        how = "no signal in the MR within its outline; HU are not to be trusted"
        yield Region("MR void", "AVOIDANCE", how, VOID_COLOUR, content.voids)

"""Write the companions that are made together with the CT: outline, segments and uncertainty, in their own folder.

A kind that a destination asks for and that cannot be made is not written, and the report gives the reason.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np
from highdicom import Volume, VolumeGeometry
from numpy.typing import NDArray

from models.data.body import Mask, voids
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


@dataclass(frozen=True)
class Content:
    """The content of companions; arrays (slice, row, column) on the CT's grid.

    Attributes:
        hu: the synthetic CT, HU.
        body: the body's outline in the MR.
        sd: standard deviation in HU, or None.
        voids: regions within the outline without MR signal; all False when there are none.
    """

    hu: NDArray[np.floating] = field(repr=False)
    body: Mask = field(repr=False)
    sd: NDArray[np.floating] | None = field(default=None, repr=False)
    voids: Mask | None = field(default=None, repr=False)


def content_of(made: Synthesis) -> Content:
    """Resample the results of a synthesis to the CT's grid, and find the voids in the MR's signal."""
    grid = made.hu.get_geometry()
    sd = None if made.sd is None else resample(made.sd, grid, fill=0.0).array
    slice_mm, row_mm, column_mm = (float(step) for step in made.mr.spacing)
    found = made.body.with_array(voids(made.mr.array, made.body.array > 0, (slice_mm, row_mm, column_mm)))
    return Content(made.hu.array, _on(made.body, grid), sd, _on(found, grid))


def _on(mask: Volume, grid: VolumeGeometry) -> Mask:
    """Resample a mask to another grid; a voxel is inside when at least half of it is."""
    inside: Mask = resample(mask.with_array(mask.array.astype(np.float32)), grid, fill=0.0).array >= 0.5
    return inside


def companions_beside(
    ct: Sequence[Path], made: Synthesis, asked: Collection[CompanionKind], into: Path
) -> dict[str, str]:
    """Write the kinds in `asked` beside the CT of a synthesis; returns the same as `write_companions`."""
    return write_companions(asked, content_of(made), ct, into) if asked else {}


def write_companions(
    asked: Collection[CompanionKind], content: Content, ct: Sequence[Path], into: Path
) -> dict[str, str]:
    """Write those of `asked` that are made with the CT into `into`/companions/.

    `ct` are the CT's files in the order of `content`'s slices.

    Returns:
        Kind -> `written`, or the reason why it is not written.

    Raises:
        OSError: the files cannot be written; then none is left.
    """
    series = CtSeries.read(ct)
    made = {kind: companion_of(kind, content, series) for kind in COMPANIONS if kind in asked}
    files = [(f"{kind}.dcm", file) for kind, file in made.items() if isinstance(file, bytes)]
    if files:
        write_all(files, into / MADE_WITH_THE_CT)
    return {kind: "written" if isinstance(file, bytes) else file for kind, file in made.items()}


def companion_of(kind: CompanionKind, content: Content, series: CtSeries) -> bytes | str:
    """Return the file of one companion, or the reason why it is not made with the CT."""
    if COMPANIONS[kind].decided:
        return DECIDED
    if kind == "uncertainty":
        return NO_SD if content.sd is None else parametric_map(series, content.sd)
    if not content.body.any():
        return NO_BODY
    if kind == "rtstruct":
        return rtstruct(series, list(regions(content)))
    return segmentation(series, content.hu, content.body)


def regions(content: Content) -> Iterator[Region]:
    """Yield the regions of the structure set: External, and the voids if there are any."""
    yield Region("External", "EXTERNAL", "outline of the MR, holes filled", EXTERNAL_COLOUR, content.body)
    if content.voids is not None and content.voids.any():
        how = "no signal in the MR within its outline; HU are not to be trusted"
        yield Region("MR void", "AVOIDANCE", how, VOID_COLOUR, content.voids)

"""Frames: one plane of pixels and its place in the patient, the same for classic and multi-frame MR images.

A classic image has all attributes at its top level (PS3.3 C.7.6.2). An Enhanced or Legacy Converted Enhanced image has
them in functional groups, each shared by all frames or given per frame (PS3.3 C.7.6.16). Only ImagePositionPatient,
ImageOrientationPatient and PixelSpacing are trusted for geometry (PS3.3 C.7.6.2.1.1, 10.7.1.3).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

import pydicom

from pipeline.errors import Unsuitable
from pipeline.series.image_kind import Macro, classic_kind, frame_kind
from pipeline.series.instance import Instance, intact

LARGEST_MM = 1e5
"""Positions and sizes beyond 100 m are no places in a patient."""


@dataclass(frozen=True)
class Frame:
    """One plane of one instance. Positions and spacings in mm, LPS.

    Attributes:
        instance: the instance that holds the frame.
        number: of the frame in its instance, from 0.
        position_mm: centre of the first pixel, ImagePositionPatient.
        orientation: direction cosines along a row, then along a column, ImageOrientationPatient.
        pixel_spacing_mm: between rows, between columns.
        rows: number of rows.
        columns: number of columns.
        slope: MR value = stored value x `slope` + `intercept` (PS3.3 C.11.1.1.2).
        intercept: see `slope`.
        kind: attribute -> text for the attributes of `pipeline.series.image_kind.KINDS`.
    """

    instance: Instance
    number: int
    position_mm: tuple[float, ...]
    orientation: tuple[float, ...]
    pixel_spacing_mm: tuple[float, ...]
    rows: int
    columns: int
    slope: float
    intercept: float
    kind: Mapping[str, str]

    @property
    def name(self) -> str:
        """The SOP Instance UID, with the frame's number (from 1) where there are several."""
        uid = str(self.instance.sop_instance_uid)
        return f"frame {self.number + 1} of {uid}" if self.instance.is_multi_frame else uid


def frames_of(instance: Instance) -> tuple[Frame, ...]:
    """Return the frames of an MR instance, in file order, from its header alone.

    Raises:
        Unsuitable: NO_GEOMETRY, BAD_GEOMETRY, BAD_RESCALE or UNREADABLE.
    """
    header, name = instance.header, instance.sop_instance_uid
    with intact(name, "its header is damaged"):
        count = int(header.get("NumberOfFrames") or 1)
        if not instance.is_multi_frame:
            if count != 1:
                detail = f"{count} frames in a single-frame image"
                raise Unsuitable.of("BAD_GEOMETRY", name=name, attribute="NumberOfFrames", detail=detail)
            return (_frame(instance, 0, lambda _: header, classic_kind(header, name)),)
        groups = header.get("PerFrameFunctionalGroupsSequence") or ()
        if len(groups) != count:
            detail = f"{len(groups)} items for {count} frames"
            raise Unsuitable.of("BAD_GEOMETRY", name=name, attribute="PerFrameFunctionalGroupsSequence", detail=detail)
        shared = (header.get("SharedFunctionalGroupsSequence") or [pydicom.Dataset()])[0]
        macros = [partial(macro_item, group, shared) for group in groups]
        return tuple(
            _frame(instance, number, macro, frame_kind(header, macro, name)) for number, macro in enumerate(macros)
        )


def macro_item(group: pydicom.Dataset, shared: pydicom.Dataset, keyword: str | int) -> pydicom.Dataset:
    """Return the item of a functional group macro for one frame, or an empty one (PS3.3 C.7.6.16.1).

    Args:
        group: per-frame functional group of the frame.
        shared: functional group of all frames, for macros that the frame lacks.
        keyword: keyword or tag of the macro's sequence.
    """
    items = group.get(keyword) or shared.get(keyword)
    return items[0] if items else pydicom.Dataset()


def _frame(instance: Instance, number: int, macro: Macro, kind: Mapping[str, str]) -> Frame:
    """Return one frame from its functional group macros; for a classic image each of them is the whole header."""
    name = str(instance.sop_instance_uid)
    spacing = _numbers(macro("PixelMeasuresSequence"), "PixelSpacing", 2, name)
    if min(spacing) <= 0:
        raise Unsuitable.of("BAD_GEOMETRY", name=name, attribute="PixelSpacing", detail="it is not positive")
    rescale = macro("PixelValueTransformationSequence")
    slope, intercept = (
        default if (value := rescale.get(keyword)) is None else float(value)
        for keyword, default in (("RescaleSlope", 1.0), ("RescaleIntercept", 0.0))
    )
    if not (math.isfinite(slope) and math.isfinite(intercept)) or slope == 0:
        raise Unsuitable.of("BAD_RESCALE", name=name, detail=f"RescaleSlope {slope}, RescaleIntercept {intercept}")
    return Frame(
        instance=instance,
        number=number,
        position_mm=_numbers(macro("PlanePositionSequence"), "ImagePositionPatient", 3, name),
        orientation=_numbers(macro("PlaneOrientationSequence"), "ImageOrientationPatient", 6, name),
        pixel_spacing_mm=spacing,
        rows=int(instance.header.get("Rows") or 0),
        columns=int(instance.header.get("Columns") or 0),
        slope=slope,
        intercept=intercept,
        kind=kind,
    )


def _numbers(data_set: pydicom.Dataset, keyword: str, count: int, name: str) -> tuple[float, ...]:
    """Return the `count` numbers of attribute `keyword`, of which none exceeds `LARGEST_MM`."""
    value = data_set.get(keyword)
    if value is None or value == "":
        raise Unsuitable.of("NO_GEOMETRY", name=name, attribute=keyword)
    numbers = tuple(float(v) for v in (value if isinstance(value, pydicom.multival.MultiValue) else [value]))
    if len(numbers) != count or not all(abs(v) <= LARGEST_MM for v in numbers):
        detail = f"{count} numbers of at most {LARGEST_MM:g} are expected, it holds {len(numbers)}"
        raise Unsuitable.of("BAD_GEOMETRY", name=name, attribute=keyword, detail=detail)
    return numbers

"""One plane of pixels and its place in the patient, the same for classic and multi-frame MR images.

A classic image says everything at its top level (PS3.3 C.7.6.2). An Enhanced or Legacy Converted Enhanced image says
it in functional groups, each shared by all frames or given per frame (PS3.3 C.7.6.16). Only ImagePositionPatient,
ImageOrientationPatient and PixelSpacing are trusted for geometry.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import pydicom

from pipeline.errors import Unsuitable
from pipeline.series.image_kind import classic_kind, frame_kind
from pipeline.series.instance import Instance, intact

LARGEST_MM = 1e5
"""What lies farther away, or is larger, than 100 m is no place in a patient."""


@dataclass(frozen=True)
class Frame:
    """One plane of one instance. Positions and spacings in mm, LPS.

    `position_mm` is the centre of the first pixel; `orientation` holds the direction cosines of the rows and of the
    columns; `pixel_spacing_mm` is (between rows, between columns); `number` counts from 0. The MR value is
    stored value x `slope` + `intercept`. `kind` says what is shown, in the words of `pipeline.series.image_kind.KINDS`.
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

    Raises Unsuitable NO_GEOMETRY, BAD_GEOMETRY, BAD_RESCALE or UNREADABLE.
    """
    with intact(instance.sop_instance_uid, "its header is damaged"):
        return _multi_frame(instance) if instance.is_multi_frame else (_classic(instance),)


def _classic(instance: Instance) -> Frame:
    header = instance.header
    frames = int(header.get("NumberOfFrames") or 1)
    if frames != 1:
        detail = f"{frames} frames in a single-frame image"
        raise Unsuitable.of("BAD_GEOMETRY", name=instance.sop_instance_uid, attribute="NumberOfFrames", detail=detail)
    kind = classic_kind(header, instance.sop_instance_uid)
    return _frame(instance, 0, position=header, orientation=header, measures=header, rescale=header, kind=kind)


def _multi_frame(instance: Instance) -> tuple[Frame, ...]:
    header, name = instance.header, instance.sop_instance_uid
    frames = int(header.get("NumberOfFrames") or 1)
    groups = header.get("PerFrameFunctionalGroupsSequence") or ()
    if len(groups) != frames:
        detail = f"{len(groups)} items for {frames} frames"
        raise Unsuitable.of("BAD_GEOMETRY", name=name, attribute="PerFrameFunctionalGroupsSequence", detail=detail)
    shared = (header.get("SharedFunctionalGroupsSequence") or [pydicom.Dataset()])[0]
    return tuple(_frame_in_groups(instance, number, group, shared) for number, group in enumerate(groups))


def _frame_in_groups(instance: Instance, number: int, group: pydicom.Dataset, shared: pydicom.Dataset) -> Frame:
    """Return one frame from its per-frame functional group and the shared one (PS3.3 C.7.6.16.1)."""

    def macro(keyword: str | int) -> pydicom.Dataset:
        items = group.get(keyword) or shared.get(keyword)
        return items[0] if items else pydicom.Dataset()

    return _frame(
        instance,
        number,
        position=macro("PlanePositionSequence"),
        orientation=macro("PlaneOrientationSequence"),
        measures=macro("PixelMeasuresSequence"),
        rescale=macro("PixelValueTransformationSequence"),
        kind=frame_kind(instance.header, macro, instance.sop_instance_uid),
    )


def _frame(
    instance: Instance,
    number: int,
    *,
    position: pydicom.Dataset,
    orientation: pydicom.Dataset,
    measures: pydicom.Dataset,
    rescale: pydicom.Dataset,
    kind: Mapping[str, str],
) -> Frame:
    name = str(instance.sop_instance_uid)
    spacing = _numbers(measures, "PixelSpacing", 2, name)
    if min(spacing) <= 0:
        raise Unsuitable.of("BAD_GEOMETRY", name=name, attribute="PixelSpacing", detail="it is not positive")
    slope, intercept = _rescale(rescale, name)
    return Frame(
        instance=instance,
        number=number,
        position_mm=_numbers(position, "ImagePositionPatient", 3, name),
        orientation=_numbers(orientation, "ImageOrientationPatient", 6, name),
        pixel_spacing_mm=spacing,
        rows=int(instance.header.get("Rows") or 0),
        columns=int(instance.header.get("Columns") or 0),
        slope=slope,
        intercept=intercept,
        kind=kind,
    )


def _numbers(data_set: pydicom.Dataset, keyword: str, count: int, name: str) -> tuple[float, ...]:
    """Return the `count` numbers of attribute `keyword`, all of a size that a patient can have."""
    value = data_set.get(keyword)
    if value is None or value == "":
        raise Unsuitable.of("NO_GEOMETRY", name=name, attribute=keyword)
    numbers = tuple(float(v) for v in (value if isinstance(value, pydicom.multival.MultiValue) else [value]))
    if len(numbers) != count or not all(abs(v) <= LARGEST_MM for v in numbers):
        detail = f"{count} numbers of at most {LARGEST_MM:g} are expected, it holds {len(numbers)}"
        raise Unsuitable.of("BAD_GEOMETRY", name=name, attribute=keyword, detail=detail)
    return numbers


def _rescale(data_set: pydicom.Dataset, name: str) -> tuple[float, float]:
    """Return RescaleSlope and RescaleIntercept (PS3.3 C.11.1.1.2); 1 and 0 where absent."""
    slope, intercept = (data_set.get(keyword) for keyword in ("RescaleSlope", "RescaleIntercept"))
    slope = 1.0 if slope is None else float(slope)
    intercept = 0.0 if intercept is None else float(intercept)
    if not (math.isfinite(slope) and math.isfinite(intercept)) or slope == 0:
        raise Unsuitable.of("BAD_RESCALE", name=name, detail=f"RescaleSlope {slope}, RescaleIntercept {intercept}")
    return slope, intercept

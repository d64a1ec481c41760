"""Frames -> candidates: what may be one volume each. Nothing is chosen here, and nothing is dropped.

    geometry    orientation, matrix or pixel spacing differ by more than any scatter: other stacks, and strays
    contrast    attributes that one volume has once: image type, component, Dixon image, echo time, temporal position
    repetition  where positions still repeat: the attribute (or two) whose values leave each position one image

What stays together although positions repeat is refused by its stack: no attribute tells the images apart.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Final, TypeVar

import numpy as np

from pipeline.errors import Unsuitable
from pipeline.series.frame import Frame
from pipeline.series.stack import (
    Tolerances,
    angle_deg,
    axes_of,
    most_at_one_position,
    right_angled,
    shown,
    stack_of,
)

OTHER_ORIENTATION_DEG: Final = 5.0
"""Frames that differ by more lie in other stacks; less is scatter within one stack, judged by its tolerance."""

OTHER_SPACING: Final = 0.01
"""The same for pixel spacings: a relative difference."""

MOST_GEOMETRIES: Final = 32
"""More are no stacks but frames in all directions (a radial scan, damaged headers): refused without sorting."""

CONTRAST: Final = (
    "ImageType",
    "ComplexImageComponent",
    "Dixon",
    "EchoTime",
    "DiffusionBValue",
    "ASLContext",
    "TemporalPositionIdentifier",
    "ContrastBolusAgent",
)
"""Attributes of `pipeline.series.image_kind` that one volume has only once, wherever its slices lie."""

REPETITION: Final = (
    "EchoNumbers",
    "InversionTime",
    "FlipAngle",
    "AcquisitionNumber",
    "StackID",
    "DiffusionDirectionality",
    "DiffusionGradientOrientation",
    "TriggerTime",
)
"""Attributes that may vary from slice to slice of one volume, and count only where positions repeat."""

KEYWORDS: Final[Mapping[str, str]] = {
    "component": "ComplexImageComponent",
    "dixon": "Dixon",
    "echo_time_ms": "EchoTime",
    "b_value": "DiffusionBValue",
    "label": "ASLContext",
    "temporal_position": "TemporalPositionIdentifier",
    "contrast_agent": "ContrastBolusAgent",
    "inversion_time_ms": "InversionTime",
    "flip_angle_deg": "FlipAngle",
    "acquisition": "AcquisitionNumber",
    "stack": "StackID",
    "trigger_time_ms": "TriggerTime",
    "image_type": "ImageType",
}
"""Aspect of a volume, as a site chooses by it -> attribute of `pipeline.series.image_kind`."""

PHRASES: Final[Mapping[str, str]] = {
    "orientation": "{}",
    "stack": "stack {}",
    "echo": "echo {}",
    "component": "{}",
    "dixon": "{}",
    "b_value": "b {}",
    "temporal_position": "temporal position {}",
    "label": "{}",
    "contrast_agent": "contrast agent {}",
    "inversion_time_ms": "TI {} ms",
    "flip_angle_deg": "flip angle {} degrees",
    "acquisition": "acquisition {}",
    "trigger_time_ms": "trigger time {} ms",
}
"""Aspect -> how it is said, in the order in which a volume is described."""


Key = TypeVar("Key", bound=Hashable)


@dataclass(frozen=True)
class Candidate:
    """Frames that may make one volume.

    Attributes:
        frames: all of one geometry and one contrast.
        geometry: number of its geometry; candidates of equal number share orientation, matrix and pixel spacing.
        aspects: what a site chooses by -> value as text, "" where the headers do not state it or state several.
    """

    frames: tuple[Frame, ...]
    geometry: int
    aspects: Mapping[str, str]

    def states(self, aspect: str) -> bool:
        """Whether the headers state an aspect."""
        return bool(self.aspects[aspect])

    def has(self, aspect: str, value: str) -> bool:
        """Whether an aspect has a value; NONE is an aspect that is not stated, an image type has several values."""
        own = self.aspects[aspect].upper() or "NONE"
        return value == own or (aspect == "image_type" and value in own.split("\\"))

    @property
    def geometry_words(self) -> str:
        """Orientation, matrix and pixel spacing: "sagittal 256 x 256, 1.2 x 1.2 mm"."""
        frame = self.frames[0]
        spacing = " x ".join(shown(mm) for mm in frame.pixel_spacing_mm)
        return f"{self.aspects['orientation'].lower()} {frame.rows} x {frame.columns}, {spacing} mm"


def sorted_out(frames: Sequence[Frame]) -> tuple[list[Frame], list[Frame]]:
    """Return `frames` without those whose image type says localizer, and those.

    Raises Unsuitable LOCALIZER when all do.
    """
    localizers = [frame for frame in frames if is_localizer(frame)]
    if len(localizers) == len(frames) > 0:
        raise Unsuitable.of("LOCALIZER", image_type=frames[0].kind["ImageType"])
    return [frame for frame in frames if not is_localizer(frame)], localizers


def is_localizer(frame: Frame) -> bool:
    """Whether Image Type, of the frame or of its object, holds LOCALIZER (PS3.3 C.8.3.1.1.1)."""
    values = [*(frame.instance.header.get("ImageType") or ()), *frame.kind["ImageType"].split("\\")]
    return not {"LOCALIZER", "SCOUT"}.isdisjoint(str(value).upper() for value in values)


def candidates(frames: Sequence[Frame], tolerances: Tolerances) -> list[Candidate]:
    """Sort `frames` into what may be one volume each; their order does not matter.

    Raises Unsuitable BAD_GEOMETRY, and MIXED_ORIENTATION, MIXED_MATRIX or MIXED_SPACING for too many geometries.
    """
    right_angled(frames, tolerances)
    parallel = _by_geometry(sorted(frames, key=lambda frame: frame.name), tolerances)
    found = []
    for number, same in enumerate(parallel):
        groups = [part for one in _grouped(same, CONTRAST) for part in _told_apart(one, tolerances)]
        echoes = _echoes(groups)
        found += [Candidate(tuple(part), number, _aspects(part, echoes)) for part in groups]
    return sorted(found, key=_order)


def described(found: Sequence[Candidate]) -> list[str]:
    """Say what tells candidates apart, in a physicist's words: "echo 1 magnitude (TE 4.92 ms, 53 slices)"."""
    differing = [a for a in (*PHRASES, "echo_time_ms") if len({one.aspects[a] for one in found}) > 1]
    by_type = not {*differing} - {"orientation"} and len({one.aspects["image_type"] for one in found}) > 1
    geometries = len({one.geometry for one in found}) > 1
    return [_described(one, differing, by_type, geometries) for one in found]


def _described(one: Candidate, differing: Sequence[str], by_type: bool, geometries: bool) -> str:
    words = [_phrase(one, aspect) for aspect in differing if aspect in PHRASES]
    words += [f"ImageType {one.aspects['image_type']}"] * by_type
    time = one.aspects["echo_time_ms"]
    details = [f"TE {time} ms"] * (bool(time) and "echo_time_ms" in differing)
    details += [one.geometry_words] * geometries + [f"{len(one.frames)} slices"]
    return f"{' '.join(words)} ({', '.join(details)})".strip()


def _phrase(one: Candidate, aspect: str) -> str:
    value = one.aspects[aspect].lower().replace("_", " ")
    name = aspect.removesuffix("_ms").removesuffix("_deg").replace("_", " ")
    return PHRASES[aspect].format(value) if value else f"{name} not stated"


def _order(one: Candidate) -> tuple[object, ...]:
    """Sort by geometry, then by what is said of it, numbers as numbers, then by the first frame."""
    said = [one.aspects[aspect] for aspect in PHRASES]
    return (one.geometry, [(float(v) if _is_number(v) else -1.0, v) for v in said], min(f.name for f in one.frames))


def _is_number(value: str) -> bool:
    return value.replace(".", "", 1).removeprefix("-").isdecimal()


# --- geometry --------------------------------------------------------------------------------------------------------


def _by_geometry(frames: Sequence[Frame], tolerances: Tolerances) -> list[list[Frame]]:
    """Group frames by orientation, matrix and pixel spacing, the most frequent geometry first."""
    counts = Counter(map(_geometry, frames))
    representatives: list[tuple[tuple[float, ...], ...]] = []
    group_of = {}
    for geometry in sorted(counts, key=lambda one: (-counts[one], one)):
        same = (n for n, other in enumerate(representatives) if _same_geometry(geometry, other))
        group_of[geometry] = next(same, len(representatives))
        if group_of[geometry] == len(representatives):
            representatives.append(geometry)
        if len(representatives) > MOST_GEOMETRIES:
            stack_of(frames, None, tolerances)
    groups = _collected((group_of[_geometry(frame)], frame) for frame in frames)
    return [groups[number] for number in sorted(groups)]


def _geometry(frame: Frame) -> tuple[tuple[float, ...], ...]:
    return frame.orientation, (frame.rows, frame.columns), frame.pixel_spacing_mm


def same_geometry(a: Frame, b: Frame) -> bool:
    """Whether two frames could lie in one stack by orientation, matrix and pixel spacing, scatter allowed."""
    return _same_geometry(_geometry(a), _geometry(b))


def _same_geometry(a: tuple[tuple[float, ...], ...], b: tuple[tuple[float, ...], ...]) -> bool:
    ratios = np.divide(a[2], b[2])
    return (
        a[1] == b[1]
        and bool(np.all(np.abs(ratios - 1) <= OTHER_SPACING))
        and angle_deg(a[0], b[0]) <= OTHER_ORIENTATION_DEG
    )


# --- contrast and repetition -----------------------------------------------------------------------------------------


def _grouped(frames: Iterable[Frame], keywords: Sequence[str]) -> list[list[Frame]]:
    return list(_collected((tuple(_value(frame, word) for word in keywords), frame) for frame in frames).values())


def _collected(pairs: Iterable[tuple[Key, Frame]]) -> dict[Key, list[Frame]]:
    groups: dict[Key, list[Frame]] = defaultdict(list)
    for key, frame in pairs:
        groups[key].append(frame)
    return groups


def _value(frame: Frame, keyword: str) -> str:
    """Return an attribute as it is compared: an echo time to 0.01 ms, and 0 ms is none."""
    value = frame.kind.get(keyword, "")
    if keyword == "EchoTime" and _is_number(value):
        return f"{round(float(value), 2):g}" if float(value) > 0 else ""
    return value


def _told_apart(frames: list[Frame], tolerances: Tolerances) -> list[list[Frame]]:
    """Split frames whose positions repeat by the first attribute, or the first two, that leave each position once.

    There must be exactly as many parts as images at one position: a time that differs from slice to slice, or the
    number of the image, tells nothing apart.
    """
    repeats = most_at_one_position(frames, tolerances)
    if repeats == 1:
        return [frames]
    varying = [word for word in REPETITION if len({_value(frame, word) for frame in frames}) > 1]
    for words in [*((word,) for word in varying), *combinations(varying, 2)]:
        parts = _grouped(frames, words)
        if len(parts) == repeats and all(most_at_one_position(part, tolerances) == 1 for part in parts):
            return parts
    return [frames]


def _echoes(groups: Sequence[Sequence[Frame]]) -> dict[tuple[float, str], int]:
    """Number the echoes of groups of one geometry from 1, by echo time, or by echo number where times are equal."""
    return {echo: number for number, echo in enumerate(sorted({_echo(group) for group in groups}), start=1)}


def _echo(frames: Sequence[Frame]) -> tuple[float, str]:
    time = _agreed(frames, "EchoTime")
    return float(time) if _is_number(time) else float("inf"), _agreed(frames, "EchoNumbers")


def _aspects(frames: Sequence[Frame], echoes: Mapping[tuple[float, str], int]) -> dict[str, str]:
    """Return what a site may choose by; "" where the frames do not agree or do not say."""
    aspects = {aspect: _agreed(frames, keyword) for aspect, keyword in KEYWORDS.items()}
    normal = np.abs(axes_of(frames[0].orientation)[2])
    stated = _echo(frames) != (float("inf"), "")
    return aspects | {
        "orientation": ("SAGITTAL", "CORONAL", "AXIAL")[int(normal.argmax())],
        "echo": str(echoes[_echo(frames)]) if stated else "",
        "contrast_agent": "YES" if aspects["contrast_agent"] else "NO",
    }


def _agreed(frames: Sequence[Frame], keyword: str) -> str:
    values = {_value(frame, keyword) for frame in frames}
    value = values.pop() if len(values) == 1 else ""
    return f"{float(value):.6g}" if _is_number(value) else value

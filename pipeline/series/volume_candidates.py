"""Frames -> candidates: groups of frames that may be one volume each. No candidate is chosen or dropped here.

    geometry    orientation, matrix or pixel spacing differ by more than any scatter: other stacks, and strays
    contrast    attributes that one volume has once: image type, component, Dixon image, echo time, temporal position
    repetition  where positions still repeat: the attribute (or two) whose values leave each position one image

A group whose positions repeat although no attribute separates its images is refused later (`pipeline.series.stack`).
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
"""Frames whose orientations differ by more lie in other stacks; less is scatter, checked by the stack's tolerance."""

OTHER_SPACING: Final = 0.01
"""Frames whose pixel spacings differ by more, relatively, lie in other stacks."""

MOST_GEOMETRIES: Final = 32
"""More geometries are no stacks but frames in all directions (a radial scan, damaged headers), and are refused."""

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
"""Aspect by which a site chooses a volume -> attribute of `pipeline.series.image_kind`."""

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
"""Aspect -> its phrase, in the order in which a volume is described."""


Key = TypeVar("Key", bound=Hashable)


@dataclass(frozen=True)
class Candidate:
    """Frames that may make one volume.

    Attributes:
        frames: all of one geometry and one contrast.
        geometry: number of its geometry; candidates of equal number share orientation, matrix and pixel spacing.
        aspects: aspect -> value as text, "" where the headers do not state it or state several.
    """

    frames: tuple[Frame, ...]
    geometry: int
    aspects: Mapping[str, str]

    def states(self, aspect: str) -> bool:
        """Return whether the headers state an aspect."""
        return bool(self.aspects[aspect])

    def has(self, aspect: str, value: str) -> bool:
        """Return whether an aspect has a value; one that is not stated has NONE, an image type has several values."""
        own = self.aspects[aspect].upper() or "NONE"
        return value == own or (aspect == "image_type" and value in own.split("\\"))

    @property
    def geometry_words(self) -> str:
        """Orientation, matrix and pixel spacing in words: "sagittal 256 x 256, 1.2 x 1.2 mm"."""
        frame = self.frames[0]
        spacing = " x ".join(shown(mm) for mm in frame.pixel_spacing_mm)
        return f"{self.aspects['orientation'].lower()} {frame.rows} x {frame.columns}, {spacing} mm"


def without_localizers(frames: Sequence[Frame]) -> tuple[list[Frame], list[Frame]]:
    """Return the frames that are no localizers, and the localizers, which their image type names.

    Raises:
        Unsuitable: LOCALIZER, when all frames are.
    """
    localizers = [frame for frame in frames if is_localizer(frame)]
    if len(localizers) == len(frames) > 0:
        raise Unsuitable.of("LOCALIZER", image_type=frames[0].kind["ImageType"])
    return [frame for frame in frames if not is_localizer(frame)], localizers


def is_localizer(frame: Frame) -> bool:
    """Return whether Image Type, of the frame or of its object, has LOCALIZER or SCOUT (PS3.3 C.8.3.1.1.1)."""
    values = [*(frame.instance.header.get("ImageType") or ()), *frame.kind["ImageType"].split("\\")]
    return not {"LOCALIZER", "SCOUT"}.isdisjoint(str(value).upper() for value in values)


def candidates(frames: Sequence[Frame], tolerances: Tolerances) -> list[Candidate]:
    """Return the groups of `frames` that may be one volume each; the order of `frames` does not matter.

    Raises:
        Unsuitable: BAD_GEOMETRY; and MIXED_ORIENTATION, MIXED_MATRIX or MIXED_SPACING for too many geometries.
    """
    right_angled(frames, tolerances)
    parallel = _by_geometry(sorted(frames, key=lambda frame: frame.name), tolerances)
    found = []
    for number, same in enumerate(parallel):
        groups = [part for one in _grouped(same, CONTRAST) for part in _split_repeats(one, tolerances)]
        echoes = {echo: n for n, echo in enumerate(sorted({_echo(group) for group in groups}), start=1)}
        found += [Candidate(tuple(part), number, _aspects(part, echoes)) for part in groups]
    return sorted(found, key=_order)


def described(found: Sequence[Candidate]) -> list[str]:
    """Return the aspects in which candidates differ, in words: "echo 1 magnitude (TE 4.92 ms, 53 slices)"."""
    differing = [a for a in (*PHRASES, "echo_time_ms") if len({one.aspects[a] for one in found}) > 1]
    by_type = not {*differing} - {"orientation"} and len({one.aspects["image_type"] for one in found}) > 1
    geometries = len({one.geometry for one in found}) > 1
    descriptions = []
    for one in found:
        words = []
        for aspect in differing:
            value = one.aspects[aspect].lower().replace("_", " ")
            name = aspect.removesuffix("_ms").removesuffix("_deg").replace("_", " ")
            if aspect in PHRASES:
                words.append(PHRASES[aspect].format(value) if value else f"{name} not stated")
        words += [f"ImageType {one.aspects['image_type']}"] * by_type
        time = one.aspects["echo_time_ms"]
        details = [f"TE {time} ms"] * (bool(time) and "echo_time_ms" in differing)
        details += [one.geometry_words] * geometries + [f"{len(one.frames)} slices"]
        descriptions.append(f"{' '.join(words)} ({', '.join(details)})".strip())
    return descriptions


def _order(one: Candidate) -> tuple[object, ...]:
    """Return the key that sorts by geometry, then by aspects, numbers as numbers, then by the first frame."""
    values = [one.aspects[aspect] for aspect in PHRASES]
    return (one.geometry, [(float(v) if _is_number(v) else -1.0, v) for v in values], min(f.name for f in one.frames))


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
    """Return whether orientation, matrix and pixel spacing of two frames are those of one stack, scatter allowed."""
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
    """Return an attribute in the form in which frames are compared: an echo time to 0.01 ms, and 0 ms is none."""
    value = frame.kind.get(keyword, "")
    if keyword == "EchoTime" and _is_number(value):
        return f"{round(float(value), 2):g}" if float(value) > 0 else ""
    return value


def _split_repeats(frames: list[Frame], tolerances: Tolerances) -> list[list[Frame]]:
    """Split frames whose positions repeat by the first attribute, or the first two, that leave each position once.

    There must be exactly as many parts as images at one position: a time that differs from slice to slice, or the
    number of the image, does not separate volumes.
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


def _echo(frames: Sequence[Frame]) -> tuple[float, str]:
    """Return the echo time, infinite where it is not stated, and the echo number: the order of echoes."""
    time = _agreed(frames, "EchoTime")
    return float(time) if _is_number(time) else float("inf"), _agreed(frames, "EchoNumbers")


def _aspects(frames: Sequence[Frame], echoes: Mapping[tuple[float, str], int]) -> dict[str, str]:
    """Return the aspects of a candidate; "" where its frames do not agree or do not state one."""
    aspects = {aspect: _agreed(frames, keyword) for aspect, keyword in KEYWORDS.items()}
    normal = np.abs(axes_of(frames[0].orientation)[2])
    stated = _echo(frames) != (float("inf"), "")
    return aspects | {
        "orientation": ("SAGITTAL", "CORONAL", "AXIAL")[int(normal.argmax())],
        "echo": str(echoes[_echo(frames)]) if stated else "",
        "contrast_agent": "YES" if aspects["contrast_agent"] else "NO",
    }


def _agreed(frames: Sequence[Frame], keyword: str) -> str:
    """Return the value of an attribute on which all frames agree, or ""."""
    values = {_value(frame, keyword) for frame in frames}
    value = values.pop() if len(values) == 1 else ""
    return f"{float(value):.6g}" if _is_number(value) else value

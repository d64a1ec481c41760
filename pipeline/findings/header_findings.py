"""Findings about an MR series from its headers and its grid: protocol, contrast agent, spacing and gaps.

What the headers do not state is not found: a finding is missing then, it does not pass and does not fail.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from typing import Final

from highdicom import VolumeGeometry

from pipeline.findings.findings import Finding, Limits, judged
from pipeline.series.attributes import has_contrast_agent, values_by_image
from pipeline.series.series import Series

TIMES: Final = {"echo_time": "EchoTime", "repetition_time": "RepetitionTime"}
"""Finding -> attribute in ms (PS3.3 C.8.3.1)."""
FAT_OPTIONS: Final = frozenset({"FS", "SFS", "FATSAT", "FATSUP", "SPIR", "SPAIR", "STIR", "WE", "WATEREXC"})
"""Values of ScanOptions (0018,0022), without signs: FS is the standard's, the others are vendors'."""
STIR_MS: Final = (80.0, 300.0)
"""Inversion times at which the signal of fat is null, at 0.3 to 3 T."""


def header_findings(series: Series, mr: VolumeGeometry, limits: Limits) -> tuple[Finding, ...]:
    """The findings for which there are limits and the headers say something."""
    return tuple(_found(series, mr, limits))


def _found(series: Series, mr: VolumeGeometry, limits: Limits) -> Iterator[Finding]:
    for name, keyword in TIMES.items():
        numbers = _numbers(series, keyword)
        if name in limits and numbers:
            yield judged(name, statistics.median(numbers), "ms", limits[name])
    if "fat_suppression" in limits:
        yield _absent("fat_suppression", fat_suppression(series))
    if "contrast_agent" in limits:
        yield _absent("contrast_agent", "named in the headers" if any(has_contrast_agent(series)) else "")
    yield from _of_grid(series, mr, limits)


def _of_grid(series: Series, mr: VolumeGeometry, limits: Limits) -> Iterator[Finding]:
    step, row, column = (float(mm) for mm in mr.spacing)
    thickness = _numbers(series, "SliceThickness")
    if "slice_step" in limits:
        yield judged("slice_step", step, "mm", limits["slice_step"])
    if "pixel_spacing" in limits:
        yield judged("pixel_spacing", max(row, column), "mm", limits["pixel_spacing"])
    if "slice_gap" in limits and thickness:
        yield judged("slice_gap", 100.0 * (1 - statistics.median(thickness) / step), "%", limits["slice_gap"])


def _absent(name: str, stated: str) -> Finding:
    """A finding that passes when nothing is stated."""
    return Finding(name, stated or "not stated", "not stated", "", "review" if stated else "pass")


def fat_suppression(series: Series) -> str:
    """By what the headers say that the signal of fat was suppressed, or ""."""
    options = {_letters(one) for values in values_by_image(series, "ScanOptions") for one in values}
    if options & FAT_OPTIONS:
        return "ScanOptions " + ", ".join(sorted(options & FAT_OPTIONS))
    selected = {one for values in values_by_image(series, "SpectrallySelectedSuppression") for one in values}
    if "FAT" in selected:
        return "SpectrallySelectedSuppression FAT"
    times = [time for time in _numbers(series, "InversionTime") if STIR_MS[0] <= time <= STIR_MS[1]]
    return f"InversionTime {times[0]:g} ms" if times else ""


def _letters(option: str) -> str:
    return "".join(one for one in option.upper() if one.isalnum())


def _numbers(series: Series, keyword: str) -> list[float]:
    """The values of all images that are numbers above 0."""
    numbers = []
    for values in values_by_image(series, keyword):
        for one in values:
            try:
                numbers.append(float(one))
            except ValueError:
                continue  # an odd header says nothing
    return [number for number in numbers if number > 0]

"""Check an MR series by its headers and its grid: protocol, contrast agent, spacing and gaps.

A finding is left out when the headers do not state what it needs; then it neither passes nor fails.
"""

from __future__ import annotations

import statistics
from typing import Final

from highdicom import VolumeGeometry

from pipeline.findings.findings import Finding, Limits, finding_for
from pipeline.series.attributes import has_contrast_agent, values_by_image
from pipeline.series.series import Series

TIMES: Final = {"echo_time": "EchoTime", "repetition_time": "RepetitionTime"}
"""Finding -> attribute in ms (PS3.3 C.8.3.1)."""
FAT_OPTIONS: Final = frozenset({"FS", "SFS", "FATSAT", "FATSUP", "SPIR", "SPAIR", "STIR", "WE", "WATEREXC"})
"""Values of ScanOptions (0018,0022), letters only: FS is the standard's (PS3.3 C.8.3.1), the others are vendors'."""
STIR_MS: Final = (80.0, 300.0)
"""Inversion times (ms) at which fat gives no signal, at 0.3 to 3 T."""


def header_findings(series: Series, mr: VolumeGeometry, limits: Limits) -> tuple[Finding, ...]:
    """Check what the headers state, as far as there are limits for it; `mr` is the grid of the MR volume."""
    found = []
    for name, keyword in TIMES.items():
        numbers = _numbers(series, keyword)
        if name in limits and numbers:
            found.append(finding_for(name, statistics.median(numbers), "ms", limits[name]))
    if "fat_suppression" in limits:
        found.append(_absent("fat_suppression", fat_suppression(series)))
    if "contrast_agent" in limits:
        found.append(_absent("contrast_agent", "named in the headers" if any(has_contrast_agent(series)) else ""))
    step, row, column = (float(mm) for mm in mr.spacing)
    thickness = _numbers(series, "SliceThickness")
    if "slice_step" in limits:
        found.append(finding_for("slice_step", step, "mm", limits["slice_step"]))
    if "pixel_spacing" in limits:
        found.append(finding_for("pixel_spacing", max(row, column), "mm", limits["pixel_spacing"]))
    if "slice_gap" in limits and thickness:
        gap = 100.0 * (1 - statistics.median(thickness) / step)
        found.append(finding_for("slice_gap", gap, "%", limits["slice_gap"]))
    return tuple(found)


def _absent(name: str, stated: str) -> Finding:
    """Make a finding that passes when the headers state nothing."""
    return Finding(name, stated or "not stated", "not stated", "", "review" if stated else "pass")


def fat_suppression(series: Series) -> str:
    """Return the attribute that states that fat was suppressed, with its value, or "" (PS3.3 C.8.3.1, C.8.13.5.5)."""
    stated = (one for values in values_by_image(series, "ScanOptions") for one in values)
    options = {"".join(filter(str.isalnum, one.upper())) for one in stated}
    if options & FAT_OPTIONS:
        return "ScanOptions " + ", ".join(sorted(options & FAT_OPTIONS))
    selected = {one for values in values_by_image(series, "SpectrallySelectedSuppression") for one in values}
    if "FAT" in selected:
        return "SpectrallySelectedSuppression FAT"
    times = [time for time in _numbers(series, "InversionTime") if STIR_MS[0] <= time <= STIR_MS[1]]
    return f"InversionTime {times[0]:g} ms" if times else ""


def _numbers(series: Series, keyword: str) -> list[float]:
    """Return the values of an attribute in all images that are numbers above 0."""
    numbers = []
    for values in values_by_image(series, keyword):
        for one in values:
            try:
                numbers.append(float(one))
            except ValueError:
                continue
    return [number for number in numbers if number > 0]

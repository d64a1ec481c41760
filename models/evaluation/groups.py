"""Groups of patients for the tables: regions of the body as in the paper's tables 2 to 4, or what a file says."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Final

import yaml

from models.data.pairs import BadPair

REGIONS: Final = {
    "B": "brain",
    "P": "pelvis",
    "AB": "abdomen",
    "HN": "head and neck",
    "TH": "thorax",
}
"""By the letters of SynthRAD's names: task, region, centre, number (1BA001 in 2023, 1ABA005 in 2025)."""
NAME: Final = re.compile(r"[12](B|P|AB|HN|TH)[A-F]\d{3}")


def region_of(name: str) -> str:
    """The region of a patient of SynthRAD; nothing for other names."""
    found = NAME.fullmatch(name)
    return REGIONS[found[1]] if found else ""


def groups_of(names: Iterable[str], path: Path | None = None) -> dict[str, str]:
    """Group by patient: of a YAML file that maps each patient to a word, else SynthRAD's regions; none without either.

    Raises:
        BadPair: the file is no mapping, or a patient lacks in it.
    """
    if path is None:
        regions = {name: region_of(name) for name in names}
        return regions if all(regions.values()) else {}
    found = yaml.safe_load(path.read_text(encoding="utf-8"))
    lacking = [name for name in names if not isinstance(found, dict) or name not in found]
    if lacking:
        raise BadPair(f"{path}: no group for {', '.join(lacking)}; it must map each patient to one")
    return {name: str(found[name]) for name in names}

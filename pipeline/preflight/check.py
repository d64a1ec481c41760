"""Check the finished files of a CT series by the requirements of planning systems, before they are sent.

A profile (`pipeline.preflight.profile`) names the rules, their limits and the evidence for them; the rules themselves
are in `pipeline.preflight.rules`. Every profile has the rule `readable`: each file can be read.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pydicom
from pydicom import DataElement, Dataset

from pipeline.preflight.profile import Profile, load_profile
from pipeline.preflight.rules import FILE_RULES, OF_THE_SERIES, SERIES_RULES, CTFile
from pipeline.series.instance import DAMAGE

GENERIC = "generic"
"""The profile of a destination that names no other."""
OF_A_FILE = {rule.__name__: rule for rule in FILE_RULES}
OF_A_SERIES = {rule.__name__: rule for rule in SERIES_RULES}


@dataclass(frozen=True)
class Breach:
    """A rule that a file breaks: the name of the rule, the file, and a sentence that describes the fault."""

    rule: str
    file: Path
    sentence: str


@dataclass(frozen=True)
class Complaint:
    """A rule that a series breaks for a destination.

    Attributes:
        destination: name of the destination in the configuration; "" when no destination is known.
        profile: name of the profile that has the rule.
        rule: name of the rule.
        sentence: description of the fault in the first file that breaks the rule.
        files: number of files that break it.
    """

    destination: str
    profile: str
    rule: str
    sentence: str
    files: int

    def __str__(self) -> str:
        whom = f"{self.destination}, profile {self.profile}: " if self.destination else ""
        return f"{whom}{self.rule}: {self.sentence}{f' ({self.files} files)' if self.files > 1 else ''}"


def complaints(paths: Sequence[Path], profiles: Mapping[str, Profile]) -> list[Complaint]:
    """Check a CT series for each destination; `profiles` are by destination, without any the generic one is used.

    Each rule gives one complaint for a destination, in the order in which the rules are first broken.
    """
    breaches: dict[str, list[Breach]] = {}
    found: list[Complaint] = []
    for destination, profile in (profiles or {"": load_profile(GENERIC)}).items():
        if profile.name not in breaches:
            breaches[profile.name] = preflight(paths, profile)
        for rule in dict.fromkeys(breach.rule for breach in breaches[profile.name]):
            of_rule = [breach for breach in breaches[profile.name] if breach.rule == rule]
            files = len({breach.file for breach in of_rule})
            found.append(Complaint(destination, profile.name, rule, of_rule[0].sentence, files))
    return found


def preflight(paths: Iterable[Path], profile: Profile | None = None) -> list[Breach]:
    """Check the files of one CT series by the rules of a profile, by default the generic one; empty when it passes."""
    rules = (profile or load_profile(GENERIC)).rules
    files: list[CTFile] = []
    sequences: dict[tuple[int, bytes], DataElement] = {}
    breaches: list[Breach] = []
    for path in paths:
        try:
            file = _read(path, sequences)
        except (OSError, *DAMAGE) as error:
            breaches.append(Breach("readable", path, f"the file cannot be read ({type(error).__name__})"))
            continue
        for one in (one for one in rules if one.rule in OF_A_FILE):
            sentences = OF_A_FILE[one.rule](file, **one.parameters)
            breaches += [Breach(one.rule, path, sentence) for sentence in sentences]
        kept = Dataset()  # a long series is not kept in memory
        for keyword in OF_THE_SERIES:
            if keyword in file.image:
                kept[keyword] = file.image[keyword]
        files.append(CTFile(path, kept))
    for one in (one for one in rules if files and one.rule in OF_A_SERIES):
        placed = OF_A_SERIES[one.rule](files, **one.parameters)
        breaches += [Breach(one.rule, file.path, sentence) for file, sentence in placed]
    return breaches


def _read(path: Path, sequences: dict[tuple[int, bytes], DataElement]) -> CTFile:
    """Read a whole file and decode every element, so that rules never see a damaged one.

    `sequences` are those of earlier files: equal bytes, as in the references to the source, are decoded once.
    """
    image = pydicom.dcmread(path)
    for tag in list(image.keys()):
        raw = image.get_item(tag)
        if raw.is_raw and raw.VR == "SQ":
            encoded = (int(tag), bytes(raw.value or b""))
            image[tag] = sequences.setdefault(encoded, sequences.get(encoded) or image[tag])
    return CTFile(path, image, tuple(image.iterall()))

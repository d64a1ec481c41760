"""Preflight: what planning systems ask of a CT series, asked of the finished files before they are sent.

Which rules are asked, with which limits and why, says a profile (`pipeline.preflight.profile`); what they do stands in
`pipeline.preflight.rules`. That a file can be read at all is asked always, as the rule `readable`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pydicom
from pydicom import DataElement, Dataset

from pipeline.preflight.profile import Profile, ProfileRule, load_profile
from pipeline.preflight.rules import FILE_RULES, OF_THE_SERIES, SERIES_RULES, CTFile
from pipeline.series.instance import DAMAGE

GENERIC = "generic"
"""The profile of a destination that names none."""
OF_A_FILE = {rule.__name__: rule for rule in FILE_RULES}
OF_A_SERIES = {rule.__name__: rule for rule in SERIES_RULES}


@dataclass(frozen=True)
class Breach:
    """A rule that a file breaks: the rule's name, the file, and what is wrong, in a sentence."""

    rule: str
    file: Path
    sentence: str


@dataclass(frozen=True)
class Complaint:
    """A rule that a series breaks for a destination.

    Attributes:
        destination: its name in the configuration; "" where no destination is known.
        profile: the profile that asks the rule.
        rule: its name.
        sentence: what is wrong with the first file that breaks it.
        files: how many break it.
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
    """Ask the profiles of all destinations, by their names; without any the generic one."""
    told: dict[str, list[Breach]] = {}
    found: list[Complaint] = []
    for destination, profile in (profiles or {"": load_profile(GENERIC)}).items():
        if profile.name not in told:
            told[profile.name] = preflight(paths, profile)
        found += _told(destination, profile, told[profile.name])
    return found


def _told(destination: str, profile: Profile, breaches: Sequence[Breach]) -> Iterator[Complaint]:
    """One complaint a rule, in order of appearance."""
    for rule in dict.fromkeys(breach.rule for breach in breaches):
        of_rule = [breach for breach in breaches if breach.rule == rule]
        files = len({breach.file for breach in of_rule})
        yield Complaint(destination, profile.name, rule, of_rule[0].sentence, files)


def preflight(paths: Iterable[Path], profile: Profile | None = None) -> list[Breach]:
    """Ask a profile's rules, by default the generic one's, of the files of one CT series; empty when it may be sent."""
    asked = (profile or load_profile(GENERIC)).asked
    files: list[CTFile] = []
    sequences: dict[tuple[int, bytes], DataElement] = {}
    breaches: list[Breach] = []
    for path in paths:
        try:
            file = _read(path, sequences)
        except (OSError, *DAMAGE) as error:
            breaches.append(Breach("readable", path, f"the file cannot be read ({type(error).__name__})"))
            continue
        breaches += _of_file(file, asked)
        files.append(_for_the_series(file))
    return breaches + (list(_of_series(files, asked)) if files else [])


def _of_file(file: CTFile, asked: Sequence[ProfileRule]) -> Iterator[Breach]:
    for one in asked:
        if one.rule in OF_A_FILE:
            yield from (Breach(one.rule, file.path, said) for said in OF_A_FILE[one.rule](file, **one.parameters))


def _of_series(files: Sequence[CTFile], asked: Sequence[ProfileRule]) -> Iterator[Breach]:
    for one in asked:
        if one.rule in OF_A_SERIES:
            told = OF_A_SERIES[one.rule](files, **one.parameters)
            yield from (Breach(one.rule, file.path, said) for file, said in told)


def _read(path: Path, sequences: dict[tuple[int, bytes], DataElement]) -> CTFile:
    """Read a whole file and decode every element, so that no rule meets a damaged one.

    `sequences` are those of the files before: the same bytes, as in references to the source, are decoded once.
    """
    image = pydicom.dcmread(path)
    for tag in list(image.keys()):
        raw = image.get_item(tag)
        if raw.is_raw and raw.VR == "SQ":
            encoded = (int(tag), bytes(raw.value or b""))
            image[tag] = sequences.setdefault(encoded, sequences.get(encoded) or image[tag])
    return CTFile(path, image, tuple(image.iterall()))


def _for_the_series(file: CTFile) -> CTFile:
    """The few attributes that rules of the series ask for; a long series is not kept in memory."""
    kept = Dataset()
    for keyword in OF_THE_SERIES:
        if keyword in file.image:
            kept[keyword] = file.image[keyword]
    return CTFile(file.path, kept)

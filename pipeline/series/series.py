"""A series: its instances in order, and whether it may become a synthetic CT, and if not, why.

`RULES` is the list of what is asked of the headers of every image, in order; `select` asks them, then which volume is
meant (`pipeline.series.volume_choice`), then the geometry (`pipeline.series.stack`).
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pydicom

from pipeline.errors import Unsuitable
from pipeline.series.announced_count import lacks_announced
from pipeline.series.frame import Frame, frames_of
from pipeline.series.image_kind import private_text
from pipeline.series.instance import (
    MR_SOP_CLASSES,
    UID_PATTERN,
    Instance,
    read_instance,
    text,
    text_of,
)
from pipeline.series.stack import TOLERANCES, Stack, Tolerances, axes_of, common_orientation, distance_mm
from pipeline.series.volume_choice import UNAMBIGUOUS, Choice, Chosen, SetAside, choose

__all__ = ["Instance", "Series", "only_series", "read_instance", "read_series", "regular_stack", "stack_complete"]


@dataclass(frozen=True)
class Series:
    """Instances of one SeriesInstanceUID, ordered along the slice normal where every one has a position.

    `set_aside` are files that came along and are no images of the series: reports, raw data, other files. `frames` has,
    by SOP Instance UID, the numbers (from 1) of the frames that are meant where not all frames of an instance are.
    """

    instances: tuple[Instance, ...]
    set_aside: tuple[Path, ...] = ()
    frames: Mapping[str, tuple[int, ...]] = field(default_factory=dict, hash=False)

    @classmethod
    def of(cls, instances: Iterable[Instance], set_aside: Iterable[Path] = ()) -> Series:
        """Return the series of `instances`, whatever their order of arrival.

        Non-images are set aside; of identical copies of one instance one is kept. Raises nothing for a bad series:
        ask `regular_stack`.
        """
        every = sorted(instances, key=lambda instance: (instance.sop_instance_uid, str(instance.path)))
        images = _without_copies([instance for instance in every if instance.is_image])
        others = [instance.path for instance in every if not instance.is_image]
        return cls(tuple(_along_normal(images)), tuple(sorted({*set_aside, *others})))

    @property
    def header(self) -> pydicom.Dataset:
        """The first instance's header (no pixels). IndexError when there is no image."""
        return self.instances[0].header

    @property
    def series_instance_uid(self) -> str:
        """SeriesInstanceUID (0020,000E)."""
        return str(self.instances[0].series_instance_uid)

    @property
    def study_instance_uid(self) -> str:
        """StudyInstanceUID (0020,000D), or ""."""
        return text(self.instances[0], "StudyInstanceUID")

    @property
    def frame_of_reference_uid(self) -> str:
        """FrameOfReferenceUID (0020,0052), or ""."""
        return text(self.instances[0], "FrameOfReferenceUID")

    @property
    def body_part(self) -> str:
        """BodyPartExamined (0018,0015) in capitals, or ""."""
        return text(self.instances[0], "BodyPartExamined").upper()

    @property
    def anatomy(self) -> str:
        """What the series says it shows: its body part, or else its anatomic region, in capitals, or ""."""
        return self.body_part or _anatomic_region(self.instances[0]).upper()


def _anatomic_region(instance: Instance) -> str:
    """Code meaning of the anatomic region of the series, or of all its frames (PS3.3 10.5, C.7.6.16.2.8), or ""."""
    shared = (instance.header.get("SharedFunctionalGroupsSequence") or [pydicom.Dataset()])[0]
    frame = (shared.get("FrameAnatomySequence") or [pydicom.Dataset()])[0]
    for holder in (instance.header, frame):
        for region in holder.get("AnatomicRegionSequence") or []:
            return text_of(region, "CodeMeaning", instance.sop_instance_uid)
    return ""


def read_series(source: Path | Iterable[Path]) -> list[Series]:
    """Read the headers of all files of a folder (searched deeply) or of a list, grouped by SeriesInstanceUID.

    Files that are no DICOM, and DICOM objects that are no images, are set aside and listed in each Series. The list
    is ordered by SeriesInstanceUID. Raises Unsuitable UNREADABLE for a damaged DICOM file, NO_IMAGES when none is left.
    """
    paths = sorted(source.rglob("*")) if isinstance(source, Path) and source.is_dir() else _listed(source)
    files = [path for path in paths if path.is_file()]
    groups: dict[str, list[Instance]] = defaultdict(list)
    aside: list[Path] = []
    for path in files:
        instance = read_instance(path) if _claims_dicom(path) else None
        if instance is not None and instance.is_image:
            groups[instance.series_instance_uid].append(instance)
        else:
            aside.append(path)
    if not groups:
        raise Unsuitable.of("NO_IMAGES", files=len(files))
    return [Series.of(groups[uid], aside) for uid in sorted(groups)]


def only_series(found: Sequence[Series]) -> Series:
    """Return the one MR series of `found`; where there is none, the one series, so that it can be refused by name.

    Raises Unsuitable SEVERAL_SERIES or NO_IMAGES.
    """
    mr = [series for series in found if any(i.sop_class_uid in MR_SOP_CLASSES for i in series.instances)]
    candidates = mr or list(found)
    if not candidates:
        raise Unsuitable.of("NO_IMAGES", files=0)
    if len(candidates) > 1:
        raise Unsuitable.of("SEVERAL_SERIES", found=len(candidates))
    return candidates[0]


@dataclass(frozen=True)
class Selection:
    """The one volume of a series: the series of its instances alone, its stack, and what was left out of both.

    `words` say which volume it is, "" where there was no other.
    """

    series: Series
    stack: Stack
    words: str
    set_aside: tuple[SetAside, ...]


def select(series: Series, choice: Choice = UNAMBIGUOUS, tolerances: Tolerances = TOLERANCES) -> Selection:
    """Return the one volume that `series` is, or that `choice` takes of it, from its headers alone.

    Raises Unsuitable with the first of `RULES` that fails, or with what `pipeline.series.volume_choice.choose` finds.
    """
    chosen = _chosen(series, choice, tolerances)
    numbers: dict[Instance, list[int]] = defaultdict(list)
    for frame in chosen.stack.frames:
        numbers[frame.instance].append(frame.number + 1)
    some = {
        str(instance.sop_instance_uid): tuple(sorted(mine))
        for instance, mine in numbers.items()
        if len(mine) < int(instance.header.get("NumberOfFrames") or 1)
    }
    aside = chosen.set_aside
    if series.set_aside:
        aside = (*aside, SetAside(len(series.set_aside), "other files", "no images"))
    return Selection(Series(tuple(numbers), series.set_aside, some), chosen.stack, chosen.words, aside)


def _chosen(series: Series, choice: Choice, tolerances: Tolerances) -> Chosen:
    for rule in RULES:
        rule(series)
    _nothing_missing(series, tolerances)
    chosen = choose(_frames(series.instances), series.frame_of_reference_uid, choice, tolerances)
    _one_patient_position(dict.fromkeys(frame.instance for frame in chosen.stack.frames))
    return chosen


def regular_stack(series: Series, choice: Choice = UNAMBIGUOUS, tolerances: Tolerances = TOLERANCES) -> Stack:
    """Return the one regular stack that `series` is, or that `choice` takes of it, from its headers alone.

    Raises Unsuitable as `select` does.
    """
    return _chosen(series, choice, tolerances).stack


def stack_complete(series: Series, choice: Choice = UNAMBIGUOUS, tolerances: Tolerances = TOLERANCES) -> bool:
    """Whether the headers show a gap-free stack with nothing announced that has not come.

    What is announced: `pipeline.series.announced_count`. False for anything that would be refused.
    """
    try:
        return _chosen(series, choice, tolerances).complete and not lacks_announced(series.instances)
    except Unsuitable:
        return False


# --- what is asked of the headers ------------------------------------------------------------------------------------


def _has_images(series: Series) -> None:
    if not series.instances:
        raise Unsuitable.of("NO_IMAGES", files=len(series.set_aside))


def _is_mr(series: Series) -> None:
    """SOP class (PS3.4 B.5) and Modality (PS3.3 C.7.3.1.1.1) say MR, of every image."""
    others = Counter(i.sop_class_uid.name for i in series.instances if i.sop_class_uid not in MR_SOP_CLASSES)
    if others:
        raise Unsuitable.of("NOT_MR", found=", ".join(f"{count} {name}" for name, count in sorted(others.items())))
    modalities = {text(instance, "Modality") or "no" for instance in series.instances} - {"MR"}
    if modalities:
        raise Unsuitable.of("NOT_MR", found=f"images of Modality {', '.join(sorted(modalities))}")


def _no_conflict(series: Series) -> None:
    uid, count = Counter(instance.sop_instance_uid for instance in series.instances).most_common(1)[0]
    if count > 1:
        raise Unsuitable.of("CONFLICTING_INSTANCES", name=uid)


def _identified(series: Series) -> None:
    """PatientID and FrameOfReferenceUID are there, and one; so is the study."""
    for keyword, code in (("PatientID", "NO_PATIENT_ID"), ("FrameOfReferenceUID", "NO_FRAME_OF_REFERENCE")):
        for instance in series.instances:
            if not text(instance, keyword):
                raise Unsuitable.of(code, name=instance.sop_instance_uid)
    for keyword in ("PatientID", "StudyInstanceUID"):
        if len({text(instance, keyword) for instance in series.instances}) > 1:
            raise Unsuitable.of("MIXED_PATIENTS", attribute=keyword)
    frames = len({text(instance, "FrameOfReferenceUID") for instance in series.instances})
    if frames > 1:
        raise Unsuitable.of("MIXED_FRAMES_OF_REFERENCE", found=frames)


def _uids(series: Series) -> None:
    """The UIDs that the CT takes over from the MR are UIDs."""
    for instance in series.instances:
        for keyword in ("StudyInstanceUID", "FrameOfReferenceUID"):
            if not UID_PATTERN.fullmatch(text(instance, keyword)):
                raise Unsuitable.of("BAD_UID", name=instance.sop_instance_uid, attribute=keyword)


def _one_patient_position(instances: Iterable[Instance]) -> None:
    """PatientPosition (PS3.3 C.7.3.1.1.2) of a volume is one; localizers may have had another."""
    found = sorted({text(instance, "PatientPosition") or "no" for instance in instances})
    if len(found) > 1:
        raise Unsuitable.of("MIXED_PATIENT_POSITIONS", found=" and ".join(found))


def _greyscale(series: Series) -> None:
    """One sample a pixel, MONOCHROME1 or 2 (PS3.3 C.7.6.3.1.2), and no burnt-in text."""
    for instance in series.instances:
        photometric = text(instance, "PhotometricInterpretation")
        if photometric not in ("MONOCHROME1", "MONOCHROME2") or text(instance, "SamplesPerPixel") not in ("", "1"):
            raise Unsuitable.of("COLOUR", name=instance.sop_instance_uid, detail=photometric or "no photometry")
        if text(instance, "BurnedInAnnotation") == "YES":
            raise Unsuitable.of("BURNED_IN", name=instance.sop_instance_uid)


def _no_mosaic(series: Series) -> None:
    """Tiles in one image: MOSAIC, or a number of them, as Siemens says it; VFRAME as United Imaging does."""
    for instance in series.instances:
        image_type = text(instance, "ImageType")
        tiles = private_text(instance.header, 0x0019, "SIEMENS MR HEADER", 0x0A, "<H")
        if {"MOSAIC", "VFRAME"} & set(image_type.upper().split("\\")) or tiles not in ("", "0", "1"):
            raise Unsuitable.of("MOSAIC", image_type=image_type)


def _nothing_missing(series: Series, tolerances: Tolerances) -> None:
    """All objects of a concatenation (PS3.3 C.7.6.16.1), and all images of one acquisition (C.7.6.1), have come.

    Only what the standard defines, and only of images as they were acquired: a reformat carries the count of its
    source. What vendors announce is no ground to refuse a series (`pipeline.series.announced_count`).
    """
    acquired = all(text(one, "ImageType").startswith("ORIGINAL") for one in series.instances)
    keywords = ["InConcatenationTotalNumber"]
    keywords += ["ImagesInAcquisition"] if acquired and tolerances.require_announced else []
    one_acquisition = len({text(instance, "AcquisitionNumber") for instance in series.instances}) == 1
    for keyword in keywords:
        numbers = {text(instance, keyword) for instance in series.instances}
        number = numbers.pop() if one_acquisition and len(numbers) == 1 else ""
        if number.isdecimal() and int(number) > len(series.instances):
            evidence = f"{keyword} is {number}"
            raise Unsuitable.of("INCOMPLETE", found=f"{len(series.instances)} images came", evidence=evidence)


RULES: tuple[Callable[[Series], None], ...] = (
    _has_images,
    _is_mr,
    _no_conflict,
    _identified,
    _uids,
    _greyscale,
    _no_mosaic,
)


# --- reading and ordering --------------------------------------------------------------------------------------------


def _listed(source: Path | Iterable[Path]) -> list[Path]:
    return [source] if isinstance(source, Path) else sorted(source)


def _claims_dicom(path: Path) -> bool:
    """Whether a file has the prefix of PS3.10 7.1, or at least the name of a DICOM file.

    Not: a DICOMDIR, a hidden file, and a file that is still being written (`.part`).
    """
    if path.name.upper() == "DICOMDIR" or path.name.startswith(".") or path.suffix == ".part":
        return False
    with path.open("rb") as file:
        return file.read(132)[128:] == b"DICM" or path.suffix.lower() == ".dcm"


def _frames(instances: Iterable[Instance]) -> list[Frame]:
    return [frame for instance in instances for frame in frames_of(instance)]


def _along_normal(instances: list[Instance]) -> list[Instance]:
    """Order by the position of each instance's first frame; as they are where one has none."""
    try:
        first = [frames_of(instance)[0] for instance in instances]
    except Unsuitable:
        return instances
    if not first:
        return instances
    normal = axes_of(common_orientation(first))[2]
    return [frame.instance for frame in sorted(first, key=lambda f: (distance_mm(f, normal), f.name))]


def _without_copies(instances: Sequence[Instance]) -> list[Instance]:
    """Keep one of several files with the same SOP Instance UID and the same bytes."""
    twice = {uid for uid, n in Counter(instance.sop_instance_uid for instance in instances).items() if n > 1}
    kept: dict[tuple[str, str], Instance] = {}
    for instance in instances:
        uid = instance.sop_instance_uid
        digest = hashlib.sha256(instance.path.read_bytes()).hexdigest() if uid in twice else ""
        kept.setdefault((uid, digest), instance)
    return list(kept.values())

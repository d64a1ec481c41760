"""A series: its instances in order, and the one volume in it that becomes a synthetic CT, or the reason why not.

`select` checks a series in this order; each check names its reason code (`pipeline.errors.REASONS`):

    check_identity                 the headers of all images: MR, one patient, one study, one frame of reference
    check_pixels                   greyscale, no mosaic, nothing missing
    volume_choice.choose           which volume is meant
    stack.stack_of                 its geometry
"""

from __future__ import annotations

import contextlib
import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pydicom

from pipeline.errors import Unsuitable
from pipeline.series.announced_count import lacks_announced
from pipeline.series.frame import frames_of
from pipeline.series.identity import check_one_patient, check_patient_position
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

    Attributes:
        instances: the images.
        set_aside: files that came along and are no images of the series: reports, raw data, other files.
        frames: SOP Instance UID -> numbers (from 1) of the frames that are meant, for instances of which not all are.
    """

    instances: tuple[Instance, ...]
    set_aside: tuple[Path, ...] = ()
    frames: Mapping[str, tuple[int, ...]] = field(default_factory=dict, hash=False)

    @classmethod
    def of(cls, instances: Iterable[Instance], set_aside: Iterable[Path] = ()) -> Series:
        """Return the series of `instances`, whatever their order of arrival.

        Objects that are no images are set aside. Of several files with the same SOP Instance UID and the same bytes one
        is kept. No error is raised for a bad series; `regular_stack` does that.
        """
        every = sorted(instances, key=lambda instance: (instance.sop_instance_uid, str(instance.path)))
        others = [instance.path for instance in every if not instance.is_image]
        counts = Counter(instance.sop_instance_uid for instance in every if instance.is_image)
        kept: dict[tuple[str, str], Instance] = {}
        for instance in every:
            uid = instance.sop_instance_uid
            if instance.is_image:
                digest = hashlib.sha256(instance.path.read_bytes()).hexdigest() if counts[uid] > 1 else ""
                kept.setdefault((uid, digest), instance)
        images = list(kept.values())
        with contextlib.suppress(Unsuitable):  # an image without a position leaves the order as it is
            if first := [frames_of(instance)[0] for instance in images]:
                normal = axes_of(common_orientation(first))[2]
                first.sort(key=lambda frame: (distance_mm(frame, normal), frame.name))
                images = [frame.instance for frame in first]
        return cls(tuple(images), tuple(sorted({*set_aside, *others})))

    @property
    def header(self) -> pydicom.Dataset:
        """The header of the first instance, without pixels. Raises IndexError when there is no image."""
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
        """The body part, or else the anatomic region of the series or of all its frames, in capitals, or "".

        The region is the code meaning in AnatomicRegionSequence (PS3.3 10.5) or FrameAnatomySequence (PS3.3
        C.7.6.16.2.8).
        """
        if self.body_part:
            return self.body_part
        shared = (self.header.get("SharedFunctionalGroupsSequence") or [pydicom.Dataset()])[0]
        frame = (shared.get("FrameAnatomySequence") or [pydicom.Dataset()])[0]
        for holder in (self.header, frame):
            for region in holder.get("AnatomicRegionSequence") or []:
                return text_of(region, "CodeMeaning", self.instances[0].sop_instance_uid).upper()
        return ""


def read_series(source: Path | Iterable[Path]) -> list[Series]:
    """Read the headers of all files of a folder and its subfolders, or of a list, grouped by SeriesInstanceUID.

    Files that are no DICOM, and DICOM objects that are no images, are set aside and listed in each Series.

    Returns:
        The series, ordered by SeriesInstanceUID.

    Raises:
        Unsuitable: UNREADABLE for a damaged DICOM file, NO_IMAGES when no image is left.
    """
    found = source.rglob("*") if isinstance(source, Path) and source.is_dir() else source
    files = [path for path in ([found] if isinstance(found, Path) else sorted(found)) if path.is_file()]
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

    Raises:
        Unsuitable: SEVERAL_SERIES or NO_IMAGES.
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
    """The one volume of a series.

    Attributes:
        series: the series of the volume's instances alone.
        stack: the volume's frames on their grid.
        volume_description: which volume it is, in words; "" where there was no other.
        set_aside: the images and files that are no part of it.
    """

    series: Series
    stack: Stack
    volume_description: str
    set_aside: tuple[SetAside, ...]


def select(series: Series, choice: Choice = UNAMBIGUOUS, tolerances: Tolerances = TOLERANCES) -> Selection:
    """Return the one volume that `series` is, or that `choice` takes of it, from its headers alone.

    Raises:
        Unsuitable: the first check that fails (see the head of this module).
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
    return Selection(Series(tuple(numbers), series.set_aside, some), chosen.stack, chosen.volume_description, aside)


def _chosen(series: Series, choice: Choice, tolerances: Tolerances) -> Chosen:
    check_identity(series)
    check_pixels(series, tolerances)
    frames = [frame for instance in series.instances for frame in frames_of(instance)]
    chosen = choose(frames, series.frame_of_reference_uid, choice, tolerances)
    # PatientPosition (PS3.3 C.7.3.1.1.2) of the volume alone: localizers may have had another
    instances = dict.fromkeys(frame.instance for frame in chosen.stack.frames)
    said = {instance.sop_instance_uid: text(instance, "PatientPosition") for instance in instances}
    positions = {check_patient_position(value, name) if value else "no" for name, value in said.items()}
    if len(positions) > 1:
        raise Unsuitable.of("MIXED_PATIENT_POSITIONS", found=" and ".join(sorted(positions)))
    return chosen


def regular_stack(series: Series, choice: Choice = UNAMBIGUOUS, tolerances: Tolerances = TOLERANCES) -> Stack:
    """Return the one regular stack that `series` is, or that `choice` takes of it, from its headers alone.

    Raises:
        Unsuitable: as `select` does.
    """
    return _chosen(series, choice, tolerances).stack


def stack_complete(series: Series, choice: Choice = UNAMBIGUOUS, tolerances: Tolerances = TOLERANCES) -> bool:
    """Return whether the headers show a stack without gaps, and every instance that they announce has come.

    Announced instances are counted by `pipeline.series.announced_count`. A series that is refused is not complete.
    """
    try:
        return _chosen(series, choice, tolerances).complete and not lacks_announced(series.instances)
    except Unsuitable:
        return False


def check_identity(series: Series) -> None:
    """Check that all images are MR images of one patient, one study and one frame of reference, with valid UIDs.

    SOP Class (PS3.4 B.5) and Modality (PS3.3 C.7.3.1.1.1) state MR. PatientID and FrameOfReferenceUID are there. UIDs
    that the CT takes over from the MR are UIDs (PS3.5 9.1). No SOP Instance UID has two contents, and no attribute that
    identifies or places an image has two values. `pipeline.series.identity` says what one patient is.

    Raises:
        Unsuitable: NO_IMAGES, REPEATED_ATTRIBUTE, NOT_MR, CONFLICTING_INSTANCES, NO_PATIENT_ID, NO_FRAME_OF_REFERENCE,
            MIXED_PATIENTS, MIXED_FRAMES_OF_REFERENCE or BAD_UID.
    """
    instances = series.instances
    if not instances:
        raise Unsuitable.of("NO_IMAGES", files=len(series.set_aside))
    for instance in instances:
        for keyword in instance.repeated:
            raise Unsuitable.of("REPEATED_ATTRIBUTE", name=instance.sop_instance_uid, attribute=keyword)
    others = Counter(one.sop_class_uid.name for one in instances if one.sop_class_uid not in MR_SOP_CLASSES)
    if others:
        raise Unsuitable.of("NOT_MR", found=", ".join(f"{count} {name}" for name, count in sorted(others.items())))
    modalities = {text(instance, "Modality") or "no" for instance in instances} - {"MR"}
    if modalities:
        raise Unsuitable.of("NOT_MR", found=f"images of Modality {', '.join(sorted(modalities))}")
    uid, count = Counter(instance.sop_instance_uid for instance in instances).most_common(1)[0]
    if count > 1:
        raise Unsuitable.of("CONFLICTING_INSTANCES", name=uid)
    for keyword, code in (("PatientID", "NO_PATIENT_ID"), ("FrameOfReferenceUID", "NO_FRAME_OF_REFERENCE")):
        for instance in instances:
            if not text(instance, keyword):
                raise Unsuitable.of(code, name=instance.sop_instance_uid)
    check_one_patient(instances)
    frames_of_reference = {text(instance, "FrameOfReferenceUID") for instance in instances}
    if len(frames_of_reference) > 1:
        raise Unsuitable.of("MIXED_FRAMES_OF_REFERENCE", found=len(frames_of_reference))
    for instance in instances:
        for keyword in ("StudyInstanceUID", "FrameOfReferenceUID"):
            if not UID_PATTERN.fullmatch(text(instance, keyword)):
                raise Unsuitable.of("BAD_UID", name=instance.sop_instance_uid, attribute=keyword)


def check_pixels(series: Series, tolerances: Tolerances) -> None:
    """Check that the images are greyscale, are no mosaics, and are all there.

    Greyscale is one sample a pixel and MONOCHROME2 (PS3.3 C.7.6.3.1.2), without burnt-in text. MONOCHROME1 is refused
    and not inverted: it says how values are shown, not whether the signal itself was inverted. Tiles in one image
    are MOSAIC, or a private number of them, for Siemens, and VFRAME for United Imaging. All objects of a concatenation
    (PS3.3 C.7.6.16.1) and all images of one acquisition (PS3.3 C.7.6.1) must have come: the counts that the standard
    defines, and only for images as they were acquired, since a reformat carries the count of its source. Counts of
    vendors are no ground to refuse a series (`pipeline.series.announced_count`).

    Raises:
        Unsuitable: INVERTED_DISPLAY, COLOUR, BURNED_IN, MOSAIC or INCOMPLETE.
    """
    instances = series.instances
    for instance in instances:
        photometric = text(instance, "PhotometricInterpretation")
        if photometric == "MONOCHROME1":
            raise Unsuitable.of("INVERTED_DISPLAY", name=instance.sop_instance_uid)
        if photometric != "MONOCHROME2" or text(instance, "SamplesPerPixel") not in ("", "1"):
            raise Unsuitable.of("COLOUR", name=instance.sop_instance_uid, detail=photometric or "no photometry")
        if text(instance, "BurnedInAnnotation") == "YES":
            raise Unsuitable.of("BURNED_IN", name=instance.sop_instance_uid)
    for instance in instances:
        image_type = text(instance, "ImageType")
        tiles = private_text(instance.header, 0x0019, "SIEMENS MR HEADER", 0x0A, "<H")
        if {"MOSAIC", "VFRAME"} & set(image_type.upper().split("\\")) or tiles not in ("", "0", "1"):
            raise Unsuitable.of("MOSAIC", image_type=image_type)
    acquired = all(text(one, "ImageType").startswith("ORIGINAL") for one in instances)
    keywords = ["InConcatenationTotalNumber"]
    keywords += ["ImagesInAcquisition"] if acquired and tolerances.require_announced else []
    one_acquisition = len({text(instance, "AcquisitionNumber") for instance in instances}) == 1
    for keyword in keywords:
        numbers = {text(instance, keyword) for instance in instances}
        number = numbers.pop() if one_acquisition and len(numbers) == 1 else ""
        if number.isdecimal() and int(number) > len(instances):
            evidence = f"{keyword} is {number}"
            raise Unsuitable.of("INCOMPLETE", found=f"{len(instances)} images came", evidence=evidence)


def _claims_dicom(path: Path) -> bool:
    """Return whether a file has the prefix of PS3.10 7.1, or at least the name of a DICOM file.

    A DICOMDIR (PS3.10 8.6), a hidden file, and a file that is still being written (`.part`) do not count.
    """
    if path.name.upper() == "DICOMDIR" or path.name.startswith(".") or path.suffix == ".part":
        return False
    with path.open("rb") as file:
        return file.read(132)[128:] == b"DICM" or path.suffix.lower() == ".dcm"

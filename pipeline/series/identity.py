"""Who lies in the images and how: one patient, one study, and a patient position that the standard defines.

A CT bears the identity of the MR's first instance, so no other instance may contradict it.
"""

from __future__ import annotations

import unicodedata
import warnings
from collections import Counter, defaultdict
from collections.abc import Sequence

from pipeline.errors import Unsuitable
from pipeline.series.instance import Instance, intact, read_file, text

ONE_PATIENT = (
    "PatientName",
    "PatientID",
    "IssuerOfPatientID",
    "PatientBirthDate",
    "PatientSex",
    "StudyInstanceUID",
)
"""Attributes that tell patients (PS3.3 C.7.1.1) and studies (PS3.3 C.7.2.1) apart."""

MOST_NAMED = 5
"""Instances that a sentence names; the others are counted."""

PATIENT_POSITIONS = frozenset(
    {"HFP", "HFS", "HFDR", "HFDL", "FFDR", "FFDL", "FFP", "FFS"}
    | {"LFP", "LFS", "RFP", "RFS", "AFDR", "AFDL", "PFDR", "PFDL"}
)
"""The defined terms of PatientPosition (PS3.3 C.7.3.1.1.2), of bipeds and of quadrupeds."""


def check_one_patient(instances: Sequence[Instance]) -> None:
    """Check that no two instances have different values of an attribute of `ONE_PATIENT`.

    An attribute that is absent or empty in some instances contradicts none that have it, because all others must
    agree: PatientID and StudyInstanceUID, which every instance must have, and whatever else is there. Names are
    compared without regard to case, trailing carets and blanks, and each of the three component groups of a name
    (alphabetic, ideographic, phonetic; PS3.5 6.2.1) is compared with its like alone. Dates may have the points of
    ACR-NEMA (PS3.5 6.2, DA).

    Raises:
        Unsuitable: MIXED_PATIENTS, with the attributes that differ and the SOP Instance UIDs; never with values.
    """
    differ: dict[str, None] = {}
    strangers: set[Instance] = set()
    for keyword in ONE_PATIENT:
        groups: dict[int, list[tuple[Instance, str]]] = defaultdict(list)
        for instance in instances:
            for group, value in enumerate(_compared(instance, keyword)):
                if value:
                    groups[group].append((instance, value))
        for found in groups.values():
            usual, count = Counter(value for _, value in found).most_common(1)[0]
            if count < len(found):
                differ[keyword] = None
                strangers.update(instance for instance, value in found if value != usual)
    if not differ:
        return
    *most, last = differ
    uids = [str(instance.sop_instance_uid) for instance in instances if instance in strangers]
    others = ", ".join(uids[:MOST_NAMED]) + (f" and {len(uids) - MOST_NAMED} more" if uids[MOST_NAMED:] else "")
    usual_one = next((str(one.sop_instance_uid) for one in instances if one not in strangers), "one another")
    attributes = f"{', '.join(most)} and {last} differ" if most else f"{last} differs"
    raise Unsuitable.of("MIXED_PATIENTS", difference=f"{attributes} between {usual_one} and {others}")


def _compared(instance: Instance, keyword: str) -> list[str]:
    """Return the value of an attribute in the form in which it is compared; of a name, its component groups."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # an unknown character set
        value = text(instance, keyword).strip(" \0")
    if keyword == "PatientBirthDate":
        return [value.replace(".", "")]
    if keyword == "PatientSex":
        return [value.upper()]
    if keyword != "PatientName":
        return [value]
    if "\N{REPLACEMENT CHARACTER}" in value:  # bytes that its character set does not have: names would look alike
        with intact(instance.sop_instance_uid, "its PatientName is damaged"):
            return [repr(read_file(instance.path, pixels=False)[0].get_item("PatientName").value)]
    groups = unicodedata.normalize("NFC", value).casefold().split("=")
    return ["^".join(" ".join(part.split()) for part in group.split("^")).rstrip("^ ") for group in groups]


def check_patient_position(value: str, name: str) -> str:
    """Return the defined term that PatientPosition `value` is, in capitals and without blanks around it.

    Args:
        value: of PatientPosition.
        name: of the instance, for the sentence.

    Raises:
        Unsuitable: NO_GEOMETRY where there is no value, BAD_GEOMETRY where it is no term of `PATIENT_POSITIONS`: how
            the patient lay cannot be found out afterwards.
    """
    term = value.strip(" \0").upper()
    if not term:
        raise Unsuitable.of("NO_GEOMETRY", name=name, attribute="PatientPosition")
    if term not in PATIENT_POSITIONS:
        detail = "it is none of the defined terms of PS3.3 C.7.3.1.1.2, as HFS"
        raise Unsuitable.of("BAD_GEOMETRY", name=name, attribute="PatientPosition", detail=detail)
    return term

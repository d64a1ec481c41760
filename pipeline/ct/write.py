"""Write a HU volume as a CT Image series (PS3.3 A.3) with the identity of its source MR series, one file a slice.

HU are clipped in `stored_values` and nowhere else. UIDs are derived from the content (`ct_series_uid`) and never from
the clock, so that computing or sending a CT twice is harmless. The modules are made in `pipeline.ct.modules`.
"""

from __future__ import annotations

import hashlib
import warnings
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import numpy as np
from highdicom import Volume
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.uid import CTImageStorage, generate_uid

from pipeline.ct import modules
from pipeline.ct.elements import Elements, data_set, elements, file_bytes, raw_bytes
from pipeline.ct.modules import RESCALE_INTERCEPT, ImageGrid
from pipeline.ct.provenance import (
    DESCRIPTION,
    NODE_EQUIPMENT,
    Equipment,
    Provenance,
    Sampling,
    derivation_description,
    image_comments,
    series_description,
)
from pipeline.durable_files import write_all
from pipeline.series.instance import intact, read_file
from pipeline.series.lossy_compression import loss_of
from pipeline.series.series import Series

__all__ = [
    "HU_RANGE",
    "Equipment",
    "Labels",
    "Provenance",
    "Sampling",
    "check_source",
    "ct_series_uid",
    "stored_values",
    "write_ct",
]

HU_RANGE = (-1024, 3071)
"""Lowest and highest HU that are written unless a site configures otherwise."""
INT16 = np.iinfo(np.int16)


@dataclass(frozen=True)
class Labels:
    """The part of the written CT that a site configures.

    Attributes:
        hu_range: lowest and highest HU; values outside are clipped.
        research: whether the CT carries the label "research, not for clinical use".
        image_type: ImageType (0008,0008), PS3.3 C.7.6.1.1.2.
        description: SeriesDescription (0008,103E); {model} and {version} are replaced by those of the model.
        equipment: how the node names itself.
    """

    hu_range: tuple[int, int] = HU_RANGE
    research: bool = True
    image_type: tuple[str, ...] = modules.IMAGE_TYPE
    description: str = DESCRIPTION
    equipment: Equipment = NODE_EQUIPMENT


DEFAULT_LABELS = Labels()


def write_ct(
    hu: Volume,
    source: Series,
    provenance: Provenance,
    into: Path,
    *,
    written_at: datetime | None = None,
    labels: Labels = DEFAULT_LABELS,
) -> list[Path]:
    """Write `hu` as a CT series into the folder `into`, all of it or nothing; return the paths of slices in order.

    Args:
        hu: HU, array (slice, row, column), LPS mm, slices along row cosines x column cosines; axial slices go from
            inferior to superior.
        source: the MR series; its patient, study, frame of reference and patient position are copied to the CT.
        provenance: the model and the settings that the HU were made with.
        into: folder; it is made when it is absent.
        written_at: creation date and time, by default now; the same value gives the same bytes. With a time zone it
            is converted to the MR's TimezoneOffsetFromUTC, or to local time when the MR has none.
        labels: the part that the site configures.

    Raises:
        Unsuitable: NO_PATIENT_ID, NO_GEOMETRY or BAD_GEOMETRY (PatientPosition), NO_FRAME_OF_REFERENCE or UNREADABLE.
        ValueError: the slices of `hu` are not along row x column cosines, or values are NaN or infinite.
        OSError: the files cannot be written; then none is left.
    """
    header = read_header(source)
    clock = scanner_time(written_at or datetime.now(UTC), header)
    stored, grid = stored_values(hu.array, labels.hu_range), ImageGrid.of(hu.get_geometry())
    uid = _series_uid(stored, grid, source, header, provenance, labels)
    shared = _shared(header, source, grid, uid, provenance, clock, labels)
    slices = (
        (f"{index + 1:04d}.dcm", _slice(shared, grid, stored[index], index, uid)) for index in range(grid.shape[0])
    )
    return write_all(slices, into)


def check_source(source: Series) -> None:
    """Check the MR's header as `write_ct` does; this is cheap and is done before the synthesis.

    Raises:
        Unsuitable: NO_PATIENT_ID, NO_GEOMETRY or BAD_GEOMETRY (PatientPosition), NO_FRAME_OF_REFERENCE or UNREADABLE.
    """
    header = read_header(source)
    modules.patient(header)
    modules.general_study(header)
    modules.patient_position(header)
    modules.frame_of_reference(header, source.frame_of_reference_uid)


def ct_series_uid(hu: Volume, source: Series, provenance: Provenance, labels: Labels = DEFAULT_LABELS) -> str:
    """Return the Series Instance UID that `write_ct` gives to this content (PS3.5 section B.2).

    It is derived from the UIDs of the source, the copied patient and study, the stored pixels and their grid, the
    digests of model and configuration, the software's version and the labels. It changes whenever the content does
    and does not depend on the date.
    """
    stored, grid = stored_values(hu.array, labels.hu_range), ImageGrid.of(hu.get_geometry())
    return _series_uid(stored, grid, source, read_header(source), provenance, labels)


def stored_values(hu: NDArray[np.floating], hu_range: tuple[int, int]) -> NDArray[np.int16]:
    """Round HU to whole numbers, clip them to `hu_range`, and subtract the rescale intercept (PS3.3 C.11.1.1.2).

    Raises:
        ValueError: a value is NaN or infinite, or `hu_range` does not fit into 16 bits.
    """
    low, high = hu_range
    if low - RESCALE_INTERCEPT < INT16.min or high - RESCALE_INTERCEPT > INT16.max:
        raise ValueError(f"hu_range {hu_range} does not fit into signed 16 bit with intercept {RESCALE_INTERCEPT}")
    if not np.isfinite(hu).all():
        raise ValueError("the HU volume holds values that are no finite numbers")
    stored: NDArray[np.int16] = (np.clip(np.rint(hu), low, high) - RESCALE_INTERCEPT).astype(np.int16)
    return stored


def read_header(source: Series) -> Dataset:
    """Read the header of the first MR instance from its file, undecoded, so that its bytes can be copied.

    Raises:
        Unsuitable: UNREADABLE.
    """
    path = source.instances[0].path
    with intact(path.name, "its header is damaged"), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # an unknown character set: nothing is decoded here
        return read_file(path, pixels=False)[0]


def scanner_time(written_at: datetime, header: Dataset) -> datetime:
    """Convert `written_at` to the time zone of the MR (PS3.3 C.12.1.1.8); a time without zone stays as it is."""
    if written_at.tzinfo is None:
        return written_at
    offset = raw_bytes(header, "TimezoneOffsetFromUTC").decode("ascii", "replace")
    if len(offset) != 5 or offset[0] not in "+-" or not offset[1:].isdigit():
        return written_at.astimezone()
    minutes = int(offset[1:3]) * 60 + int(offset[3:5])
    return written_at.astimezone(timezone(timedelta(minutes=-minutes if offset[0] == "-" else minutes)))


def _series_uid(
    stored: NDArray[np.int16],
    grid: ImageGrid,
    source: Series,
    header: Dataset,
    provenance: Provenance,
    labels: Labels,
) -> str:
    pixels = hashlib.sha256(np.ascontiguousarray(stored, dtype="<i2").tobytes()).hexdigest()
    subject = data_set(modules.patient(header), modules.general_study(header))
    return generate_uid(
        entropy_srcs=[
            source.series_instance_uid,
            *sorted(mr.sop_instance_uid for mr in source.instances),
            hashlib.sha256(subject).hexdigest(),
            pixels,
            repr(grid),
            provenance.card.digest,
            provenance.configuration_digest,
            provenance.software_version,
            *provenance.warnings,
            provenance.replaces or "",
            repr(labels),
        ]
    )


def _shared(
    header: Dataset,
    source: Series,
    grid: ImageGrid,
    uid: str,
    provenance: Provenance,
    clock: datetime,
    labels: Labels,
) -> Elements:
    """Make the elements that are the same on every slice (PS3.3 table A.3-1)."""
    frames = sum(map(len, source.frames.values())) or header.get("NumberOfFrames") or len(source.instances)
    mr_size = f"MR {header.get('Columns', '?')} x {header.get('Rows', '?')} x {frames}"
    description = derivation_description(provenance, mr_size, grid.description(), labels.research)
    title = series_description(provenance, labels.research, labels.description)
    too_long = modules.too_long(header)
    notes = [f"{keyword} of the MR is longer than its VR allows and is not kept." for keyword in too_long]
    comments = image_comments(provenance, labels.research, notes)
    return (
        modules.patient(header)
        | modules.general_study(header)
        | modules.general_series(header, source.body_part, uid, clock, title)
        | modules.related_series(header, provenance.replaces)
        | modules.frame_of_reference(header, source.frame_of_reference_uid)
        | modules.general_equipment(labels.equipment, provenance)
        | modules.general_acquisition(header)
        | modules.general_image(clock, comments, loss_of(source))
        | modules.general_reference(source, description, provenance.sampling.resampled)
        | modules.common_instance_reference(source)
        | modules.ct_image(labels.image_type)
        | modules.voi_lut()
        | modules.sop_common(header, provenance, clock, labels.research)
    )


def _slice(shared: Elements, grid: ImageGrid, stored: NDArray[np.int16], index: int, series_uid: str) -> bytes:
    """Encode the file of slice `index`."""
    uid = generate_uid(entropy_srcs=[series_uid, str(index)])
    own = elements(SOPInstanceUID=uid, InstanceNumber=index + 1)
    plane, pixel = modules.image_plane(grid, index), modules.image_pixel(stored)
    return file_bytes(CTImageStorage, uid, shared, own, plane, pixel)

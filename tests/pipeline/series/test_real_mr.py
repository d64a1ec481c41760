"""What scanners really write: every item of the data's mr/ folder is taken or refused as its README expects."""

import warnings
from collections.abc import Callable
from pathlib import Path

import highdicom
import numpy as np
import pydicom
import pytest
from pydicom.uid import UID, DeflatedExplicitVRLittleEndian, ImplicitVRLittleEndian

from pipeline.errors import Unsuitable
from pipeline.series.series import Series, only_series, read_instance, read_series, stack_complete
from pipeline.volume.ct_grid import axial_geometry
from pipeline.volume.pixels import decode_stored_values
from pipeline.volume.resampling import resample
from pipeline.volume.volume import read_volume

Find = Callable[[str], Path]
"""From the name of an item to its file or folder."""

TAKEN = [
    # item, shape (slice, row, column), spacing in mm, highest MR value
    ("philips_ingenia_sag_mprage_classic", (170, 256, 256), (1.0, 1.0, 1.0), 2803.29),
    ("siemens_xa30_enhanced_t1/series5.dcm", (96, 128, 128), (2.0, 2.0, 2.0), 2927),
    ("siemens_prisma_sag_t1_HFS", (35, 256, 256), (4.8, 1.015625, 1.015625), 1948),
    ("siemens_prisma_sag_t1_HFP", (35, 256, 256), (4.8, 1.015625, 1.015625), 1839),
    ("siemens_prisma_sag_t1_HFDL", (35, 256, 256), (4.8, 1.015625, 1.015625), 2189),
    ("ibsi_STS_024", (43, 83, 78), (3.26995, 0.976562, 0.976562), 1387),
    ("ibsi_STS_035", (54, 99, 93), (3.26996, 0.976562, 0.976562), 1571),
    ("ge_pioneer_ax_mprage_gridphantom_classic", (130, 256, 256), (1.2, 0.9375, 0.9375), 5467),
]

FOUR = (
    "the series holds 4 volumes where one is needed: echo 1 magnitude (TE 2.3 ms, 53 slices), echo 1 phase (TE 2.3 ms, "
    "53 slices), echo 2 magnitude (TE 4.6 ms, 53 slices), echo 2 phase (TE 4.6 ms, 53 slices)"
)

REFUSED = [
    ("philips_fieldmap_2echo_magphase_multivolume_classic", "SEVERAL_VOLUMES", FOUR),
    ("philips_enhanced_multivolume/fieldmap_2echo_mag_phase_enhanced.dcm.gz", "SEVERAL_VOLUMES", FOUR),
    (
        "philips_enhanced_multivolume/pcasl_6vol_enhanced.dcm.gz",
        "SEVERAL_VOLUMES",
        "6 volumes where one is needed: temporal position 1 control (40 slices), temporal position 1 label (40 slices)",
    ),
    (
        "philips_enhanced_multivolume/b0map_mag_real_enhanced.dcm.gz",
        "SEVERAL_VOLUMES",
        "2 volumes where one is needed: echo not stated real (32 slices), echo 1 magnitude (TE 1.52 ms, 32 slices)",
    ),
    ("philips_enhanced_multivolume/nonimage_raw_data_storage.dcm.gz", "NO_IMAGES", "no image was found among 1 files"),
    ("siemens_xa30_enhanced_t1/nonimage_phoenix_SR.dcm.gz", "NO_IMAGES", "no image was found among 1 files"),
    ("ge_multiphase_10vol_classic", "SEVERAL_VOLUMES", "10 volumes where one is needed: temporal position 1"),
    (
        "toshiba_galan_dwi_oblique_2vol_classic",
        "SEVERAL_VOLUMES",
        "2 volumes where one is needed: b value not stated (40 slices), b 1500 (40 slices)",
    ),
    ("uih_dti_vframe_mosaic", "MOSAIC", "ImageType ORIGINAL\\PRIMARY\\M\\VFRAME"),
    ("compressed_transfer_syntaxes", "MOSAIC", "ImageType ORIGINAL\\PRIMARY\\M\\ND\\MOSAIC"),
    ("enhanced_small_pydicom_data/emri_small.dcm", "NO_PATIENT_ID", "PatientID is missing or empty"),
    ("ibsi_STS_024 CT", "NOT_MR", "the series holds 55 CT Image Storage"),
]

SYNTAXES = [f"compressed_transfer_syntaxes/{n}.dcm" for n in range(1, 10)]
SMALL = [
    f"enhanced_small_pydicom_data/emri_small{end}.dcm"
    for end in ("", "_RLE", "_big_endian", "_jpeg_2k_lossless", "_jpeg_ls_lossless")
]


@pytest.fixture
def source(unzipped: Find) -> Find:
    """The file or folder of an item; ` CT` behind its name asks for the CT series there."""
    return lambda name: unzipped(name.removesuffix(" CT"))


def series_of(name: str, source: Find) -> Series:
    """The item's one MR series; its CT series where the name asks for it."""
    found = read_series(source(name))
    return next(s for s in found if s.header.Modality == "CT") if name.endswith(" CT") else only_series(found)


def test_every_item_of_the_data_is_told_of_here(sct_data: Path) -> None:
    names = [*(one[0] for one in TAKEN), *(one[0] for one in REFUSED), *SYNTAXES, *SMALL]
    told = {name.split("/")[0] for name in names}
    items = {path.name.removesuffix(".tar.xz") for path in (sct_data / "mr").iterdir()}
    assert items - {"LICENSES"} == told - {"ibsi_STS_024 CT"}


@pytest.mark.parametrize(("name", "shape", "spacing", "highest"), TAKEN)
def test_a_regular_series_is_taken(
    name: str, shape: tuple[int, int, int], spacing: tuple[float, float, float], highest: float, source: Find
) -> None:
    series = series_of(name, source)
    assert stack_complete(series)
    volume = read_volume(series)
    assert volume.shape == shape
    assert volume.spacing == pytest.approx(spacing, abs=2e-6)
    assert volume.array.min() == 0
    assert volume.array.max() == pytest.approx(highest, rel=1e-5)
    assert volume.frame_of_reference_uid == series.frame_of_reference_uid


@pytest.mark.parametrize(("name", "code", "part"), REFUSED)
def test_anything_else_is_refused_by_code_and_sentence(name: str, code: str, part: str, source: Find) -> None:
    with pytest.raises(Unsuitable) as caught:
        read_volume(series_of(name, source))
    assert caught.value.code == code
    assert part in caught.value.sentence


@pytest.mark.parametrize("name", [item[0] for item in TAKEN])
def test_highdicom_reads_the_same_volume(name: str, source: Find) -> None:
    series = series_of(name, source)
    ours = read_volume(series)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if len(series.instances) == 1:
            theirs = highdicom.imread(series.instances[0].path).get_volume(apply_real_world_transform=False)
        else:
            files = [pydicom.dcmread(instance.path) for instance in series.instances]
            theirs = highdicom.get_volume_from_series(files, apply_real_world_transform=False, orientation_tol=1e-4)
    if np.dot(theirs.direction[:, 0], ours.direction[:, 0]) < 0:
        theirs = theirs.flip_spatial(0)
    assert np.abs(theirs.affine - ours.affine).max() < 2e-4
    assert np.array_equal(theirs.array.astype(np.float32), ours.array)


@pytest.mark.parametrize("name", ["ibsi_STS_024", "ibsi_STS_035", "siemens_xa30_enhanced_t1/series5.dcm"])
def test_a_series_along_the_patients_axes_is_not_interpolated(name: str, source: Find) -> None:
    volume = read_volume(series_of(name, source))
    ct = resample(volume, axial_geometry(volume), fill=-1.0)
    assert np.array_equal(np.sort(ct.array.ravel()), np.sort(volume.array.ravel()))


def test_the_oblique_head_is_covered_and_its_mean_kept(source: Find) -> None:
    volume = read_volume(series_of("philips_ingenia_sag_mprage_classic", source))
    ct = resample(volume, axial_geometry(volume), fill=0.0)
    assert ct.spacing == (1.0, 1.0, 1.0)
    assert ct.array.sum() == pytest.approx(volume.array.sum(), rel=2e-3)


def test_the_mr_and_ct_of_a_patient_overlap_in_one_frame_of_reference(source: Find) -> None:
    found = {series.header.Modality: series for series in read_series(source("ibsi_STS_024"))}
    assert found["MR"].frame_of_reference_uid == found["CT"].frame_of_reference_uid
    assert found["MR"].body_part == "EXTREMITY"


@pytest.mark.parametrize("group", [SYNTAXES, SMALL], ids=["nine files", "enhanced"])
def test_every_transfer_syntax_decodes_to_the_same_pixels(group: list[str], mr_item: Find) -> None:
    decoded = [decode_stored_values(read_instance(mr_item(name))) for name in group]
    assert all(np.array_equal(values, decoded[0]) for values in decoded)
    assert decoded[0].max() > 0


@pytest.mark.parametrize("syntax", [DeflatedExplicitVRLittleEndian, ImplicitVRLittleEndian])
def test_a_rewritten_file_decodes_to_the_same_pixels(syntax: UID, mr_item: Find, tmp_path: Path) -> None:
    data_set = pydicom.dcmread(mr_item(SYNTAXES[0]))
    data_set.file_meta.TransferSyntaxUID = syntax
    pydicom.dcmwrite(
        tmp_path / "again.dcm",
        data_set,
        implicit_vr=syntax.is_implicit_VR,
        little_endian=True,
        enforce_file_format=True,
    )
    again = decode_stored_values(read_instance(tmp_path / "again.dcm"))
    assert np.array_equal(again, decode_stored_values(read_instance(mr_item(SYNTAXES[0]))))


def test_the_broken_file_is_unreadable(mr_item: Find) -> None:
    instance = read_instance(mr_item("enhanced_small_pydicom_data/emri_small_jpeg_2k_lossless_too_short.dcm"))
    with pytest.raises(Unsuitable) as caught:
        decode_stored_values(instance)
    assert caught.value.code == "UNREADABLE"
    assert instance.sop_instance_uid in caught.value.sentence


@pytest.mark.parametrize("name", SYNTAXES)
@pytest.mark.parametrize("kept", [0.3, 0.6, 0.9, 0.9999])
def test_a_truncated_file_is_unreadable_in_every_transfer_syntax(
    name: str, kept: float, mr_item: Find, tmp_path: Path
) -> None:
    content = mr_item(name).read_bytes()
    path = tmp_path / "cut.dcm"
    path.write_bytes(content[: int(kept * len(content))])
    with pytest.raises(Unsuitable, match="UNREADABLE"):
        decode_stored_values(read_instance(path))

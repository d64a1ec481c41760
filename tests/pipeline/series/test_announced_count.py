"""How many instances the headers announce, read from real scanners' files."""

import gzip
from collections.abc import Callable
from pathlib import Path

import pytest
from pydicom.dataelem import DataElement

from pipeline.series.announced_count import announced, lacks_announced
from pipeline.series.series import only_series, read_series, stack_complete
from pipeline.series.volume_choice import Choice


@pytest.mark.parametrize(
    ("item", "number"),
    [
        ("ge_multiphase_10vol_classic", 100),
        ("ge_pioneer_ax_mprage_gridphantom_classic", 130),
        ("philips_fieldmap_2echo_magphase_multivolume_classic", 212),
        ("philips_ingenia_sag_mprage_classic", 170),
        ("siemens_prisma_sag_t1_HFS", 35),
        ("toshiba_galan_dwi_oblique_2vol_classic", None),
    ],
)
def test_the_headers_of_each_vendor_announce_what_the_series_holds(
    mr_item: Callable[[str], Path], item: str, number: int | None
) -> None:
    series = only_series(read_series(mr_item(item)))
    assert announced(series.instances) == number
    assert not lacks_announced(series.instances)
    assert lacks_announced(series.instances[:-1]) is (number is not None)


def test_what_a_vendor_counts_in_a_multi_frame_object_are_no_instances(
    mr_item: Callable[[str], Path], tmp_path: Path
) -> None:
    packed = mr_item("philips_enhanced_multivolume/b0map_mag_real_enhanced.dcm.gz")
    (tmp_path / "one.dcm").write_bytes(gzip.decompress(packed.read_bytes()))
    series = only_series(read_series(tmp_path))
    assert announced(series.instances) is None
    assert stack_complete(series, Choice.of({"component": "MAGNITUDE"}))


def test_a_private_number_that_is_damaged_announces_nothing(mr_item: Callable[[str], Path]) -> None:
    series = only_series(read_series(mr_item("siemens_prisma_sag_t1_HFS")))
    for value in (b"", b"sSliceArray.lSize = ", b"\xff" * 64):
        series.instances[0].header[0x0029, 0x1020].value = value
        assert announced(series.instances) is None
    del series.instances[0].header[0x0029, 0x1020]
    assert announced(series.instances) is None
    assert announced(()) is None


def test_numbers_on_which_the_images_disagree_announce_nothing(mr_item: Callable[[str], Path]) -> None:
    series = only_series(read_series(mr_item("ge_pioneer_ax_mprage_gridphantom_classic")))
    series.instances[3].header.ImagesInAcquisition = 7
    series.instances[3].header[0x0025, 0x1007].value = 7
    assert announced(series.instances) is None


def test_a_position_without_all_its_temporal_positions_waits_for_them(mr_item: Callable[[str], Path]) -> None:
    series = only_series(read_series(mr_item("ge_multiphase_10vol_classic")))
    for instance in series.instances:
        del instance.header.ImagesInAcquisition
        del instance.header[0x0025, 0x1007]
    assert announced(series.instances) is None
    assert not lacks_announced(series.instances)
    assert lacks_announced(series.instances[:-1])


def test_a_private_number_of_unknown_vr_is_read_from_its_bytes(mr_item: Callable[[str], Path]) -> None:
    series = only_series(read_series(mr_item("ge_pioneer_ax_mprage_gridphantom_classic")))
    for instance in series.instances:
        del instance.header.ImagesInAcquisition
        number = instance.header[0x0025, 0x1007].value
        instance.header[0x0025, 0x1007] = DataElement(0x00251007, "UN", int(number).to_bytes(4, "little"))
    assert announced(series.instances) == 130

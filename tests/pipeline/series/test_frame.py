"""Enhanced and Legacy Converted Enhanced MR: wherever an object says where its frames lie, the volume is the same."""

import warnings
from collections.abc import Callable
from pathlib import Path

import highdicom
import numpy as np
import pydicom
import pytest
from highdicom import Volume
from pydicom.uid import generate_uid

from pipeline.errors import Unsuitable
from pipeline.phantom import thigh
from pipeline.series.series import only_series, read_series
from pipeline.series.volume_choice import UNAMBIGUOUS, Choice
from pipeline.volume.volume import read_volume

TURN = np.array([[0.96, -0.28, 0.0], [0.28, 0.96, 0.0], [0.0, 0.0, 1.0]])
MR = thigh.thigh(thigh.oblique_grid((7, 16, 20), (3.2, 6.0, 6.0), TURN)).mr

Change = Callable[[pydicom.Dataset], None]


def read(path: Path, choice: Choice = UNAMBIGUOUS) -> Volume:
    return read_volume(only_series(read_series(path)), choice)


def enhanced(into: Path, change: Change) -> Path:
    """The phantom as one Enhanced object, changed."""
    path = thigh.write_enhanced_mr(MR, into)
    image = pydicom.dcmread(path)
    change(image)
    image.save_as(path)
    return path


def equal(volume: Volume) -> bool:
    return np.array_equal(volume.array, np.rint(MR.array)) and float(np.abs(volume.affine - MR.affine).max()) < 1e-6


def all_per_frame(image: pydicom.Dataset) -> None:
    """Every functional group is given for each frame, none is shared."""
    (shared,) = image.SharedFunctionalGroupsSequence
    for group in image.PerFrameFunctionalGroupsSequence:
        for element in shared:
            group[element.tag] = element
    image.SharedFunctionalGroupsSequence = [pydicom.Dataset()]


def wrong_places_in_stack(image: pydicom.Dataset) -> None:
    """InStackPositionNumber says the contrary of ImagePositionPatient."""
    groups = image.PerFrameFunctionalGroupsSequence
    for group in groups:
        content = group.FrameContentSequence[0]
        content.InStackPositionNumber = len(groups) + 1 - content.InStackPositionNumber


def one_place_in_stack(image: pydicom.Dataset) -> None:
    for group in image.PerFrameFunctionalGroupsSequence:
        group.FrameContentSequence[0].InStackPositionNumber = 1


def no_stack(image: pydicom.Dataset) -> None:
    for group in image.PerFrameFunctionalGroupsSequence:
        for keyword in ("StackID", "InStackPositionNumber", "DimensionIndexValues"):
            if keyword in group.FrameContentSequence[0]:
                del group.FrameContentSequence[0][keyword]


def backwards(image: pydicom.Dataset) -> None:
    """Frames and their pixels in the other order."""
    image.PerFrameFunctionalGroupsSequence = list(image.PerFrameFunctionalGroupsSequence)[::-1]
    pixels = np.frombuffer(image.PixelData, "<u2").reshape(image.NumberOfFrames, -1)
    image.PixelData = pixels[::-1].tobytes()


def misleading_top_level(image: pydicom.Dataset) -> None:
    """Classic attributes at the top level, as some converters leave them, of another image."""
    image.ImagePositionPatient, image.ImageOrientationPatient = [1, 2, 3], [0, 1, 0, 0, 0, -1]
    image.PixelSpacing, image.RescaleSlope, image.RescaleIntercept = [9, 9], "7", "-3"


@pytest.mark.parametrize(
    "change", [all_per_frame, wrong_places_in_stack, one_place_in_stack, no_stack, backwards, misleading_top_level]
)
def test_positions_decide_and_nothing_else(change: Change, tmp_path: Path) -> None:
    enhanced(tmp_path, change)
    assert equal(read(tmp_path))


def test_every_frame_has_its_own_rescale(tmp_path: Path) -> None:
    """Pixel Value Transformation (PS3.3 C.7.6.16.2.9): each frame is stored on its own scale."""

    def scale(image: pydicom.Dataset) -> None:
        pixels = np.frombuffer(image.PixelData, "<u2").reshape(image.NumberOfFrames, -1).astype(float)
        for number, group in enumerate(image.PerFrameFunctionalGroupsSequence):
            rescale = pydicom.Dataset()
            rescale.RescaleSlope, rescale.RescaleIntercept, rescale.RescaleType = (
                str(2.0 ** -(number % 4)),
                str(-number),
                "US",
            )
            group.PixelValueTransformationSequence = [rescale]
            pixels[number] = (pixels[number] + number) * 2 ** (number % 4)
        image.PixelData = pixels.astype("<u2").tobytes()
        image.BitsStored, image.HighBit = 16, 15
        del image.SharedFunctionalGroupsSequence[0].PixelValueTransformationSequence

    enhanced(tmp_path, scale)
    volume = read(tmp_path)
    assert np.array_equal(volume.array, np.rint(MR.array))


@pytest.mark.parametrize("reverse", [False, True])
def test_a_concatenation_in_any_order_is_one_volume(reverse: bool, tmp_path: Path) -> None:
    """Parts of one object (PS3.3 C.7.6.16.1) with a UID each, arriving in either order."""
    whole = pydicom.dcmread(thigh.write_enhanced_mr(MR, tmp_path / "whole"))
    groups = list(whole.PerFrameFunctionalGroupsSequence)
    pixels = np.frombuffer(whole.PixelData, "<u2").reshape(len(groups), -1)
    (tmp_path / "parts").mkdir()
    for number, part in enumerate((slice(0, 3), slice(3, 7))):
        image = pydicom.dcmread(tmp_path / "whole" / "enhanced.dcm")
        image.PerFrameFunctionalGroupsSequence, image.PixelData = groups[part], pixels[part].tobytes()
        image.NumberOfFrames = len(groups[part])
        image.SOPInstanceUID = image.file_meta.MediaStorageSOPInstanceUID = generate_uid()
        image.ConcatenationUID, image.InConcatenationNumber, image.InConcatenationTotalNumber = "1.2.3", number + 1, 2
        image.ConcatenationFrameOffsetNumber = part.start
        image.save_as(tmp_path / "parts" / f"{1 - number if reverse else number}.dcm")
    assert equal(read(tmp_path / "parts"))
    (tmp_path / "parts" / "0.dcm").unlink()
    with pytest.raises(Unsuitable):
        read(tmp_path / "parts")


@pytest.mark.parametrize("component", ["MAGNITUDE", "PHASE"])
@pytest.mark.parametrize("echo", [1, 2])
def test_a_scan_that_was_exported_as_classic_and_as_enhanced_gives_equal_volumes(
    echo: int, component: str, mr_item: Callable[[str], Path], unzipped: Callable[[str], Path]
) -> None:
    choice = Choice.of({"echo": echo, "component": component})
    classic = read(mr_item("philips_fieldmap_2echo_magphase_multivolume_classic"), choice)
    other = read(unzipped("philips_enhanced_multivolume/fieldmap_2echo_mag_phase_enhanced.dcm.gz"), choice)
    assert np.array_equal(classic.array, other.array)
    assert np.abs(classic.affine - other.affine).max() < 1e-9


@pytest.mark.filterwarnings("ignore")  # highdicom's notes on what the scanner left out
@pytest.mark.parametrize("name", ["siemens_prisma_sag_t1_HFP", "ibsi_STS_024"])
def test_a_real_series_after_highdicoms_legacy_conversion_is_the_same_volume(
    name: str, mr_item: Callable[[str], Path], tmp_path: Path
) -> None:
    series = only_series(read_series(mr_item(name)))
    images = [pydicom.dcmread(instance.path) for instance in series.instances][::-1]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        converted = highdicom.legacy.LegacyConvertedEnhancedMRImage(
            images, generate_uid(), 9, generate_uid(), 1, strict=False
        )
    converted.save_as(tmp_path / "converted.dcm")
    classic, legacy = read_volume(series), read(tmp_path)
    assert np.array_equal(classic.array, legacy.array)
    assert np.abs(classic.affine - legacy.affine).max() < 1e-9

"""A series that was ever compressed with loss is refused, or its CT says so."""

import math
from pathlib import Path

import pydicom
import pytest
from pydicom.dataelem import RawDataElement
from pydicom.tag import Tag
from pydicom.uid import HTJ2K, JPEG2000, UID, ExplicitVRLittleEndian, JPEGBaseline8Bit, MRImageStorage

from pipeline.ct.modules import lossy_compression
from pipeline.errors import Unsuitable
from pipeline.series.instance import Instance
from pipeline.series.lossy_compression import Loss, loss_of, loss_warnings
from pipeline.series.series import Series


def image(syntax: UID, lossy: str = "", ratio: str = "", method: str = "", uid: str = "1.2.3") -> Instance:
    header = pydicom.Dataset()
    said = {"LossyImageCompression": lossy, "LossyImageCompressionRatio": ratio, "LossyImageCompressionMethod": method}
    for keyword, value in said.items():
        tag, vr = Tag(keyword), "DS" if keyword.endswith("Ratio") else "CS"
        raw = RawDataElement(tag, vr, len(value), value.encode(), 0, is_implicit_VR=False, is_little_endian=True)
        if value:
            header[tag] = raw
    return Instance(MRImageStorage, UID(uid), syntax, UID("1.2"), Path("absent.dcm"), header)


@pytest.mark.parametrize(
    ("one", "ratios", "methods"),
    [
        (image(ExplicitVRLittleEndian, "01", "12.5", "ISO_10918_1"), (12.5,), ("ISO_10918_1",)),
        (
            image(ExplicitVRLittleEndian, "01", "4\\10", "ISO_10918_1\\ISO_15444_1"),
            (4, 10),
            ("ISO_10918_1", "ISO_15444_1"),
        ),
        (image(ExplicitVRLittleEndian, "01"), (), ()),
        (image(ExplicitVRLittleEndian, "01", "nonsense", "né"), (), ()),
        (image(ExplicitVRLittleEndian, "01", "1e300\\0\\nan\\-4\\inf\\3"), (3,), ()),
        (image(JPEG2000, "01", "7"), (7,), ("ISO_15444_1",)),
        (image(JPEGBaseline8Bit, "00", "9"), (9,), ("ISO_10918_1",)),
    ],
)
def test_what_headers_say_of_a_loss_is_taken_where_it_makes_sense(
    one: Instance, ratios: tuple[float, ...], methods: tuple[str, ...]
) -> None:
    assert loss_of(Series((one,))) == Loss("1.2.3", ratios, methods)
    assert Tag("LossyImageCompression") in lossy_compression(loss_of(Series((one,))))


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, JPEG2000, HTJ2K])
def test_an_image_whose_syntax_may_be_lossless_and_that_says_00_has_lost_nothing(syntax: UID) -> None:
    assert loss_of(Series((image(syntax, "00"),))) is None
    assert loss_warnings(Series((image(syntax, "00"),)), accepted=False) == ()


def test_the_image_that_was_compressed_most_speaks_for_the_series() -> None:
    ratios = {"1.1": "3", "1.2": "5\\5", "1.3": "20"}
    images = [image(ExplicitVRLittleEndian, "01", ratio, uid=uid) for uid, ratio in ratios.items()]
    loss = loss_of(Series((image(ExplicitVRLittleEndian, "00"), *images)))
    assert loss is not None
    assert (loss.name, math.prod(loss.ratios)) == ("1.2", 25)


def test_a_loss_that_is_not_accepted_is_refused_and_one_that_is_makes_a_sentence() -> None:
    series = Series((image(ExplicitVRLittleEndian, "01", "12.5", "ISO_10918_1"),))
    with pytest.raises(Unsuitable, match=r"LOSSY: 1\.2\.3 was compressed with loss \(ISO_10918_1, ratio 12\.5\)"):
        loss_warnings(series, accepted=False)
    assert loss_warnings(series, accepted=True) == ("the MR was compressed with loss (ISO_10918_1, ratio 12.5)",)

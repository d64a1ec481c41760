"""Elements: attributes as bytes, decimals of geometry, and text that is valid in every character set."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom import Dataset

from pipeline.ct.elements import copied, data_set, decimal, decimal_string, elements, plain, raw_bytes, sequence


@given(st.floats(-99999, 99999))
def test_a_decimal_string_is_short_and_right_to_a_hundred_millionth(value: float) -> None:
    text = decimal_string(decimal(value))
    assert len(text) <= 16
    assert abs(float(text) - value) <= 0.51e-8
    assert "e" not in text.lower()


def test_a_decimal_string_that_cannot_be_short_is_refused() -> None:
    with pytest.raises(ValueError, match="16 characters"):
        decimal_string(decimal(-1234567.12345678))
    assert decimal_string(decimal(-0.0)) == "0"


def test_a_value_that_breaks_its_vr_is_refused() -> None:
    with pytest.raises(ValueError, match="SH"):
        elements(StationName="a name of more than sixteen characters")
    with pytest.raises(ValueError, match="keyword"):
        elements(NoSuchKeyword="x")


def test_text_of_others_cannot_break_an_element() -> None:
    assert plain("Größe\\of\n  the Träger " + "x" * 99, 20) == "Groe/of the Trager x"


def test_a_copied_sequence_without_items_is_left_out() -> None:
    source = Dataset()
    source.ProcedureCodeSequence = []
    assert copied(source, ["ProcedureCodeSequence"]) == {}


def test_elements_stand_in_the_order_of_their_tags_and_items_are_framed() -> None:
    items = [elements(CodeMeaning="b", CodeValue="a")]
    code = b"\x08\x00\x00\x01SH\x02\x00a \x08\x00\x04\x01LO\x02\x00b "
    framed = b"\x08\x00\x15\x92SQ\x00\x00\x1c\x00\x00\x00\xfe\xff\x00\xe0\x14\x00\x00\x00" + code
    assert (
        data_set(sequence("DerivationCodeSequence", items), elements(KVP=None))
        == framed + b"\x18\x00\x60\x00DS\x00\x00"
    )


def test_a_missing_attribute_has_no_bytes() -> None:
    source = Dataset()
    source.PatientID = ""
    assert raw_bytes(source, "PatientID") == raw_bytes(source, "PatientName") == b""

"""Rules: which one takes a series and why; conditions are read strictly and asked forgivingly."""

from __future__ import annotations

import dataclasses
import gzip
import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.uid import EnhancedMRImageStorage, ExplicitVRLittleEndian, MRImageStorage

from dicomnode.config.load import AS_CONFIGURED, Config, Rule, RuleAction, dump, load
from dicomnode.config.peers import Destination
from dicomnode.config.rule_conditions import When
from dicomnode.config.rules import OTHERWISE, JobSettings, choose, models_of, settings_of, unreachable
from dicomnode.errors import ConfigError
from pipeline.series.attributes import askable, values_by_image
from pipeline.series.instance import Instance
from pipeline.series.series import Series, only_series, read_series
from pipeline.series.stack import Tolerances
from pipeline.series.volume_choice import Choice

DESTINATIONS = (Destination("a", "A", "127.0.0.1", 1), Destination("b", "B", "127.0.0.1", 2))
WORDS = ("t1_tse", "T1_TSE", "t2_tse", "localizer", "")
WHENS: tuple[dict[str, Any], ...] = (
    {},
    {"ProtocolName": "t1*"},
    {"ProtocolName": ["t2*", "local*"]},
    {"EchoTime": {"to": 20}},
    {"CallingAE": "MR?"},
    {"ContrastBolusAgent": {"present": True}},
    {"ProtocolName": "T?_TSE", "EchoTime": 12},
)


def series(*headers: dict[str, Any]) -> Series:
    """A series of classic images with these attributes, without files."""
    return Series(tuple(instance(number, header) for number, header in enumerate(headers)))


def instance(number: int, header: dict[str, Any], sop_class: pydicom.uid.UID = MRImageStorage) -> Instance:
    data_set = Dataset()
    for keyword, value in header.items():
        setattr(data_set, keyword, value)
    uids = (pydicom.uid.UID(f"1.2.{number}"), ExplicitVRLittleEndian, pydicom.uid.UID("1.2"))
    return Instance(sop_class, *uids, Path("x"), data_set)


def rule(name: str, when: dict[str, Any], then: RuleAction | None = AS_CONFIGURED) -> Rule:
    return Rule(name, When.of(when, "when"), then)


def failure(when: dict[str, Any], source: Series, calling_ae: str = "") -> str | None:
    return When.of(when, "when").failure(source, calling_ae)


@settings(max_examples=60, deadline=None)
@given(
    order=st.permutations(range(len(WHENS))),
    protocol=st.sampled_from(WORDS),
    echo=st.sampled_from(["", 12, 80]),
    calling_ae=st.sampled_from(["", "MR1", "CT"]),
)
def test_the_first_rule_that_takes_a_series_decides_whatever_their_order(
    order: list[int], protocol: str, echo: Any, calling_ae: str
) -> None:
    source = series({"ProtocolName": protocol, "EchoTime": echo})
    taking = [number for number in order if failure(WHENS[number], source, calling_ae) is None]
    found = choose(source, calling_ae, Config(rules=tuple(rule(str(number), WHENS[number]) for number in order)))
    assert found.rule == str(taking[0])
    assert [one.rule for one in found.trials] == [str(number) for number in order[: order.index(taking[0])]]


TEXT = st.text(st.characters(min_codepoint=32, max_codepoint=126, exclude_characters="\\*?"), min_size=1, max_size=20)


@settings(max_examples=60, deadline=None)
@given(TEXT.map(str.strip).filter(bool), st.sampled_from(["{}", "{}*", "*{}", "*{}*"]))
def test_capitals_never_count(text: str, shape: str) -> None:
    for value, pattern in itertools.product((text, text.upper(), text.lower()), repeat=2):
        assert failure({"SeriesDescription": shape.format(pattern)}, series({"SeriesDescription": value})) is None
        assert failure({"CallingAE": shape.format(pattern)}, series({}), value) is None


@settings(max_examples=150, deadline=None)
@given(
    st.sampled_from(sorted(askable())),
    st.sampled_from(["CS", "LO", "DS", "IS", "US", "FD", "SQ", "UN", "OB", "PN", "AT", "UI"]),
    st.binary(max_size=40),
    st.sampled_from(["ISO_IR 192", "ISO 2022 IR 87", "nonsense"]),
    st.booleans(),
)
def test_no_rule_raises_for_an_odd_header(keyword: str, vr: str, value: bytes, charset: str, enhanced: bool) -> None:
    odd = instance(0, {"SpecificCharacterSet": charset}, EnhancedMRImageStorage if enhanced else MRImageStorage)
    for name in (keyword, "SharedFunctionalGroupsSequence", "ContrastBolusAgentSequence"):
        tag = pydicom.tag.Tag(tag_for_keyword(name) or 0)
        odd.header[tag] = RawDataElement(tag, vr, len(value), value, 0, False, True)
    wanted: Any = {"from": 0, "to": 5} if askable()[keyword] == "number" else "*a*"
    whens = [{keyword: wanted}, {keyword: {"present": True}}, {"contrast": True}, {"BodyPartExamined": "THIGH"}]
    config = Config(rules=tuple(rule(str(number), when) for number, when in enumerate(whens)))
    assert choose(Series((odd,)), "MR", config).rule in {"0", "1", "2", "3", OTHERWISE}
    assert choose(Series(()), "MR", config).rule == OTHERWISE


@pytest.mark.parametrize(
    ("when", "header", "said"),
    [
        ({"ProtocolName": "t1*"}, {"ProtocolName": "t2_tse"}, "ProtocolName 't2_tse' does not match 't1*'"),
        ({"ProtocolName": ["a", "b*"]}, {"ProtocolName": "c"}, "ProtocolName 'c' does not match any of 'a', 'b*'"),
        ({"ProtocolName": "t1"}, {"ProtocolName": "t1_tse"}, "ProtocolName 't1_tse' does not match 't1'"),
        ({"ProtocolName": "t1[a]*"}, {"ProtocolName": "t1a"}, "ProtocolName 't1a' does not match 't1[a]*'"),
        ({"ProtocolName": "t1[a]*"}, {"ProtocolName": "T1[A] sag"}, None),
        ({"ProtocolName": "t1*"}, {"ProtocolName": ""}, "ProtocolName is absent"),
        ({"ImageType": "LOCALIZER"}, {"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]}, None),
        ({"ImageType": "*\\M\\*"}, {"ImageType": ["ORIGINAL", "PRIMARY", "M", "ND"]}, None),
        ({"ImageType": "M"}, {"ImageType": ["A", "P"]}, "ImageType 'A\\P' does not match 'M'"),
        ({"EchoTime": 12}, {"EchoTime": "12.0"}, None),
        ({"EchoTime": {"from": 10, "to": 12}}, {"EchoTime": 12}, None),
        ({"EchoTime": {"from": 10, "to": 11}}, {"EchoTime": 12}, "EchoTime 12 is not from 10 to 11"),
        ({"EchoTime": {"to": 11}}, {"EchoTime": 12}, "EchoTime 12 is above 11"),
        ({"EchoTime": {"from": 13}}, {"EchoTime": 12}, "EchoTime 12 is below 13"),
        ({"EchoTime": [1, 2]}, {"EchoTime": 12}, "EchoTime 12 is not 1 and is not 2"),
        ({"MagneticFieldStrength": 1.494}, {"MagneticFieldStrength": 1.494}, None),
        ({"contrast": False}, {"ContrastBolusAgent": "GADO"}, "contrast 'agent' is present"),
        ({"contrast": True}, {}, "contrast is absent"),
        ({"ScanOptions": {"present": False}}, {"ScanOptions": ["FS"]}, "ScanOptions 'FS' is present"),
        ({"ScanOptions": {"present": False}}, {}, None),
        ({"CallingAE": "CT*"}, {}, "CallingAE 'MR1' does not match 'CT*'"),
        ({"CallingAE": "mr?"}, {}, None),
    ],
)
def test_a_condition_says_what_it_found_and_what_it_wanted(when: Any, header: Any, said: str | None) -> None:
    assert failure(when, series(header), "MR1") == said


def test_every_image_of_a_series_must_fulfil_a_condition() -> None:
    mixed = series({"EchoTime": 4}, {"EchoTime": 4}, {"EchoTime": 9})
    assert failure({"EchoTime": {"to": 5}}, mixed) == "EchoTime 9 (1 of 3 images) is above 5"
    assert failure({"EchoTime": {"to": 9}}, mixed) is None
    stray = series({"ImageType": ["ORIGINAL", "PRIMARY", "M"]}, {"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]})
    assert failure({"ImageType": "LOCALIZER"}, stray) is not None


def test_enhanced_mr_answers_to_the_keywords_of_classic_mr(mr_item: Callable[[str], Path]) -> None:
    source = only_series(read_series(mr_item("siemens_xa30_enhanced_t1")))
    frames = int(source.header.NumberOfFrames)
    for keyword, expected in (
        ("EchoTime", "2.41"),
        ("FlipAngle", "9"),
        ("BodyPartExamined", "BRAIN"),
        ("MRAcquisitionType", "3D"),
        ("SliceThickness", "2"),
    ):
        assert values_by_image(source, keyword) == [(expected,)] * frames, keyword


def test_frames_are_asked_one_by_one(mr_item: Callable[[str], Path], tmp_path: Path) -> None:
    archive = mr_item("philips_enhanced_multivolume") / "fieldmap_2echo_mag_phase_enhanced.dcm.gz"
    (tmp_path / "fieldmap.dcm").write_bytes(gzip.decompress(archive.read_bytes()))
    source = only_series(read_series(tmp_path))
    assert {values[3] for values in values_by_image(source, "ImageType")} == {"M", "P"}
    assert len(set(values_by_image(source, "EchoTime"))) == 2
    assert "of 212 images) is not 2" in str(failure({"EchoTime": 2}, source))


def test_nothing_that_describes_a_patient_or_a_study_can_be_asked() -> None:
    assert {dictionary_VR(keyword) for keyword in askable()} & {"PN", "DA", "TM", "DT", "UI", "LT", "ST", "UT"} == set()
    for keyword in ("PatientID", "PatientSex", "PatientAge", "AccessionNumber", "StudyID", "ReferringPhysicianName"):
        assert keyword not in askable()
    assert {"PatientPosition", "StudyDescription", "SequenceName", "ScanningSequence"} <= set(askable())


@pytest.mark.parametrize(
    ("text", "path", "words"),
    [
        ("rules: [{name: x, when: {ProtocolNam: a}, then: ignore}]", "rules[0].when.ProtocolNam", "'ProtocolName'?"),
        ("rules: [{name: x, when: {protocolname: a}, then: ignore}]", "rules[0].when.protocolname", "'ProtocolName'?"),
        ("rules: [{name: x, when: {PatientID: a}, then: ignore}]", "rules[0].when.PatientID", "patient"),
        ("rules: [{name: x, when: {OperatorsName: a}, then: ignore}]", "rules[0].when.OperatorsName", "no attribute"),
        ("rules: [{name: x, when: {ScanOptions: NO}, then: ignore}]", "rules[0].when.ScanOptions", "quotes"),
        ("rules: [{name: x, when: {EchoTime: '4*'}, then: ignore}]", "rules[0].when.EchoTime", "write a number"),
        ("rules: [{name: x, when: {EchoTime: {from: 2, to: 1}}, then: ignore}]", "rules[0].when.EchoTime", "lower"),
        ("rules: [{name: x, when: {EchoTime: {form: 2}}, then: ignore}]", "rules[0].when.EchoTime", "{from: 1, to: 2}"),
        ("rules: [{name: x, when: {EchoTime: []}, then: ignore}]", "rules[0].when.EchoTime", "empty list"),
        ("rules: [{name: x, when: {contrast: GADO}, then: ignore}]", "rules[0].when.contrast", "true or false"),
        ("rules: [{name: x, then: ignore}]", "rules[0].when", "is missing"),
        ("rules: [{name: x, when: {}}]", "rules[0].then", "is missing"),
        ("rules: [{name: x, when: {}, then: drop}]", "rules[0].then", "write convert, ignore"),
        ("rules: [{name: x, when: {}, then: {destination: [a]}}]", "rules[0].then.destination", "'destinations'?"),
        ("rules: [{name: x, when: {}, then: {destinations: [plan]}}]", "rules[0].then.destinations[0]", "'planning'?"),
        ("rules: [{name: x, when: {}, then: {volume: {eco: 1}}}]", "rules[0].then.volume", "eco"),
        ("rules: [{name: x, when: {}, then: {anatomy_check: no}}]", "rules[0].then.anatomy_check", "hold, warn"),
        ("rules: [{name: x, when: {}, then: ignore}, {name: x, when: {}, then: ignore}]", "rules[1].name", "twice"),
        ("rules: [{name: ' x', when: {}, then: ignore}]", "rules[0].name", "printable"),
        ("otherwise: hold", "otherwise", "write convert, ignore"),
        ("otherwise: {destinations: [x]}", "otherwise.destinations[0]", "no destination"),
        ("stack: {min_slice: 3}", "stack.min_slice", "'min_slices'?"),
        ("stack: {step_mm: 1000}", "stack.step_mm", "must be from 0.0 to 0.5"),
        ("stack: {step_mm: .nan}", "stack.step_mm", "must be from"),
    ],
)
def test_a_complaint_about_a_rule_names_the_dotted_path(tmp_path: Path, text: str, path: str, words: str) -> None:
    file = tmp_path / "node.yaml"
    file.write_text("destinations: [{name: planning, ae_title: A, host: h, port: 1}]\n" + text)
    with pytest.raises(ConfigError) as caught:
        load(file)
    assert caught.value.path == path
    assert words in str(caught.value)


RULES = """
destinations: [{name: planning, ae_title: A, host: h, port: 1}, {name: archive, ae_title: B, host: h, port: 2}]
rules:
  - {name: scouts, when: {ImageType: LOCALIZER}, then: ignore}
  - name: thigh T1
    when: {CallingAE: MR*, ProtocolName: ["t1*", "T1 *"], EchoTime: {to: 20}, contrast: false}
    then: {model: other, destinations: [planning], volume: {component: MAGNITUDE, echo: 1}, anatomy_check: warn}
  - {name: kept, when: {SeriesDescription: "* keep"}, then: {destinations: []}}
  - {name: rest, when: {}, then: convert}
otherwise: ignore
"""


@pytest.fixture
def config(tmp_path: Path) -> Config:
    """The configuration of RULES."""
    path = tmp_path / "node.yaml"
    path.write_text(RULES)
    return load(path)


def test_what_a_rule_leaves_out_is_the_node_s_own_setting(config: Config) -> None:
    thigh = choose(series({"ProtocolName": "t1_tse", "EchoTime": 12}), "MR2", config)
    assert (thigh.rule, thigh.model, thigh.destinations) == ("thigh T1", "other", ("planning",))
    assert thigh.settings.anatomy_check == "warn"
    assert thigh.settings.volume == Choice.of({"component": "MAGNITUDE", "echo": 1})
    rest = choose(series({"ProtocolName": "t1_tse", "EchoTime": 12}), "CT", config)
    assert (rest.rule, rest.model, rest.destinations) == ("rest", "limb-t1-ldm", ("planning", "archive"))
    assert rest.settings == settings_of(config, AS_CONFIGURED)
    assert choose(series({"SeriesDescription": "to keep"}), "", config).destinations == ()
    assert not choose(series({"ImageType": ["DERIVED", "LOCALIZER"]}), "", config).converts


def test_rules_are_dumped_and_loaded_equal(config: Config, tmp_path: Path) -> None:
    (tmp_path / "again.yaml").write_text(dump(config))
    assert load(tmp_path / "again.yaml") == config


def test_settings_are_the_same_after_their_way_through_a_job_s_row(config: Config) -> None:
    for _, then in config.thens():
        made = settings_of(config, then)
        assert JobSettings.read(made.as_json()) == made
        assert JobSettings.read(made.as_json()).digest == made.digest


def test_every_tolerance_has_bounds_and_its_default_is_within_them() -> None:
    for one in dataclasses.fields(Tolerances):
        low, high = one.metadata["bounds"]
        assert low <= one.default <= high, one.name


def test_models_are_told_with_the_place_that_names_them(config: Config) -> None:
    assert models_of(config) == {"model": "limb-t1-ldm", "rules[1].then.model": "other"}


def test_a_rule_after_one_that_takes_all_it_could_take_is_unreachable() -> None:
    rules = [rule("a", {"ProtocolName": "t1*"}), rule("b", {"EchoTime": 1, "ProtocolName": "t1*"})]
    rules += [rule("c", {"EchoTime": 1}), rule("d", {}), rule("e", {"Modality": "MR"})]
    assert [(late.name, early.name) for late, early in unreachable(Config(rules=tuple(rules)))] == [
        ("b", "a"),
        ("e", "d"),
    ]

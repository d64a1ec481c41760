"""The configuration: defaults, complaints that name the dotted path, and config/node.yaml compared with the code."""

import dataclasses
import re
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
import yaml

from dicomnode.config.load import AS_CONFIGURED, Config, Rule, RuleAction, dump, load
from dicomnode.config.peers import Caller, ClientTls, Destination
from dicomnode.config.rules import JobSettings, settings_of
from dicomnode.config.sections import Output, Receive, Settle
from dicomnode.errors import ConfigError
from pipeline.ct.write import Equipment, Labels
from pipeline.series.stack import Tolerances
from pipeline.series.volume_choice import Choice

SHIPPED = files("config").joinpath("node.yaml")
DESTINATION = "{name: tps, ae_title: TPS, host: 192.0.2.1, port: 104}"


def loaded(tmp_path: Path, text: str) -> Config:
    path = tmp_path / "node.yaml"
    path.write_text(text)
    return load(path)


def keys_of(kind: Any, path: str = "") -> list[str]:
    """Every dotted path of the configuration classes; a destination's under `destinations`."""
    found = []
    for one in dataclasses.fields(kind):
        default = one.default
        if dataclasses.is_dataclass(default) and "read" not in one.metadata:
            found += keys_of(default, f"{path}{one.name}.")
        elif one.name == "destinations":
            found += [one.name, *keys_of(Destination, "destinations.")]
        else:
            found.append(f"{path}{one.name}")
    return found


def test_the_shipped_file_holds_every_key_with_its_default() -> None:
    shipped = yaml.safe_load(SHIPPED.read_text())
    expected = yaml.safe_load(dump(Config()))
    assert shipped == expected


def test_every_key_of_the_shipped_file_is_explained_by_a_comment_above_or_beside_it() -> None:
    lines = SHIPPED.read_text().splitlines()
    for key in [path.rpartition(".")[2] for path in keys_of(Config()) if not path.startswith("destinations.")]:
        at = next(n for n, line in enumerate(lines) if re.match(rf"\s*{key}:", line))
        assert "#" in lines[at] or lines[at - 1].strip().startswith("#"), key


def test_every_key_of_a_destination_is_explained_with_its_default() -> None:
    text = SHIPPED.read_text()
    for one in dataclasses.fields(Destination):
        match = re.search(rf"#\s+(?:- )?{one.name}: (\S+)\s+# \w", text)
        assert match, one.name
        if one.default not in (dataclasses.MISSING, "", 0):
            default = list(one.default) if isinstance(one.default, tuple) else one.default
            assert yaml.safe_load(match[1]) == default


def test_every_key_of_a_rule_is_shown_in_a_comment() -> None:
    text = SHIPPED.read_text()
    for one in (*dataclasses.fields(Rule), *dataclasses.fields(RuleAction)):
        assert re.search(rf"^#\s+(?:- )?{one.name}:", text, re.MULTILINE), one.name


def test_every_key_of_a_caller_and_of_tls_towards_a_peer_is_explained_in_a_comment() -> None:
    text = SHIPPED.read_text()
    for one in (*dataclasses.fields(Caller), *dataclasses.fields(ClientTls)):
        assert re.search(rf"^ *# +(?:- )?{one.name}: .*\S +# ", text, re.MULTILINE), one.name


def test_no_file_and_an_empty_file_are_the_defaults(tmp_path: Path) -> None:
    assert load(None) == loaded(tmp_path, "") == loaded(tmp_path, "# nothing\n")
    assert load(None).node.data.is_absolute()


def test_a_file_may_hold_only_what_differs(tmp_path: Path) -> None:
    config = loaded(tmp_path, f"settle: {{quiet_s: 5}}\ndestinations: [{DESTINATION}]\n")
    assert config.settle == Settle(quiet_s=5.0)
    assert config.destination("tps") == Destination("tps", "TPS", "192.0.2.1", 104)
    assert dataclasses.replace(config, settle=Settle(), destinations=()) == load(None)


def test_a_spacing_is_nothing_one_number_or_three(tmp_path: Path) -> None:
    assert loaded(tmp_path, "output: {spacing_mm: 2}").output.spacing_mm == 2.0
    assert loaded(tmp_path, "output: {spacing_mm: [3, 1.5, 1.5]}").output.spacing_mm == (3.0, 1.5, 1.5)
    assert loaded(tmp_path, "output: {spacing_mm: null}").output.spacing_mm is None


def test_what_is_dumped_is_loaded_equal(tmp_path: Path) -> None:
    config = loaded(tmp_path, f"node: {{data: {tmp_path}}}\nmodel: /m\ndestinations: [{DESTINATION}]\n")
    assert loaded(tmp_path, dump(config)) == config


@pytest.mark.parametrize(
    ("text", "path", "words"),
    [
        ("nodes: {}", "nodes", "did you mean 'node'?"),
        ("node: {prot: 1}", "node.prot", "did you mean 'port'?"),
        ("node: {port: '104'}", "node.port", "write a whole number here"),
        ("node: {port: true}", "node.port", "write a whole number here"),
        ("node: {port: 70000}", "node.port", "must be from 1 to 65535"),
        ("node: {ae_title: ABCDEFGHIJKLMNOPQ}", "node.ae_title", "1 to 16"),
        ("node: 5", "node", "write a mapping"),
        ("node:", "node", "is empty"),
        ("settle: {quiet_s: soon}", "settle.quiet_s", "write a number here"),
        ("settle: {quiet_s: 0}", "settle.quiet_s", "must be from 0.1"),
        ("settle: {quiet_s: .nan}", "settle.quiet_s", "must be from 0.1"),
        ("database: mysql://x", "database", "postgresql://"),
        ("device: gpu", "device", "cuda:0"),
        ("anatomy_check: no", "anatomy_check", "write one of: hold, warn"),
        ("output: {series_description: 'sCT {name}'}", "output.series_description", "only {model}"),
        ("output: {series_description: ''}", "output.series_description", "1 to 64"),
        ("output: {equipment: {station_name: ABCDEFGHIJKLMNOPQ}}", "output.equipment", "station_name is"),
        ("output: {equipment: {station: A}}", "output.equipment.station", "'station_name'?"),
        ("output: {research_label: 1}", "output.research_label", "write true or false here"),
        ("output: {spacing_mm: 0.1}", "output.spacing_mm", "from 0.2 to 20"),
        ("output: {spacing_mm: [3, 1]}", "output.spacing_mm", "one number or three"),
        ("output: {spacing_mm: [3, 1, 2]}", "output.spacing_mm", "row and column equal"),
        ("output: {spacing_mm: fine}", "output.spacing_mm", "write a number here"),
        ("output: {orientation: sagittal}", "output.orientation", "write one of: axial, source"),
        ("output: {hu_range: [3071, -1024]}", "output.hu_range", "lower one first"),
        ("output: {hu_range: [-1024, 40000]}", "output.hu_range", "31743"),
        ("output: {image_type: [DERIVED, SECONDARY]}", "output.image_type", "AXIAL"),
        ("output: {image_type: [Derived, SECONDARY, AXIAL]}", "output.image_type", "AXIAL"),
        (f"destinations: [{DESTINATION[:-1]}, profile: eclipes}}]", "destinations[0].profile", "name one of archive"),
        ("destinations: {name: a}", "destinations", "write a list"),
        ("destinations: [{name: a}]", "destinations[0].ae_title", "is missing"),
        (
            f"destinations: [{DESTINATION}, {{name: b, ae_title: B, host: h, port: 0}}]",
            "destinations[1].port",
            "1 to 65535",
        ),
        (f"destinations: [{DESTINATION}, {DESTINATION}]", "destinations[1].name", "used twice"),
        ("- a", "(file)", "write a mapping"),
    ],
)
def test_a_complaint_names_the_dotted_path_and_what_to_do(tmp_path: Path, text: str, path: str, words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        loaded(tmp_path, text)
    assert caught.value.path == path
    assert words in str(caught.value)
    assert str(caught.value).startswith(f"{path}: ")


def test_a_file_that_is_no_yaml_or_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="line 3, column 1"):
        loaded(tmp_path, "node:\n  port: [1\n")
    with pytest.raises(ConfigError, match="No such file"):
        load(tmp_path / "absent.yaml")


def test_what_a_site_calls_series_and_equipment_is_what_the_ct_writer_is_told(tmp_path: Path) -> None:
    text = "output: {series_description: pCT, hu_range: [-1000, 2000], equipment: {station_name: PLAN1}}"
    labels = settings_of(loaded(tmp_path, text), AS_CONFIGURED).labels
    assert labels == Labels(hu_range=(-1000, 2000), description="pCT", equipment=Equipment(station_name="PLAN1"))
    assert settings_of(Config(), AS_CONFIGURED).labels == Labels()


def test_the_digest_changes_with_what_changes_the_result_and_with_nothing_else() -> None:
    def digest(config: Config) -> str:
        return settings_of(config, AS_CONFIGURED).digest

    plain = Config()
    assert digest(dataclasses.replace(plain, anatomy_check="warn")) != digest(plain)
    assert digest(dataclasses.replace(plain, output=Output(research_label=False))) != digest(plain)
    assert digest(dataclasses.replace(plain, stack=Tolerances(min_slices=7))) != digest(plain)
    assert digest(dataclasses.replace(plain, receive=Receive(accept_lossy=True))) != digest(plain)
    assert digest(dataclasses.replace(plain, settle=Settle(1.0), device="cpu")) == digest(plain)
    assert settings_of(plain, RuleAction(volume=Choice.of({"echo": 2}))).digest != digest(plain)
    assert settings_of(plain, RuleAction(model="another", destinations=())).digest == digest(plain)


def test_limits_of_findings_are_read_and_written(tmp_path: Path) -> None:
    limits = "{noise: {low: 0, high: 5}, body_volume: {low: 9, high: 10, reject_low: 1}}"
    found = loaded(tmp_path, f"quality: {{gate: always_hold, limits: {limits}}}")
    assert found.quality.limits == {
        "noise": {"low": 0.0, "high": 5.0},
        "body_volume": {"low": 9.0, "high": 10.0, "reject_low": 1.0},
    }
    assert loaded(tmp_path, dump(found)) == found


@pytest.mark.parametrize(
    ("limits", "words"),
    [
        ("{nois: {low: 0, high: 5}}", "did you mean 'noise'"),
        ("{noise: {low: 6, high: 5}}", "the lower one comes first"),
        ("{noise: {low: 0}}", "quality.limits.noise.high"),
        ("{noise: {low: 0, high: 5, reject_high: 4}}", "reject_high not below high"),
        ("{anatomy: {low: 0, high: 5}}", "is no finding with limits"),
        ("[noise]", "write a mapping"),
    ],
)
def test_wrong_limits_of_findings_are_told_with_what_to_do(tmp_path: Path, limits: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        loaded(tmp_path, f"quality: {{limits: {limits}}}")


def test_a_rule_may_have_a_gate_of_its_own_and_it_stays_with_the_job(tmp_path: Path) -> None:
    text = "rules: [{name: thigh, when: {}, then: {gate: always_hold}}]"
    config = loaded(tmp_path, text)
    then = config.rules[0].then
    assert then is not None
    settings = settings_of(config, then)
    assert (settings.quality.gate, config.quality.gate) == ("always_hold", "auto")
    assert JobSettings.read(settings.as_json()) == settings
    assert settings.digest != settings_of(config, AS_CONFIGURED).digest

"""A wrong configuration: path, line, what was found, what is allowed; and the schema by which editors see it."""

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from dicomnode.cli.main import main
from dicomnode.config.json_schema import node_schema
from dicomnode.config.load import Config, dump, load
from dicomnode.config.rules import JobSettings
from dicomnode.errors import ConfigError
from pipeline.preflight.profile import BadProfile, load_profile


def complaint(tmp_path: Path, text: str) -> str:
    """What is said of a configuration, with its file called node.yaml."""
    (tmp_path / "node.yaml").write_text(text)
    with pytest.raises(ConfigError) as caught:
        load(tmp_path / "node.yaml")
    return str(caught.value).replace(f"{tmp_path}/", "")


TWICE = """\
node: {ae_title: A}
destinations: [{name: tps, ae_title: TPS, host: h, port: 104}]
web:
  port: 8080
destinations: [{name: archive, ae_title: ARC, host: h, port: 104}]
"""


def test_a_key_that_stands_twice_is_refused_with_both_lines(tmp_path: Path) -> None:
    said = "destinations: stands twice, in lines 2 and 5; keep one of the two (node.yaml, line 5)"
    assert complaint(tmp_path, TWICE) == said


def test_a_wrong_type_is_told_with_path_line_what_was_found_and_what_is_allowed(tmp_path: Path) -> None:
    said = "node.port: is '104' (text); write a whole number here (node.yaml, line 3)"
    assert complaint(tmp_path, "node:\n  ae_title: A\n  port: '104'\n") == said
    said = "receive.peers[0].port: 0 must be from 1 to 65535; correct the value (node.yaml, line 1)"
    assert complaint(tmp_path, "receive: {peers: [{ae_title: A, host: h, port: 0}]}") == said


def test_an_unknown_key_is_told_with_what_may_have_been_meant_before_anything_else_is(tmp_path: Path) -> None:
    text = "node:\n  ae_title: ''\nweb:\n  prot: 1\n"
    said = "web.prot: is no key of the configuration; did you mean 'port'? (node.yaml, line 4)"
    assert complaint(tmp_path, text) == said
    said = "log.nonsense: is no key of the configuration; known here: level (node.yaml, line 1)"
    assert complaint(tmp_path, "log: {nonsense: 1}") == said


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "destinations:\n  - {name: planning, ae_title: A, host: h, port: 1}\nrules:\n"
            "  - name: thigh\n    when: {}\n    then:\n      destinations:\n        - archive\n",
            "rules[0].then.destinations[0]: 'archive' is no destination of the configuration; known here: planning "
            "(node.yaml, line 8)",
        ),
        (
            "audit:\n  syslog: tls://log.example:6514\n",
            "audit.syslog_tls: no CA is named, so nobody could be believed; set ca, here or in tls; correct it "
            "(node.yaml, line 1)",
        ),
        (
            "tls:\n  plain: true\ndestinations:\n  - name: a\n    ae_title: A\n    host: h\n    port: 1\n    tls: {}\n",
            "destinations[0].tls: no CA is named, so nobody could be believed; set ca, here or in tls; correct it "
            "(node.yaml, line 8)",
        ),
        (
            "notify:\n  contents: patients\n  webhook:\n    url: http://192.0.2.1/x\n    secret: {file: x}\n",
            "notify: contents: patients would be sent in clear; encrypt the channel, or write codes; correct the value "
            "(node.yaml, line 1)",
        ),
        (
            "destinations:\n  - name: a\n    host: h\n    stow: {url: https://h/x}\n",
            "destinations[0].host: says nothing beside stow; take it out; stow.url is the address (node.yaml, line 3)",
        ),
    ],
)
def test_sections_that_contradict_each_other_are_told_with_path_and_line(tmp_path: Path, text: str, said: str) -> None:
    assert complaint(tmp_path, text) == said


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("port: 011112", "node.port: 011112 is the number 4682 to YAML; write a decimal number, or text in quotes"),
        ("port: 0x2B68", "node.port: 0x2B68 is the number 11112 to YAML; write a decimal number, or text in quotes"),
        ("port: 11_112", "node.port: 11_112 is the number 11112 to YAML; write a decimal number, or text in quotes"),
        ("ae_title: 12:30:45", "node.ae_title: 12:30:45 is the number 45045 to YAML; write a decimal number, or text"),
        ("ae_title: 2026-11-28", "node.ae_title: 2026-11-28 is a date to YAML; put text in quotes"),
        ("ae_title: NO", "node.ae_title: is False (true or false); write text here; without quotes YAML reads NO as"),
        ("ae_title: 104", "node.ae_title: is 104 (a whole number); write text here"),
    ],
)
def test_what_yaml_reads_as_something_else_is_refused(tmp_path: Path, text: str, said: str) -> None:
    found = complaint(tmp_path, f"node:\n  {text}\n")
    assert found.startswith(said)
    assert found.endswith("(node.yaml, line 2)")


def test_a_truth_value_may_still_be_written_as_yes_or_no(tmp_path: Path) -> None:
    (tmp_path / "node.yaml").write_text("tls: {plain: yes}\nreceive: {accept_lossy: on}\n")
    assert load(tmp_path / "node.yaml").receive.accept_lossy


@pytest.mark.parametrize(
    "text",
    [
        "database_password: 0777123",
        "notify: {mail: {host: h, sender: a@b, to: [c@d], user: u, password: 0777123}}",
        "destinations: [{name: a, stow: {url: 'https://u:0777123@h/x'}}]",
        "destinations: [{name: a, stow: {url: 'https://h/x', token: 0777123}}]",
        "destinations: [{name: a, stow: {url: 'https://h/x', token: [0777123]}}]",
        "database_password: *0777123",
        "database_password: !0777123 x",
    ],
)
def test_no_complaint_repeats_a_secret(tmp_path: Path, text: str) -> None:
    assert "0777123" not in complaint(tmp_path, text)


def test_what_is_found_wrong_after_reading_is_told_with_its_line_too(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "node.yaml").write_text(f"node:\n  data: {tmp_path}\nnotify:\n  contents: codes\n")
    assert main(["notify", "--config", str(tmp_path / "node.yaml")]) == 1
    said = f"sct-node: notify: names neither mail nor webhook; set one of them ({tmp_path}/node.yaml, line 3)\n"
    assert capsys.readouterr().err == said


def test_settings_of_a_job_with_a_key_of_another_version_are_refused() -> None:
    stored = json.loads(JobSettings().as_json())
    with pytest.raises(ConfigError, match=r"^settings\.output\.hu: is no key of the configuration"):
        JobSettings.read(json.dumps(stored | {"output": {"hu": 1}}))
    with pytest.raises(ConfigError, match=r"^settings: is a list"):
        JobSettings.read("[]")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("for: us\nfor: them\n", "for: stands twice, in lines 1 and 2"),
        ("for: us\nrules: {slice_count: {most: 0399, evidence: it}}", "0399"),
        ("for: us\nrules: {slice_count: {most: 0377, evidence: it}}", "slice_count.most: 0377 is the number 255"),
    ],
)
def test_a_profile_that_yaml_would_misread_is_refused(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "own.yaml").write_text(text)
    with pytest.raises(BadProfile, match=words):
        load_profile(str(tmp_path / "own.yaml"))


# The schema


def test_the_schema_beside_node_yaml_is_that_of_this_version(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Written by `sct-node config schema > config/node.schema.json`."""
    assert main(["config", "schema"]) == 0
    assert capsys.readouterr().out == (project / "config" / "node.schema.json").read_text()
    first = (project / "config" / "node.yaml").read_text().splitlines()[0]
    assert first == "# yaml-language-server: $schema=node.schema.json"


def valid(values: Any) -> bool:
    """Whether an editor would underline nothing."""
    return bool(jsonschema.Draft202012Validator(node_schema()).is_valid(values))


def test_an_editor_underlines_nothing_in_the_shipped_file_and_what_is_wrong_in_others(project: Path) -> None:
    jsonschema.Draft202012Validator.check_schema(node_schema())
    assert valid(yaml.safe_load((project / "config" / "node.yaml").read_text()))
    assert valid(yaml.safe_load(dump(Config())))
    rule = {"name": "a", "when": {"EchoTime": {"to": 20}}, "then": {"volume": {"echo": 1}, "gate": "auto"}}
    assert valid({"rules": [rule], "quality": {"limits": {"noise": {"low": 0, "high": 5}}}, "otherwise": "ignore"})
    wrong: Any
    for wrong in (
        {"nodes": {}},
        {"node": {"prot": 1}},
        {"node": {"port": 70_000}},
        {"node": {"port": "104"}},
        {"anatomy_check": "yes"},
        {"otherwise": "drop"},
        {"stack": {"step_mm": 1000}},
        {"stack": {"min_slices": 1}},
        {"quality": {"limits": {"nois": {"low": 0, "high": 5}}}},
        {"rules": [{**rule, "then": {"volume": {"eco": 1}}}]},
        {"destinations": [{"ae_title": "A"}]},
        {"database_password": "secret"},
    ):
        assert not valid(wrong), wrong


def test_each_section_and_key_of_the_shipped_file_has_its_comment_as_its_description() -> None:
    schema = node_schema()
    assert schema["$defs"]["Node"]["properties"]["port"]["description"] == "TCP port for DICOM (C-ECHO, C-STORE)."
    for name in ("Node", "Web", "Metrics", "Receive", "Settle", "Tolerances", "Output", "Audit", "Log"):
        described = schema["$defs"][name]["properties"]
        assert all(one.get("description") for one in described.values()), (name, described)

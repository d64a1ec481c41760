"""Profiles: strictly read, and every complaint says where."""

from pathlib import Path

import pytest

from pipeline.preflight.profile import RULES, BadProfile, ProfileRule, load_profile, shipped

SLICES = "{slice_count: {most: 10, evidence: tried}}"


def read(tmp_path: Path, text: str) -> tuple[ProfileRule, ...]:
    path = tmp_path / "own.yaml"
    path.write_text(text)
    load_profile.cache_clear()
    return load_profile(str(path)).rules


@pytest.mark.parametrize("name", shipped())
def test_a_shipped_profile_says_for_whom_it_is_and_gives_evidence_for_every_rule(name: str) -> None:
    profile = load_profile(name)
    assert profile.purpose
    assert all(len(asked.evidence) >= len("PS3.5 6.2.") for asked in profile.rules)


def test_a_site_s_own_file_chooses_rules_and_limits(tmp_path: Path) -> None:
    assert read(tmp_path, f"for: us\nrules: {SLICES}") == (ProfileRule("slice_count", {"most": 10}, "tried"),)


def test_a_profile_may_be_like_another_change_a_limit_and_leave_a_rule_out(tmp_path: Path) -> None:
    asked = read(tmp_path, f"for: us\nlike: short-series\nwithout: [length]\nrules: {SLICES}")
    expected = {one.rule for one in load_profile("short-series").rules} - {"length"}
    assert {one.rule for one in asked} == expected
    assert next(one for one in asked if one.rule == "slice_count").parameters == {"most": 10}


@pytest.mark.parametrize(
    ("text", "where", "words"),
    [
        ("- a", "", "write a mapping"),
        ("rules: {sop_class: {evidence: x}}", "for", "is missing"),
        (f"for: us\nrule: {SLICES}", "rule", "did you mean 'rules'?"),
        ("for: us", "rules", "there is no rule"),
        ("for: us\nrules: {slice_cuont: {most: 3, evidence: x}}", "rules.slice_cuont", "did you mean 'slice_count'?"),
        ("for: us\nrules: {slice_count: {evidence: x}}", "rules.slice_count.most", "is missing"),
        ("for: us\nrules: {slice_count: {most: 3}}", "rules.slice_count.evidence", "is missing"),
        ("for: us\nrules: {slice_count: {most: 3.5, evidence: x}}", "rules.slice_count.most", "a whole number"),
        ("for: us\nrules: {slice_count: {most: true, evidence: x}}", "rules.slice_count.most", "a whole number"),
        ("for: us\nrules: {slice_count: {least: 3, most: 3, evidence: x}}", "rules.slice_count.least", "known here"),
        ("for: us\nrules: {length: {most_mm: .nan, evidence: x}}", "rules.length.most_mm", "write a number"),
        ("for: us\nrules: {length: {most_mm: long, evidence: x}}", "rules.length.most_mm", "write a number"),
        ("for: us\nrules: {image_type: {first: ORIGINAL, evidence: x}}", "rules.image_type.first", "a list of words"),
        ("for: us\nrules: {sixteen_bits: {stored: [], evidence: x}}", "rules.sixteen_bits.stored", "whole numbers"),
        ("for: us\nrules: {sop_class: seen}", "rules.sop_class", "write a mapping"),
        (f"for: us\nlike: strictest\nrules: {SLICES}", "like", "no other shipped profile"),
        (f"for: us\nlike: archive\nwithout: [length]\nrules: {SLICES}", "without.length", "known here"),
        (f"for: us\nlike: archive\nwithout: length\nrules: {SLICES}", "without", "a list of words"),
        ("for: us\nrules: [", "", "is not YAML"),
    ],
)
def test_a_complaint_names_the_path_and_what_to_do(tmp_path: Path, text: str, where: str, words: str) -> None:
    with pytest.raises(BadProfile) as caught:
        read(tmp_path, text)
    assert caught.value.where == where
    assert words in str(caught.value)
    assert str(tmp_path) in str(caught.value)


def test_a_profile_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadProfile, match=r"profile 'eclipes': is not shipped; name one of archive, axial-only"):
        load_profile("eclipes")
    with pytest.raises(BadProfile, match="cannot be read"):
        load_profile(str(tmp_path / "none.yaml"))


def test_the_runbook_says_what_cures_rules_that_exist(project: Path) -> None:
    text = (project / "deploy" / "RUNBOOK.md").read_text().split("## Why a CT is held before sending")[1]
    rows = [line.split(" | ")[0].removeprefix("| ") for line in text.split("\n## ")[0].splitlines() if line[:2] == "| "]
    assert set(rows[1:-1]) <= set(RULES)
    assert (rows[0], rows[-1]) == ("rule", "any other")

"""YAML as people mean it: what YAML 1.1 silently reads as something else is refused, with path and line."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from models.data.recipe import BadRecipe, read_recipe
from models.data.strict_yaml import BadYaml, Document, read_yaml


@pytest.mark.parametrize(
    ("text", "path", "line", "words"),
    [
        ("a: 1\nb: 2\na: 3\n", "a", 3, "stands twice, in lines 1 and 3; keep one of the two"),
        ("a:\n  - b: 1\n    c: {d: 1, d: 2}\n", "a[0].c.d", 3, "stands twice, in line 3"),
        ("a: 1\n\nport: 011112\n", "port", 3, "011112 is the number 4682 to YAML; write a decimal number"),
        ("- [0x1F]", "[0][0]", 1, "0x1F is the number 31"),
        ("a: 0b11", "a", 1, "is the number 3"),
        ("a: 1_000", "a", 1, "is the number 1000"),
        ("a: 1_000.5", "a", 1, "is the number 1000.5"),
        ("at: 12:30:45", "at", 1, "12:30:45 is the number 45045"),
        ("at: 12:30", "at", 1, "12:30 is the number 750 to YAML"),
        ("at: 12:30:45.5", "at", 1, "is the number 45045.5"),
        ("day: 2026-11-28", "day", 1, "2026-11-28 is a date to YAML; put text in quotes"),
        ("a: !!binary aGk=", "a", 1, "has a tag"),
        ("a: =", "a", 1, "has a tag or a sign"),
        ("a: &x [*x]", "a[0]", 1, "holds itself"),
        ("? [a]\n: 1", "", 1, "has a key in line 1 that is no text"),
        ('a: "\\ud800"', "a", 1, "cannot be read as text"),
        (f"a: {'9' * 5000}", "a", 1, "cannot be read as text or as a number"),
        ("a:\n  b: [1\n", "", 3, "is not YAML (expected ',' or ']', but got '<stream end>', line 3, column 1)"),
        ("a\n---\nb", "", 2, "is not YAML"),
        ("a: \x01", "", 0, "is not YAML (special characters are not allowed)"),
        ("[" * 5000, "", 0, "is nested too deeply"),
    ],
)
def test_what_yaml_would_read_as_something_else_is_refused(text: str, path: str, line: int, words: str) -> None:
    with pytest.raises(BadYaml) as caught:
        read_yaml(text)
    assert (caught.value.path, caught.value.line) == (path, line)
    assert words in str(caught.value)
    assert str(caught.value).endswith(f"(line {line})") == bool(line)


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("", None),
        ("a: 10\nb: -3\nc: +4\nd: 0", {"a": 10, "b": -3, "c": 4, "d": 0}),
        ("a: 1.5\nb: .5\nc: 2.\nd: 1.0e-3\ne: -.inf", {"a": 1.5, "b": 0.5, "c": 2.0, "d": 1e-3, "e": float("-inf")}),
        ("a: '011'\nb: \"12:30\"\nc: 05:30\nd: 1.2.3", {"a": "011", "b": "12:30", "c": "05:30", "d": "1.2.3"}),
        ("a: ~\nb:\nc: true", {"a": None, "b": None, "c": True}),
        ("on: 1\n011: 2", {"on": 1, "011": 2}),
        (
            "a: &x {p: 1, q: 2}\nb: {<<: *x, q: 3}\nc: *x",
            {"a": {"p": 1, "q": 2}, "b": {"p": 1, "q": 3}, "c": {"p": 1, "q": 2}},
        ),
        ("a: &x {<<: {p: 1}, p: 2}\nb: *x", {"a": {"p": 2}, "b": {"p": 2}}),
    ],
)
def test_what_says_what_it_seems_to_say_is_read(text: str, values: Any) -> None:
    assert read_yaml(text).values == values


def test_every_file_of_config_is_read_as_by_pyyaml(project: Path) -> None:
    paths = [*(project / "config").rglob("*.yaml")]
    assert len(paths) > 10
    for path in paths:
        assert read_yaml(path.read_text()).values == yaml.safe_load(path.read_text()), path


def test_each_path_has_its_line_and_one_that_is_missing_that_of_what_should_hold_it() -> None:
    document = read_yaml("a:\n  b:\n    - c: 1\n    - {d: no}\n")
    assert [document.line(path) for path in ("a", "a.b", "a.b[0].c", "a.b[1].d", "a.b[1].e", "a.x", "y")] == [
        *(1, 2, 3, 4, 4, 1, 1),
    ]
    assert document.words == {"a.b[1].d": "no"}
    assert Document(None).line("a.b") == 0


def test_an_alias_that_is_not_known_is_not_repeated() -> None:
    with pytest.raises(BadYaml) as caught:
        read_yaml("password: *hunter22")
    assert "hunter22" not in str(caught.value) + repr(caught.value.__cause__)


@pytest.mark.parametrize(
    ("text", "words"),
    [("seed: 1\nseed: 2\n", "seed: stands twice, in lines 1 and 2"), ("seed: 010\n", "010 is the number 8 to YAML")],
)
def test_a_recipe_that_yaml_would_misread_is_refused(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "recipe.yaml").write_text(text)
    with pytest.raises(BadRecipe, match=words):
        read_recipe(tmp_path / "recipe.yaml")

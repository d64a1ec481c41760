"""YAML files that people write: what YAML 1.1 would silently read as something else is refused, with path and line.

| in the file | YAML 1.1 reads | here |
|---|---|---|
| a key twice in one mapping | the later one | refused, with both lines |
| `011112`, `0x1F`, `0b1`, `1_000` | 4682, 31, 1, 1000 | refused: numbers are decimal |
| `12:30:45`, `12:30` | 45045, 750 (base 60) | refused: text stands in quotes |
| `2026-11-28` | a date | refused: text stands in quotes |
| `yes`, `no`, `on`, `off` | true, false | the same; `Document.words` keeps the word for complaints |

It lies in the lowest package because recipes (models), profiles (pipeline) and the configuration (dicomnode) are read
by it. YAML 1.1: https://yaml.org/type/.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

import yaml

DECIMAL: Final = re.compile(r"[-+]?(0|[1-9][0-9]*)")
DECIMAL_FRACTION: Final = re.compile(r"[-+]?([0-9]+\.[0-9]*|\.[0-9]+)([eE][-+][0-9]+)?|[-+]?\.(?i:inf)|\.(?i:nan)")
NUMBERS: Final = {"int": DECIMAL, "float": DECIMAL_FRACTION}
YAML_TAG: Final = "tag:yaml.org,2002:"
IN_QUOTES: Final = "write a decimal number, or text in quotes"
PLAIN_WORDS: Final = ("true", "false")


class BadYaml(ValueError):
    """A YAML file cannot be read, or would be read as something else than it seems to say.

    Attributes: `path` (dotted, "" for the whole file), `line` (from 1, 0 when unknown), `found` (the text that was
    found, "" when it says nothing), `problem`, `remedy`.
    """

    def __init__(self, path: str, line: int, found: str, problem: str, remedy: str) -> None:
        what = f"{found} {problem}" if found else problem
        where = f" (line {line})" if line else ""
        super().__init__(f"{f'{path}: ' if path else ''}{what}; {remedy}{where}")
        self.path = path
        self.line = line
        self.found = found
        self.problem = problem
        self.remedy = remedy


@dataclass(frozen=True)
class Document:
    """What a YAML file says.

    Attributes:
        values: dicts, lists, text, numbers, true, false and None; None for an empty file.
        lines: dotted path such as `destinations[1].port` -> line of the file, from 1.
        words: dotted path -> the word that YAML has read as true or false, where it is neither `true` nor `false`.
    """

    values: Any
    lines: dict[str, int] = field(default_factory=dict)
    words: dict[str, str] = field(default_factory=dict)

    def line(self, path: str) -> int:
        """Return the line of a dotted path, or of the nearest mapping around it that the file holds; 0 for none."""
        while path and path not in self.lines:
            path = path[: max(path.rfind("."), path.rfind("["), 0)]
        return self.lines.get(path, 0)


def read_yaml(text: str) -> Document:
    """Read a YAML text. Raises BadYaml."""
    document = Document(None)
    try:
        loader = yaml.SafeLoader(text)
        node = loader.get_single_node()
        values = None if node is None else _Reader(loader, document).value(node, "")
    except RecursionError:
        raise BadYaml("", 0, "", "is nested too deeply", "write it with fewer levels") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        problem = getattr(error, "problem", None) or getattr(error, "reason", None) or "unreadable"
        if problem.startswith("found undefined alias"):  # its name may be a secret that begins with *
            problem = "found undefined alias"
        where = f", line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        line = mark.line + 1 if mark else 0
        raise BadYaml("", line, "", f"is not YAML ({problem}{where})", "correct the file there") from None
    return Document(values, document.lines, document.words)


@dataclass(frozen=True)
class _Reader:
    """Turns the nodes of one document into values, and notes the line of each."""

    loader: yaml.SafeLoader
    document: Document
    around: set[int] = field(default_factory=set)
    merged: set[int] = field(default_factory=set)

    def value(self, node: yaml.Node, path: str) -> Any:
        """Return what a node says."""
        line = node.start_mark.line + 1
        self.document.lines[path] = line
        if isinstance(node, yaml.ScalarNode):
            return self.scalar(node, path, line)
        if id(node) in self.around:
            raise BadYaml(path, line, "", "holds itself", "write it out")
        self.around.add(id(node))
        if isinstance(node, yaml.MappingNode):
            read: Any = dict(self.pairs(node, path))
        else:
            read = [self.value(one, f"{path}[{index}]") for index, one in enumerate(node.value)]
        self.around.discard(id(node))
        return read

    def refuse_duplicates(self, node: yaml.MappingNode, path: str) -> None:
        """Raise BadYaml for a key that is no scalar, or that stands twice in one mapping (YAML 1.1, 3.2.1.3)."""
        first: dict[str, int] = {}
        for key, _ in node.value:
            line = key.start_mark.line + 1
            if not isinstance(key, yaml.ScalarNode):
                raise BadYaml(path, line, "", f"has a key in line {line} that is no text", "write KEY: VALUE")
            if key.value in first:
                where = f"in lines {first[key.value]} and {line}" if first[key.value] != line else f"in line {line}"
                raise BadYaml(below(path, key.value), line, "", f"stands twice, {where}", "keep one of the two")
            first[key.value] = line

    def pairs(self, node: yaml.MappingNode, path: str) -> Iterator[tuple[Any, Any]]:
        """Yield key (always text) and value of a mapping, first those that `<<` merges into it."""
        if id(node) not in self.merged:  # an anchored mapping is met again at each of its aliases
            self.merged.add(id(node))
            self.refuse_duplicates(node, path)
            self.loader.flatten_mapping(node)
        for key, value in node.value:
            read = self.value(value, below(path, key.value))
            self.document.lines[below(path, key.value)] = key.start_mark.line + 1
            yield key.value, read

    def scalar(self, node: yaml.ScalarNode, path: str, line: int) -> Any:
        """Return the text, number, truth value or None of a scalar."""
        kind = node.tag.removeprefix(YAML_TAG)
        text = node.value
        if kind not in ("str", "int", "float", "bool", "null", "timestamp"):
            raise BadYaml(path, line, "", "has a tag or a sign that YAML reads in its own way", "put text in quotes")
        if kind == "timestamp":
            raise BadYaml(path, line, text, "is a date to YAML", "put text in quotes")
        try:
            value = self.loader.construct_object(node)
            text.encode()
        except ValueError:  # a number of thousands of digits; half of a surrogate pair
            raise BadYaml(path, line, "", "cannot be read as text or as a number", IN_QUOTES) from None
        if kind in NUMBERS and not NUMBERS[kind].fullmatch(text):
            raise BadYaml(path, line, text, f"is the number {value} to YAML", IN_QUOTES)
        if kind == "bool" and text.lower() not in PLAIN_WORDS:
            self.document.words[path] = text
        return value


def below(path: str, key: str) -> str:
    """Return the dotted path of a key in the mapping at `path`."""
    return f"{path}.{key}" if path else key

"""The JSON Schema of the configuration file, by which editors complete and underline it: config/node.schema.json."""

from __future__ import annotations

import itertools
from importlib.resources import files
from typing import Any

from pydantic.json_schema import GenerateJsonSchema

from dicomnode.config.load import Config
from dicomnode.config.validation import adapter
from models.data.strict_yaml import read_yaml
from pipeline.series.volume_choice import UNAMBIGUOUS


def node_schema() -> dict[str, Any]:
    """Return the JSON Schema (draft 2020-12) of the configuration; a key is described by its comment in node.yaml."""
    schema = adapter(Config).json_schema(schema_generator=_Generator)
    schema |= {"$schema": GenerateJsonSchema.schema_dialect, "title": "sct-node configuration"}
    for one in schema["$defs"].values():
        one["description"] = " ".join(one["description"].partition("\n\n")[0].partition(" Raises ")[0].split())
    text = files("config").joinpath("node.yaml").read_text(encoding="utf-8")
    for path, line in read_yaml(text).lines.items():
        holder = schema
        *above, key = path.split(".")
        for step in above:
            named = holder.get("properties", {}).get(step, {}).get("$ref", "").rpartition("/")[2]
            holder = schema["$defs"].get(named, {})
        comment = _comment_above(text.splitlines(), line)
        if comment and key in holder.get("properties", {}):
            holder["properties"][key]["description"] = comment
    return schema


class _Generator(GenerateJsonSchema):
    """Without the titles that only repeat the key."""

    def field_title_should_be_set(self, *_: Any) -> bool:
        return False

    def encode_default(self, dft: Any) -> Any:
        return super().encode_default({} if dft == UNAMBIGUOUS else dft)


def _comment_above(lines: list[str], line: int) -> str:
    """Return the comment that stands above a line (from 1), indented like it, up to the example that it may hold."""
    key = lines[line - 1]
    mark = f"{key[: len(key) - len(key.lstrip())]}# "
    above: list[str] = []
    for one in reversed(lines[: line - 1]):
        if not one.startswith(mark):
            break
        above.insert(0, one.removeprefix(mark))
    return " ".join(itertools.takewhile(lambda one: not one.startswith((" ", "-")), above))

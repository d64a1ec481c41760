"""Tables of the current DICOM standard (PS3.3 modules and attributes, PS3.16 Annex L), as highdicom carries them.

The only module that reads highdicom's private `_standard_utils`; its version is pinned by the project file.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from highdicom._standard_utils import get_anatomic_region_map, get_iod_module_map, get_module_attribute_map
from pydicom.datadict import tag_for_keyword

CT_IMAGE = "ct-image"
"""The CT Image IOD (PS3.3 A.3)."""


@dataclass(frozen=True)
class Attribute:
    """One row of a module's table: keyword, type (1, 1C, 2, 2C, 3) and the sequences that lead to it."""

    keyword: str
    type: str
    path: tuple[str, ...]


@dataclass(frozen=True)
class Module:
    """One module of the CT Image IOD (PS3.3 table A.3-1): usage M, C or U, and the entity it describes."""

    key: str
    usage: str
    entity: str
    attributes: tuple[Attribute, ...]


@cache
def ct_image_modules() -> tuple[Module, ...]:
    """The modules of the CT Image IOD, in the order of PS3.3 table A.3-1."""
    return tuple(
        Module(row["key"], row["usage"], row["ie"], _attributes(row["key"])) for row in get_iod_module_map()[CT_IMAGE]
    )


def _attributes(module: str) -> tuple[Attribute, ...]:
    """Rows of a module; those without one tag of their own (overlays, which repeat) are left out."""
    rows = get_module_attribute_map()[module]
    return tuple(
        Attribute(row["keyword"], row["type"], tuple(row["path"]))
        for row in rows
        if tag_for_keyword(row["keyword"]) is not None
    )


@cache
def keywords_of(entity: str) -> tuple[str, ...]:
    """Keywords of all attributes, outside sequences, that describe an entity of the CT Image IOD (Patient, Study)."""
    modules = [module for module in ct_image_modules() if module.entity == entity]
    return tuple(row.keyword for module in modules for row in module.attributes if not row.path)


@cache
def empty_if_unknown(entity: str) -> tuple[str, ...]:
    """Keywords of the Type 2 attributes, outside sequences, of an entity's mandatory modules."""
    modules = [module for module in ct_image_modules() if module.entity == entity and module.usage == "M"]
    return tuple(row.keyword for module in modules for row in module.attributes if row.type == "2" and not row.path)


def is_paired(body_part: str) -> bool | None:
    """Whether a BodyPartExamined value is a paired structure (PS3.16 table L-1); None when it is not listed."""
    row = get_anatomic_region_map().get(body_part.strip().upper())
    return None if row is None else row[1]

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
    """One row of a module's table (PS3.3 Annex C).

    Attributes:
        keyword: of the attribute (PS3.6).
        type: 1, 1C, 2, 2C or 3 (PS3.5 7.4).
        path: keywords of the sequences that lead to it.
    """

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
    """Return the modules of the CT Image IOD, in the order of PS3.3 table A.3-1."""
    return tuple(
        Module(row["key"], row["usage"], row["ie"], _attributes(row["key"])) for row in get_iod_module_map()[CT_IMAGE]
    )


def _attributes(module: str) -> tuple[Attribute, ...]:
    """Return the rows of a module, without attributes that have no single tag: repeating groups (PS3.5 7.6)."""
    rows = get_module_attribute_map()[module]
    return tuple(
        Attribute(row["keyword"], row["type"], tuple(row["path"]))
        for row in rows
        if tag_for_keyword(row["keyword"]) is not None
    )


@cache
def keywords_of(entity: str) -> tuple[str, ...]:
    """Return the keywords of all attributes, outside sequences, of an entity of the CT Image IOD (PS3.3 A.1.2)."""
    modules = [module for module in ct_image_modules() if module.entity == entity]
    return tuple(row.keyword for module in modules for row in module.attributes if not row.path)


@cache
def empty_if_unknown(entity: str) -> tuple[str, ...]:
    """Return the keywords of the Type 2 attributes (PS3.5 7.4.3), outside sequences, of mandatory modules."""
    modules = [module for module in ct_image_modules() if module.entity == entity and module.usage == "M"]
    return tuple(row.keyword for module in modules for row in module.attributes if row.type == "2" and not row.path)


def is_paired(body_part: str) -> bool | None:
    """Return whether a BodyPartExamined is a paired structure (PS3.16 table L-1), or None when it is not listed."""
    row = get_anatomic_region_map().get(body_part.strip().upper())
    return None if row is None else row[1]


MR_IMAGES = ("mr-image", "enhanced-mr-image", "legacy-converted-enhanced-mr-image")
"""The IODs of MR images (PS3.3 A.4, A.36, A.70)."""
FUNCTIONAL_GROUPS = frozenset({"SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"})
"""The sequences of a multi-frame image with the attributes of all frames, and of each one (PS3.3 C.7.6.16)."""


@dataclass(frozen=True)
class AttributeUsage:
    """The places of an attribute in the IODs of MR images.

    Attributes:
        entities: the entities that it describes at the top level (PS3.3 A.1.2).
        macros: the sequences within a functional group that hold it (PS3.3 C.7.6.16.2).
    """

    entities: frozenset[str]
    macros: tuple[str, ...]


@cache
def mr_attributes() -> dict[str, AttributeUsage]:
    """Return keyword -> places, of every attribute of an MR image at the top level or of a frame."""
    entities: dict[str, set[str]] = {}
    macros: dict[str, set[str]] = {}
    modules = [module for iod in MR_IMAGES for module in get_iod_module_map()[iod]]
    for entity, row in ((module["ie"], row) for module in modules for row in _attributes(module["key"])):
        if not row.path:
            entities.setdefault(row.keyword, set()).add(entity)
        elif len(row.path) == 2 and row.path[0] in FUNCTIONAL_GROUPS:
            macros.setdefault(row.keyword, set()).add(row.path[1])
    return {
        keyword: AttributeUsage(frozenset(entities.get(keyword, ())), tuple(sorted(macros.get(keyword, ()))))
        for keyword in sorted(entities | macros)
    }

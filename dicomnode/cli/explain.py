"""`sct-node explain` says which rule would take each series of a folder, and why. Nothing is written or sent.

A series is named by its UID, protocol and description; no name and no identifier of a patient is printed.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from dicomnode.config.rules import Decision, choose
from models.inference.card import BadCard, UnknownModel, find
from pipeline.ct.write import check_source
from pipeline.errors import Unsuitable
from pipeline.findings.findings import anatomy
from pipeline.series.attributes import values_by_image
from pipeline.series.lossy_compression import loss_warnings
from pipeline.series.series import Instance, Series, read_instance, select
from pipeline.volume.ct_grid import output_geometry
from pipeline.volume.volume import read_stack

if TYPE_CHECKING:
    from dicomnode.config.load import Config

SHOWN: Final = ("Modality", "ProtocolName", "SeriesDescription", "ImageType")
"""Attributes by which a person recognizes a series (PS3.3 C.7.3.1; ImageType: C.7.6.1.1.2)."""

Explained = dict[str, Any]
"""One series, as plain values; the keys are those of `explain`."""


def explain(paths: Iterable[Path], calling_ae: str, config: Config) -> tuple[list[Explained], list[str]]:
    """Explain each series among DICOM files as plain values; return a sentence for each file that cannot be read too.

    Keys: `series_instance_uid`, `instances`, the attributes of `SHOWN`; `rule`, `action`, `asked` (rules before it, and
    the condition that failed); and of one that is converted `model`, `destinations`, `asked_volume`, `volume` (which
    one is taken, null where it is the only one), `set_aside` (count, what and why), `warnings`, `refused` (code and
    sentence, or null), `held` (why a person would have to look, or null), `mr` and `ct` (shape and spacing in mm by
    slice, row and column, or null).
    """
    groups: dict[str, list[Instance]] = {}
    unreadable = []
    for path in paths:
        try:
            instance = read_instance(path)
        except Unsuitable as error:
            unreadable.append(str(error))
            continue
        groups.setdefault(instance.series_instance_uid, []).append(instance)
    found = []
    for uid in sorted(groups):
        series = Series.of(groups[uid])
        decided = choose(series, calling_ae, config)
        explained: Explained = {"series_instance_uid": uid, "instances": len(series.instances)}
        for keyword in SHOWN:
            values = ["\\".join(one) for one in values_by_image(series, keyword)]
            explained[keyword] = max(sorted(set(values)), key=values.count, default="")
        explained |= {"rule": decided.rule, "action": decided.action}
        explained["asked"] = [
            {"number": one.number, "rule": one.rule, "failure": one.failure} for one in decided.trials
        ]
        found.append(explained | explain_conversion(series, decided) if decided.converts else explained)
    return found, unreadable


def explain_conversion(series: Series, decided: Decision) -> Explained:
    """Explain how a series would be converted, by the steps of `pipeline.conversion` before the synthesis."""
    settings = decided.settings
    explained: Explained = {"model": decided.model, "destinations": list(decided.destinations)}
    explained |= {"asked_volume": str(settings.volume), "volume": None, "set_aside": [], "warnings": []}
    explained |= dict.fromkeys(("refused", "held", "mr", "ct"))
    try:
        chosen = select(series, settings.volume, settings.stack)
        explained["volume"] = chosen.volume_description or None
        explained["set_aside"] = [dataclasses.asdict(one) for one in chosen.set_aside]
        check_source(chosen.series)
        explained["warnings"] = list(loss_warnings(chosen.series, settings.accept_lossy))
        mr = read_stack(chosen.stack).get_geometry()
        ct = output_geometry(mr, settings.grid)
        explained |= {"mr": _grid(mr.spatial_shape, mr.spacing), "ct": _grid(ct.spatial_shape, ct.spacing)}
        finding = anatomy(chosen.series.anatomy, find(decided.model))
        if finding.verdict != "pass" and settings.anatomy_check == "hold":
            explained["held"] = str(finding)
    except (UnknownModel, BadCard) as error:
        explained["held"] = str(error)
    except Unsuitable as error:
        explained["refused"] = {"code": error.code, "sentence": error.sentence}
    return explained


def _grid(shape: Sequence[int], spacing_mm: Sequence[float]) -> Explained:
    """Return shape and spacing (mm) by slice, row and column."""
    return {"shape": [int(size) for size in shape], "spacing_mm": [round(float(step), 6) for step in spacing_mm]}


def sentences(explained: Explained) -> Iterator[str]:
    """Yield the lines in which a person reads what `explain` found of one series."""
    known = ", ".join(f"{keyword} '{explained[keyword]}'" for keyword in SHOWN if explained[keyword])
    yield f"series {explained['series_instance_uid']}: {explained['instances']} instances; {known}".rstrip("; ")
    for one in explained["asked"]:
        yield f"  rule {one['number']} '{one['rule']}': {one['failure']}"
    ends = "converted" if explained["action"] == "convert" else "ignored"
    if explained["rule"] == "otherwise":
        yield f"  no rule takes it; otherwise: it is {ends}"
    else:
        yield f"  rule {len(explained['asked']) + 1} '{explained['rule']}' takes it: it is {ends}"
    if explained["action"] != "convert":
        return
    yield f"    model        {explained['model']}"
    yield f"    destinations {', '.join(explained['destinations']) or 'none: the CT stays in node.data'}"
    yield f"    asked for    {explained['asked_volume']}"
    if explained["refused"]:
        yield f"    REFUSED      {explained['refused']['code']}: {explained['refused']['sentence']}"
        return
    if explained["volume"]:
        yield f"    taken        {explained['volume']}"
    for one in explained["set_aside"]:
        yield f"    set aside    {one['count']} of {one['what']}: {one['why']}"
    yield f"    MR           {_size(explained['mr'])}"
    yield f"    CT           {_size(explained['ct'])}"
    yield from (f"    WARNING      {warning}" for warning in explained["warnings"])
    if explained["held"]:
        yield f"    HELD         {explained['held']}"


def _size(grid: Explained) -> str:
    """Write a grid as `36 slices of 192 x 192, 3.3 x 1 x 1 mm`."""
    slices, rows, columns = grid["shape"]
    spacing: Sequence[float] = grid["spacing_mm"]
    return f"{slices} slices of {rows} x {columns}, {' x '.join(f'{mm:g}' for mm in spacing)} mm"

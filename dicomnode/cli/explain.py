"""`sct-node explain`: what the node would make of the series in a folder, and why. Nothing is written or sent.

A series is told by its UID, protocol and description; no name and no identifier of a patient is read out of it.
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

TOLD: Final = ("Modality", "ProtocolName", "SeriesDescription", "ImageType")
"""By what a person knows a series again."""

Explained = dict[str, Any]
"""One series, as plain values; the keys are those of `explain`."""


def explain(paths: Iterable[Path], calling_ae: str, config: Config) -> tuple[list[Explained], list[str]]:
    """Each series among DICOM files, as plain values, and a sentence for each file that cannot be read.

    Keys: `series_instance_uid`, `instances`, the attributes of `TOLD`; `rule`, `action`, `asked` (rules before it, and
    the condition that failed); and of one that is converted `model`, `destinations`, `asked_volume`, `volume` (which
    one is taken, null where it is the only one), `set_aside` (count, what and why), `warnings`, `refused` (code and
    sentence, or null), `held` (why a person would have to look, or null), `mr` and `ct` (shape and spacing in mm by
    slice, row and column, or null).
    """
    found, unreadable = _series(paths)
    return [_explained(series, choose(series, calling_ae, config)) for series in found], unreadable


def _series(paths: Iterable[Path]) -> tuple[list[Series], list[str]]:
    groups: dict[str, list[Instance]] = {}
    unreadable = []
    for path in paths:
        try:
            instance = read_instance(path)
        except Unsuitable as error:
            unreadable.append(str(error))
            continue
        groups.setdefault(instance.series_instance_uid, []).append(instance)
    return [Series.of(groups[uid]) for uid in sorted(groups)], unreadable


def _explained(series: Series, decided: Decision) -> Explained:
    """One series."""
    uids = {instance.series_instance_uid for instance in series.instances}
    told: Explained = {"series_instance_uid": min(uids, default=""), "instances": len(series.instances)}
    told |= {keyword: _commonest(series, keyword) for keyword in TOLD}
    told |= {"rule": decided.rule, "action": decided.action}
    told["asked"] = [{"number": one.number, "rule": one.rule, "failure": one.failure} for one in decided.trials]
    return told | _conversion(series, decided) if decided.converts else told


def _conversion(series: Series, decided: Decision) -> Explained:
    """What the pipeline would say of a series that is converted: the steps of `pipeline.conversion` before
    synthesis."""
    settings = decided.settings
    told: Explained = {"model": decided.model, "destinations": list(decided.destinations)}
    told |= {"asked_volume": str(settings.volume), "volume": None, "set_aside": [], "warnings": []}
    told |= dict.fromkeys(("refused", "held", "mr", "ct"))
    try:
        chosen = select(series, settings.volume, settings.stack)
        told |= {
            "volume": chosen.volume_description or None,
            "set_aside": [dataclasses.asdict(one) for one in chosen.set_aside],
        }
        check_source(chosen.series)
        told["warnings"] = list(loss_warnings(chosen.series, settings.accept_lossy))
        mr = read_stack(chosen.stack).get_geometry()
        ct = output_geometry(mr, settings.grid)
        told |= {"mr": _grid(mr.spatial_shape, mr.spacing), "ct": _grid(ct.spatial_shape, ct.spacing)}
        told["held"] = _held(chosen.series, decided)
    except Unsuitable as error:
        told["refused"] = {"code": error.code, "sentence": error.sentence}
    return told


def _held(series: Series, decided: Decision) -> str | None:
    """Why the CT would be held, as far as the headers tell."""
    try:
        finding = anatomy(series.anatomy, find(decided.model))
    except (UnknownModel, BadCard) as error:
        return str(error)
    holds = finding.verdict != "pass" and decided.settings.anatomy_check == "hold"
    return str(finding) if holds else None


def _grid(shape: Sequence[int], spacing_mm: Sequence[float]) -> Explained:
    """A grid, by slice, row and column."""
    return {"shape": [int(size) for size in shape], "spacing_mm": [round(float(step), 6) for step in spacing_mm]}


def _commonest(series: Series, keyword: str) -> str:
    """The value of most images."""
    values = ["\\".join(one) for one in values_by_image(series, keyword)]
    return max(sorted(set(values)), key=values.count, default="")


# For a person


def sentences(explained: Explained) -> Iterator[str]:
    """One series in lines."""
    known = ", ".join(f"{keyword} '{explained[keyword]}'" for keyword in TOLD if explained[keyword])
    yield f"series {explained['series_instance_uid']}: {explained['instances']} instances; {known}".rstrip("; ")
    for one in explained["asked"]:
        yield f"  rule {one['number']} '{one['rule']}': {one['failure']}"
    yield f"  {_taken(explained)}"
    if explained["action"] == "convert":
        yield from (f"    {line}" for line in _converted(explained))


def _taken(explained: Explained) -> str:
    ends = "converted" if explained["action"] == "convert" else "ignored"
    number = len(explained["asked"])
    if explained["rule"] == "otherwise":
        return f"no rule takes it; otherwise: it is {ends}"
    return f"rule {number + 1} '{explained['rule']}' takes it: it is {ends}"


def _converted(explained: Explained) -> Iterator[str]:
    yield f"model        {explained['model']}"
    yield f"destinations {', '.join(explained['destinations']) or 'none: the CT stays in node.data'}"
    yield f"asked for    {explained['asked_volume']}"
    if explained["refused"]:
        yield f"REFUSED      {explained['refused']['code']}: {explained['refused']['sentence']}"
        return
    if explained["volume"]:
        yield f"taken        {explained['volume']}"
    for one in explained["set_aside"]:
        yield f"set aside    {one['count']} of {one['what']}: {one['why']}"
    yield f"MR           {_size(explained['mr'])}"
    yield f"CT           {_size(explained['ct'])}"
    yield from (f"WARNING      {warning}" for warning in explained["warnings"])
    if explained["held"]:
        yield f"HELD         {explained['held']}"


def _size(grid: Explained) -> str:
    slices, rows, columns = grid["shape"]
    spacing: Sequence[float] = grid["spacing_mm"]
    return f"{slices} slices of {rows} x {columns}, {' x '.join(f'{mm:g}' for mm in spacing)} mm"

"""The pictures of a case, for those who are signed in: volumes for the viewer, a still picture, the report.

    GET /jobs/{job}/mr.nii.gz            the MR volume that was converted
    GET /jobs/{job}/ct.nii.gz            the synthetic CT, HU
    GET /jobs/{job}/uncertainty.nii.gz   SD of its error, HU, where the model says it
    GET /jobs/{job}/pictures.png         three planes of all of them, for a browser without WebGL 2 or JavaScript
    GET /jobs/{job}/report.pdf           the report of the case, without the patient's name

Each is made from the files when it is asked for, one at a time, whoever asks, so that few volumes are in memory; and is
a record in the audit trail. Nothing in them or in their names says who the patient is.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from dicomnode.config.rules import JobSettings
from dicomnode.errors import ConfigError
from dicomnode.security.audit_trail import Event
from dicomnode.spool.spool import Spool
from dicomnode.web import sign_in
from pipeline.errors import Unsuitable
from pipeline.report import viewer_volumes
from pipeline.volume.volume import UNCERTAINTY, read_nifti

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from dicomnode.ledger.ledger import Ledger
    from dicomnode.ledger.rows import JobRow

MOST_WAITING: Final = 8
"""Who comes later is told to ask again: a volume takes seconds."""

ASK_AGAIN_S: Final = "10"

GZIP: Final = "application/gzip"


@dataclass(frozen=True, slots=True)
class ViewerVolume:
    """A volume that there is to be seen: its name in the address, and every how many-th pixel of a row is shown."""

    name: str
    step: int


@dataclass(frozen=True, slots=True)
class CaseFiles:
    """What is known of a case, and where its files lie."""

    ledger: Ledger
    job: JobRow
    data: Path

    @property
    def settings(self) -> JobSettings:
        """What the job was told when it was made, which decides how its MR is read."""
        return JobSettings() if self.job.settings is None else JobSettings.read(self.job.settings)

    @property
    def made(self) -> Path:
        """The folder of the CT."""
        return self.data / "out" / self.job.job

    @property
    def received(self) -> list[Path]:
        """The files of the job's MR instances, there or not."""
        folder = self.data / "in" / self.job.series_instance_uid
        return [folder / f"{uid}.dcm" for uid in self.job.sop_instance_uids]


def _mr(place: CaseFiles) -> bytes:
    return viewer_volumes.nifti(viewer_volumes.mr_of(place.received, place.settings.volume, place.settings.stack))


def _ct(place: CaseFiles) -> bytes:
    return viewer_volumes.nifti(viewer_volumes.ct_of(place.made))


def _uncertainty(place: CaseFiles) -> bytes:
    return viewer_volumes.uncertainty_nifti(place.made / UNCERTAINTY)


def _still(place: CaseFiles) -> bytes:
    """Three planes of MR, CT, both, and the uncertainty. matplotlib is loaded here, by those who need it."""
    from pipeline.report.figures import CaseVolumes, planes, png

    mr = viewer_volumes.mr_of(place.received, place.settings.volume, place.settings.stack)
    sd = place.made / UNCERTAINTY
    return png(planes(CaseVolumes(mr, viewer_volumes.ct_of(place.made), read_nifti(sd) if sd.exists() else None)))


def _report(place: CaseFiles) -> bytes:
    """The report of the case. Loaded here: it brings matplotlib as well."""
    from dicomnode.cases.report import case_of
    from pipeline.report.case_report import pdf_of

    return pdf_of(case_of(place.ledger, Spool(place.data), place.job))


MADE: Final[Mapping[str, tuple[str, Callable[[CaseFiles], bytes]]]] = {
    "mr.nii.gz": (GZIP, _mr),
    "ct.nii.gz": (GZIP, _ct),
    "uncertainty.nii.gz": (GZIP, _uncertainty),
    "pictures.png": ("image/png", _still),
    "report.pdf": ("application/pdf", _report),
}
"""Name in the address -> media type, and how it is made."""


def shown_of(ledger: Ledger, data: Path, job: JobRow, report: Mapping[str, Any]) -> list[ViewerVolume]:
    """What there is to be seen of a case, by its files and by the shapes in its report."""
    place = CaseFiles(ledger, job, data)
    there = {
        "mr": any(path.exists() for path in place.received[:1]),
        "ct": bool(job.ct_instances) and place.made.is_dir(),
        "uncertainty": (place.made / UNCERTAINTY).exists(),
    }
    shapes = {"mr": "source", "ct": "ct", "uncertainty": "ct"}
    found = [name for name, is_there in there.items() if is_there]
    steps = {name: report.get(shapes[name], {}).get("shape") for name in found}
    return [ViewerVolume(name, viewer_volumes.step_of(steps[name]) if steps[name] else 1) for name in found]


class RenderQueue:
    """Lets one picture be made at a time; whoever finds `MOST_WAITING` before them is sent away."""

    def __init__(self) -> None:
        self._one = asyncio.Semaphore(1)
        self._waiting = 0

    async def take(self, make: Callable[[], Response]) -> Response:
        """What `make` returns, in a thread, when it is its turn; 503 for too many."""
        if self._waiting >= MOST_WAITING:
            return PlainTextResponse("Others are waiting for pictures; ask again.", 503, {"retry-after": ASK_AGAIN_S})
        self._waiting += 1
        try:
            async with self._one:
                return await run_in_threadpool(make)
        finally:
            self._waiting -= 1


def routes() -> list[Route]:
    """One for each picture."""
    turns = RenderQueue()

    async def answer(request: Request) -> Response:
        """GET /jobs/{job}/{name}"""
        return await turns.take(lambda: _made(request, request.url.path.rpartition("/")[2]))

    return [Route(f"/jobs/{{job:str}}/{name}", answer, methods=["GET"]) for name in MADE]


def _made(request: Request, name: str) -> Response:
    """A picture, and its record in the audit trail; a sentence where it cannot be made. Raises UnknownJob."""
    seen = request.app.state.seen
    job = seen.ledger.job(request.path_params["job"])
    media_type, make = MADE[name]
    try:
        content = make(CaseFiles(seen.ledger, job, seen.config.node.data))
    except FileNotFoundError:
        sentence = f"There is no {name} of job {job.job[:12]}: it is not made yet, or not kept any more."
        return PlainTextResponse(sentence, 404)
    except (Unsuitable, ConfigError) as error:
        return PlainTextResponse(f"{name} of job {job.job[:12]} cannot be made. {error}", 409)
    series = [job.source_series_uid] if name == "mr.nii.gz" else list(filter(None, [job.ct_series_uid]))
    sign_in.record(request, Event.ACCESSED, job=job.job, series=series, words=name)
    return Response(content, media_type=media_type)

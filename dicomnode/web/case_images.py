"""The images of a case: volumes for the viewer, a picture of three planes, and the report.

    GET /jobs/{job}/mr.nii.gz            the converted MR volume
    GET /jobs/{job}/ct.nii.gz            the synthetic CT, HU
    GET /jobs/{job}/uncertainty.nii.gz   standard deviation of its error, HU, if the model predicts it
    GET /jobs/{job}/pictures.png         three planes of all volumes, for a browser without WebGL 2 or JavaScript
    GET /jobs/{job}/report.pdf           the report of the case, without the patient's name

Each is made from the files when it is requested, one at a time for all visitors, so that few volumes are in memory.
Each request is recorded in the audit trail (PS3.15 A.5.3.6). Neither an image nor its name identifies the patient.
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
from dicomnode.web.rendering import context_of
from dicomnode.web.sign_in import record
from pipeline.errors import Unsuitable
from pipeline.report import viewer_volumes
from pipeline.volume.volume import UNCERTAINTY, read_nifti

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from dicomnode.ledger.ledger import Ledger
    from dicomnode.ledger.rows import JobRow

MOST_WAITING: Final = 8
"""Most requests in the queue; a later one gets 503, because a volume takes seconds."""

ASK_AGAIN_S: Final = "10"
"""Value of Retry-After (RFC 9110 10.2.3) in this answer."""

GZIP: Final = "application/gzip"
"""Media type of a compressed NIfTI file (RFC 6713)."""


@dataclass(frozen=True, slots=True)
class ViewerVolume:
    """A volume that the viewer can load: its name in the address, and the step between the pixels that it contains."""

    name: str
    step: int


@dataclass(frozen=True, slots=True)
class CaseFiles:
    """A case and the places of its files below `data` (`node.data`)."""

    ledger: Ledger
    job: JobRow
    data: Path

    @property
    def out(self) -> Path:
        """The folder of the CT."""
        return self.data / "out" / self.job.job

    @property
    def received(self) -> list[Path]:
        """The files of the job's MR instances, whether they exist or not."""
        folder = self.data / "in" / self.job.source_series_uid
        return [folder / f"{uid}.dcm" for uid in self.job.sop_instance_uids]

    @property
    def settings(self) -> JobSettings:
        """The settings with which the job was made; they decide how its MR is read."""
        return JobSettings() if self.job.settings is None else JobSettings.read(self.job.settings)


def mr_volume(files: CaseFiles) -> bytes:
    """Write the MR volume; returns a compressed NIfTI file."""
    return viewer_volumes.nifti(viewer_volumes.mr_of(files.received, files.settings.volume, files.settings.stack))


def pictures(files: CaseFiles) -> bytes:
    """Draw three planes of MR, CT, both, and the uncertainty; returns a PNG. Imports matplotlib when it is called."""
    from pipeline.report.figures import CaseVolumes, planes, png

    mr = viewer_volumes.mr_of(files.received, files.settings.volume, files.settings.stack)
    sd = files.out / UNCERTAINTY
    return png(planes(CaseVolumes(mr, viewer_volumes.ct_of(files.out), read_nifti(sd) if sd.exists() else None)))


def report(files: CaseFiles) -> bytes:
    """Write the report of the case; returns a PDF. Imports matplotlib when it is called."""
    from dicomnode.cases.report import case_of
    from pipeline.report.case_report import pdf_of

    return pdf_of(case_of(files.ledger, Spool(files.data), files.job))


IMAGES: Final[Mapping[str, tuple[str, Callable[[CaseFiles], bytes]]]] = {
    "mr.nii.gz": (GZIP, mr_volume),
    "ct.nii.gz": (GZIP, lambda files: viewer_volumes.nifti(viewer_volumes.ct_of(files.out))),
    "uncertainty.nii.gz": (GZIP, lambda files: viewer_volumes.uncertainty_nifti(files.out / UNCERTAINTY)),
    "pictures.png": ("image/png", pictures),
    "report.pdf": ("application/pdf", report),
}
"""Name in the address -> media type, and the function that makes the content."""


def viewable(files: CaseFiles, report: Mapping[str, Any]) -> list[ViewerVolume]:
    """List the volumes of a case that exist; their steps follow from the shapes in the report of the job."""
    exists = {
        "mr": any(path.exists() for path in files.received[:1]),
        "ct": bool(files.job.ct_instances) and files.out.is_dir(),
        "uncertainty": (files.out / UNCERTAINTY).exists(),
    }
    sections = {"mr": "source", "ct": "ct", "uncertainty": "ct"}
    shapes = {name: report.get(sections[name], {}).get("shape") for name in exists if exists[name]}
    return [ViewerVolume(name, viewer_volumes.step_of(shape) if shape else 1) for name, shape in shapes.items()]


class RenderQueue:
    """Lets one image be made at a time; refuses a request that finds `MOST_WAITING` before it."""

    def __init__(self) -> None:
        self._one = asyncio.Semaphore(1)
        self._waiting = 0

    async def take(self, make: Callable[[], Response]) -> Response:
        """Run `make` in a thread when its turn comes and return its answer; 503 if too many requests wait."""
        if self._waiting >= MOST_WAITING:
            return PlainTextResponse("Others are waiting for pictures; ask again.", 503, {"retry-after": ASK_AGAIN_S})
        self._waiting += 1
        try:
            async with self._one:
                return await run_in_threadpool(make)
        finally:
            self._waiting -= 1


def routes() -> list[Route]:
    """Return one route for each image; all share a queue."""
    queue = RenderQueue()

    async def answer(request: Request) -> Response:
        """Answer GET /jobs/{job}/{name}."""
        return await queue.take(lambda: image(request, request.url.path.rpartition("/")[2]))

    return [Route(f"/jobs/{{job:str}}/{name}", answer, methods=["GET"]) for name in IMAGES]


def image(request: Request, name: str) -> Response:
    """Make an image and record it in the audit trail; 404 or 409 with a sentence if it cannot be made.

    Raises UnknownJob.
    """
    context = context_of(request)
    job = context.ledger.job(request.path_params["job"])
    media_type, make = IMAGES[name]
    try:
        content = make(CaseFiles(context.ledger, job, context.config.node.data))
    except FileNotFoundError:
        sentence = f"There is no {name} of case {job.job[:12]}: it is not made yet, or not kept any more."
        return PlainTextResponse(sentence, 404)
    except (Unsuitable, ConfigError) as error:
        return PlainTextResponse(f"{name} of case {job.job[:12]} cannot be made. {error}", 409)
    series = [job.source_series_uid] if name == "mr.nii.gz" else list(filter(None, [job.ct_series_uid]))
    record(request, Event.ACCESSED, job=job.job, series=series, words=name)
    return Response(content, media_type=media_type)

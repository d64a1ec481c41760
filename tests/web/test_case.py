"""The page of a case: its pictures in a real browser, without one, and over a bare socket."""

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
import SimpleITK

from dicomnode import engine, web
from dicomnode.config import Config
from dicomnode.ledger import Ledger, database_url
from dicomnode.schema import Plan
from dicomnode.sections import Node
from pipeline.ct import write_ct
from pipeline.findings import Finding
from pipeline.histogram import histogram
from pipeline.phantom import Phantom, axial_grid, thigh
from pipeline.phantom_series import write_mr_series
from pipeline.series import only_series, read_series
from tests.provenance import PROVENANCE

Ask = Callable[..., Any]
PASSWORD = "correct horse battery"
FINDINGS = (
    Finding("anatomy", "THIGH", "one of THIGH", "", "pass"),
    Finding("soft_tissue_median", 81.25, (20.0, 70.0), "[hnsf'U]", "review"),
)
HOLD = ("SOFT_TISSUE_MEDIAN", "soft_tissue_median is 81.25 HU, expected 20 to 70")


@dataclass(frozen=True)
class Case:
    """A page with one held case, whose MR, CT and uncertainty lie on the disk."""

    url: str
    config: Config
    job: str
    phantom: Phantom

    @property
    def page(self) -> str:
        return f"{self.url}/jobs/{self.job}"

    def records(self) -> list[dict[str, Any]]:
        """The audit trail so far."""
        files = sorted((self.config.node.data / "audit").glob("*.jsonl"))
        return [json.loads(line) for file in files for line in file.read_text().splitlines()]


def report_of(made: Phantom) -> dict[str, Any]:
    """What the pipeline says beside the CT."""
    shape = {"shape": list(made.mr.spatial_shape), "spacing_mm": [3.0, 1.5, 1.5]}
    body = made.hu.array[made.labels.array > 0]
    card = PROVENANCE.card
    return {
        "ct_series_uid": "1.2.99",
        "held": HOLD[1],
        "held_code": HOLD[0],
        "scanner": "Demo 3T",
        "protocol": "t1_tse_tra",
        "hu_histogram": histogram(body),
        "source": shape | {"series_instance_uid": "", "instances": len(made.mr.array), "anatomy": "THIGH"},
        "ct": shape,
        "model": {"name": card.name, "version": card.version, "digest": card.digest},
        "sampling": asdict(PROVENANCE.sampling),
        "findings": [asdict(one) for one in FINDINGS],
        "warnings": ["the series was compressed with loss"],
        "configuration_digest": "cd" * 32,
        "software_version": "0.1.0",
        "seconds": {"read": 0.5, "synthesize": 12.25, "write": 0.75},
    }


def convert(data: Path, ledger: Ledger, made: Phantom) -> str:
    """Lay down what receiver and worker would: the MR files, the CT files, the report, the uncertainty -> the job."""
    files = write_mr_series(made.mr, data / "scanner")
    series = only_series(read_series(data / "scanner"))
    uid, uids = series.series_instance_uid, [str(one.sop_instance_uid) for one in series.instances]
    (data / "in" / uid).mkdir(parents=True)
    for file in files:
        file.rename(data / "in" / uid / f"{pydicom.dcmread(file, stop_before_pixels=True).SOPInstanceUID}.dcm")
    kept = only_series(read_series(data / "in" / uid))
    ledger.create()
    ledger.arrived(uid, "MRSCANNER", len(uids), time.time() - 700)
    plan = Plan("limb-t1-ldm", "ab" * 32, "cd" * 32)
    job = ledger.received(uid, uids, plan, "gap-free", lambda *_: None)[0]
    folder = data / "out" / job
    write_ct(made.hu, kept, PROVENANCE, folder)
    (folder / "report.json").write_text(json.dumps(report_of(made)))
    sd = made.hu.with_array(np.where(made.labels.array > 0, 20 + np.abs(made.hu.array) / 10, 0).astype(np.int16))
    SimpleITK.WriteImage(sd.to_simpleitk(), str(folder / "uncertainty.nii.gz"))
    ledger.synthesized(job, "1.2.99", len(uids), ["planning"], HOLD, lambda *_: None)
    return job


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory, serving: Any) -> Iterator[Case]:
    """A held case on a page without users."""
    config = Config(node=Node(data=tmp_path_factory.mktemp("case")))
    ledger = Ledger(database_url(config))
    made = thigh(axial_grid((30, 110, 120), (3.0, 1.5, 1.5), (20.0, 10.0, -30.0)))
    job = convert(config.node.data, ledger, made)
    engine.prepare(ledger)
    with serving(web.app(config)) as url:
        yield Case(url, config, job, made)
    ledger.close()

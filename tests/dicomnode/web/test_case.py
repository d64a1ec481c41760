"""The page of a case: its pictures in a real browser, without one, and over a bare socket."""

import asyncio
import gzip
import itertools
import json
import re
import shutil
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
import SimpleITK
from starlette.responses import Response

from dicomnode.config.load import Config
from dicomnode.config.sections import Node
from dicomnode.engine import queues
from dicomnode.ledger.database import database_url
from dicomnode.ledger.ledger import Ledger
from dicomnode.ledger.rows import Plan
from dicomnode.web import app, case, case_images
from pipeline.ct.write import write_ct
from pipeline.findings.findings import Finding, histogram
from pipeline.phantom.mr_series import write_mr_series
from pipeline.phantom.thigh import Phantom, axial_grid, thigh
from pipeline.series.series import only_series, read_series
from tests.support.provenance import PROVENANCE

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
    queues.prepare(ledger)
    with serving(app.app(config)) as url:
        yield Case(url, config, job, made)
    ledger.close()


@pytest.fixture
def guarded(seen: Case, site: Any, serving: Any, tmp_path: Path) -> Iterator[Case]:
    """The same case on a page with users."""
    data = tmp_path / "guarded"
    shutil.copytree(seen.config.node.data, data)
    shutil.copy(site.users, data / "users.json")
    config = Config(node=Node(data=data))
    with serving(app.app(config)) as url:
        yield Case(url, config, seen.job, seen.phantom)


def image_of(content: bytes, folder: Path, name: str) -> Any:
    (folder / name).write_bytes(content)
    return SimpleITK.ReadImage(str(folder / name))


def got(url: str) -> tuple[int, dict[str, str], bytes]:
    """Status, headers and content of an address."""
    try:
        with urllib.request.urlopen(url, timeout=60) as answer:
            return answer.status, {name.lower(): value for name, value in answer.headers.items()}, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, {}, error.read()


# Over a bare socket


@pytest.mark.parametrize("name", ["mr", "ct"])
def test_a_volume_is_served_as_it_was_received_or_made_and_the_audit_trail_says_so(
    seen: Case, tmp_path: Path, name: str
) -> None:
    status, headers, content = got(f"{seen.page}/{name}.nii.gz")
    assert (status, headers["content-type"], headers["cache-control"]) == (200, "application/gzip", "no-store")
    volume = seen.phantom.mr if name == "mr" else seen.phantom.hu
    image = image_of(content, tmp_path, f"{name}.nii.gz")
    wanted = np.clip(np.rint(volume.array), 0, 4095) if name == "mr" else volume.array
    assert np.array_equal(SimpleITK.GetArrayFromImage(image), wanted)
    assert np.allclose(image.TransformIndexToPhysicalPoint((3, 2, 1)), (volume.affine @ [1, 2, 3, 1])[:3], atol=1e-4)
    last = seen.records()[-1]
    assert (last["EventIdentification"]["EventActionCode"], f"{name}.nii.gz" in json.dumps(last)) == ("R", True)


def test_the_uncertainty_is_served_as_the_pipeline_wrote_it(seen: Case) -> None:
    written = (seen.config.node.data / "out" / seen.job / "uncertainty.nii.gz").read_bytes()
    assert got(f"{seen.page}/uncertainty.nii.gz")[2] == written


NAMES = ("mr.nii.gz", "ct.nii.gz", "uncertainty.nii.gz", "pictures.png", "report.pdf")


@pytest.mark.parametrize("name", NAMES)
def test_nobody_sees_a_picture_who_is_not_signed_in(guarded: Case, ask: Ask, name: str) -> None:
    answer = ask(f"{guarded.page}/{name}")
    assert (answer.status, answer.text) == (303, "")
    assert answer.headers["location"].startswith("/sign-in")


def test_neither_the_page_nor_a_picture_nor_a_report_says_who_the_patient_is(seen: Case) -> None:
    told = [got(seen.page)[2], *(got(f"{seen.page}/{name}")[2] for name in NAMES)]
    told += [gzip.decompress(one) for one in told if one[:2] == b"\x1f\x8b"]
    assert [one[:4] for one in told[4:6]] == [b"\x89PNG", b"%PDF"]
    assert not any(secret in one for one in told for secret in (b"SCT-PHANTOM", b"Phantom^", b"19700101"))


def test_what_is_gone_or_damaged_is_said_in_a_sentence(guarded: Case, somebody: Any) -> None:
    person = somebody(guarded.url)
    person.sign_in("vic")
    received, made = (next((guarded.config.node.data / name).iterdir()) for name in ("in", "out"))
    slices = sorted(made.glob("*.dcm"))
    slices[3].write_bytes(slices[3].read_bytes()[:2000])
    answer = person.get(f"/jobs/{guarded.job}/ct.nii.gz")
    assert (answer.status, "cannot be made. UNREADABLE" in answer.text) == (409, True)
    shutil.rmtree(received)
    (made / "uncertainty.nii.gz").unlink()
    for name in ("mr.nii.gz", "uncertainty.nii.gz", "pictures.png"):
        answer = person.get(f"/jobs/{guarded.job}/{name}")
        assert (answer.status, "not kept any more" in answer.text) == (404, True)
    assert 'data-have="ct"' in person.get(f"/jobs/{guarded.job}").text
    assert person.get("/jobs/ffffffffffff/mr.nii.gz").status == 404


def test_the_page_says_findings_first_those_that_do_not_pass_and_where_the_case_comes_from(seen: Case) -> None:
    text = got(seen.page)[2].decode()
    assert text.index("! review") < text.index("✓ passes")
    assert 'href="/help#soft_tissue_median"' in text
    for words in (
        "81.25 HU",
        "20 to 70",
        "Demo 3T",
        "t1_tse_tra",
        "seed 7",
        "synthesize 12.25",
        "compressed with loss",
    ):
        assert words in text


@pytest.mark.parametrize("report", ["{}", '{"findings": [], "model": {"version": "0"}}', "no JSON", "[]"])
def test_a_report_of_an_older_version_or_a_damaged_one_leaves_out_what_it_does_not_say(
    guarded: Case, somebody: Any, report: str
) -> None:
    (guarded.config.node.data / "out" / guarded.job / "report.json").write_text(report)
    person = somebody(guarded.url)
    person.sign_in("jane")
    answer = person.get(f"/jobs/{guarded.job}")
    assert (answer.status, "<svg" in answer.text, "Release" in answer.text) == (200, False, True)


def test_the_histogram_shows_every_bin_that_is_filled_at_its_hu(seen: Case) -> None:
    said = histogram(seen.phantom.hu.array[seen.phantom.labels.array > 0])
    drawn = case.histogram({"hu_histogram": said})
    assert drawn is not None
    assert drawn.voxels == int((seen.phantom.labels.array > 0).sum())
    assert len(drawn.bars) == sum(bool(count) for count in said["counts"])
    assert max(height for _, _, height in drawn.bars) == case.CHART_HEIGHT
    ends = [(x, x + width) for x, width, _ in drawn.bars]
    assert ends[0][0] == 0
    assert ends[-1][1] == pytest.approx(case.CHART_WIDTH, abs=0.2)
    [zero] = [x for x, hu in drawn.ticks if hu == 0]
    muscle = ends[-2]
    assert 55 <= (muscle[0] - zero) / (muscle[1] - muscle[0]) * said["step_hu"] + said["step_hu"] < 75
    assert case.histogram({}) is None


def test_pictures_are_made_one_at_a_time_and_who_comes_ninth_is_told_to_ask_again() -> None:
    at_work, most = [0], [0]

    def make() -> Response:
        at_work[0] += 1
        most[0] = max(most[0], at_work[0])
        time.sleep(0.02)
        at_work[0] -= 1
        return Response("made")

    async def all_at_once() -> list[Response]:
        turns = case_images.RenderQueue()
        return await asyncio.gather(*(turns.take(make) for _ in range(case_images.MOST_WAITING + 1)))

    answers = asyncio.run(all_at_once())
    assert ([one.status_code for one in answers], most) == ([200] * 8 + [503], [1])


# In a browser


def attribute(browser: Any, name: str) -> str:
    return str(browser.run(f"return document.getElementById('viewer').dataset.{name} || ''"))


def opened(browser: Any, seen: Case) -> None:
    """Load the page and wait for its pictures."""
    viewer_or_skip()
    browser.go(seen.page)
    browser.run(
        "window.broken = []; document.addEventListener('securitypolicyviolation', e => broken.push(e.blockedURI))"
    )
    until = time.monotonic() + 120
    while attribute(browser, "state") not in ("ready", "still"):
        assert time.monotonic() < until, browser.run("return document.body.innerText")
        time.sleep(0.1)


def viewer_or_skip() -> None:
    if not files("dicomnode.web").joinpath("static/niivue.js").is_file():
        pytest.skip("no NiiVue in this checkout: python hatch_build.py")


def changed(browser: Any, element: str, value: str) -> None:
    """Give a control a value as a person does who uses it."""
    script = f"const e = document.getElementById('{element}'); e.value = '{value}';"
    browser.run(script + "for (const name of ['input', 'change']) e.dispatchEvent(new Event(name))")


def canvas(browser: Any, folder: Path) -> Any:
    """What is drawn, as red, green and blue by row and column."""
    box = browser.run(
        "const r = document.getElementById('canvas').getBoundingClientRect(); return [r.x, r.y, r.width, r.height]"
    )
    x, y, width, height = (round(one) for one in box)
    whole = SimpleITK.GetArrayFromImage(image_of(browser.screenshot(), folder, "canvas.png"))
    return whole[y : y + height, x : x + width, :3].astype(int)


def is_grey(drawn: Any) -> bool:
    """Whether a picture has no colours but those of letters and crosshair."""
    return bool((np.ptp(drawn[40:, 40:], axis=2) < 8).mean() > 0.95)


def place(browser: Any) -> tuple[list[float], dict[str, int]]:
    """Where the crosshair is (LPS mm), and the values there, as the page says it."""
    text = browser.run("return document.getElementById('place').textContent")
    letters = {letter: sign for pair in ("LR", "PA", "SI") for letter, sign in zip(pair, (1, -1), strict=True)}
    where = [letters[letter] * float(mm) for letter, mm in re.findall(r"([LRPASI]) ([0-9.]+)", text.partition(":")[0])]
    values = {name: int(value) for name, value in re.findall(r"(CT|MR|uncertainty) (-?[0-9]+)", text)}
    return where, values


def test_a_physicist_sees_mr_ct_both_and_uncertainty_in_three_planes(seen: Case, browser: Any, tmp_path: Path) -> None:
    browser.open(tmp_path / "profile", 1280, dark=False, graphics=True)
    opened(browser, seen)
    (tmp_path / "fused.png").write_bytes(browser.screenshot())
    assert (attribute(browser, "state"), attribute(browser, "view")) == ("ready", "fused")
    looks = {}
    for view in ("mr", "ct", "fused", "uncertainty"):
        browser.run(f"document.querySelector('[name=view][value={view}]').click()")
        assert attribute(browser, "view") == view
        looks[view] = canvas(browser, tmp_path)
        (tmp_path / f"{view}.png").write_bytes(browser.screenshot())
    assert {view: is_grey(look) for view, look in looks.items()} == {
        "mr": True,
        "ct": True,
        "fused": False,
        "uncertainty": False,
    }
    browser.run("document.querySelector('[name=view][value=fused]').click()")
    shares = []
    for share in ("0", "50", "100"):
        changed(browser, "overlay", share)
        shares.append(canvas(browser, tmp_path))
    assert all(np.abs(one - other).mean() > 1 for one, other in itertools.combinations(shares, 2))
    assert_keys_move_the_crosshair(seen, browser)
    assert browser.run("return window.broken") == []


def assert_keys_move_the_crosshair(seen: Case, browser: Any) -> None:
    """Slice by slice; and the values that are said are those of the files."""
    to_index = np.linalg.inv(seen.phantom.hu.affine)
    up, down, end = "\ue014", "\ue012", "\ue010"
    for keys, slider in ((up * 6, "axial"), (down * 9, "coronal"), (up * 4, "sagittal"), (end, "axial")):
        before = place(browser)[0]
        element = browser.call("/element", {"using": "css selector", "value": f"#{slider}"})
        browser.call(f"/element/{next(iter(element.values()))}/value", {"text": keys})
        where, values = place(browser)
        axis = ("sagittal", "coronal", "axial").index(slider)
        moved = np.abs(np.subtract(where, before))
        assert (moved[axis] > 1, np.delete(moved, axis).max()) == (True, 0)
        k, i, j = (round(one) for one in (to_index @ [*where, 1])[:3])
        wanted = {"CT": seen.phantom.hu.array[k, i, j], "MR": np.clip(np.rint(seen.phantom.mr.array[k, i, j]), 0, 4095)}
        assert {name: values[name] for name in wanted} == wanted


def waited(browser: Any, condition: str) -> None:
    """Until a condition holds in the page."""
    until = time.monotonic() + 120
    while not browser.run(f"return {condition}"):
        assert time.monotonic() < until, browser.run("return document.body.innerText")
        time.sleep(0.1)


def assert_a_ct_that_comes_late_is_shown(seen: Case, browser: Any) -> None:
    """The page is open while the CT is not made yet; nobody touches it."""
    made = seen.config.node.data / "out" / seen.job
    away = made.with_name(".part")
    made.rename(away)
    try:
        opened(browser, seen)
        assert attribute(browser, "view") == "mr"
        assert "no synthetic CT has been made" in browser.run("return document.body.innerText")
    finally:
        away.rename(made)
    waited(browser, "!document.querySelector('[name=view][value=uncertainty]').disabled")
    waited(browser, "document.getElementById('message').textContent === ''")
    assert attribute(browser, "view") == "fused"
    waited(browser, "document.getElementById('findings').innerText.includes('81.25')")


def test_a_ct_that_comes_late_is_shown_in_the_window_that_is_chosen_and_left_is_left(
    seen: Case, browser: Any, tmp_path: Path
) -> None:
    browser.open(tmp_path / "profile", 390, dark=True, graphics=True)
    assert_a_ct_that_comes_late_is_shown(seen, browser)
    changed(browser, "overlay", "0")
    assert is_grey(canvas(browser, tmp_path)), "of the two in one picture the MR alone is left"
    browser.run("document.querySelector('[name=view][value=ct]').click()")
    read = "return ['low', 'high', 'window'].map(id => document.getElementById(id).value)"
    assert browser.run(read) == ["-160", "240", "-160 240"]
    soft = canvas(browser, tmp_path)
    greys = {hu: round((hu + 160) / 400 * 255) for hu in (-100, 55)}
    assert all(np.isin(soft[..., 0], range(grey - 2, grey + 3)).mean() > 0.04 for grey in greys.values()), greys
    changed(browser, "window", "-450 1150")
    assert browser.run(read)[:2] == ["-450", "1150"]
    bone = canvas(browser, tmp_path)
    changed(browser, "low", "-200")
    assert browser.run(read) == ["-200", "1150", ""]
    assert np.abs(soft - bone).mean() > 1
    assert browser.run("return document.documentElement.scrollWidth") == 390
    (tmp_path / "narrow.png").write_bytes(browser.screenshot())
    assert_sides_are_those_of_the_patient(seen, browser, tmp_path)


def assert_sides_are_those_of_the_patient(seen: Case, browser: Any, tmp_path: Path) -> None:
    """The patient's right on the left, anterior at the top: the femur lies on one side."""
    changed(browser, "planes", "axial")
    browser.run("document.getElementById('canvas').scrollIntoView()")
    drawn = canvas(browser, tmp_path)
    (tmp_path / "axial.png").write_bytes(browser.screenshot())
    bone = np.argwhere((drawn > 235).all(axis=2)).mean(axis=0)
    pixel_mm = max(110 * 1.5 / drawn.shape[0], 120 * 1.5 / drawn.shape[1])
    k = len(seen.phantom.hu.array) // 2
    femur = np.argwhere(seen.phantom.hu.array[k] > 1000).mean(axis=0) - [54.5, 59.5]
    assert np.allclose((bone - np.array(drawn.shape[:2]) / 2) * pixel_mm, femur * 1.5, atol=4)
    assert femur[1] * 1.5 < -6
    assert femur[0] * 1.5 < -15


def test_a_browser_without_webgl_shows_a_still_picture_and_says_why(seen: Case, browser: Any, tmp_path: Path) -> None:
    browser.open(tmp_path / "profile", 1280, dark=False)
    opened(browser, seen)
    assert attribute(browser, "state") == "still"
    assert "no WebGL 2" in browser.run("return document.getElementById('message').textContent")
    until = time.monotonic() + 60
    while not browser.run(
        "const i = document.querySelector('img.still'); return i && i.complete && i.naturalWidth > 500"
    ):
        assert time.monotonic() < until
        time.sleep(0.1)
    (tmp_path / "still.png").write_bytes(browser.screenshot())


def test_a_browser_without_scripts_shows_a_still_picture(seen: Case, browser: Any, tmp_path: Path) -> None:
    before = len(seen.records())
    browser.open(tmp_path / "profile", 1280, dark=False, scripts=False)
    browser.go(seen.page)
    assert "pictures.png" in json.dumps(seen.records()[before:])
    assert "nii.gz" not in json.dumps(seen.records()[before:])

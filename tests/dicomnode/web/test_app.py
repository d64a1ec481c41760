"""The node's pages over a real socket, and in a real browser."""

import datetime
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dicomnode.cases import wording
from dicomnode.config.load import Config
from dicomnode.config.sections import Node
from dicomnode.ledger.database import database_url
from dicomnode.ledger.ledger import Ledger
from dicomnode.web import app
from dicomnode.web.middleware import SECURITY_HEADERS

Ask = Callable[..., Any]


def test_the_page_of_jobs_says_state_reason_and_receipts_of_each(site: Any, ask: Ask) -> None:
    answer = ask(site.url)
    text = answer.text
    assert (answer.status, answer.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert all(job[:12] in text for job in site.jobs.values())
    assert "GAP: gap of 3.2 mm at slice 41 of 176; expected 1.6 mm" in text
    assert "ANATOMY: BodyPartExamined is HEAD" in text
    assert "17 instances so far" in text
    assert "planning: 3 of 3" in text
    assert "archive: 3 of 3, 3 with a warning" in text
    assert "planning: 0 of 3; attempt 2 at" in text


def test_a_ct_series_that_was_replaced_says_by_which_job(
    tmp_path: Path, filled: Any, came: Any, serving: Any, ask: Ask
) -> None:
    config = Config(node=Node(data=tmp_path))
    ledger = Ledger(database_url(config))
    old = filled(ledger)["delivered"]
    new = came(ledger, "1.2.2", instances=4)
    ledger.close()
    with serving(app.app(config)) as url:
        assert f"the CT series of job {new[:12]} replaces this one" in ask(url).text
        assert f'href="/jobs/{new}"' in ask(f"{url}/jobs/{old}").text
        assert "<dt>Replaces</dt><dd><code>1.2.2.99</code>" in ask(f"{url}/jobs/{new}").text


def test_the_page_can_show_one_state_alone(site: Any, ask: Ask) -> None:
    text = ask(f"{site.url}/?state=REJECTED").text
    assert site.jobs["rejected"] in text
    assert site.jobs["held"] not in text
    held = ask(f"{site.url}/?state=held").text
    assert site.jobs["held"] in held
    assert site.jobs["rejected"] not in held


def test_a_word_that_is_no_state_shows_all(site: Any, ask: Ask) -> None:
    assert all(job in ask(f"{site.url}/?state=%3Cscript%3E").text for job in site.jobs.values())


def test_the_page_of_a_job_tells_its_events_and_every_answer(site: Any, ask: Ask) -> None:
    text = ask(f"{site.url}/jobs/{site.jobs['postponed']}").text
    assert "postponed" in text
    assert "0xA700" in text
    assert "refused" in text
    assert "planning is full" in text
    assert "sct-node release" in ask(f"{site.url}/jobs/{site.jobs['held']}").text


def test_what_a_destination_says_is_escaped(site: Any, ask: Ask) -> None:
    text = ask(f"{site.url}/jobs/{site.jobs['postponed']}").text
    assert "&lt;b&gt;no space left&lt;/b&gt;" in text
    assert "<b>" not in text


def test_an_unknown_job_and_an_unknown_page_are_404_with_a_sentence(site: Any, ask: Ask) -> None:
    assert ask(f"{site.url}/jobs/ffffffffffff").status == 404
    assert "sct-node jobs" in ask(f"{site.url}/jobs/ffffffffffff").text
    assert ask(f"{site.url}/nowhere").status == 404


@pytest.mark.parametrize("path", ["/", "/nowhere", "/metrics", "/style.css"])
def test_every_answer_carries_the_security_headers(site: Any, ask: Ask, path: str) -> None:
    headers = ask(site.url + path).headers
    assert {name: headers[name] for name in SECURITY_HEADERS} == SECURITY_HEADERS


def test_a_script_is_kept_by_the_browser_and_asked_about_each_time(site: Any, ask: Ask) -> None:
    first = ask(f"{site.url}/static/viewer.js")
    assert (first.status, first.headers["cache-control"]) == (200, "no-cache")
    assert first.headers["content-type"].startswith("text/javascript")
    assert first.headers["x-content-type-options"] == "nosniff"
    again = ask(f"{site.url}/static/viewer.js", headers={"if-none-match": first.headers["etag"]})
    assert (again.status, again.text) == (304, "")
    assert [ask(f"{site.url}/static/{name}").status for name in ("", "none.js", "../web.py", "%2e%2e/web.py")] == [
        404
    ] * 4


def test_metrics_and_health_are_not_on_the_page(site: Any, ask: Ask) -> None:
    assert [ask(f"{site.url}/{path}").status for path in ("metrics", "healthz", "readyz")] == [404, 404, 404]


def test_a_ledger_that_cannot_be_read_is_said_on_the_page(tmp_path: Path, serving: Any, ask: Ask) -> None:
    with serving(app.app(Config(node=Node(data=tmp_path / "never made")))) as url:
        answer = ask(url)
    assert answer.status == 503
    assert "The ledger cannot be read" in answer.text


@pytest.mark.parametrize(
    ("seconds", "said"), [(-5, "0 s"), (48, "48 s"), (725, "12 min"), (11105, "3 h 05 min"), (187200, "2 d 4 h")]
)
def test_a_span_is_said_as_a_person_says_it(seconds: int, said: str) -> None:
    assert wording.span(datetime.timedelta(seconds=seconds)) == said


@pytest.mark.parametrize(("width", "dark"), [(1280, False), (390, True)])
def test_a_browser_shows_every_page_without_scrolling_sideways_in_light_and_dark(
    site: Any, browser: Any, tmp_path: Path, width: int, dark: bool
) -> None:
    browser.open(tmp_path / "profile", width, dark=dark)
    for name in ("delivered", "postponed", "failed"):
        for path in ("/", f"/jobs/{site.jobs[name]}"):
            browser.go(site.url + path)
            seen = browser.run("return [document.documentElement.scrollWidth, innerWidth, document.body.innerText]")
            assert seen[:2] == [width, width]
            assert site.jobs[name][:12] in seen[2]
            (tmp_path / f"{name}{len(path)}.png").write_bytes(browser.screenshot())
    back = browser.run("return getComputedStyle(document.body).backgroundColor")
    assert back == ("rgb(20, 23, 26)" if dark else "rgb(255, 255, 255)")

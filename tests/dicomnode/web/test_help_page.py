"""The help page knows every word that the other pages use."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dicomnode.ledger.ledger import IGNORED_BY_RULE
from dicomnode.ledger.superseding import SUPERSEDED
from dicomnode.synthesis import attempt
from dicomnode.web import help_page, rendering
from pipeline.errors import REASONS
from pipeline.findings.findings import MEANINGS

Ask = Callable[..., Any]

GIVEN = re.compile(r'(?:ended_for\(|_hold\(row, |\.held\(row\.job, )"([A-Z_]+)"')
"""Where the node gives a job a reason code of its own."""


def ids(text: str) -> set[str]:
    """Where links into the page may lead."""
    return set(re.findall(r'id="([^"]+)"', text))


def test_every_finding_and_every_reason_code_that_a_job_may_carry_is_explained(
    site: Any, ask: Ask, project: Path
) -> None:
    sources = "\n".join(path.read_text() for path in sorted((project / "dicomnode").rglob("*.py")))
    given = {*GIVEN.findall(sources), SUPERSEDED, IGNORED_BY_RULE, *attempt.HELD_AT_ONCE.values()}
    assert {"PROCESS_DIED", "REJECTED_BY_PERSON", "DELIVERY_FAILED"} <= given
    assert sorted({*REASONS, *given, *MEANINGS} - ids(ask(f"{site.url}/help").text)) == []


@pytest.mark.parametrize(
    ("code", "leads_to"), [("GAP", "GAP"), ("PROCESS_DIED", "PROCESS_DIED"), ("SLICE_COUNT", "slice_count")]
)
def test_a_reason_code_leads_to_its_place_on_the_page(site: Any, ask: Ask, code: str, leads_to: str) -> None:
    assert help_page.anchor(code) == leads_to
    assert leads_to in ids(ask(f"{site.url}/help").text)


def test_a_reason_s_sentence_stands_there_with_its_numbers_left_open(site: Any, ask: Ask) -> None:
    text = ask(f"{site.url}/help").text
    assert "gap of … mm at slice … of …; expected … mm" in text
    assert "{" not in text


def test_words_in_backticks_are_code_and_nothing_else_is_markup() -> None:
    assert rendering.with_code("see `a<b` & <i>c</i>") == "see <code>a&lt;b</code> &amp; &lt;i&gt;c&lt;/i&gt;"

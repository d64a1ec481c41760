"""Logs: JSON lines with what callers name, and never a word that may quote a patient's header."""

import json
import subprocess
import sys
from typing import Any


def lines(code: str) -> list[dict[str, Any]]:
    """What a process logs."""
    program = f"import logging, warnings, threading\nfrom dicomnode import log\nlog.start('tests', 'info')\n{code}"
    said = subprocess.run([sys.executable, "-W", "always", "-c", program], capture_output=True, text=True, timeout=60)
    return [json.loads(line) for line in said.stderr.splitlines()]


def test_an_event_is_one_json_line_with_its_fields() -> None:
    (line,) = lines("log.event('series received', series='1.2.3', instances=4)")
    assert list(line)[:4] == ["time", "level", "event", "role"]
    assert line["time"].endswith("+00:00")
    assert (line["level"], line["event"], line["role"]) == ("info", "series received", "tests")
    assert (line["series"], line["instances"]) == ("1.2.3", 4)


def test_a_level_below_the_configured_one_is_silent() -> None:
    assert lines("log.event('much', level='debug')") == []


def test_an_error_is_logged_with_its_type_and_place_but_not_its_words() -> None:
    code = "try:\n    raise ValueError('Doe^John')\nexcept ValueError:\n"
    (line,) = lines(f"{code}    log.LOGGER.exception('failed', extra=log.fields(job='abc'))")
    assert (line["event"], line["job"], line["error"]) == ("failed", "abc", "ValueError")
    assert "Doe" not in json.dumps(line)
    assert line["where"]


def test_what_libraries_may_quote_is_withheld() -> None:
    code = "logging.getLogger('pydicom').warning('value Doe^John')\nwarnings.warn('value Doe^John')"
    found = lines(code)
    assert [line["logger"] for line in found] == ["pydicom", "py.warnings"]
    assert "Doe" not in json.dumps(found)


def test_an_unhandled_error_is_a_line_too_in_any_thread() -> None:
    thread = "t = threading.Thread(target=fail)\nt.start()\nt.join()\n"
    found = lines(f"def fail():\n    raise ValueError('Doe^John')\n{thread}fail()")
    assert [(line["event"], line["error"]) for line in found] == [("unhandled error", "ValueError")] * 2
    assert "Doe" not in json.dumps(found)

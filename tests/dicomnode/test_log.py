"""Logs: JSON lines with what callers name, and never a word that may quote a patient's header."""

import ast
import json
import re
import subprocess
import sys
from importlib.resources import files
from pathlib import Path
from typing import Any

from dicomnode.log import EVENTS


def lines(code: str) -> list[dict[str, Any]]:
    """What a process logs."""
    program = f"import logging, warnings, threading\nfrom dicomnode import log\nlog.start('tests', 'info')\n{code}"
    said = subprocess.run([sys.executable, "-W", "always", "-c", program], capture_output=True, text=True, timeout=60)
    return [json.loads(line) for line in said.stderr.splitlines()]


def test_an_event_is_one_json_line_with_its_fields() -> None:
    (line,) = lines("log.event('series_received', series='1.2.3', instances=4)")
    assert list(line)[:5] == ["time", "level", "event", "message", "role"]
    assert line["time"].endswith("+00:00")
    assert (line["level"], line["event"], line["role"]) == ("info", "series_received", "tests")
    assert line["message"] == EVENTS["series_received"]
    assert (line["series"], line["instances"]) == ("1.2.3", 4)


def test_a_level_below_the_configured_one_is_silent() -> None:
    assert lines("log.event('instance_stored', level='debug')") == []


def test_an_error_is_logged_with_its_type_and_place_but_not_its_words() -> None:
    code = "try:\n    raise ValueError('Doe^John')\nexcept ValueError:\n"
    (line,) = lines(f"{code}    log.exception('delivery_failed', job='abc')")
    assert (line["event"], line["job"], line["error"]) == ("delivery_failed", "abc", "ValueError")
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
    assert [(line["event"], line["error"]) for line in found] == [("unhandled_error", "ValueError")] * 2
    assert "Doe" not in json.dumps(found)


def test_every_code_is_a_name_with_a_sentence_and_is_logged_somewhere() -> None:
    package = Path(str(files("dicomnode")))
    sources = [path for path in package.rglob("*.py") if path.name != "log.py"]
    words = {
        node.value
        for path in sources
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }
    assert {code for code in EVENTS if not re.fullmatch("[a-z]+(_[a-z]+)*", code)} == set()
    assert {code for code, sentence in EVENTS.items() if not re.fullmatch(r"[A-Z`].*\.", sentence)} == set()
    assert set(EVENTS) - words == {"library_warning", "unhandled_error"}


def test_every_call_names_a_code_of_the_table() -> None:
    called = set()
    for path in Path(str(files("dicomnode"))).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in ("log.event", "log.exception"):
                called |= {one.value for one in ast.walk(node.args[0]) if isinstance(one, ast.Constant)}
    assert len(called) > 60
    assert called - set(EVENTS) == set()

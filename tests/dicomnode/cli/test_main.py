"""The command `sct-node`, run as a process."""

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pydicom
import pytest

from dicomnode.cli.main import main, parser
from dicomnode.ledger.ledger import Ledger
from dicomnode.ledger.rows import Plan
from dicomnode.ledger.uid_conflicts import Conflicts

ROLES = ["serve", "receive", "synthesize", "deliver", "web"]
JOBS = ["jobs", "show", "release", "reject", "retry", "cancel", "resend"]
COMMANDS = [*ROLES, *JOBS, "check", "convert", "explain", "predict", "preflight", "models", "send", "train", "demo"]


def sct_node(*arguments: str | Path, code: int = 0) -> subprocess.CompletedProcess[str]:
    """The command, run to its end with the exit status it should have."""
    command = [sys.executable, "-m", "dicomnode.cli.main", *map(str, arguments)]
    said = subprocess.run(command, capture_output=True, text=True, timeout=240)
    assert said.returncode == code, said.stderr
    return said


@pytest.fixture
def site(tmp_path: Path, tiny_model: Path) -> Path:
    """A configuration file of a node that has seen one job of each sort."""
    (tmp_path / "data").mkdir()
    path = tmp_path / "node.yaml"
    path.write_text(f"node: {{data: {tmp_path / 'data'}}}\nmodel: {tiny_model}\nreceive: {{disk_reserve_bytes: 0}}\n")
    return path


@pytest.fixture
def jobs(site: Path) -> dict[str, str]:
    """Series UID -> job, in the ledger of the site: 1 held, 2 delivered, 3 held; 4 is RECEIVING."""
    from dicomnode.engine import queues

    ledger = Ledger(f"sqlite:///{site.parent / 'data' / 'node.sqlite'}")
    ledger.create()
    queues.prepare(ledger)
    made = {}
    for uid in ("1.1", "1.2", "1.3", "1.4"):
        ledger.arrived(uid, "MR", 2, time.time())
        if uid != "1.4":
            made[uid], _ = ledger.received(
                uid, ["1", "2"], Plan("tiny", "a" * 64, "b" * 64), "complete", lambda *_: None
            )
    ledger.held(made["1.1"], "FAILED", "MemoryError: too large", "Traceback ...")
    ledger.synthesized(made["1.3"], "9.3", 2, ["tps"], ("ANATOMY", "a head"), lambda _: None)
    ledger.close()
    return made


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_has_help_that_names_every_option_it_takes(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        parser().parse_args([command, "--help"])
    assert ended.value.code == 0
    said = capsys.readouterr().out
    assert f"usage: sct-node {command}" in said
    assert ("--config FILE" in said) == (command != "demo")
    assert "--supervised" not in said


def test_wrong_usage_ends_with_64_because_2_says_refused() -> None:
    assert "invalid choice" in sct_node("sing", code=64).stderr
    assert "required: --reason" in sct_node("release", "abcdef", code=64).stderr


def test_jobs_lists_every_job_and_every_series_that_arrives(site: Path, jobs: dict[str, str]) -> None:
    listed = json.loads(sct_node("jobs", "--json", "--config", site).stdout)
    by_series = {one["source_series_uid"]: one for one in listed}
    assert {uid: one["job"] for uid, one in by_series.items()} == {**jobs, "1.4": ""}
    assert {uid: one["state"] for uid, one in by_series.items()} == {
        "1.1": "RECEIVED",
        "1.2": "RECEIVED",
        "1.3": "SYNTHESIZED",
        "1.4": "RECEIVING",
    }
    assert by_series["1.1"]["held"] == "MemoryError: too large"
    assert by_series["1.2"]["held"] is by_series["1.4"]["held"] is None
    assert by_series["1.3"]["ct_series_uid"] == "9.3"
    table = sct_node("jobs", "--config", site).stdout
    assert len(table.splitlines()) == 5


def test_small_commands_import_neither_torch_nor_the_engine(site: Path, jobs: dict[str, str]) -> None:
    code = (
        "import sys; from dicomnode.cli.main import main; "
        "main(sys.argv[1:]); print({'torch', 'dbos'} & set(sys.modules))"
    )
    command = [sys.executable, "-c", code, "jobs", "--config", str(site)]
    said = subprocess.run(command, capture_output=True, text=True, check=True)
    assert said.stdout.splitlines()[-1] == "set()"


def test_the_receive_process_imports_no_torch() -> None:
    modules = "dicomnode.node.roles, dicomnode.reception.intake, dicomnode.reception.storage_scp"
    code = f"import sys, {modules}; print('torch' in sys.modules)"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert said.stdout == "False\n"


def test_show_tells_a_job_with_its_events_and_answers(site: Path, jobs: dict[str, str]) -> None:
    shown = json.loads(sct_node("show", jobs["1.3"][:8], "--json", "--config", site).stdout)
    assert [one["event"] for one in shown["events"]] == ["settled", "synthesized"]
    assert [one["destination"] for one in shown["deliveries"]] == ["tps"]
    assert shown["receipts"] == []
    assert "a head" in sct_node("show", jobs["1.3"], "--config", site).stdout
    assert "no job is known" in sct_node("show", "abcdef0123", "--config", site, code=1).stderr


def test_a_held_job_is_released_or_rejected_with_a_reason_and_another_is_not(site: Path, jobs: dict[str, str]) -> None:
    released = json.loads(sct_node("release", jobs["1.1"], "--reason", "RAM", "--json", "--config", site).stdout)
    assert (released["state"], released["held"], released["attempt"]) == ("RECEIVED", None, 2)
    sct_node("reject", jobs["1.3"], "--reason", "wrong patient", "--config", site)
    shown = json.loads(sct_node("show", jobs["1.3"], "--json", "--config", site).stdout)
    assert (shown["state"], shown["reason_code"], shown["reason_sentence"]) == (
        "REJECTED",
        "REJECTED_BY_PERSON",
        "wrong patient",
    )
    for command in ("release", "reject"):
        said = sct_node(command, jobs["1.2"], "--reason", "why", "--config", site, code=1).stderr
        assert "is RECEIVED and not held" in said


def test_every_decision_is_kept_with_who_took_it_and_why(
    site: Path, jobs: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    told = ["--by", "jane", "--json", "--config", str(site)]
    assert main(["retry", jobs["1.2"], "--reason", "now", *told]) == 0
    assert json.loads(capsys.readouterr().out)["attempt"] == 2
    assert main(["cancel", jobs["1.2"], "--reason", "wrong scan", *told]) == 0
    assert json.loads(capsys.readouterr().out)["reason_code"] == "CANCELLED_BY_PERSON"
    assert main(["resend", jobs["1.2"], "--reason", "lost", "--to", "tps", *told]) == 1
    assert "is REJECTED: there is nothing to send" in capsys.readouterr().err
    assert main(["show", jobs["1.2"], "--json", "--config", str(site)]) == 0
    events = json.loads(capsys.readouterr().out)["events"]
    assert [(one["event"], one["by"], one["words"]) for one in events][1:] == [
        ("retried", "cli:jane", "now"),
        ("cancelled", "cli:jane", "wrong scan"),
    ]
    (trail,) = (site.parent / "data" / "audit").glob("*.jsonl")
    records = [json.loads(line)["EventIdentification"] for line in trail.read_text().splitlines()]
    assert [one["EventOutcomeIndicator"] for one in records] == ["0", "0", "4"]
    assert [one["EventTypeCode"][0]["csd-code"] for one in records] == ["retried", "cancelled", "resent"]


def test_a_contradiction_needs_a_choice_and_jobs_says_which_job_took_the_place_of_which(
    site: Path, jobs: dict[str, str]
) -> None:
    ledger = Ledger(f"sqlite:///{site.parent / 'data' / 'node.sqlite'}")
    assert Conflicts(ledger.engine).found("1.2", ["1", "2"], ["2~0123456789ab"]).held == jobs["1.2"]
    ledger.close()
    release: list[str | Path] = ["release", jobs["1.2"], "--reason", "asked at the console", "--config", site]
    assert "say which to use: --use first or --use last" in sct_node(*release, code=1).stderr
    chosen = json.loads(sct_node(*release, "--use", "last", "--json").stdout)
    assert (chosen["state"], chosen["supersedes"]) == ("RECEIVED", jobs["1.2"])
    shown = json.loads(sct_node("show", chosen["job"], "--json", "--config", site).stdout)
    assert shown["sop_instance_uids"] == ["1", "2~0123456789ab"]
    assert [one["chosen"] for one in shown["conflicts"]] == ["2~0123456789ab"]
    lines = sct_node("jobs", "--config", site).stdout.splitlines()
    (line,) = [line for line in lines if line.startswith(jobs["1.2"][:12])]
    assert "REJECTED" in line
    assert "SUPERSEDED" in line
    assert chosen["job"][:12] in line


def test_commands_on_jobs_say_when_no_node_ever_ran_there(site: Path) -> None:
    assert "no node has run on" in sct_node("jobs", "--config", site, code=1).stderr
    assert not list((site.parent / "data").iterdir())


def test_convert_makes_ct_files_and_a_report(site: Path, thigh_series: list[Path], tmp_path: Path) -> None:
    out = tmp_path / "ct"
    said = sct_node("convert", thigh_series[0].parent, out, "--config", site, "--json")
    report = json.loads((out / "report.json").read_text())
    assert json.loads(said.stdout) == report
    files = sorted(out.glob("*.dcm"))
    assert len(files) == len(thigh_series)
    assert {pydicom.dcmread(path).SeriesInstanceUID for path in files} == {report["ct_series_uid"]}
    assert sorted(path.name for path in out.iterdir()) == [*(path.name for path in files), "report.json"]
    assert (
        "holds .dcm files already" in sct_node("convert", thigh_series[0].parent, out, "--config", site, code=1).stderr
    )


def test_convert_refuses_what_is_unsuitable_with_2_and_fails_with_1(
    site: Path, thigh_series: list[Path], tmp_path: Path
) -> None:
    source, out = tmp_path / "gap", tmp_path / "refused"
    source.mkdir()
    for path in thigh_series[:5] + thigh_series[6:]:
        (source / path.name).symlink_to(path)
    said = sct_node("convert", source, out, "--config", site, code=2)
    report = json.loads((out / "report.json").read_text())
    assert report["rejected"]["code"] == "GAP"
    assert report["rejected"]["sentence"] in said.stderr
    assert [path.name for path in out.iterdir()] == ["report.json"]
    assert "no model 'absent'" in sct_node("convert", source, tmp_path / "b", "--model", "absent", code=1).stderr


def test_check_names_what_is_wrong_and_what_is_right(site: Path, planning: Any, free_port: Callable[[], int]) -> None:
    with planning.up() as there:
        good = f"{{name: there, ae_title: {there.ae_title}, host: 127.0.0.1, port: {there.port}}}"
        bad = f"{{name: away, ae_title: AWAY, host: 127.0.0.1, port: {free_port()}}}"
        site.write_text(site.read_text() + f"destinations: [{good}, {bad}]\n")
        checked = {one["name"]: one for one in json.loads(sct_node("check", "--json", "--config", site, code=1).stdout)}
    assert {name: one["good"] for name, one in checked.items()} == {
        "configuration": True,
        "model": True,
        "rules": True,
        "disk": True,
        "database": True,
        "TLS": True,
        "admission": True,
        "web page": True,
        "notifications": True,
        "profile of there": True,
        "profile of away": True,
        "destination there": True,
        "destination away": False,
    }
    assert "cannot be reached" in checked["destination away"]["sentence"]


def test_check_names_models_and_rules_that_can_never_work(site: Path) -> None:
    late = "{name: late, when: {ProtocolName: t1}, then: {model: absent}}"
    site.write_text(site.read_text() + f"rules: [{{name: all, when: {{}}, then: ignore}}, {late}]\n")
    checked = {one["name"]: one for one in json.loads(sct_node("check", "--json", "--config", site, code=1).stdout)}
    assert not checked["rules[1].then.model"]["good"]
    assert "no model 'absent'" in checked["rules[1].then.model"]["sentence"]
    assert "'late' takes nothing, 'all' before it takes all" in checked["rules"]["sentence"]
    assert "rules[1].then.model: no model 'absent'" in sct_node("serve", "--config", site, code=1).stderr


def test_explain_says_which_rule_takes_a_series_and_what_the_pipeline_says_of_it(
    site: Path, thigh_series: list[Path], tmp_path: Path
) -> None:
    t1 = "{name: T1, when: {CallingAE: MR*, ProtocolName: 't1*'}, then: {destinations: [], anatomy_check: warn}}"
    site.write_text(
        site.read_text() + f"rules: [{{name: head, when: {{BodyPartExamined: HEAD}}, then: ignore}}, {t1}]\n"
    )
    folder = thigh_series[0].parent
    [told] = json.loads(sct_node("explain", folder, "--config", site, "--calling-ae", "mr7", "--json").stdout)["series"]
    assert (told["rule"], told["action"], told["refused"], told["held"]) == ("T1", "convert", None, None)
    assert told["asked"] == [
        {"number": 1, "rule": "head", "failure": "BodyPartExamined 'THIGH' does not match 'HEAD'"},
    ]
    assert told["ct"] == {"shape": [len(thigh_series), 64, 64], "spacing_mm": [6.0, 3.0, 3.0]}

    for path in (*thigh_series[:4], *thigh_series[5:]):
        shutil.copy(path, tmp_path)
    (tmp_path / "cut.dcm").write_bytes(thigh_series[4].read_bytes()[:900])
    said = sct_node("explain", tmp_path, "--config", site).stdout
    assert "rule 2 'T1': CallingAE is absent" in said
    assert "no rule takes it; otherwise: it is converted" in said
    assert "REFUSED      GAP: gap of 12 mm" in said
    assert "UNREADABLE: cut.dcm" in said
    header = pydicom.dcmread(thigh_series[0])
    assert str(header.PatientName) not in said
    assert str(header.PatientID) not in said


def test_convert_goes_by_the_rules_unless_a_model_is_named(
    site: Path, tiny_model: Path, thigh_series: list[Path], tmp_path: Path
) -> None:
    site.write_text(site.read_text() + "rules: [{name: all, when: {}, then: ignore}]\n")
    source = thigh_series[0].parent
    assert (
        "IGNORED_BY_RULE: rule 'all' takes it"
        in sct_node("convert", source, tmp_path / "a", "--config", site, code=2).stderr
    )
    sct_node("convert", source, tmp_path / "b", "--config", site, "--model", tiny_model)
    assert len(list((tmp_path / "b").glob("*.dcm"))) == len(thigh_series)


def test_send_gives_a_folder_to_a_destination_and_shows_each_answer(
    site: Path, planning: Any, thigh_series: list[Path], tmp_path: Path
) -> None:
    sct_node("convert", thigh_series[0].parent, tmp_path / "ct", "--config", site)
    with planning.up("--answers", "0000,A700") as there:
        tps = f"{{name: tps, ae_title: {there.ae_title}, host: 127.0.0.1, port: {there.port}}}"
        site.write_text(site.read_text() + f"destinations: [{tps}]\n")
        refused = sct_node("send", tmp_path / "ct", "--to", "tps", "--json", "--config", site, code=1)
        assert sorted(one["status"] for one in json.loads(refused.stdout)) == ["0000"] * 11 + ["A700"]
        assert "refused 1 with status 0xA700" in refused.stderr
        assert sct_node("send", tmp_path / "ct", "--to", "tps", "--config", site).stdout.count("accepted") == 12
    assert len(planning.instances()) == 12
    assert "it has: tps" in sct_node("send", tmp_path, "--to", "other", "--config", site, code=1).stderr


def test_what_breaks_the_destination_s_profile_is_named_and_not_sent(
    site: Path, planning: Any, thigh_series: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ct = str(tmp_path / "ct")
    assert main(["convert", str(thigh_series[0].parent), ct, "--config", str(site)]) == 0
    assert main(["preflight", ct, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == []
    assert main(["preflight", ct, "--profile", "original-only", "--json"]) == 1
    [told] = json.loads(capsys.readouterr().out)
    assert (told["rule"], told["files"]) == ("image_type", 12)
    with planning.up() as there:
        tps = f"{{name: tps, ae_title: {there.ae_title}, host: 127.0.0.1, port: {there.port}, profile: original-only}}"
        site.write_text(site.read_text() + f"destinations: [{tps}]\n")
        assert main(["send", ct, "--to", "tps", "--config", str(site)]) == 1
        said = capsys.readouterr()
        assert "not sent: 1 rules of profile original-only are broken" in said.err
        assert "value 1 of ImageType is DERIVED, not ORIGINAL" in said.out
        assert planning.instances() == []
        assert main(["send", ct, "--to", "tps", "--unchecked", "--config", str(site)]) == 0
    assert len(planning.instances()) == 12

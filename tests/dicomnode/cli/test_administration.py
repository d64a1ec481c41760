"""`sct-node user`: passwords from a pipe, from a terminal, and from neither."""

import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from dicomnode.cli.main import main
from dicomnode.security.users import Users

PASSWORD = "correct horse battery"
USER = [sys.executable, "-m", "dicomnode.cli.main", "user"]


@pytest.fixture
def node_yaml(tmp_path: Path) -> Path:
    """A configuration whose data lie beside it."""
    path = tmp_path / "node.yaml"
    path.write_text(f"node: {{data: {tmp_path}/data}}\n")
    return path


def added(node_yaml: Path, written: bytes, *options: str) -> subprocess.CompletedProcess[bytes]:
    """`sct-node user add jane` without a terminal; `written` is on its standard input."""
    command = [*USER, "add", "jane", "--role", "physicist", *options, "--config", str(node_yaml)]
    return subprocess.run(command, input=written, capture_output=True, timeout=120, start_new_session=True)


def test_the_command_line_adds_lists_and_removes_users(node_yaml: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = added(node_yaml, f"{PASSWORD}\n".encode(), "--password-stdin").stdout.decode()
    assert "added jane, physicist" in said
    file = node_yaml.with_name("data") / "users.json"
    assert file.stat().st_mode & 0o777 == 0o600
    assert "$argon2id$" in file.read_text()
    assert PASSWORD not in file.read_text() + said
    assert Users(file).verified("jane", PASSWORD)
    config = ("--config", str(node_yaml))
    assert main(["user", "list", *config]) == 0
    assert capsys.readouterr().out == "physicist  jane\n"
    assert main(["user", "remove", "jane", *config]) == 0
    assert main(["user", "remove", "jane", *config]) == 1
    assert "no user 'jane'" in capsys.readouterr().err


def test_the_password_is_the_first_line_of_standard_input_and_the_rest_is_left_to_the_next_program(
    node_yaml: Path,
) -> None:
    one = " ".join([*USER, "add", "NAME", "--password-stdin", "--config", str(node_yaml)])
    script = f"{one.replace('NAME', 'jane')} && {one.replace('NAME', 'john')} && cat"
    written = f"{PASSWORD}\r\nanother good password\nand more\n"
    ended = subprocess.run(["sh", "-c", script], input=written, capture_output=True, text=True, timeout=120)
    assert ended.stdout.splitlines()[-1] == "and more"
    users = Users(node_yaml.with_name("data") / "users.json")
    assert users.verified("jane", PASSWORD)
    assert users.verified("john", "another good password")


@pytest.mark.parametrize(
    ("written", "options", "sentence"),
    [
        (f"{PASSWORD}\n".encode(), [], "there is no terminal on which to ask for the password; give it with --pass"),
        (b"", ["--password-stdin"], "a password has 12 to 256 characters"),
        (b"\xff\xfe not of this world\n", ["--password-stdin"], "is not UTF-8; nothing was changed"),
    ],
)
def test_a_password_that_cannot_be_had_is_an_error_and_adds_nobody(
    node_yaml: Path, written: bytes, options: list[str], sentence: str
) -> None:
    ended = added(node_yaml, written, *options)
    assert ended.returncode == 1
    [line] = ended.stderr.decode().splitlines()
    assert line.startswith("sct-node: ")
    assert sentence in line
    assert not node_yaml.with_name("data").exists()


def test_at_a_terminal_the_password_is_asked_for_twice_and_not_shown(node_yaml: Path) -> None:
    terminal, inside = pty.openpty()
    command = [*USER, "add", "jane", "--config", str(node_yaml)]
    with subprocess.Popen(["setsid", "--ctty", *command], stdin=inside, stdout=inside, stderr=inside) as process:
        os.close(inside)
        shown = b""
        for prompt in (b"Password of jane: ", b"Again: "):
            while not shown.endswith(prompt):
                shown += os.read(terminal, 1024)
            os.write(terminal, f"{PASSWORD}\n".encode())
        while b"added jane" not in shown:
            shown += os.read(terminal, 1024)
        assert process.wait(60) == 0
    os.close(terminal)
    assert PASSWORD.encode() not in shown
    assert Users(node_yaml.with_name("data") / "users.json").verified("jane", PASSWORD)

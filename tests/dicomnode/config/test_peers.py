"""Secrets come from files and the environment, and are told to nobody."""

from pathlib import Path
from typing import Any

import pytest

from dicomnode.config.load import Config, dump, load
from dicomnode.config.peers import Secret, read_secret
from dicomnode.errors import ConfigError
from dicomnode.ledger.database import database_url


def test_a_secret_is_read_from_its_file_without_the_line_end(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("s e-c:r/e@t\n")
    assert read_secret(Secret(file=tmp_path / "secret"), "key") == "s e-c:r/e@t"


def test_a_secret_is_read_from_the_environment_each_time_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    for value in ("first", "second"):
        monkeypatch.setenv("SCT_TEST_SECRET", value)
        assert read_secret(Secret(environment="SCT_TEST_SECRET"), "key") == value


@pytest.mark.parametrize(("name", "words"), [("none", "cannot be read"), ("empty", "holds nothing"), ("raw", "UTF-8")])
def test_a_secret_that_is_not_there_is_a_complaint_with_key_and_place(tmp_path: Path, name: str, words: str) -> None:
    (tmp_path / "empty").write_text("\n")
    (tmp_path / "raw").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match=f"^some.key: .*{name}.*{words}") as told:
        read_secret(Secret(file=tmp_path / name), "some.key")
    assert told.value.__cause__ is None or isinstance(told.value.__cause__, OSError)


def test_a_file_that_anybody_may_write_holds_no_secret(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("x")
    (tmp_path / "secret").chmod(0o602)
    with pytest.raises(ConfigError, match="anybody may write"):
        read_secret(Secret(file=tmp_path / "secret"), "key")


@pytest.mark.parametrize("given", [{}, {"file": Path("a"), "environment": "B"}])
def test_a_secret_has_exactly_one_place(given: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="exactly one"):
        Secret(**given)


def loaded(tmp_path: Path, text: str) -> Config:
    (tmp_path / "node.yaml").write_text(text)
    return load(tmp_path / "node.yaml")


@pytest.mark.parametrize(
    "text",
    [
        "database: postgresql://sct:hunter22@db/sct",
        "database: postgresql://db/sct?password=hunter22",
        "database: postgresql://[hunter22",
        "database: mysql:hunter22",
        "database: [hunter22]",
        "database_password: hunter22",
    ],
)
def test_a_password_in_the_configuration_is_refused_and_not_repeated(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigError, match=r"^database") as told:
        loaded(tmp_path, text)
    assert "hunter22" not in str(told.value)
    assert "hunter22" not in repr(told.value.__cause__)


def test_the_password_of_the_database_is_named_in_what_is_dumped_and_known_only_to_its_url(tmp_path: Path) -> None:
    (tmp_path / "password").write_text("h@nt/er:22\n")
    config = loaded(
        tmp_path, f"database: postgresql://sct@db:5433/sct\ndatabase_password: {{file: {tmp_path}/password}}"
    )
    assert "h@nt/er:22" not in dump(config) + repr(config)
    assert loaded(tmp_path, dump(config)) == config
    assert database_url(config) == "postgresql+psycopg://sct:h%40nt%2Fer%3A22@db:5433/sct"

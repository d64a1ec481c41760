"""Secrets are never written into the configuration: it says in which file or environment variable each one is.

    database_password: {file: /run/secrets/database}
    database_password: {environment: SCT_DATABASE_PASSWORD}

What is kept, printed and logged is only this name. `read_secret` is called where the secret is used, each time anew, so
that one that is changed needs no restart of what asks again.
"""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from pathlib import Path

from dicomnode.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Secret:
    """Where a secret is: in a file, or in an environment variable. Raises ValueError unless it is exactly one."""

    file: Path | None = None
    environment: str | None = None

    def __post_init__(self) -> None:
        if (self.file is None) == (self.environment is None):
            raise ValueError("names not exactly one place; write {file: PATH} or {environment: NAME}")


def read_secret(secret: Secret, path: str) -> str:
    """The secret itself, without the line end; `path` is the dotted path of its key, for the complaint.

    Raises ConfigError when it is not there, is empty, is not text, or when anybody may write the file.
    """
    text = _from_file(secret.file, path) if secret.file is not None else os.environ.get(secret.environment or "", "")
    found = text.rstrip("\r\n")
    if not found:
        where = f"the file {secret.file}" if secret.file else f"the environment variable {secret.environment}"
        raise ConfigError(path, f"{where} holds nothing", "put the secret there")
    return found


def _from_file(file: Path, path: str) -> str:
    try:
        if file.stat().st_mode & stat.S_IWOTH:
            raise ConfigError(path, f"anybody may write the file {file}", f"chmod 600 {file}")
        return file.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(path, f"{file} cannot be read ({error.strerror})", "name a readable file") from error
    except UnicodeDecodeError:
        raise ConfigError(path, f"{file} is not UTF-8 text", "put the secret there as text") from None

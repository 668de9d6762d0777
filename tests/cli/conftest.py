"""Fixtures for the tests of the command line: run the binary, name the models.

LCRUN_BIN is the binary (set by the build), LCRUN_MODEL_DIR the folder of the models (set by scripts/test.sh).
A model that is missing there fails the test that needs it; without the variable such a test is skipped.
"""

import json
import os
import subprocess
from pathlib import Path
from typing import NamedTuple

import pytest

MODEL_FILES = {"smollm2": "SmolLM2-135M-Instruct.Q4_1.gguf", "gemma3": "gemma-3-270m-q4_k_m.gguf"}


class Outcome(NamedTuple):
    status: int
    out: str
    err: str

    def json(self):
        return json.loads(self.out)


def model_path(name):
    folder = os.environ.get("LCRUN_MODEL_DIR")
    if not folder:
        pytest.skip("LCRUN_MODEL_DIR is not set")
    path = Path(folder) / MODEL_FILES[name]
    assert path.is_file(), f"LCRUN_MODEL_DIR is set, but there is no {path}"
    return str(path)


@pytest.fixture
def smollm2():
    return model_path("smollm2")


@pytest.fixture
def gemma3():
    return model_path("gemma3")


@pytest.fixture
def lcrun():
    """lcrun(*arguments, stdin="", env=None, timeout=120) -> Outcome(status, out, err)."""
    binary = os.environ.get("LCRUN_BIN") or str(Path(__file__).parents[2] / "build" / "cli" / "lcrun")

    def run(*arguments, stdin="", env=None, timeout=120):
        done = subprocess.run([binary, *map(str, arguments)], input=stdin.encode(), capture_output=True,
                              timeout=timeout, env={**os.environ, **(env or {})})
        return Outcome(done.returncode, done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace"))

    return run

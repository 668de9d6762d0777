"""What the unittest files of this folder share: running the binary, naming the models. Standard library only.

LCRUN_BIN is the binary, LCRUN_MODEL_DIR the folder of the models: with the variable set, a missing model fails the
test that needs it.
"""

import json
import os
import subprocess
import tempfile
import unittest
from pathlib import Path

OK, INTERNAL, USAGE, BAD_MODEL, NO_MEMORY, STORAGE, BAD_SESSION, UNSUPPORTED, INTERRUPTED = 0, 1, 2, 3, 4, 5, 6, 7, 130
BINARY = os.environ.get("LCRUN_BIN") or str(Path(__file__).parents[2] / "build" / "cli" / "lcrun")
MODELS = {"smollm2": "SmolLM2-135M-Instruct.Q4_1.gguf", "gemma3": "gemma-3-270m-q4_k_m.gguf"}


class CliCase(unittest.TestCase):
    def setUp(self):
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.dir = Path(directory.name)

    def model(self, name="smollm2"):
        folder = os.environ.get("LCRUN_MODEL_DIR")
        if not folder:
            self.skipTest("LCRUN_MODEL_DIR is not set")
        path = Path(folder) / MODELS[name]
        self.assertTrue(path.is_file(), f"LCRUN_MODEL_DIR is set, but there is no {path}")
        return str(path)

    def run_cli(self, *arguments, stdin=b"", env=None, status=OK, timeout=300):
        """Runs lcrun, checks its exit status, and returns the finished process (bytes)."""
        environment = {key: value for key, value in os.environ.items()
                       if not key.startswith(("LCRUN_", "LLAMA_ARG_")) or key == "LCRUN_MODEL_DIR"}
        environment.update(env or {})
        done = subprocess.run([BINARY, *map(str, arguments)], input=stdin, capture_output=True, timeout=timeout,
                              env=environment)
        self.assertEqual(done.returncode, status, f"{arguments}: {done.stderr.decode(errors='replace')}")
        if status not in (OK, INTERRUPTED):
            self.assertEqual(done.stdout, b"", f"{arguments}: an error must leave stdout empty")
            self.assertTrue(done.stderr.startswith(b"lcrun: "), done.stderr)
        return done

    def run_json(self, *arguments, **keywords):
        return json.loads(self.run_cli(*arguments, **keywords).stdout)

    def write(self, name, contents):
        path = self.dir / name
        path.write_bytes(contents if isinstance(contents, bytes) else contents.encode())
        return str(path)

"""Perplexity of both real models within 0.5 % of the reference runtime's, at windows of 512 and 2048."""

import json
import sys
import unittest
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "cli"))
from cli_case import CliCase  # noqa: E402


class Perplexity(CliCase):
    def check(self, name):
        for wanted in json.loads((HERE / f"{name}_ppl.json").read_text()):
            found = self.run_json("ppl", "-m", self.model(name), "-f", HERE / "kjv_head.txt",
                                  "--window", wanted["ctx"], timeout=900)
            self.assertEqual((found["ctx"], found["scored"]), (wanted["ctx"], wanted["scored"]))
            ratio = found["ppl"] / wanted["ppl"]
            self.assertTrue(0.995 < ratio < 1.005, f"{found} against {wanted}")

    def test_smollm2_has_the_reference_perplexity(self):
        self.check("smollm2")

    def test_gemma3_has_the_reference_perplexity(self):
        self.check("gemma3")


if __name__ == "__main__":
    unittest.main()

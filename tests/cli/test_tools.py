"""bench, inspect, plan, quantize, plugins, and the examples of the library."""

import csv
import io
import json
import os
import subprocess
import unittest
from pathlib import Path

from cli_case import BAD_MODEL, BINARY, NO_MEMORY, OK, STORAGE, UNSUPPORTED, USAGE, CliCase

BUILD = Path(BINARY).parents[1]


class Bench(CliCase):
    COMMON = ["-p", "8", "-n", "2", "-r", "1", "--no-warmup", "-t", "1"]

    def test_every_form_says_the_same_things(self):
        json_rows = self.run_json("bench", "-m", self.model(), *self.COMMON, "-o", "json")
        text = self.run_cli("bench", "-m", self.model(), *self.COMMON, "-o", "csv").stdout.decode()
        csv_rows = list(csv.DictReader(io.StringIO(text)))
        lines = self.run_cli("bench", "-m", self.model(), *self.COMMON, "-o", "jsonl").stdout.splitlines()
        self.assertEqual([row["n_prompt"] for row in json_rows], [8, 0])
        self.assertEqual([row["n_prompt"] for row in csv_rows], ["8", "0"])
        self.assertEqual([json.loads(line)["n_gen"] for line in lines], [0, 2])
        for row in json_rows:
            for key in ("model_filename", "n_prompt", "n_gen", "n_depth", "type_k", "n_threads", "avg_ts", "stddev_ts",
                        "samples_ts", "bytes_per_token", "stream_gbs", "isa"):
                self.assertIn(key, row)
            self.assertGreater(row["stream_gbs"], 0)

    def test_depth_and_the_table(self):
        text = self.run_cli("bench", "-m", self.model("gemma3"), *self.COMMON, "-d", "0,600").stdout.decode()
        for name in ("| model ", "pp8 |", "tg2 |", "pp8 @ d600", "tg2 @ d600"):
            self.assertIn(name, text)

    def test_nothing_to_time_is_a_usage_error(self):
        self.run_cli("bench", "-m", self.model(), "-p", "0", "-n", "0", status=USAGE)


class Files(CliCase):
    def test_inspect_shows_keys_tensors_and_who_runs_it(self):
        data = self.run_json("inspect", self.model(), "--json")
        self.assertTrue(data["runs"])
        self.assertEqual(data["hyper_parameters"]["arch"], "llama")
        self.assertEqual(len(data["tensors"]), 272)
        self.assertIn("general.architecture", data["metadata"])
        table = self.run_cli("inspect", self.model(), "--kernels").stdout
        for part in (b"token_embd.weight", b"runs as llama", b"instruction sets"):
            self.assertIn(part, table)

    def test_inspect_shows_the_kernels_that_would_run(self):
        found = self.run_json("inspect", self.model(), "--kernels", "--isa", "scalar", "--json")["kernels"]
        self.assertEqual(found["isa"], "scalar")
        self.assertEqual([isa["name"] for isa in found["isas"] if isa["state"] == "used"], ["scalar"])
        self.assertEqual([product["rows"] for product in found["products"]], [[1, 16]])
        formats = {row["type"]: row for row in found["formats"]}
        self.assertEqual(set(formats), {"F32", "Q4_1", "Q8_0"})
        self.assertEqual(formats["Q4_1"]["bits_per_weight"], 5)
        self.assertEqual(sum(row["tensors"] for row in formats.values()), 272)
        self.assertNotIn("kernels", self.run_json("inspect", self.model(), "--json"))

    def test_the_table_of_kernels_says_who_multiplies(self):
        text = self.run_cli("inspect", self.model("gemma3"), "--kernels", "--isa", "scalar").stdout.decode()
        self.assertIn("products of quantised weights on scalar", text)
        self.assertIn("1 to 16", text)
        self.assertRegex(text, r"Q6_K +\d+ tensors .* a scale for each 16 inputs")

    def test_plan_adds_up(self):
        plan = self.run_json("plan", "-m", self.model(), "-c", "1M", "--mem-max", "4GiB", "--json")
        memory = plan["memory"]
        self.assertEqual(memory["private_bytes"], memory["packed_weights_bytes"] + memory["kv_ram_bytes"] +
                         memory["buffer_bytes"] + memory["other_bytes"])
        # 30 layers, 3 heads of 64, keys and values of 2 bytes, whole blocks of 64 tokens.
        self.assertEqual(plan["kv_bytes"], 30 * 3 * 64 * 2 * 2 * 1000000)
        if plan["fits"]:  # the machine has the disk for it
            self.assertEqual(plan["tier"], "disk")
            self.assertGreaterEqual(plan["kv_disk_bytes"], plan["kv_bytes"])
            self.assertGreaterEqual(plan["disk_free_bytes"], plan["kv_disk_bytes"])
            self.assertLessEqual(memory["private_bytes"], 4 << 30)
        self.assertLess(plan["n_ctx_that_fits"], 1000000)
        self.assertLess(plan["kv_bytes_by_type"]["q4_0"], plan["kv_bytes_by_type"]["q8_0"])

    def test_a_plan_names_its_policy_and_index_and_what_speed_to_expect(self):
        dense = self.run_json("plan", "-m", self.model("gemma3"), "-c", "32k", "--json")
        self.assertEqual(dense["attention"]["policy"], "dense")
        self.assertEqual(dense["memory"]["index_bytes"], 0)
        chosen = self.run_json("plan", "-m", self.model("gemma3"), "-c", "1M", "--json")
        self.assertEqual((chosen["attention"]["policy"], chosen["attention"]["index"]), ("select", "scan4"))
        self.assertEqual(chosen["attention"]["dense_until"], dense["n_ctx_train"])
        # 3 layers see everything: 64 keys of one head of 256 in bit planes, and what goes with them; before them means
        # of 8 keys in q8_0, 64 of them at once.
        fine, coarse = -(-1000000 // 64) * 8784, -(-(1000000 // 8) // 64) * 64 * 272
        self.assertEqual(chosen["memory"]["index_bytes"], 3 * (fine + coarse))
        speed = chosen["speed"]
        self.assertTrue(speed["is_estimate"])
        for name in ("stream_gbs", "linear_gflops", "prefill_tps_begin", "prefill_tps_end", "prefill_seconds",
                     "decode_tps_begin", "decode_tps_end", "weight_bytes_per_token", "kv_bytes_per_token"):
            self.assertGreater(speed[name], 0, name)
        self.assertLess(speed["kv_bytes_per_token"], chosen["kv_bytes"] // 5)
        text = self.run_cli("plan", "-m", self.model("gemma3"), "-c", "1M").stdout.decode()
        self.assertIn("attention select", text)
        self.assertIn("index of blocks: scan4, sub8", text)
        plain = self.run_json("plan", "-m", self.model("gemma3"), "-c", "1M", "--attn-index", "scan4", "--json")
        self.assertEqual(plain["memory"]["index_bytes"], 3 * fine)
        self.assertIn("answering, at the end of the context", text)

    def test_a_plan_that_fits_runs_and_one_that_does_not_is_refused(self):
        plan = self.run_json("plan", "-m", self.model(), "-c", "32k", "--mem-max", "600MiB", "--json")
        self.assertTrue(plan["fits"])
        self.assertEqual(plan["tier"], "disk")
        self.run_cli("-m", self.model(), "-p", "x", "-n", "1", "-c", "32k", "--mem-max", "600MiB")
        huge = ("-c", "1000000000000", "--mem-max", "600MiB")
        self.assertFalse(self.run_json("plan", "-m", self.model(), *huge, "--json")["fits"])
        self.run_cli("-m", self.model(), "-p", "x", "-n", "1", *huge, status=NO_MEMORY)
        smaller = str(plan["n_ctx_that_fits"] * 9 // 10)
        self.run_cli("-m", self.model(), "-p", "x", "-n", "1", "-c", smaller, "--mem-max", "600MiB")

    def test_quantize_writes_a_model_that_answers(self):
        out = self.dir / "q8.gguf"
        report = self.run_json("quantize", self.model(), out, "q8_0", "--json")
        self.assertGreater(report["rmse"], 0)
        self.assertGreater(report["max_error"], report["rmse"])
        reply = self.run_json("-m", out, "-no-cnv", "-p", "The capital of France is", "-n", "4", "--temp", "0",
                              "--json")
        self.assertIn("Paris", reply["text"])

    def test_quantize_refuses(self):
        out = self.dir / "o.gguf"
        self.run_cli("quantize", self.model(), out, "Q9_9", status=UNSUPPORTED)
        self.run_cli("quantize", self.model(), out, "IQ1_S", status=UNSUPPORTED)
        self.run_cli("quantize", self.model(), self.model(), "Q8_0", status=USAGE)
        self.run_cli("quantize", self.model(), out, status=USAGE)
        self.run_cli("quantize", self.dir / "none", out, "Q8_0", status=BAD_MODEL)
        self.run_cli("quantize", self.model(), self.dir / "no" / "o.gguf", "Q8_0", status=STORAGE)
        self.assertFalse(out.exists())


class Plugins(CliCase):
    def test_the_null_plugin_is_found_and_passes(self):
        directory = BUILD / "plugins"
        if not (directory / "null.so").exists():
            self.skipTest(f"no {directory / 'null.so'}: plugins were not built")
        found = self.run_json("plugins", "--json")
        self.assertIn("null", [plugin.get("name") for plugin in found])
        checked = self.run_json("plugins", "--check", "null", "--json")
        self.assertEqual(checked[0]["self_test"], "passed")
        self.assertIn(b"passed", self.run_cli("plugins", "--check", directory / "null.so").stdout)

    def test_what_is_not_there_is_unsupported(self):
        self.run_cli("plugins", "--check", "nonsense", status=UNSUPPORTED)
        self.run_cli("plugins", "--plugin", self.dir / "none.so", status=UNSUPPORTED)
        self.assertEqual(self.run_json("plugins", "--plugin-dir", self.dir, "--json"), [])


class Examples(CliCase):
    def run_example(self, name, *arguments):
        program = BUILD / "examples" / name
        if not program.exists():
            self.skipTest(f"no {program}: examples were not built")
        return subprocess.run([program, *arguments], capture_output=True, timeout=300, text=True, env={**os.environ})

    def test_the_c_example_says_what_the_command_line_says(self):
        text = "The capital of France is"
        done = self.run_example("embed", self.model(), text, "8")
        self.assertEqual(done.returncode, OK, done.stderr)
        reply = self.run_json("-m", self.model(), "-no-cnv", "-p", text, "-n", "8", "--temp", "0", "--json")
        self.assertEqual(done.stdout, reply["text"] + "\n")

    def test_the_cpp_example_continues_a_saved_session(self):
        done = self.run_example("embed_cpp", self.model(), str(self.dir / "s"))
        self.assertEqual(done.returncode, OK, done.stderr)
        first, second = (line.split(":", 1)[1] for line in done.stdout.splitlines())
        self.assertEqual(first.strip(), second.strip())

    def test_a_missing_model_is_an_error_and_not_a_crash(self):
        done = self.run_example("embed", str(self.dir / "none.gguf"))
        self.assertEqual(done.returncode, 1)
        self.assertIn("none.gguf", done.stderr)


if __name__ == "__main__":
    unittest.main()

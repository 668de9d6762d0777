"""Reading past the trained window: a text is streamed, a question finds its passage, encode and ask agree with run."""

import json
import random

from cli_case import BAD_MODEL, STORAGE, USAGE, CliCase

WORDS = ("field river stone bread light house garden winter letter window market bridge silver morning shadow "
         "harbour candle forest mirror summer").split()


class Attention(CliCase):
    def text(self, sentences, needle_at, key):
        rng = random.Random(11)
        lines = []
        for _ in range(sentences):
            a, b, c = (rng.choice(WORDS) for _ in range(3))
            lines.append(f"The {a} stood beside the {b} while the {c} was quiet.")
        lines[int(needle_at * sentences)] = f"The pass key is {key}. Remember it. {key} is the pass key."
        path = self.dir / "text.txt"
        path.write_text(" ".join(lines))
        return path

    QUESTION = ("-p", "What is the pass key?", "--answer-prefix", "The pass key is ", "--temp", "0", "-n", "6")

    def test_a_key_far_outside_the_window_is_found_and_streaming_does_not_find_it(self):
        text = self.text(330, 0.3, 48213)
        common = ("-m", self.model(), "-f", text, "-c", "6000", *self.QUESTION, "--json")
        found = self.run_json(*common, "--attention", "select")
        self.assertIn("48213", found["text"])
        self.assertEqual(found["attention"]["policy"], "select")
        self.assertGreater(found["attention"]["blocks_read_per_token"], 0)
        streamed = self.run_json(*common, "--attention", "stream")
        self.assertNotIn("48213", streamed["text"])

    def test_encode_and_ask_give_the_tokens_of_run_where_attention_selects(self):
        text = self.text(330, 0.6, 90417)
        policy = ("--attention", "select", "-c", "6000")
        want = self.run_json("-m", self.model(), "-f", text, *self.QUESTION, *policy, "--json")
        session = self.dir / "text.ses"
        self.run_cli("encode", "-m", self.model(), "-f", text, "--session", session, *policy)
        for extra in ((), ("-t", "1"), ("--mem-max", "256MiB")):
            with self.subTest(extra):
                got = self.run_json("ask", "--session", session, *self.QUESTION, *policy, *extra, "--json")
                self.assertEqual(got["tokens"], want["tokens"])
                self.assertGreater(got["cached_tokens"], 3000)

    def test_the_policies_are_listed_with_their_papers(self):
        done = self.run_cli("inspect", "--policies")
        for name in (b"dense", b"stream", b"select", b"quest", b"rekv", b"arXiv"):
            self.assertIn(name, done.stdout)

    def policy(self, **fields):
        row = {"name": "near", "like": "select", "ask": {"blocks": 4, "window": 128},
               "layers": {"look_back": "0-29"}}
        return json.dumps({"lcrun_policies": 1, "auto": "near", "rows": [row], **fields})

    def test_a_policy_file_adds_rows_that_attention_names(self):
        path = self.write("p.json", self.policy())
        listed = self.run_json("inspect", "--policies", "--policy-file", path, "--json")
        self.assertEqual([row["layers"]["look_back"] for row in listed if row["name"] == "near"], ["0-29"])
        text = self.text(330, 0.3, 48213)
        got = self.run_json("-m", self.model(), "-f", text, "-c", "6000", *self.QUESTION, "--json", "--stats",
                            "--policy-file", path, "--attention", "near")
        self.assertEqual(got["attention"]["policy"], "near")
        self.assertIn("48213", got["text"])
        self.assertGreater(got["attention"]["kv_bytes_per_token"], 0)
        self.assertGreater(got["attention"]["index_bytes_per_token"], 0)
        self.assertEqual(len(got["attention"]["recall_by_layer"]), 30)
        self.assertTrue(0 < got["attention"]["recall"] <= 1)

    def test_what_is_wrong_in_a_policy_file_is_said_before_the_model_is_read(self):
        for text, part in ((self.policy(rows=[]), "rows: found none"),
                           ("{", "found what is no JSON, wanted a JSON object"),
                           (self.policy().replace("128", "100"), "rows[0].ask.window: found 100, wanted a multiple")):
            path = self.write("p.json", text)
            done = self.run_cli("-m", "missing.gguf", "-p", "x", "--policy-file", path, status=BAD_MODEL)
            done = self.run_cli("-m", self.model(), "-p", "x", "--policy-file", path, status=USAGE)
            self.assertIn(f"p.json: {part}".encode(), done.stderr)
        self.run_cli("-m", self.model(), "-p", "x", "--policy-file", self.dir / "nowhere", status=STORAGE)

    def test_a_file_beside_the_model_is_auto_and_one_for_another_model_is_left_out(self):
        model = self.dir / "m.gguf"
        model.symlink_to(self.model())
        beside = self.dir / "m.gguf.policy.json"
        beside.write_text(self.policy())
        planned = self.run_json("plan", "-m", model, "-c", "20000", "--json")
        self.assertEqual(planned["attention"]["policy"], "near")
        run = ("-m", model, "-p", "Hello", "-n", "1", "-c", "20000", "--temp", "0", "--json")
        done = self.run_cli(*run)
        self.assertIn(b"that is a row of " + str(beside).encode(), done.stderr)
        plain = json.loads(self.run_cli(*run, "--policy-file", "none").stdout)
        self.assertEqual(plain["attention"]["policy"], "select")
        beside.write_text(self.policy(model="00112233445566778899aabbccddeeff"))
        done = self.run_cli(*run)
        self.assertIn(b"it was made for another model and is left out", done.stderr)
        self.assertEqual(json.loads(done.stdout)["attention"]["policy"], "select")
        done = self.run_cli(*run, "--policy-file", beside, status=USAGE)
        self.assertIn(b"model: found 00112233445566778899aabbccddeeff, wanted ", done.stderr)
        self.run_cli(*run, "--attention", "dense")

    def test_plans_are_dumped_for_the_bench(self):
        text, plans = self.text(100, 0.3, 48213), self.dir / "plans.jsonl"
        self.run_cli("-m", self.model(), "-f", text, "-c", "3000", *self.QUESTION, "--attention", "select",
                     "--dump-plan", plans)
        lines = [json.loads(line) for line in plans.read_text().splitlines()]
        self.assertEqual(lines[0], {"lcrun_plans": 1})
        self.assertEqual(sum("layer" in line for line in lines), 30)
        chosen = [line for line in lines if line.get("chosen")]
        self.assertTrue(chosen and all(line["tiles"] for line in chosen))

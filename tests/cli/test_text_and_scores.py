"""tokenize, detokenize, score, ppl: shapes, laws between them, bad input."""

import json
import math
import unittest

from cli_case import BAD_MODEL, STORAGE, USAGE, CliCase


class Tokens(CliCase):
    def test_bos_and_special_tokens_follow_the_model_and_the_options(self):
        gemma = self.model("gemma3")
        with_bos = self.run_json("tokenize", "-m", gemma, stdin=b"Hi")["tokens"]
        without = self.run_json("tokenize", "-m", gemma, "--no-bos", stdin=b"Hi")["tokens"]
        self.assertEqual(with_bos, [2] + without)
        smollm = self.model()
        self.assertEqual(self.run_json("tokenize", "-m", smollm, stdin=b"<|im_end|>")["tokens"], [2])
        plain = self.run_json("tokenize", "-m", smollm, "--no-parse-special", stdin=b"<|im_end|>")["tokens"]
        self.assertGreater(len(plain), 1)
        self.assertNotIn(2, plain)

    def test_detokenize_takes_an_object_or_a_list(self):
        smollm = self.model()
        ids = self.run_json("tokenize", "-m", smollm, stdin="naïve\n🙂".encode())["tokens"]
        for form in (json.dumps({"tokens": ids}), json.dumps(ids)):
            self.assertEqual(self.run_cli("detokenize", "-m", smollm, stdin=form.encode()).stdout, "naïve\n🙂".encode())

    def test_ids_that_are_none_are_usage_errors(self):
        smollm = self.model()
        for text in (b"", b"[1,", b"{}", b"[-1]", b"[49152]", b"[1.5]", b'["a"]', b"[18446744073709551615]", b"7",
                     b'{"tokens":3}', b"[" * 100000):
            with self.subTest(text[:20]):
                self.run_cli("detokenize", "-m", smollm, stdin=text, status=USAGE)


class Scores(CliCase):
    TEXT = b"The history of the printing press begins in the fifteenth century, when"

    def score(self, *arguments, stdin=TEXT):
        lines = self.run_cli("score", "-m", self.model(), *arguments, stdin=stdin).stdout.splitlines()
        return [json.loads(line) for line in lines]

    def test_each_position_has_its_line(self):
        rows = self.score("--top", "3")
        tokens = self.run_json("tokenize", "-m", self.model(), stdin=self.TEXT)["tokens"]
        self.assertEqual([row["token"] for row in rows], tokens)
        self.assertEqual([row["pos"] for row in rows], list(range(len(tokens))))
        for row in rows[:-1]:
            self.assertGreaterEqual(row["nll_next"], 0)
        self.assertNotIn("nll_next", rows[-1])
        for row in rows:
            self.assertEqual(len(row["top"]), 3)
            logits = [logit for _, logit in row["top"]]
            self.assertEqual(logits, sorted(logits, reverse=True))
            self.assertGreater(row["lse"], logits[0])

    def test_the_whole_vocabulary_sums_to_one(self):
        rows = self.score("--top", "49152", stdin=b"Hello there")
        for row in rows:
            total = sum(math.exp(logit - row["lse"]) for _, logit in row["top"])
            self.assertEqual(len(row["top"]), 49152)
            self.assertAlmostEqual(total, 1.0, places=3)

    def test_batches_and_threads_do_not_change_a_digit(self):
        wanted = self.score("--top", "2", "-t", "1", "-ub", "512")
        self.assertEqual(self.score("--top", "2", "-t", "2", "-ub", "512"), wanted)
        self.assertEqual(self.score("--top", "2", "-t", "1", "-ub", "5"), wanted)

    def test_more_than_the_vocabulary_and_no_text_are_usage_errors(self):
        self.run_cli("score", "-m", self.model(), "--top", "49153", stdin=b"x", status=USAGE)
        self.run_cli("score", "-m", self.model(), stdin=b"", status=USAGE)

    def test_perplexity_agrees_with_scores_of_its_windows(self):
        words = " ".join(f"line {n} of the log: all is well at sea." for n in range(12))
        path = self.write("log.txt", words)
        result = self.run_json("ppl", "-m", self.model(), "-f", path, "--window", "32")
        tokens = self.run_json("tokenize", "-m", self.model(), stdin=words.encode())["tokens"]
        windows = len(tokens) // 32
        self.assertEqual((result["ctx"], result["scored"]), (32, windows * 15))
        self.assertAlmostEqual(result["ppl"], math.exp(result["nll"]), places=3)
        first = self.run_cli("detokenize", "-m", self.model(), stdin=json.dumps(tokens[:32]).encode()).stdout
        rows = self.score("--top", "0", stdin=first)
        self.assertEqual([row["token"] for row in rows], tokens[:32])
        one = self.run_json("ppl", "-m", self.model(), "-f", self.write("first.txt", first), "--window", "32")
        self.assertAlmostEqual(one["nll"], sum(row["nll_next"] for row in rows[16:31]) / 15, places=4)

    def test_files_that_are_missing_or_short_are_told_apart(self):
        self.run_cli("ppl", "-m", self.model(), "-f", self.dir / "none.txt", status=STORAGE)
        self.run_cli("ppl", "-m", self.model(), "-f", self.write("short.txt", "too short"), status=USAGE)
        self.run_cli("ppl", "-m", self.model(), status=USAGE)
        self.run_cli("ppl", "-m", self.dir / "none.gguf", "-f", self.write("t", "x"), status=BAD_MODEL)


if __name__ == "__main__":
    unittest.main()

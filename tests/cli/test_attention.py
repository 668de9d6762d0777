"""Reading past the trained window: a text is streamed, a question finds its passage, encode and ask agree with run."""

import random

from cli_case import CliCase

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

"""Reading long texts: citations, and drivers that arrange what a model reads."""
import json
import subprocess

from cli_case import BINARY, USAGE, CliCase

DULL = "The baker opened the shop early and swept the floor. Rain fell on the market until noon.\n"
FACT = "The captain's parrot is called Marzipan."
QUESTION = "What is the captain's parrot called?"
FACT_LINE = 13


class Reading(CliCase):
    def text(self):
        path = self.dir / "text.txt"
        path.write_text(DULL * (FACT_LINE - 1) + FACT + "\n" + DULL * 12)
        return path

    def options(self):
        return ("-p", QUESTION, "-n", "16", "--temp", "0")

    def check_citations(self, report, path):
        data = path.read_bytes()
        best = report["citations"][0]
        self.assertEqual((best["first_line"], best["last_line"]), (FACT_LINE, FACT_LINE), best)
        self.assertIn(FACT, best["text"])
        for one in report["citations"]:
            cited = data[one["first_byte"]:one["last_byte"] + 1].decode()
            self.assertEqual(cited.split(), one["text"].split())
            self.assertEqual(data[:one["first_byte"]].count(b"\n") + 1, one["first_line"])
            self.assertTrue(0 < one["share"] <= 1)

    def test_a_reply_about_a_text_says_which_lines_it_was_read_from(self):
        path = self.text()
        for model in ("smollm2", "gemma3"):
            with self.subTest(model=model):
                run = self.run_cli("-m", self.model(model), "-f", path, *self.options(), "--json")
                self.check_citations(json.loads(run.stdout), path)
        plain = self.run_cli("-m", self.model("smollm2"), "-f", path, *self.options(), "--stats")
        self.assertIn(f"read     line {FACT_LINE} (".encode(), plain.stderr)
        self.assertNotIn(b"line 13", plain.stdout)
        self.assertNotIn("citations", json.loads(self.run_cli("-m", self.model("smollm2"), "-p", "Hello", "-n", "1",
                                                              "--json").stdout))

    def test_an_encoded_text_is_cited_like_the_text_itself(self):
        path, session = self.text(), self.dir / "text.session"
        self.run_cli("encode", "-m", self.model("smollm2"), "-f", path, "--session", session)
        direct = json.loads(self.run_cli("-m", self.model("smollm2"), "-f", path, *self.options(), "--json").stdout)
        asked = json.loads(self.run_cli("ask", "--session", session, *self.options(), "--json").stdout)
        self.assertEqual(asked["citations"], direct["citations"])
        self.assertEqual(asked["text"], direct["text"])

    def test_drivers_answer_from_what_they_keep_of_a_file_or_a_pipe(self):
        path, compressed = self.text(), self.dir / "kept.txt"
        for driver in ("retri", "rag", "jrt"):
            with self.subTest(driver=driver):
                run = self.run_cli("-m", self.model("smollm2"), "-f", path, *self.options(), "--driver", driver,
                                   "--driver-window", "256", "--driver-keep", "160", "--json", "--compress", compressed)
                report = json.loads(run.stdout)
                self.assertIn("Marzipan", report["text"])
                self.assertEqual(report["driver"]["name"], driver)
                self.check_citations(report, path)
                self.assertIn(FACT, compressed.read_text())
                if driver != "jrt":
                    self.assertLess(2 * report["driver"]["kept_tokens"], report["driver"]["text_tokens"])
                    self.assertLess(2 * compressed.stat().st_size, path.stat().st_size)
        piped = subprocess.run([BINARY, "-m", self.model("smollm2"), "-f", "-", *self.options(), "--driver", "retri"],
                               input=path.read_bytes(), capture_output=True, check=True)
        self.assertIn(b"Marzipan", piped.stdout)

    def test_a_text_is_folded_into_notes_that_name_their_places(self):
        path, notes = self.text(), self.dir / "notes.txt"
        run = self.run_cli("-m", self.model("smollm2"), "-f", path, *self.options(), "--driver", "fold",
                           "--driver-keep", "160", "--json", "--compress", notes)
        report = json.loads(run.stdout)
        self.assertLessEqual(report["driver"]["kept_tokens"], 160)
        self.assertGreater(report["driver"]["text_tokens"], 400)
        self.assertGreater(len(notes.read_text()), 40)
        for citation in report["citations"]:
            self.assertLessEqual(citation["last_byte"], path.stat().st_size)

    def test_a_chat_about_a_text_reads_it_meanwhile_and_shows_what_was_read(self):
        path = self.text()
        lines = f"{QUESTION}\n/context\nWhat did the baker do?\n/stats\n/clear\n{QUESTION}\n"
        done = self.run_cli("-m", self.model("smollm2"), "-cnv", "-f", path, "-n", "16", "--temp", "0",
                            stdin=lines.encode())
        replies = done.stdout.decode().splitlines()
        self.assertEqual(replies[-1], replies[0])
        self.assertIn(f"line {FACT_LINE} (".encode(), done.stderr)
        # The same tokens as without a chat.
        direct = self.run_json("-m", self.model("smollm2"), "-f", path, *self.options(), "--json")
        self.assertEqual(direct["text"].splitlines()[0], replies[0])

    def test_evaluations_measure_drivers_and_citations(self):
        report = json.loads(self.run_cli("eval", "passkey", "-m", self.model("gemma3"), "--lengths", "2k", "--depths",
                                         "50", "--driver", "retri", "--cite", "--json").stdout)
        row, = report["rows"]
        self.assertEqual([row["scores"][name] for name in ("strict", "cited", "there")], [1, 1, 1])
        self.assertLess(row["scores"]["kept"], 0.3)

    def test_a_driver_wants_a_text_and_a_question(self):
        for arguments in (["-p", "Why?"], ["-f", "text.txt"], ["-f", "text.txt", "-p", "Why?", "--session", "s"]):
            refused = self.run_cli("-m", self.model("smollm2"), "--driver", "retri", *arguments, status=USAGE)
            self.assertIn(b"--driver retri", refused.stderr)
        self.run_cli("-m", self.model("smollm2"), "-p", "Why?", "--compress", "out", status=USAGE)

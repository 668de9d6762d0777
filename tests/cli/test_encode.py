"""lcrun encode and ask: a text is read once, and answers are those of a run that reads it again."""
import json
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

from cli_case import BINARY, CliCase

USAGE, BAD_MODEL, BAD_SESSION, INTERRUPTED = 2, 3, 6, 130
LINE = "The keeper of lighthouse {0} had a dog, and wrote in the book: ship {0} passed at noon. "


class Encode(CliCase):
    def text(self, lines=30):
        path = self.dir / f"text{lines}.txt"
        path.write_text("".join(LINE.format(i) for i in range(lines)))
        return path

    def encode(self, text, *options, model="smollm2"):
        session = self.dir / "text.ses"
        report = self.run_json("encode", "-m", self.model(model), "-f", text, "--session", session, *options, "--json")
        self.assertGreater(report["tokens"], 0)
        return session

    def test_answers_are_those_of_a_run_that_reads_the_text(self):
        for model, layout in (("smollm2", ()), ("smollm2", ("-no-cnv",)), ("gemma3", ())):
            with self.subTest(model=model, layout=layout):
                text = self.text()
                session = self.encode(text, *layout, model=model)
                before = session.read_bytes()
                for question in ("Who had a dog?", "Which ship passed at noon?"):
                    want = self.run_json("-m", self.model(model), "-f", text, "-p", question, "-n", "8", "--temp", "0",
                                         *layout, "--json")
                    found = self.run_json("ask", "--session", session, "-p", question, "-n", "8", "--temp", "0",
                                          "--json")
                    self.assertEqual(found["tokens"], want["tokens"])
                    self.assertEqual(found["prompt_tokens"], want["prompt_tokens"])
                    self.assertLess(found["prompt_tokens"] - found["cached_tokens"], 40)
                self.assertEqual(session.read_bytes(), before)
                self.assertFalse(os.path.exists(f"{session}.partial"))

    def test_several_questions_are_answered_as_if_each_were_alone(self):
        session = self.encode(self.text())
        questions = ("Who had a dog?", "What did the keeper write?", "Who had a dog?")
        reply = ("-n", "8", "--temp", "0", "--json")
        alone = [self.run_json("ask", "--session", session, "-p", question, *reply)["tokens"] for question in questions]
        options = [word for question in questions for word in ("-p", question)]
        together = self.run_cli("ask", "--session", session, *options, "-n", "8", "--temp", "0", "--json").stdout
        self.assertEqual([json.loads(line)["tokens"] for line in together.splitlines()], alone)

    def test_pages_that_stay_in_the_file_give_the_same_answers(self):
        session = self.encode(self.text(60))
        ask = ("ask", "--session", session, "-p", "Who had a dog?", "-n", "6", "--temp", "0", "--json")
        want = self.run_json(*ask)["tokens"]
        for options in (("--kv-io", "mmap"), ("--kv-io", "uring"), ("--kv-io", "threads"), ("-c", "100000"),
                        ("-c", "100000", "--mem-max", "300MiB"), ("--kv-dir", self.dir / "missing")):
            with self.subTest(options=options):
                self.assertEqual(self.run_json(*ask, *options)["tokens"], want)

    def test_a_model_that_is_cut_while_it_is_mapped_ends_in_an_error(self):
        session = self.encode(self.text())
        model = self.dir / "model.gguf"
        shutil.copyfile(self.model(), model)
        with subprocess.Popen([BINARY, "ask", "-m", model, "--session", session, "-n", "6", "--temp", "0"],
                              stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as asked:
            waits = Path(f"/proc/{asked.pid}/wchan")
            deadline = time.monotonic() + 60
            while "pipe_read" not in waits.read_text() and time.monotonic() < deadline and asked.poll() is None:
                pass  # the model is loaded before the question is read
            os.truncate(model, 1 << 20)
            out, err = asked.communicate(b"Who had a dog?", timeout=120)
        self.assertEqual(asked.returncode, BAD_MODEL, err)
        self.assertIn(b"cut short", err)
        self.assertEqual(out, b"")

    def test_several_processes_ask_at_once(self):
        session = self.encode(self.text())
        command = [BINARY, "ask", "--session", session, "-p", "Who had a dog?", "-n", "6", "--temp", "0"]
        runs = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL)
                for _ in range(3)]
        answers = {run.communicate(timeout=120)[0] for run in runs}
        self.assertEqual([run.returncode for run in runs], [0, 0, 0])
        self.assertEqual(len(answers), 1)
        self.assertTrue(answers.pop())

    def test_a_sealed_session_is_not_gone_on_in_and_a_conversation_is_not_asked(self):
        session = self.encode(self.text())
        done = self.run_cli("-m", self.model(), "-p", "x", "-n", "1", "--session", session, status=BAD_SESSION)
        self.assertIn(b"sealed", done.stderr)
        talk = self.dir / "talk.ses"
        self.run_cli("-m", self.model(), "-p", "x", "-n", "1", "--session", talk)
        done = self.run_cli("ask", "--session", talk, "-p", "x", status=BAD_SESSION)
        self.assertIn(b"encode", done.stderr)

    def stop_reading(self, text, session):
        """Interrupts encode once it has read something; returns how many tokens it kept."""
        command = [BINARY, "encode", "-m", self.model(), "-f", text, "--session", session]
        for seconds in (2, 4, 8, 16):
            run = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL)
            time.sleep(seconds)
            run.send_signal(signal.SIGINT)
            stdout, stderr = run.communicate(timeout=120)
            self.assertEqual((run.returncode, stdout), (INTERRUPTED, b""), stderr)
            self.assertFalse(session.exists())
            if os.path.exists(f"{session}.partial"):
                self.assertIn(b"goes on from there", stderr)
                return self.run_json("session", "info", f"{session}.partial", "--json")["tokens"]
        self.fail("nothing was read in 16 seconds")

    def test_a_reading_that_is_stopped_goes_on_where_it_was(self):
        text = self.text(lines=3000)
        session = self.dir / "text.ses"
        kept = self.stop_reading(text, session)
        # The same beginning, a little longer than what was kept: it ends soon.
        part = self.dir / "part.txt"
        part.write_bytes(text.read_bytes()[:6 * kept + 600])
        report = self.run_json("encode", "-m", self.model(), "-f", part, "--session", session, "--json")
        self.assertEqual(report["resumed_tokens"], kept)
        found = self.run_cli("ask", "--session", session, "-p", "Who had a dog?", "-n", "6", "--temp", "0").stdout
        fresh = self.encode(part)
        want = self.run_cli("ask", "--session", fresh, "-p", "Who had a dog?", "-n", "6", "--temp", "0").stdout
        self.assertEqual(found, want)

    def test_damage_is_told_and_made_good(self):
        session = self.encode(self.text())
        want = self.run_cli("ask", "--session", session, "-p", "Who had a dog?", "-n", "6", "--temp", "0").stdout
        data = bytearray(session.read_bytes())
        for at in range(len(data) * 4 // 10, len(data) // 2, 512):
            data[at] ^= 1
        session.write_bytes(data)
        done = self.run_cli("ask", "--session", session, "-p", "Who had a dog?", "-n", "6", "--temp", "0")
        self.assertEqual(done.stdout, want)
        self.assertIn(b"read again", done.stderr)
        self.run_cli("session", "verify", session, status=BAD_SESSION)

    def test_bad_calls(self):
        text = self.text(lines=2)
        self.run_cli("encode", "-m", self.model(), "-f", text, status=USAGE)
        self.run_cli("encode", "-m", self.model(), "--session", self.dir / "s", status=USAGE)
        empty = self.dir / "empty.txt"
        empty.write_bytes(b"")
        self.run_cli("encode", "-m", self.model(), "-f", empty, "--session", self.dir / "s", status=USAGE)
        self.run_cli("ask", "-p", "x", status=USAGE)
        self.run_cli("ask", "--session", self.dir / "none", "-p", "x", status=BAD_SESSION)
        session = self.encode(text)
        self.run_cli("ask", "--session", session, "-p", "", status=USAGE)
        self.run_cli("ask", "--session", session, "-p", "x", "-m", self.dir / "none.gguf", status=BAD_MODEL)
        self.run_cli("ask", "--session", session, "-p", "x", "-m", self.model("gemma3"), status=BAD_SESSION)

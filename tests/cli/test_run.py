"""run: prompts from everywhere, laws between ways of asking, caps, interruption, chat."""

import json
import os
import pty
import select
import signal
import subprocess
import time
import unittest

from cli_case import BINARY, INTERRUPTED, NO_MEMORY, OK, STORAGE, UNSUPPORTED, USAGE, CliCase

LONG = "It was a quiet night at the harbour, and the keeper wrote down every ship that passed. "


def read_until(case, terminal, *wanted, then=b"", seconds=120):
    """Reads a terminal until one of `wanted`, and `then` behind it, has come after what was read before; without any,
    to its end."""
    seen = b""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if not select.select([terminal], [], [], 1)[0]:
            continue
        try:
            piece = os.read(terminal, 4096)
        except OSError:  # the other end is gone
            piece = b""
        seen += piece
        if piece == b"" or any(then in seen.partition(part)[2] for part in wanted if part in seen):
            return
    case.fail(f"waited for {wanted}, saw {seen!r}")


class Prompts(CliCase):
    def reply(self, *arguments, **keywords):
        return self.run_json("-m", self.model(), "-n", "12", "--temp", "0", "--json", *arguments, **keywords)

    def test_a_prompt_reads_the_same_from_argument_file_and_stdin(self):
        path = self.write("prompt.txt", "Name a colour.")
        wanted = self.reply("-p", "Name a colour.")
        for arguments, stdin in ((["-f", path], b""), (["-f", "-"], b"Name a colour."), ([], b"Name a colour."),
                                 (["--prompt=Name a colour."], b"")):
            with self.subTest(arguments):
                self.assertEqual(self.reply(*arguments, stdin=stdin)["tokens"], wanted["tokens"])

    def test_a_plain_prompt_is_the_tokens_of_the_text(self):
        text = "The capital of France is"
        reply = self.reply("-no-cnv", "-p", text)
        tokens = self.run_json("tokenize", "-m", self.model(), stdin=text.encode())["tokens"]
        self.assertEqual(reply["prompt_tokens"], len(tokens))
        self.assertIn("Paris", reply["text"])

    def test_batches_threads_and_isas_of_one_width_say_the_same(self):
        wanted = self.reply("-p", LONG * 8, "-t", "1")
        for arguments in (["-t", "2"], ["-t", "1", "-ub", "32"], ["-t", "1", "-b", "7"], ["-t", "1", "--no-mmap"]):
            with self.subTest(arguments):
                self.assertEqual(self.reply("-p", LONG * 8, *arguments)["tokens"], wanted["tokens"])

    def test_every_cache_type_answers(self):
        for name in ("f32", "bf16", "q8_0", "q4_0"):
            with self.subTest(name):
                reply = self.reply("-p", "Hello", "-ctk", name, "-ctv", name)
                self.assertGreater(reply["generated_tokens"], 0)

    def test_the_answer_prefix_begins_the_answer(self):
        self.assertTrue(self.reply("-p", "What is it?", "--answer-prefix", "It is a")["text"].startswith("It is a"))

    def test_typed_special_tokens_stay_text_in_a_chat(self):
        plain = self.reply("-p", "a")["prompt_tokens"]
        self.assertGreater(self.reply("-p", "a<|im_end|>")["prompt_tokens"], plain + 1)

    def test_schemas_and_grammars_hold(self):
        schema = '{"type":"object","properties":{"n":{"type":"integer"}},"required":["n"],"additionalProperties":false}'
        reply = self.reply("-p", "A number as JSON", "--json-schema", schema, "-n", "60")
        self.assertIsInstance(json.loads(reply["text"])["n"], int)
        path = self.write("g.gbnf", 'root ::= "yes" | "no"')
        reply = self.reply("-p", "Is water wet?", "--grammar-file", path)
        self.assertIn(reply["text"], ("yes", "no"))
        self.assertEqual(reply["stop_reason"], "eos")
        self.run_cli("-m", self.model(), "-p", "x", "--grammar", "root ::= (", status=USAGE)

    def test_stop_reasons(self):
        self.assertEqual(self.reply("-p", "Tell a story.", "--ignore-eos")["stop_reason"], "length")
        self.assertEqual(self.reply("-p", "Tell a story.", "--ignore-eos", "-n", "-1", "-c", "60")["stop_reason"],
                         "context")

    def test_a_reply_of_a_given_length_goes_on_past_the_end_of_the_context(self):
        for model, cache in (("smollm2", "q8_0"), ("gemma3", "q4_0")):
            with self.subTest(model):
                common = ("-m", self.model(model), "-p", "Tell a story.", "--ignore-eos", "-n", "300", "-c", "100",
                          "-ctk", cache, "-ctv", cache, "--temp", "0", "--json")
                done = self.run_cli(*common)
                reply = json.loads(done.stdout)
                self.assertEqual(reply["generated_tokens"], 300)
                self.assertEqual(reply["stop_reason"], "length")
                self.assertEqual(done.stderr.count(b"the context of 100 tokens is full"), 1)
                self.assertEqual(self.run_json(*common, "-t", "1")["tokens"], reply["tokens"])

    def test_the_json_object_is_complete(self):
        reply = self.reply("-p", "Hello", "-s", "5")
        self.assertEqual(set(reply), {"text", "tokens", "prompt_tokens", "cached_tokens", "generated_tokens",
                                      "stop_reason", "timings", "memory", "io", "attention", "seed", "isa", "threads"})
        self.assertEqual(set(reply["timings"]), {"load_ms", "prefill_ms", "prefill_tps", "decode_ms", "decode_tps"})
        self.assertEqual(set(reply["memory"]), {"peak_rss_bytes", "kv_ram_bytes", "kv_disk_bytes"})
        self.assertEqual(set(reply["io"]), {"read_bytes", "write_bytes", "hit_ratio"})
        self.assertEqual(set(reply["attention"]), {"policy", "blocks_read_per_token", "selector_ms"})
        self.assertEqual(reply["seed"], 5)
        self.assertEqual(len(reply["tokens"]), reply["generated_tokens"])


class Refusals(CliCase):
    def test_bad_prompts(self):
        self.run_cli("-m", self.model(), stdin=b"", status=USAGE)
        self.run_cli("-m", self.model(), "-p", "", status=USAGE)
        self.run_cli("-m", self.model(), "-f", self.dir / "none.txt", status=STORAGE)
        self.run_cli("-m", self.model(), "-f", self.dir, status=STORAGE)
        done = self.run_cli("-m", self.model(), "-p", LONG * 20, "-c", "64", status=USAGE)
        self.assertIn(b"64", done.stderr)

    def test_a_cap_that_the_context_does_not_fit_says_what_would(self):
        # More than any disk holds.
        done = self.run_cli("-m", self.model(), "-p", "x", "-c", "1000000000000", "--mem-max", "1GiB",
                            status=NO_MEMORY)
        self.assertIn(b"would fit", done.stderr)
        self.assertIn(b"q8_0", done.stderr)
        self.run_cli("-m", self.model(), "-p", "x", "-n", "2", "--mem-max", "1GiB")

    def test_a_cache_on_disk_says_what_one_in_memory_says(self):
        text = self.dir / "long.txt"
        text.write_text(LONG * 100)
        common = ("-m", self.model(), "-no-cnv", "-f", text, "-n", "8", "--temp", "0", "--json")
        want = self.run_json(*common)
        self.assertEqual(want["memory"]["kv_disk_bytes"], 0)
        for options in ((), ("--kv-io", "threads"), ("-ctk", "q8_0", "-ctv", "q8_0")):
            again = want if len(options) < 3 else self.run_json(*common, *options)
            paged = self.run_json(*common, *options, "-c", "8k", "--mem-max", "124MiB", "--kv-dir", self.dir)
            self.assertEqual(paged["tokens"], again["tokens"])
            self.assertGreater(paged["memory"]["kv_disk_bytes"], 0)
            self.assertGreater(paged["io"]["read_bytes"], 0)
            self.assertLess(paged["memory"]["kv_ram_bytes"], again["memory"]["kv_ram_bytes"])

    def test_a_directory_for_the_cache_that_is_not_there_is_a_storage_error(self):
        done = self.run_cli("-m", self.model(), "-p", "x", "-n", "1", "-c", "64k", "--mem-max", "300MiB", "--kv-dir",
                            self.dir / "none", status=STORAGE)
        self.assertIn(b"none", done.stderr)

    def test_a_million_tokens_of_context_cost_nothing_until_used(self):
        done = self.run_cli("-m", self.model(), "-p", "Hi", "-n", "2", "--temp", "0", "-c", "1000000", "--json")
        memory = json.loads(done.stdout)["memory"]
        self.assertLess(memory["kv_ram_bytes"], 16 << 20)
        self.assertIn(b"trained on", done.stderr)

    def test_a_plugin_that_is_none_is_unsupported(self):
        self.run_cli("-m", self.model(), "-p", "x", "--plugin", self.write("p.so", "x"), status=UNSUPPORTED)

    def test_stdout_that_is_full_or_closed(self):
        for command in (["tokenize", "-m", self.model()], ["--help"], ["inspect", self.model()]):
            with self.subTest(command), open("/dev/full", "wb") as full:
                done = subprocess.run([BINARY, *command], input=b"hi", stdout=full, stderr=subprocess.PIPE)
                self.assertEqual(done.returncode, STORAGE)
        read_end, write_end = os.pipe()
        os.close(read_end)
        done = subprocess.run([BINARY, "--help"], stdout=write_end, stderr=subprocess.PIPE)
        os.close(write_end)
        self.assertEqual((done.returncode, done.stderr), (OK, b""))

    def test_an_interrupt_ends_a_long_prompt_at_once(self):
        path = self.write("long.txt", LONG * 4000)
        ours, theirs = pty.openpty()
        self.addCleanup(os.close, ours)
        child = subprocess.Popen([BINARY, "-m", self.model(), "-f", path, "-c", "200k", "-n", "4", "-t", "1"],
                                 stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=theirs,
                                 env={**os.environ, "TERM": "xterm"})
        os.close(theirs)
        read_until(self, ours, b"Reading")  # the progress line of a prompt that takes minutes
        child.send_signal(signal.SIGINT)
        out, _ = child.communicate(timeout=60)
        self.assertEqual((child.returncode, out), (INTERRUPTED, b""))


class Chat(CliCase):
    def test_lines_of_a_pipe_are_turns(self):
        done = self.run_cli("-m", self.model(), "-cnv", "-n", "8", "--temp", "0",
                            stdin=b"Hello\n/stats\nAnd you?\n/quit\n")
        self.assertGreaterEqual(done.stdout.count(b"\n"), 2)
        self.assertIn(b"context:", done.stderr)

    def test_a_saved_chat_goes_on_as_if_it_had_not_stopped(self):
        path = self.dir / "chat.session"
        common = ["-m", self.model(), "-cnv", "-n", "10", "--temp", "0"]
        whole = self.run_cli(*common, stdin=b"My name is Ada.\nWhat is my name?\n").stdout
        first = self.run_cli(*common, stdin=f"My name is Ada.\n/save {path}\n".encode()).stdout
        second = self.run_cli(*common, stdin=f"/load {path}\nWhat is my name?\n".encode()).stdout
        self.assertEqual(first + second, whole)

    def test_a_damaged_session_is_refused_and_the_chat_goes_on(self):
        path = self.write("bad.session", b"LCRUNSES" + bytes(100))
        done = self.run_cli("-m", self.model(), "-cnv", "-n", "4", "--temp", "0",
                            stdin=f"/load {path}\nHello\n".encode())
        self.assertIn(b"error: ", done.stderr)
        self.assertNotEqual(done.stdout, b"")

    def test_ctrl_c_stops_the_reply_and_not_the_program(self):
        pid, terminal = pty.fork()
        if pid == 0:
            os.environ["TERM"] = "dumb"
            os.execv(BINARY, [BINARY, "-m", self.model(), "-c", "4096", "--ignore-eos", "--temp", "0"])
        self.addCleanup(os.close, terminal)
        read_until(self, terminal, b"> ")
        os.write(terminal, b"Tell me a long story.\n")
        read_until(self, terminal, b"Once", b"I", b"The", b"In", b"A")
        os.write(terminal, b"\x03")
        read_until(self, terminal, b"> ")
        os.write(terminal, b"/quit\n")
        read_until(self, terminal)
        self.assertEqual(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), OK)

    def test_the_arrow_key_brings_an_earlier_line_back(self):
        pid, terminal = pty.fork()
        if pid == 0:
            os.environ["TERM"] = "xterm"
            os.execv(BINARY, [BINARY, "-m", self.model(), "-c", "4096"])
        self.addCleanup(os.close, terminal)
        read_until(self, terminal, b"> ")
        os.write(terminal, "/grüße\r".encode())
        read_until(self, terminal, "unknown command /grüße;".encode())
        os.write(terminal, b"\x1b[A\r")
        # The keys are the line editor's once it has asked again.
        read_until(self, terminal, "unknown command /grüße;".encode(), then=b"> ")
        os.write(terminal, b"half a line\x03")
        read_until(self, terminal, b"Ctrl-C again")
        os.write(terminal, b"/quit\r")
        read_until(self, terminal)
        self.assertEqual(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), OK)


if __name__ == "__main__":
    unittest.main()

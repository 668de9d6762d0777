"""--session and the session command: what was read is kept, damage is noticed, nothing else is touched."""

import json
import signal
import subprocess
import unittest

from cli_case import BAD_SESSION, BINARY, INTERRUPTED, STORAGE, USAGE, CliCase

TEXT = "It was a quiet night at the harbour, and the keeper wrote down every ship that passed. " * 12


class Kept(CliCase):
    def setUp(self):
        super().setUp()
        self.path = self.dir / "s"

    def reply(self, *arguments, name="smollm2", **keywords):
        return self.run_json("-m", self.model(name), "-n", "10", "--temp", "0", "--json", *arguments, **keywords)

    def test_what_was_read_once_serves_the_next_question(self):
        text = self.write("text", TEXT)
        for model in ("smollm2", "gemma3"):
            with self.subTest(model):
                path = self.dir / model
                first = self.reply("-f", text, "-p", "Who wrote?", "--session", path, name=model)
                self.assertEqual(first["cached_tokens"], 0)
                wanted = self.reply("-f", text, "-p", "What passed?", name=model)
                again = self.reply("-f", text, "-p", "What passed?", "--session", path, name=model)
                self.assertEqual(again["tokens"], wanted["tokens"])
                self.assertGreater(again["cached_tokens"], first["prompt_tokens"] - 40)
                self.assertEqual(list(self.dir.glob(f"{model}*")), [path])

    def test_every_way_of_syncing_and_every_cache_type_goes_on_alike(self):
        for sync, cache in (("none", "f16"), ("barrier", "q8_0"), ("full", "q4_0"), ("full", "f32")):
            with self.subTest(sync):
                path = self.dir / (sync + cache)
                common = ["-p", TEXT, "--session", path, "--kv-sync", sync, "-ctk", cache, "-ctv", cache]
                first = self.reply(*common)
                again = self.reply(*common, "-t", "1")
                self.assertEqual(again["tokens"], first["tokens"])
                self.assertGreaterEqual(again["cached_tokens"], first["prompt_tokens"] - 1)

    def test_a_chat_goes_on_where_the_last_one_ended(self):
        common = ["-m", self.model(), "-cnv", "-n", "10", "--temp", "0"]
        whole = self.run_cli(*common, stdin=b"My name is Ada.\nWhat is my name?\n").stdout
        first = self.run_cli(*common, "--session", self.path, stdin=b"My name is Ada.\n").stdout
        second = self.run_cli(*common, "--session", self.path, stdin=b"What is my name?\n").stdout
        self.assertEqual(first + second, whole)

    def test_a_session_that_begins_with_a_sealed_one_shares_its_pages(self):
        text, book = self.write("text", TEXT * 2), self.dir / "book"
        common = ["-f", text, "-p", "What passed?", "-no-cnv"]
        for model in ("smollm2", "gemma3"):
            with self.subTest(model):
                wanted = self.reply(*common, name=model)
                self.run_cli("encode", "-m", self.model(model), "-f", text, "--session", book, "-no-cnv")
                first = self.reply(*common, "--from", book, "--session", self.path, name=model)
                self.assertEqual(first["tokens"], wanted["tokens"])
                self.assertGreater(first["cached_tokens"], first["prompt_tokens"] - 20)
                info = self.run_json("session", "info", self.path, "--json")
                self.assertEqual(info["parent"], str(book))
                self.assertGreaterEqual(info["shared_tokens"], first["prompt_tokens"] - 84)
                self.assertGreater(info["shared_bytes"], 0)
                self.assertTrue(self.run_json("session", "verify", self.path, "--json")["whole"])
                again = self.reply(*common, "--from", "nowhere", "--session", self.path, name=model)
                self.assertEqual(again["tokens"], wanted["tokens"])
                done = self.run_cli("session", "rm", book, status=BAD_SESSION)
                self.assertIn(str(self.path).encode(), done.stderr)
                self.run_cli("session", "rm", book, "--force")
                done = self.run_cli("-m", self.model(model), *common, "--session", self.path, status=BAD_SESSION)
                self.assertIn(str(book).encode(), done.stderr)
                self.run_cli("session", "verify", self.path, status=BAD_SESSION)
                self.assertFalse(self.run_json("session", "info", self.path, "--json")["parent_there"])
                reread = self.reply(*common, "--session", self.path, "--reread", name=model)
                self.assertEqual(reread["tokens"], wanted["tokens"])
                self.assertEqual(reread["cached_tokens"], 0)
                self.assertIsNone(self.run_json("session", "info", self.path, "--json")["parent"])
                self.run_cli("session", "rm", self.path)

    def test_an_interrupted_reply_is_kept(self):
        child = subprocess.Popen([BINARY, "-m", self.model(), "-p", TEXT, "--ignore-eos", "--temp", "0", "--session",
                                  self.path], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        self.assertNotEqual(child.stdout.read(4), b"")
        child.send_signal(signal.SIGTERM)
        child.communicate(timeout=60)
        self.assertEqual(child.returncode, INTERRUPTED)
        done = self.reply("-p", TEXT, "--session", self.path)
        self.assertGreaterEqual(done["cached_tokens"], done["prompt_tokens"] - 1)


class Refused(CliCase):
    def saved(self, *arguments):
        path = self.dir / "s"
        self.run_cli("-m", self.model(), "-p", TEXT, "-n", "4", "--temp", "0", "--session", path, *arguments)
        return path

    def test_info_verify_and_rm(self):
        path = self.saved()
        info = self.run_json("session", "info", path, "--json")
        self.assertEqual((info["format"], info["commit"], info["sealed"]), (2, 1, False))
        self.assertEqual((info["architecture"], info["type_k"]), ("llama", "F16"))
        self.assertEqual(info["layers"], 30)
        table = self.run_cli("session", "info", path).stdout.decode()
        self.assertIn(info["id"], table)
        self.assertEqual(self.run_json("session", "verify", path, "--json")["pages"], info["pages"])
        self.assertIn(b"whole", self.run_cli("session", "verify", path).stdout)
        self.assertEqual(self.run_cli("session", "rm", path).stdout, b"")
        self.assertFalse(path.exists())

    def test_what_is_no_session_or_not_there_is_left_alone(self):
        other = self.write("letter.txt", "Dear reader,\n" * 2000)
        for what in ("info", "verify", "rm"):
            for path in (other, self.dir / "none", self.dir):
                with self.subTest((what, path)):
                    done = self.run_cli("session", what, path, status=STORAGE if path == self.dir else BAD_SESSION)
                    self.assertIn(str(path).encode(), done.stderr)
        self.run_cli("-m", self.model(), "-p", "x", "--session", other, status=BAD_SESSION)
        self.assertTrue((self.dir / "letter.txt").read_text().startswith("Dear reader"))
        self.run_cli("session", "shred", other, status=USAGE)
        self.run_cli("session", "info", status=USAGE)
        self.run_cli("-m", self.model(), "-p", "x", "--session", self.dir / "no" / "s", status=STORAGE)

    def test_damage_is_found_and_read_again(self):
        path = self.saved()
        wanted = self.run_json("-m", self.model(), "-p", TEXT, "-n", "8", "--temp", "0", "--json")["tokens"]
        good = path.read_bytes()
        middle = len(good) // 2
        path.write_bytes(good[:middle] + b"\xff" * 8192 + good[middle + 8192:])  # wider than what pads a page
        self.assertIn(b" pages: layer ", self.run_cli("session", "verify", path, status=BAD_SESSION).stderr)
        done = self.run_cli("-m", self.model(), "-p", TEXT, "-n", "8", "--temp", "0", "--json", "--session", path)
        reply = json.loads(done.stdout)
        self.assertIn(b"tokens can be used", done.stderr)
        self.assertEqual(reply["tokens"], wanted)
        self.assertLess(reply["cached_tokens"], reply["prompt_tokens"] - 1)
        self.run_cli("session", "verify", path)

    def test_another_model_or_cache_type_is_refused_by_name(self):
        path = self.saved("-ctk", "q8_0", "-ctv", "q8_0")
        before = path.read_bytes()
        done = self.run_cli("-m", self.model(), "-p", "x", "--session", path, status=BAD_SESSION)
        self.assertIn(b"Q8_0 and Q8_0", done.stderr)
        done = self.run_cli("-m", self.model("gemma3"), "-p", "x", "--session", path, "-ctk", "q8_0", "-ctv", "q8_0",
                            status=BAD_SESSION)
        self.assertIn(b"fingerprint", done.stderr)
        self.assertEqual(path.read_bytes(), before)


if __name__ == "__main__":
    unittest.main()

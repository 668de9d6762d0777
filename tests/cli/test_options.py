"""Options: environment, spellings, what a later version will do, and the documents made from the table."""

import platform
import unittest

from cli_case import OK, UNSUPPORTED, USAGE, CliCase


class Options(CliCase):
    def plan(self, *arguments, **keywords):
        return self.run_json("plan", "-m", self.model(), "--json", *arguments, **keywords)

    def test_the_environment_sets_what_arguments_do_not(self):
        self.assertEqual(self.plan(env={"LCRUN_CTX_SIZE": "1M"})["n_ctx"], 1000000)
        self.assertEqual(self.plan("-c", "64k", env={"LCRUN_CTX_SIZE": "1M"})["n_ctx"], 64000)

    def test_a_bad_value_in_the_environment_names_the_variable(self):
        done = self.run_cli("plan", env={"LCRUN_CTX_SIZE": "huge"}, status=USAGE)
        self.assertIn(b"LCRUN_CTX_SIZE", done.stderr)

    def test_llama_cpps_variables_are_taken_with_a_note(self):
        done = self.run_cli("plan", "-m", self.model(), "--json", env={"LLAMA_ARG_CTX_SIZE": "2048"})
        self.assertIn(b'"n_ctx": 2048', done.stdout)
        self.assertIn(b"LLAMA_ARG_CTX_SIZE", done.stderr)

    def test_policies_are_named_where_one_is_mistyped(self):
        for option in ("--attention", "--prefill"):
            done = self.run_cli("-m", self.model(), "-p", "x", option, "sparse", status=USAGE)
            self.assertIn(option.encode(), done.stderr)
            self.assertIn(b"auto, dense, stream, select", done.stderr)

    def test_commands_of_a_later_version_are_refused(self):
        for command in ("convert", "serve"):
            with self.subTest(command):
                done = self.run_cli(command, "--anything", status=UNSUPPORTED)
                self.assertIn(b"not available in this version", done.stderr)

    def test_a_mistyped_option_or_command_is_guessed(self):
        self.assertIn(b"--threads", self.run_cli("run", "--theads", "2", status=USAGE).stderr)
        self.assertIn(b"tokenize", self.run_cli("tokenise", status=USAGE).stderr)

    def test_an_instruction_set_that_is_not_here_is_unsupported(self):
        foreign = "avx2" if platform.machine() == "aarch64" else "neon"
        self.run_cli("-m", self.model(), "-p", "x", "--isa", foreign, status=UNSUPPORTED)

    def test_documents_come_from_the_table(self):
        for argument, part in (("--help-markdown", b"| `-c, --ctx-size N` |"), ("--help-man", b".TH LCRUN 1"),
                               ("--completion-bash", b"complete -o filenames -F _lcrun lcrun"),
                               ("--completion-zsh", b"#compdef lcrun"), ("--completion-fish", b"complete -c lcrun")):
            with self.subTest(argument):
                done = self.run_cli(argument, status=OK)
                self.assertIn(part, done.stdout)
                self.assertEqual(done.stderr, b"")

    def test_without_m_the_cached_model_is_used_and_named(self):
        self.model()
        done = self.run_cli("tokenize", stdin=b"hi")
        self.assertIn(b"SmolLM2-135M-Instruct.Q4_1.gguf", done.stderr)

    def test_without_a_cached_model_either_the_model_is_missing(self):
        done = self.run_cli("tokenize", stdin=b"hi", env={"LCRUN_MODEL_DIR": str(self.dir)}, status=3)
        self.assertIn(str(self.dir).encode(), done.stderr)


if __name__ == "__main__":
    unittest.main()

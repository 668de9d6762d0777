"""The contract of the command line that scripts rely on: exit codes, clean stdout, options, laws between commands."""

import json
import os
import signal
import subprocess
from pathlib import Path

import pytest

OK, USAGE, BAD_MODEL, NO_MEMORY, STORAGE, INTERRUPTED = 0, 2, 3, 4, 5, 130


def binary():
    return os.environ.get("LCRUN_BIN") or str(Path(__file__).parents[2] / "build" / "cli" / "lcrun")


def test_the_version_names_version_commit_and_instruction_sets(lcrun):
    outcome = lcrun("--version")
    assert outcome.status == OK
    assert outcome.out.startswith("lcrun ")
    assert "scalar" in outcome.out


@pytest.mark.parametrize("command", [[], ["run"], ["tokenize"], ["bench"], ["plan"], ["inspect"], ["quantize"]])
def test_help_goes_to_stdout_and_succeeds(lcrun, command):
    outcome = lcrun(*command, "--help")
    assert outcome.status == OK
    assert "--" in outcome.out
    assert outcome.err == ""


@pytest.mark.parametrize("arguments, named", [
    (["--no-such-option"], "--no-such-option"),
    (["-p", "x", "--temp", "nan"], "temp"),
    (["-p", "x", "--top-p", "2"], "top-p"),
    (["-p", "x", "-c", "-1"], "-c"),
    (["-p", "x", "-n", "many"], "-n"),
    (["-p", "x", "-ctk", "q9_9"], "ctk"),
    (["-p", "x", "--isa", "abacus"], "isa"),
])
def test_a_usage_error_is_2_and_names_the_option(lcrun, smollm2, arguments, named):
    outcome = lcrun("-m", smollm2, *arguments)
    assert outcome.status == USAGE
    assert named in outcome.err
    assert outcome.out == ""


def test_an_unknown_command_is_a_usage_error(lcrun):
    assert lcrun("frobnicate").status == USAGE


@pytest.mark.parametrize("contents", [None, b"", b"GGUF", b"GGUF\3\0\0\0" + b"\xff" * 64, b"not a model at all"])
def test_a_model_file_that_is_missing_or_damaged_is_3(lcrun, tmp_path, contents):
    path = tmp_path / "m.gguf"
    if contents is not None:
        path.write_bytes(contents)
    for command in (["-m", path, "-p", "x"], ["inspect", path], ["plan", "-m", path]):
        outcome = lcrun(*command)
        assert outcome.status == BAD_MODEL, command
        assert "m.gguf" in outcome.err


def test_a_context_that_cannot_fit_the_cap_is_4(lcrun, smollm2):
    outcome = lcrun("-m", smollm2, "-p", "x", "-n", "1", "--mem-max", "1MiB")
    assert outcome.status == NO_MEMORY
    assert outcome.out == ""


def test_a_full_disk_is_5(smollm2):
    with open("/dev/full", "wb") as full:
        done = subprocess.run([binary(), "-m", smollm2, "-p", "Hello", "-n", "4", "--temp", "0"], stdout=full,
                              stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, timeout=120)
    assert done.returncode == STORAGE
    assert done.stderr


def test_a_reader_that_leaves_early_is_no_error(smollm2):
    child = subprocess.Popen([binary(), "-m", smollm2, "-p", "Tell a long story.", "-n", "64", "--temp", "0"],
                             stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL)
    child.stdout.close()
    child.stderr.read()
    assert child.wait(timeout=120) == OK


def test_an_open_stdin_is_not_waited_for(smollm2):
    child = subprocess.Popen([binary(), "-m", smollm2, "-p", "Hi", "-n", "2", "--temp", "0"], stdin=subprocess.PIPE,
                             stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        assert child.wait(timeout=120) == OK
    finally:
        child.kill()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_ends_in_130(smollm2, number):
    child = subprocess.Popen([binary(), "-m", smollm2, "-p", "Tell a story.", "-n", "100000", "-c", "100000",
                              "--temp", "0", "--ignore-eos"], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                             stdin=subprocess.DEVNULL)
    child.stdout.read(1)  # it has begun to answer
    child.send_signal(number)
    child.communicate(timeout=120)
    assert child.returncode == INTERRUPTED


def test_stdout_holds_the_text_alone_and_greedy_runs_repeat(lcrun, smollm2):
    first = lcrun("-m", smollm2, "-p", "Name three colours.", "-n", "24", "--temp", "0")
    second = lcrun("-m", smollm2, "-p", "Name three colours.", "-n", "24", "--temp", "0")
    assert first.status == OK
    assert len(first.out.split()) > 3
    assert first.out == second.out


def test_one_thread_and_two_say_the_same(lcrun, smollm2):
    common = ["-m", smollm2, "-p", "Name three birds.", "-n", "32", "--temp", "0", "--json"]
    one, two = (lcrun(*common, "-t", n).json() for n in (1, 2))
    assert one["tokens"] == two["tokens"]


def test_a_seed_repeats_and_another_seed_differs(lcrun, smollm2):
    common = ["-m", smollm2, "-p", "Tell a story.", "-n", "32", "--temp", "1.5", "--json"]
    runs = [lcrun(*common, "--seed", seed).json() for seed in (7, 7, 8)]
    assert runs[0]["tokens"] == runs[1]["tokens"]
    assert runs[0]["tokens"] != runs[2]["tokens"]
    assert runs[0]["seed"] == 7


def test_the_json_object_has_what_it_promises(lcrun, smollm2):
    data = lcrun("-m", smollm2, "-p", "Hello", "-n", "8", "--temp", "0", "--json").json()
    for key in ("text", "tokens", "prompt_tokens", "cached_tokens", "generated_tokens", "stop_reason", "timings",
                "memory", "seed", "isa", "threads"):
        assert key in data, key
    assert data["generated_tokens"] == len(data["tokens"]) <= 8
    for key in ("load_ms", "prefill_ms", "prefill_tps", "decode_ms", "decode_tps"):
        assert data["timings"][key] >= 0
    assert data["memory"]["peak_rss_bytes"] > 0


@pytest.mark.parametrize("text", ["Hello, world!", "  two  blanks\n\n\ttabs", "Ünïcödé 漢字 🙂", "", "a" * 5000,
                                  "<|im_start|>user"])
@pytest.mark.parametrize("model", ["smollm2", "gemma3"])
def test_tokenize_and_detokenize_are_inverse(lcrun, request, model, text):
    path = request.getfixturevalue(model)
    tokens = lcrun("tokenize", "-m", path, "--no-bos", stdin=text)
    assert tokens.status == OK
    assert lcrun("detokenize", "-m", path, stdin=json.dumps(tokens.json())).out == text


def test_sizes_may_be_written_with_units(lcrun, smollm2):
    plans = [lcrun("plan", "-m", smollm2, "-c", size, "--json").json() for size in ("65536", "64Ki")]
    for plan in plans:
        plan.pop("speed")  # measured, and so not the same twice
        plan.pop("disk_free_bytes")  # others write, too
    assert plans[0] == plans[1]


def test_a_file_as_context_and_a_question_about_it(lcrun, smollm2, tmp_path):
    text = tmp_path / "note.txt"
    text.write_text("The harbour master's cat is called Marmalade. She sleeps on the stove.\n")
    outcome = lcrun("-m", smollm2, "-f", text, "-p", "Repeat the first sentence of the text.", "-n", "48",
                    "--temp", "0")
    assert outcome.status == OK
    assert "Marmalade" in outcome.out


@pytest.mark.parametrize("isa", ["scalar", "avx2"])
def test_a_named_instruction_set_is_used(lcrun, smollm2, isa):
    if isa not in lcrun("--version").out or (isa != "scalar" and isa not in Path("/proc/cpuinfo").read_text()):
        pytest.skip(f"no {isa} here")
    data = lcrun("-m", smollm2, "-p", "Hello", "-n", "2", "--temp", "0", "--json", "--isa", isa).json()
    assert data["isa"] == isa


def test_bench_speaks_llama_benchs_fields(lcrun, smollm2):
    outcome = lcrun("bench", "-m", smollm2, "-p", "16", "-n", "4", "-r", "2", "-o", "json")
    assert outcome.status == OK
    rows = outcome.json()
    assert [(row["n_prompt"], row["n_gen"]) for row in rows] == [(16, 0), (0, 4)]
    for row in rows:
        assert row["avg_ts"] > 0 and len(row["samples_ts"]) == 2
        for key in ("model_filename", "n_depth", "type_k", "n_threads", "stddev_ts", "bytes_per_token", "isa"):
            assert key in row, key


def test_the_options_page_is_what_the_option_table_says(lcrun):
    page = Path(__file__).parents[2] / "docs" / "options.md"
    assert page.read_text() == lcrun("--help-markdown").out, "run: build/cli/lcrun --help-markdown > docs/options.md"

"""bench/compare.py against programs that print what they are told, and the table that bench/plot_depth.py makes."""

import importlib.util
import json
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

FAKE = """#!{python}
import json, pathlib, sys, time
if sys.argv[1:] == ["--version"]:
    print("lcrun 0.1.0", "commit: 0123456789ab", sep=chr(10))
    sys.exit()
count = pathlib.Path(__file__).with_suffix(".count")
turn = int(count.read_text()) if count.exists() else 0
count.write_text(str(turn + 1))
arguments = sys.argv[1:]
value = lambda name: arguments[arguments.index(name) + 1] if name in arguments else None
depth = int(value("-d") or 0)
{extra}
speed = {speeds}[value("-fa")] + turn % 3
common = dict(avg_ts=0, type_k=value("-ctk"), n_threads=2, isa="avx2", bytes_per_token=5e6, stream_gbs=2.0)
if depth:
    common["n_depth"] = depth
print(json.dumps([
    dict(common, n_prompt=512, n_gen=0, samples_ts=[10 * speed] * int(value("-r"))),
    dict(common, n_prompt=0, n_gen=int(value("-n")), samples_ts=[speed] * int(value("-r")))]))
"""


def fake(path, speeds, extra=""):
    path.write_text(FAKE.format(python=sys.executable, speeds=speeds, extra=extra))
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return str(path)


@pytest.fixture
def place(tmp_path):
    (tmp_path / "m.gguf").write_bytes(b"GGUF")
    return tmp_path


def command(place, *arguments, ours_extra=""):
    ours = fake(place / "lcrun", {None: 200}, ours_extra)
    return [sys.executable, str(ROOT / "bench" / "compare.py"), "-m", str(place / "m.gguf"), "--lcrun", ours,
            "--results", str(place / "results"), *arguments]


def compare(place, *arguments, status=0, **keywords):
    """Returns (the finished process, the result that it wrote)."""
    done = subprocess.run(command(place, *arguments, **keywords), capture_output=True, text=True)
    assert done.returncode == status, done.stderr
    return done, result_of(place)


def result_of(place):
    files = list((place / "results").glob("*.json"))
    return json.loads(files[0].read_text()) if files else None


def test_the_faster_peer_counts_and_every_round_is_kept(place):
    peer = fake(place / "llama-bench", {"0": 50, "1": 100})
    done, result = compare(place, "--llama-bench", peer, "-d", "0,64", "-r", "5")
    assert "| pp512 |" in done.stdout and "| tg128 @ d64 |" in done.stdout
    assert result["commit"] == "0123456789ab" and result["complete"]
    assert len(result["samples"]["lcrun"]["tg128"]) == 5
    assert len(result["table"]) == 4
    for row in result["table"]:
        assert row["peer"] == "llama.cpp fa=1"
        assert 1.9 < row["ratio"] < 2.1
    assert str(place) not in json.dumps(result)


def test_every_peer_has_a_row_and_may_have_options_of_its_own(place):
    peer = fake(place / "llama-bench", {"0": 50, "1": 100})
    other = fake(place / "other", {"1": 150})
    _, result = compare(place, "--llama-bench", peer, "--peer", f"ik={other} -fa 1 -ctk q8_0", "-r", "2")
    assert {(row["test"], row["peer"]) for row in result["table"]} == {
        (test, name) for test in ("pp512", "tg128") for name in ("llama.cpp fa=1", "ik")}
    assert result["contenders"]["ik"]["type_k"] == "q8_0"
    assert result["contenders"]["lcrun"]["type_k"] == "f16"


def test_decoding_shows_its_share_of_the_read_bandwidth(place):
    done, result = compare(place, "--peer", f"p={fake(place / 'p', {None: 100})}", "-r", "1")
    assert result["read_share"]["lcrun"] == {"tg128": [pytest.approx(200 * 5e6 / 2e9)]}
    assert "| 50 % |" in done.stdout


def test_depths_have_rounds_repetitions_and_lengths_of_their_own(place):
    _, result = compare(place, "--peer", f"p={fake(place / 'p', {None: 100})}", "-d", "0,64", "-r", "3",
                        "--depth-rounds", "2", "--depth-reps", "4", "--depth-gen", "16")
    assert {test: len(values) for test, values in result["samples"]["p"].items()} == {
        "pp512": 3, "tg128": 3, "pp512 @ d64": 2, "tg16 @ d64": 2}


def test_a_peer_that_fails_is_left_out_with_its_reason(place):
    broken = fake(place / "broken", {None: 1}, "if depth: sys.exit('no such option: -d')")
    good = fake(place / "good", {None: 100})
    done, result = compare(place, "--peer", f"broken={broken}", "--peer", f"good={good}", "-d", "0,64,128", "-r", "2")
    assert result["unmeasured"] == {"broken": {"from_depth": 64, "reason": "exit status 1: no such option: -d"}}
    assert "Not measured from depth 64 on: broken: exit status 1: no such option: -d" in done.stdout
    assert len(result["samples"]["broken"]["pp512"]) == 2
    assert len(result["samples"]["good"]["pp512 @ d128"]) == 2


def test_a_peer_that_does_not_end_is_stopped(place):
    stuck = fake(place / "stuck", {None: 1}, "if depth: time.sleep(600)")
    _, result = compare(place, "--peer", f"stuck={stuck}", "-d", "0,64,128", "-r", "2", "--budget", "2")
    assert result["unmeasured"]["stuck"] == {"from_depth": 64, "reason": "did not end within 2 s"}
    assert len(result["samples"]["lcrun"]["pp512 @ d128"]) == 2


def test_no_peer_at_all_is_a_failure(place):
    done, result = compare(place, "--peer", "none=/bin/false", status=1)
    assert "exit status 1" in done.stderr
    assert result["table"] == []


def test_our_own_failure_ends_the_comparison(place):
    done, _ = compare(place, "--peer", f"p={fake(place / 'p', {None: 100})}", status=1, ours_extra="sys.exit('broken')")
    assert "lcrun, depth 0: exit status 1: broken" in done.stderr


def test_a_run_that_is_cut_off_keeps_what_it_has(place):
    peer = fake(place / "p", {None: 100}, "if turn: time.sleep(600)")
    running = subprocess.Popen(command(place, "--peer", f"p={peer}", "-r", "5"), stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE, text=True)
    for line in running.stderr:
        if line.startswith("depth 0, round 1 of 5: p:"):
            break
    running.send_signal(signal.SIGTERM)
    out, _ = running.communicate(timeout=60)
    assert running.returncode == 130
    assert "| pp512 |" in out
    result = result_of(place)
    assert not result["complete"] and len(result["table"]) == 2


@pytest.fixture(scope="module")
def plot():
    spec = importlib.util.spec_from_file_location("plot_depth", ROOT / "bench" / "plot_depth.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


RESULT = {"date": "2026-01-02 03:04", "commit": "0123456789ab", "machine": {"cpu": "Any"}, "threads": 2,
          "model": {"file": "m.gguf"}, "type_k": "f16", "unmeasured": {"p fa=1": {"from_depth": 64, "reason": "slow"}},
          "samples": {"lcrun": {"pp512": [200.0, 210.0, 190.0], "tg128": [20.0], "pp512 @ d64": [100.0],
                                "tg32 @ d64": [10.0]},
                      "p fa=0": {"pp512": [50.0], "tg128": [10.0], "tg32 @ d64": [4.0]},
                      "p fa=1": {"pp512": [100.0, 100.0, 100.0], "tg128": [8.0]}}}


def test_curves_hold_the_better_setting_at_each_depth(plot):
    curves = plot.curves([RESULT])
    assert curves["pp"] == {"lcrun": {0: 200.0, 64: 100.0}, "p": {0: 100.0}}
    assert curves["tg"] == {"lcrun": {0: 20.0, 64: 10.0}, "p": {0: 10.0, 64: 4.0}}


def test_the_table_has_a_row_a_depth_and_ratios(plot):
    lines = plot.table(plot.curves([RESULT])).splitlines()
    assert lines[0] == "| depth | prefill: lcrun | p | decode: lcrun | p |"
    assert lines[2:] == ["| 0 | 200 | 100 (2.00) | 20.0 | 10.0 (2.00) |", "| 64 | 100 | - | 10.0 | 4.00 (2.50) |"]


def test_only_what_lies_between_the_marks_is_replaced(plot):
    page = f"before\n{plot.BEGIN}\nold\n{plot.END}\nafter\n"
    assert plot.replace_between_marks(page, "new") == f"before\n{plot.BEGIN}\nnew\n{plot.END}\nafter\n"
    with pytest.raises(SystemExit):
        plot.replace_between_marks("no marks", "new")

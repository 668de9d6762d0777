"""bench/compare.py against two programs that print what they are told."""

import json
import stat
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]

FAKE = """#!{python}
import json, pathlib, sys
if sys.argv[1:] == ["--version"]:
    print("lcrun 0.1.0", "commit: 0123456789ab", sep=chr(10))
    sys.exit()
count = pathlib.Path(__file__).with_suffix(".count")
turn = int(count.read_text()) if count.exists() else 0
count.write_text(str(turn + 1))
arguments = sys.argv[1:]
flash = arguments[arguments.index("-fa") + 1] if "-fa" in arguments else "none"
speed = {speeds}[flash] + turn % 3
depth = int(arguments[arguments.index("-d") + 1])
print(json.dumps([
    dict(n_prompt=512, n_gen=0, n_depth=depth, avg_ts=10 * speed, type_k="f16", n_threads=2, isa="avx2"),
    dict(n_prompt=0, n_gen=128, n_depth=depth, avg_ts=speed, type_k="f16", n_threads=2, isa="avx2")]))
"""


def fake(path, speeds):
    path.write_text(FAKE.format(python=sys.executable, speeds=speeds))
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return str(path)


def test_the_faster_peer_counts_and_every_round_is_kept(tmp_path):
    model = tmp_path / "m.gguf"
    model.write_bytes(b"GGUF")
    ours = fake(tmp_path / "lcrun", {"none": 200})
    peer = fake(tmp_path / "llama-bench", {"0": 50, "1": 100})
    done = subprocess.run([sys.executable, str(ROOT / "bench" / "compare.py"), "-m", str(model), "--lcrun", ours,
                           "--llama-bench", peer, "-d", "0,64", "-r", "5", "--results", str(tmp_path / "results")],
                          capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "| pp512 |" in done.stdout and "| tg128 @ d64 |" in done.stdout
    result = json.loads(next((tmp_path / "results").glob("*.json")).read_text())
    assert result["commit"] == "0123456789ab"
    assert len(result["samples"]["lcrun"]["tg128"]) == 5
    for row in result["table"]:
        assert row["peer"] == "llama.cpp fa=1"
        assert 1.9 < row["ratio"] < 2.1
    assert str(tmp_path) not in json.dumps(result)


def test_a_program_that_fails_ends_the_comparison(tmp_path):
    model = tmp_path / "m.gguf"
    model.write_bytes(b"GGUF")
    ours = fake(tmp_path / "lcrun", {"none": 200})
    done = subprocess.run([sys.executable, str(ROOT / "bench" / "compare.py"), "-m", str(model), "--lcrun", ours,
                           "--llama-bench", "/bin/false", "--results", str(tmp_path / "results")],
                          capture_output=True, text=True)
    assert done.returncode == 1
    assert "exit status 1" in done.stderr
    assert not (tmp_path / "results").exists()

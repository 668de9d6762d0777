"""bench/compare_logits.py: its figures on positions worked out by hand, and its verdicts on two programs."""

import importlib.util
import json
import math
import stat
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "bench" / "compare_logits.py"
spec = importlib.util.spec_from_file_location("compare_logits", SCRIPT)
logits = importlib.util.module_from_spec(spec)
spec.loader.exec_module(logits)


def position(pos, values, token=5):
    """A position whose vocabulary is `values`, whole."""
    best = sorted(enumerate(values), key=lambda pair: (-pair[1], pair[0]))
    return {"pos": pos, "token": token, "lse": math.log(sum(map(math.exp, values))), "top": list(map(list, best))}


def test_equal_logits_have_no_distance():
    rows = [position(0, [1.0, 2.0, 3.0]), position(1, [4.0, 2.0, 0.5])]
    report = logits.compare(rows, rows, 3)
    assert report["top1"] == report["positions"] == 2
    assert report["kl_mean"] == report["worst_gap"] == report["worst_diff"] == 0


def test_a_constant_added_to_all_logits_changes_nothing():
    report = logits.compare([position(0, [1.5, 2.5, 3.5])], [position(0, [1.0, 2.0, 3.0])], 3)
    assert abs(report["kl_mean"]) < 1e-12 and report["top1"] == 1


def test_kl_over_the_whole_vocabulary_is_the_divergence():
    p, q = [0.5, 0.3, 0.2], [0.4, 0.4, 0.2]
    report = logits.compare([position(0, [math.log(x) for x in q])], [position(0, [math.log(x) for x in p])], 3)
    assert report["kl_mean"] == pytest.approx(sum(a * math.log(a / b) for a, b in zip(p, q)))
    assert report["worst_diff"] == pytest.approx(math.log(0.4 / 0.3))


def test_the_gap_is_how_much_the_peer_prefers_its_own_best():
    theirs = [position(0, [1.0, 3.0, 0.0]), position(1, [1.0, 1.05, 0.0])]
    ours = [position(0, [3.0, 1.0, 0.0]), position(1, [1.05, 1.0, 0.0])]
    report = logits.compare(ours, theirs, 3)
    assert report["top1"] == 0
    assert (report["clear"], report["clear_top1"]) == (1, 0)  # the second is a near tie
    assert (report["worst_gap"], report["worst_gap_pos"]) == (2.0, 0)


def test_a_token_that_is_not_among_ours_counts_with_our_last():
    theirs, ours = position(0, [3.0, 2.0, 1.0]), position(0, [3.0, 2.0, 1.0])
    ours["top"] = ours["top"][:2]
    report = logits.compare([ours], [theirs], 3)
    assert report["unknown"] == 1
    assert report["kl_mean"] < 0  # a lower bound: the missing token got too much


def test_the_first_position_with_another_token_is_named():
    rows = [position(0, [1.0, 0.0], 7), position(1, [1.0, 0.0], 8)]
    assert logits.first_difference(rows, rows) is None
    assert logits.first_difference(rows, rows[:1]) == 1
    assert logits.first_difference(rows, [rows[0], position(1, [1.0, 0.0], 9)]) == 1


def test_positions_out_of_order_are_refused():
    with pytest.raises(ValueError, match="wanted 0"):
        logits.parse_lines(json.dumps(position(1, [1.0, 0.0])) + "\n")


def program(path, rows):
    path.write_text(f"#!{sys.executable}\nprint({chr(10).join(map(json.dumps, rows))!r})\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return str(path)


@pytest.mark.parametrize("token, status", [(5, 0), (6, 1)])
def test_two_programs_are_compared_only_on_the_same_tokens(tmp_path, token, status):
    ours = program(tmp_path / "lcrun", [position(0, [1.0, 2.0])])
    peer = program(tmp_path / "peer", [position(0, [1.0, 2.5], token)])
    (tmp_path / "t.txt").write_text("text")
    done = subprocess.run([sys.executable, str(SCRIPT), "-m", "m", "-f", str(tmp_path / "t.txt"), "--peer", peer,
                           "--lcrun", ours, "-o", str(tmp_path / "r.json")], capture_output=True, text=True)
    assert done.returncode == status, done.stderr
    if status == 0:
        assert "| auto | 1 / 1 (100.0 %) |" in done.stdout
        assert json.loads((tmp_path / "r.json").read_text())["auto"]["top1"] == 1
    else:
        assert "token ids differ from position 0" in done.stderr

"""tests/counts/count_instructions.py: what it says of given counts, and that it counts what it is told to count."""

import importlib.util
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / "counts" / "count_instructions.py"
spec = importlib.util.spec_from_file_location("count_instructions", SCRIPT)
counts = importlib.util.module_from_spec(spec)
spec.loader.exec_module(counts)


@pytest.mark.parametrize("now, status, word", [(1000, 0, "ok"), (1029, 0, "ok"), (1031, 1, "FAIL"), (969, 0, "HINT")])
def test_more_than_three_per_cent_fails_and_less_is_a_hint(now, status, word):
    found, lines = counts.verdict({"a": now}, {"a": 1000})
    assert found == status
    assert lines[0].split()[0] == word


@pytest.mark.parametrize("now, before", [({"a": 1, "b": 1}, {"a": 1}), ({"a": 1}, {"a": 1, "b": 1})])
def test_a_case_on_one_side_only_fails(now, before):
    status, lines = counts.verdict(now, before)
    assert status == 1
    assert any("b:" in line for line in lines)


PROGRAM = """
#include <stdio.h>
#include <string.h>
volatile int sink;
__attribute__((noinline)) void counted_run(int n) { for (int i = 0; i < n; ++i) sink += i; }
int main(int argc, char** argv) {
  if (strcmp(argv[1], "make") == 0) return 0;
  for (int i = 0; i < 1000000; ++i) sink += i;  /* outside: not counted */
  counted_run(10000); puts("short");
  counted_run(20000); puts("long");
  return 0;
}
"""


def test_only_the_named_function_is_counted_call_by_call(tmp_path):
    (tmp_path / "p.c").write_text(PROGRAM)
    subprocess.run(["gcc", "-O1", "p.c", "-o", "p"], cwd=tmp_path, check=True)
    found = counts.count(str(tmp_path / "p"))
    assert list(found) == ["short", "long"]
    assert 10000 <= found["short"] < 100000
    assert found["long"] == pytest.approx(2 * found["short"], rel=0.01)
    assert counts.compiler_of(str(tmp_path / "p")).startswith("GCC ")

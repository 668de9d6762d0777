#!/usr/bin/env python3
"""Counts the instructions of small runs under valgrind and compares them with a baseline.

    count_instructions.py PROGRAM [--baseline FILE] [--rebaseline]

PROGRAM (counted_run.cpp) calls counted_run() once for each case it names. Counts do not feel a busy machine, so a
slow-down of some per cent shows that no clock would: a case that takes over 3 % more than the baseline fails, one that
takes over 3 % less asks for a new baseline. Everything runs as AVX2, which valgrind knows, so that machines agree; a
compiler makes its own code, so the baseline is per compiler, and one that has none is skipped.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

BASELINE = Path(__file__).resolve().parent.parent / "golden" / "instruction_counts.json"
TOLERANCE = 0.03
SKIPPED = 77


def compiler_of(program):
    """Which compiler made the program, by what it left in it: "GCC 12"."""
    comment = subprocess.run(["readelf", "-p", ".comment", program], capture_output=True, text=True,
                             check=True).stdout
    if match := re.search(r"clang version (\d+)", comment):
        return f"clang {match[1]}"
    match = re.search(r"GCC: \(.*\) (\d+)\.", comment)
    return f"GCC {match[1]}" if match else "unknown"


def count(program):
    """{case: instructions}."""
    with tempfile.TemporaryDirectory() as folder:
        command = ["valgrind", "--tool=callgrind", f"--callgrind-out-file={folder}/out", "--collect-atstart=no"]
        command += [f"--{what}=counted_run" for what in ("toggle-collect", "zero-before", "dump-after")]
        command += [program, "run", folder]
        subprocess.run([program, "make", folder], check=True)
        done = subprocess.run(command, capture_output=True, text=True,
                              env={**os.environ, "LCRUN_ISA": "avx2", "OMP_NUM_THREADS": "1"})
        if done.returncode != 0:
            raise SystemExit(f"{' '.join(command)}: exit status {done.returncode}\n{done.stderr[-2000:]}")
        names = done.stdout.splitlines()
        dumps = [Path(folder) / f"out.{number + 1}" for number in range(len(names))]
        totals = [int(re.search(r"^totals: (\d+)", dump.read_text(), re.M)[1]) for dump in dumps]
    return dict(zip(names, totals))


def verdict(counts, baseline):
    """(exit status, lines): what changed."""
    lines, status = [], 0
    for name in sorted(counts.keys() | baseline.keys()):
        if name not in baseline or name not in counts:
            lines.append(f"FAIL {name}: " + ("not counted any more" if name in baseline else "not in the baseline"))
            status = 1
            continue
        change = counts[name] / baseline[name] - 1
        what = "FAIL" if change > TOLERANCE else "HINT" if change < -TOLERANCE else "ok"
        lines.append(f"{what:4} {name}: {counts[name]} instructions, {baseline[name]} before ({100 * change:+.2f} %)")
        status = status or int(what == "FAIL")
    return status, lines


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program")
    parser.add_argument("--baseline", default=str(BASELINE))
    parser.add_argument("--rebaseline", action="store_true", help="write what is counted now into the baseline")
    options = parser.parse_args()
    if "avx2" not in Path("/proc/cpuinfo").read_text().split():
        print("this processor has no AVX2")
        return SKIPPED
    path = Path(options.baseline)
    baselines = json.loads(path.read_text()) if path.exists() else {}
    compiler = compiler_of(options.program)
    if options.rebaseline:
        baselines[compiler] = count(options.program)
        path.write_text(json.dumps(baselines, indent=1) + "\n")
        print(f"{path}: {compiler}: {len(baselines[compiler])} cases")
        return 0
    if compiler not in baselines:
        print(f"no baseline for {compiler}; there is one for: {', '.join(baselines)}")
        return SKIPPED
    status, lines = verdict(count(options.program), baselines[compiler])
    print("\n".join(lines))
    again = f"tests/counts/count_instructions.py {os.path.relpath(options.program)} --rebaseline"
    if status:
        print(f"More instructions than before. If that is wanted, say why in the commit, and make a new baseline:\n"
              f"  {again}")
    elif any(line.startswith("HINT") for line in lines):
        print(f"HINT: fewer instructions than the baseline: keep it that way with {again}")
    return status


if __name__ == "__main__":
    sys.exit(main())

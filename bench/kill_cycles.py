#!/usr/bin/env python3
"""Kills a process that saves its session, again and again, and checks that nothing it says changes.

    kill_cycles.py WORKER [--cycles 100] [--seed 1]

WORKER is tests/kill/session_worker of a build with -Dtests=true: a tiny model whose file operations can end the process
by SIGKILL, a write half done if asked. Each cycle goes on in a session file and is killed at a random moment or at a
chosen operation; cache type, model, threads, sync mode and the distance of saves are drawn anew where they may be. A
save that was reported must be there afterwards, a restore may not find damage, and whoever lives to the end must have
said the same tokens as a process that was never killed. Prints a table of what happened; exit status 1 if it was wrong.
"""

import argparse
import collections
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

WANTED = 420
LIMIT_S = 120
KINDS = [(arch, kv) for arch in ("llama", "gemma3", "mamba2") for kv in ("f32", "f16", "q8_0", "q4_0")]


class Wrong(Exception):
    pass


def command(worker, path, kind, every, threads, sync, *kill):
    return [str(item) for item in (worker, path, WANTED, every, kind[0], kind[1], threads, sync, *kill)]


def lines_of(output):
    return [line.split() for line in output.decode().splitlines() if line]


def uninterrupted(worker, folder, kind):
    """The tokens of a process that nobody kills, and the time and operations it takes."""
    path = folder / "reference"
    start = time.monotonic()
    done = subprocess.run(command(worker, path, kind, 60, 1, 0), capture_output=True, timeout=LIMIT_S)
    if done.returncode != 0:
        raise Wrong(f"{kind}: {done.stderr.decode()}")
    path.unlink()
    lines = lines_of(done.stdout)
    return lines[-1], time.monotonic() - start


def check(lines, kept, tokens, how):
    """Looks at what a process said; returns what must be in the file now, and whether it came to its end."""
    if not lines:
        return kept, False
    if int(lines[0][1]) < kept:
        raise Wrong(f"{how}: {kept} tokens were saved, {lines[0][1]} came back")
    for line in lines:
        if line[0] == "saved" and len(line) == 2:
            kept = int(line[1])
    at_end = len(lines) > 1 and lines[-2][0] == "operations"
    if at_end and lines[-1] != tokens:
        raise Wrong(f"{how}: other tokens than without kills")
    return kept, at_end


def cycle(draw, worker, path, kind, reference, kept):
    tokens, seconds = reference
    every, threads, sync = draw.choice((1, 7, 30, 64, 100)), draw.choice((1, 2)), draw.randrange(3)
    by_point = draw.random() < 0.5
    kill = ("kill", draw.randrange(1, 60), draw.randrange(2)) if by_point else ()
    how = f"{kind} every {every} threads {threads} sync {sync} {kill}"
    with subprocess.Popen(command(worker, path, kind, every, threads, sync, *kill), stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE) as child:
        try:
            out, err = child.communicate(timeout=LIMIT_S if by_point else draw.uniform(0, 1.5 * seconds))
        except subprocess.TimeoutExpired:
            child.kill()
            out, err = child.communicate()
    if child.returncode not in (0, -9):
        raise Wrong(f"{how}: exit status {child.returncode}: {err.decode()}")
    kept, at_end = check(lines_of(out), kept, tokens, how)
    for left in path.parent.glob("s.tmp.*"):
        left.unlink()
    name = "lived" if child.returncode == 0 else "killed at an operation" if by_point else "killed at a random moment"
    return kept, at_end, name


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("worker", type=Path)
    parser.add_argument("--cycles", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    draw = random.Random(options.seed)
    counts, finished, references = collections.Counter(), 0, {}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "s"
        kind, kept = None, 0
        try:
            for number in range(options.cycles):
                if kind is None:
                    kind, kept = draw.choice(KINDS), 0
                    if kind not in references:
                        references[kind] = uninterrupted(options.worker, Path(folder), kind)
                kept, at_end, name = cycle(draw, options.worker, path, kind, references[kind], kept)
                counts[name] += 1
                # The last cycle may leave a session unfinished: it is finished here.
                if at_end or number + 1 == options.cycles:
                    done = subprocess.run(command(options.worker, path, kind, 50, 1, 0), capture_output=True,
                                          timeout=LIMIT_S)
                    if done.returncode != 0 or not check(lines_of(done.stdout), kept, references[kind][0], kind)[1]:
                        raise Wrong(f"{kind}: the session cannot be finished: {done.stderr.decode()}")
                    finished += 1
                    path.unlink()
                    kind = None
        except Wrong as error:
            print(f"wrong after {sum(counts.values())} cycles: {error}")
            return 1
    for name, count in sorted(counts.items()):
        print(f"{count:6} {name}")
    print(f"{finished:6} sessions finished, with the tokens of one that was never killed")
    print(f"{options.cycles} cycles, 0 wrong")
    return 0


if __name__ == "__main__":
    sys.exit(main())

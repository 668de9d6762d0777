#!/usr/bin/env python3
"""Kills a process that keeps a session, again and again, and checks that nothing it says changes.

    kill_cycles.py WORKER [--cycles 100] [--seed 1] [--json FILE]

WORKER is tests/kill/session_worker of a build with -Dtests=true: a tiny model that goes on in a session file and can
end itself by SIGKILL. Each cycle is killed at a random moment, at the n-th of all its operations, or at a named point
(while it restores, reads its prompt, decodes, moves pages of its cache, saves, seals, and answers from the sealed copy;
writes half done too). Model and cache type stay with a file; threads, batch, where the cache lies and how it is read,
sync mode and the distance of saves are drawn anew each time. A save that was reported must be there afterwards, a
restore may not find damage, nothing may be left behind; whoever lives to the end must have said the same tokens as
a process that was never killed. Prints a table of what happened; exit status 1 if it was wrong.
"""

import argparse
import collections
import json
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

WANTED = 860
LIMIT_S = 120
KINDS = [(arch, kv) for arch in ("llama", "gemma2", "gemma3", "mamba2", "qwen3next")
         for kv in ("f32", "f16", "q8_0", "q4_0")]
CACHES = ("memory", "uring", "threads")


class Wrong(Exception):
    pass


class Reference:
    """What a process says that nobody kills: its tokens, its time, and how often it comes by which point."""

    def __init__(self, worker, folder, kind):
        path = folder / "reference"
        self.points = collections.Counter()
        for cache in CACHES:
            start = time.monotonic()
            lines = run(command(worker, path, kind, (60, 1, 0, 32, cache)), kind)
            self.seconds = time.monotonic() - start
            self.tokens = lines[-1]
            self.points |= points_in(lines)
            path.unlink()
            # Killed after some saves, the next one restores: those points count too.
            run(command(worker, path, kind, (60, 1, 0, 32, cache), 790), kind)
            self.points |= points_in(run(command(worker, path, kind, (60, 1, 0, 32, cache)), kind))
            path.unlink()


def command(worker, path, kind, options, wanted=WANTED):
    every, threads, sync, batch, cache = options
    return [str(item) for item in (worker, path, wanted, every, kind[0], kind[1], threads, sync, batch, cache)]


def lines_of(output):
    """Whole lines: the last one may have been cut by a kill."""
    whole = output[:output.rfind(b"\n") + 1]
    return [line.split() for line in whole.decode().splitlines() if line]


def run(arguments, how):
    done = subprocess.run(arguments, capture_output=True, timeout=LIMIT_S)
    if done.returncode != 0:
        raise Wrong(f"{how}: exit status {done.returncode}: {done.stderr.decode()}")
    return lines_of(done.stdout)


def points_in(lines):
    counts = collections.Counter({" ".join(line[2:]): int(line[1]) for line in lines if line[0] == "point"})
    counts["operation"] = max((int(line[1]) for line in lines if line[0] == "operations"), default=1)
    return counts


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


def draw_options(draw):
    return (draw.choice((7, 30, 64, 100)), draw.choice((1, 2)), draw.randrange(3), draw.choice((7, 32, 200)),
            draw.choice(CACHES))


def draw_point(draw, reference):
    """A named point as often as any operation; early passes as often as late ones."""
    name = draw.choice(sorted(reference.points)) if draw.random() < 0.7 else "operation"
    most = reference.points[name]
    return name, draw.randint(1, draw.choice((min(most, 3), most)))


def cycle(draw, worker, path, kind, reference, kept):
    arguments = command(worker, path, kind, draw_options(draw))
    point = draw_point(draw, reference) if draw.random() < 0.75 else None
    if point:
        arguments += [point[0], str(point[1])]
    how = " ".join(arguments[1:])
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as child:
        try:
            out, err = child.communicate(timeout=LIMIT_S if point else draw.uniform(0, 1.2 * reference.seconds))
        except subprocess.TimeoutExpired:
            child.kill()
            out, err = child.communicate()
    if child.returncode not in (0, -9):
        raise Wrong(f"{how}: exit status {child.returncode}: {err.decode()}")
    kept, at_end = check(lines_of(out), kept, reference.tokens, how)
    where = point[0] if point else "random moment"
    return kept, at_end, (where, "lived" if child.returncode == 0 else "killed")


def finish(worker, path, kind, reference, kept):
    """A process that nobody kills ends the session; nothing but the session and its sealed copy is left."""
    lines = run(command(worker, path, kind, (50, 1, 0, 32, "memory")), kind)
    if not check(lines, kept, reference.tokens, kind)[1]:
        raise Wrong(f"{kind}: the session cannot be finished")
    left = sorted(item.name for item in path.parent.iterdir())
    if left != ["s", "s.sealed"]:
        raise Wrong(f"{kind}: left behind: {left}")
    for item in path.parent.iterdir():
        item.unlink()


def report(options, counts, finished):
    rows = []
    for where in sorted({where for where, _ in counts}):
        rows.append({"point": where, "killed": counts[where, "killed"], "lived": counts[where, "lived"]})
    for row in rows:
        print(f"{row['killed']:6} killed {row['lived']:6} lived  {row['point']}")
    killed = sum(row["killed"] for row in rows)
    print(f"{finished:6} sessions finished, with the tokens of one that was never killed")
    print(f"{options.cycles} cycles, {killed} killed at {sum(row['killed'] > 0 for row in rows)} points, 0 wrong")
    if options.json:
        summary = {"cycles": options.cycles, "seed": options.seed, "killed": killed, "wrong": 0,
                   "sessions_finished": finished, "points": rows}
        options.json.write_text(json.dumps(summary, indent=1) + "\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("worker", type=Path)
    parser.add_argument("--cycles", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", type=Path, help="the table as a file")
    options = parser.parse_args()
    draw = random.Random(options.seed)
    counts, finished, references = collections.Counter(), 0, {}
    with tempfile.TemporaryDirectory() as folder:
        for name in ("references", "session"):
            (Path(folder) / name).mkdir()
        path = Path(folder) / "session" / "s"
        kind, kept = None, 0
        try:
            for number in range(options.cycles):
                if kind is None:
                    kind, kept = draw.choice(KINDS), 0
                    if kind not in references:
                        references[kind] = Reference(options.worker, Path(folder) / "references", kind)
                kept, at_end, what = cycle(draw, options.worker, path, kind, references[kind], kept)
                counts[what] += 1
                # The last cycle may leave a session unfinished: it is finished here.
                if at_end or number + 1 == options.cycles:
                    finish(options.worker, path, kind, references[kind], kept)
                    finished += 1
                    kind = None
        except Wrong as error:
            print(f"wrong after {sum(counts.values())} cycles: {error}")
            return 1
    report(options, counts, finished)
    return 0


if __name__ == "__main__":
    sys.exit(main())

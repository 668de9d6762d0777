#!/usr/bin/env python3
"""Speed of lcrun beside its peers on the same file, in alternating runs.

    bench/compare.py -m MODEL --llama-bench PATH [--peer NAME=COMMAND]... [-p 512] [-n 128] [-d 0,8192] [-t 2] [-r 5]

A figure here is a ratio of two measurements taken in turns within one session: each round runs every contender
once, in an order that rotates, so that a machine that grows hot or busy slows all of them. llama.cpp takes part
twice, with and without flash attention, and the faster of the two at each test is the one that lcrun is compared
with. A --peer is any program that takes llama-bench's options and prints its JSON: ik_llama.cpp's llama-bench
("ik=PATH -rtr 1 -fa 1"), OpenVINO GenAI ("openvino=PATH", the launcher of bench/fetch_peers.py openvino), another
build of ours ("before=PATH bench"). An option that COMMAND names itself replaces ours.

Slow peers: --budget bounds the seconds that a contender may spend at one depth; who does not end within it, fails, or
would by its time at the last depth not end, is left out there and at deeper ones, with the reason in the report. At
depths above 0 --depth-rounds, --depth-reps and --depth-gen take the place of -r, 1 and -n: with several repetitions
in one run the text up to the depth is read once for all of them, and the run counts with its median.

The table shows medians, the spread between the slowest and the fastest round, the median over the rounds of the
ratio within a round, and for decoding the share of the read bandwidth that lcrun's bytes per token make up. All raw
samples go to bench/results/ as JSON, after every run: one that is cut off (also by SIGTERM) keeps what it has.
bench/fetch_peers.py builds llama-bench and prints its path; bench/plot_depth.py draws speed against depth.
"""

import argparse
import datetime
import hashlib
import json
import os
import platform
import shlex
import signal
import statistics
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
ISA_FLAGS = ["avx2", "fma", "f16c", "avx_vnni", "avx512f", "avx512bw", "avx512vl", "avx512_vnni", "avx512_bf16",
             "amx_tile", "amx_int8", "amx_bf16", "asimd", "asimddp", "i8mm", "bf16", "sve"]


def machine():
    info = {}
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        key, _, value = line.partition(":")
        info.setdefault(key.strip(), value.strip())
    flags = set((info.get("flags") or info.get("Features") or "").split())
    memory_kib = next(int(line.split()[1]) for line in Path("/proc/meminfo").read_text().splitlines()
                      if line.startswith("MemTotal"))
    return {"cpu": info.get("model name", platform.machine()), "isa": [flag for flag in ISA_FLAGS if flag in flags],
            "cores": len(os.sched_getaffinity(0)), "memory_gib": round(memory_kib / 2**20, 1),
            "load_before": round(os.getloadavg()[0], 2)}


def commit(lcrun):
    """The commit that the measured binary says it was built from."""
    text = subprocess.run([lcrun, "--version"], capture_output=True, text=True, check=True).stdout
    return next((line.split(": ", 1)[1] for line in text.splitlines() if line.startswith("commit: ")), "unknown")


def model_facts(path):
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return {"file": Path(path).name, "bytes": Path(path).stat().st_size, "sha256": digest.hexdigest()}


def test_name(row):
    name = f"pp{row['n_prompt']}" if row["n_prompt"] else f"tg{row['n_gen']}"
    return name + (f" @ d{row['n_depth']}" if row["n_depth"] else "")


class PeerError(Exception):
    """Why a contender has no figure: shown in the report."""


def run_once(command, limit_s=None):
    """Returns the rows that one run of a bench program prints as JSON."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=limit_s)
    except subprocess.TimeoutExpired:
        raise PeerError(f"did not end within {limit_s:.0f} s") from None
    except OSError as error:
        raise PeerError(str(error)) from None
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise PeerError(f"exit status {done.returncode}: {last[:200]}")
    try:
        return json.loads(done.stdout)
    except json.JSONDecodeError:
        raise PeerError("printed no JSON") from None


def contenders(options):
    """{name: command without what a depth adds}."""
    found = {"lcrun": [options.lcrun, "bench", *shlex.split(options.lcrun_args)]}
    if options.llama_bench:
        for flash in ("0", "1"):
            found[f"llama.cpp fa={flash}"] = [options.llama_bench, "-fa", flash]
        if options.type_k not in (None, "f32", "f16", "bf16"):
            del found["llama.cpp fa=0"]  # it has no quantised V without flash attention
    for peer in options.peer:
        name, equals, command = peer.partition("=")
        if not equals or not command or name in found:
            raise SystemExit(f"compare.py: --peer {peer}: wanted NAME=COMMAND with a name of its own")
        found[name] = shlex.split(command)
    return found


def command_at(base, options, depth):
    """The whole command for one run; options that the base command names itself stay as they are there."""
    deep = depth > 0
    wanted = {"-m": options.model, "-p": options.prompt, "-n": options.depth_gen if deep else options.gen,
              "-t": options.threads, "-r": options.depth_reps if deep else 1, "-o": "json"}
    if options.type_k:
        wanted.update({"-ctk": options.type_k, "-ctv": options.type_k})
    if deep:
        wanted["-d"] = depth  # some peers have no such option: they still take part at depth 0
    return [*base, *(str(word) for name, value in wanted.items() if name not in base for word in (name, value))]


def value_of(row):
    return statistics.median(row["samples_ts"]) if row.get("samples_ts") else row["avg_ts"]


class Measurement:
    """Runs everybody, depth by depth and round by round; `result` is complete, and saved, after every run."""

    def __init__(self, options, result, save):
        self.options, self.result, self.save = options, result, save
        self.commands = contenders(options)
        self.left_out = {}     # contender: the depth from which it is out
        self.last_run_s = {}   # contender: (depth, seconds of its last run)
        for key in ("samples", "contenders", "read_share", "unmeasured"):
            result.setdefault(key, {})

    def run(self):
        for depth in map(int, self.options.depths.split(",")):
            spent = dict.fromkeys(self.commands, 0.0)
            rounds = self.options.depth_rounds if depth > 0 else self.options.rounds
            for turn in range(rounds):
                order = list(self.commands)
                shift = turn % len(order)
                for name in order[shift:] + order[:shift]:
                    if self.may_run(name, depth, turn, spent[name]):
                        spent[name] += self.run_contender(name, depth, turn, rounds)

    def may_run(self, name, depth, turn, spent):
        if name in self.left_out:
            return False
        last_depth, seconds = self.last_run_s.get(name, (0, 0.0))
        if turn == 0 and 0 < last_depth < depth and seconds * depth / last_depth > self.options.budget:
            self.leave_out(name, depth, f"would take over {self.options.budget:.0f} s a run: {seconds:.0f} s at depth "
                                        f"{last_depth}")
            return False
        return turn == 0 or spent + seconds <= self.options.budget

    def run_contender(self, name, depth, turn, rounds):
        start = time.monotonic()
        try:
            rows = run_once(command_at(self.commands[name], self.options, depth), self.options.budget)
        except PeerError as error:
            if name == "lcrun":
                raise SystemExit(f"compare.py: lcrun, depth {depth}: {error}") from None
            self.leave_out(name, depth, str(error))
            return time.monotonic() - start
        seconds = time.monotonic() - start
        self.last_run_s[name] = (depth, seconds)
        for row in rows:
            self.take(name, {"n_depth": 0, **row})
        self.save(self.result)
        speeds = ", ".join(f"{test_name({'n_depth': 0, **row})} {value_of(row):.1f}" for row in rows)
        print(f"depth {depth}, round {turn + 1} of {rounds}: {name}: {speeds} ({seconds:.0f} s)", file=sys.stderr)
        return seconds

    def take(self, name, row):
        test = test_name(row)
        self.result["samples"].setdefault(name, {}).setdefault(test, []).append(value_of(row))
        keys = ("type_k", "n_threads", "build_commit", "isa", "stream_gbs", "peak_rss_bytes")
        self.result["contenders"][name] = {key: row[key] for key in keys if key in row}
        if row["n_gen"] and row.get("stream_gbs") and row.get("bytes_per_token"):
            share = row["bytes_per_token"] * value_of(row) / (row["stream_gbs"] * 1e9)
            self.result["read_share"].setdefault(name, {}).setdefault(test, []).append(share)

    def leave_out(self, name, depth, reason):
        self.left_out[name] = depth
        self.result["unmeasured"][name] = {"from_depth": depth, "reason": reason}
        self.save(self.result)
        print(f"depth {depth}: {name} is left out from here on: {reason}", file=sys.stderr)


def spread(values):
    """Half of the range, as a percentage of the median."""
    return 50 * (max(values) - min(values)) / statistics.median(values)


def group_of(name):
    """Contenders of one group are one peer with different settings, of which the fastest counts."""
    return name.split(" fa=")[0]


def compare(samples):
    """One row a test and peer: our median, the peer's at its best setting, and the ratio within rounds."""
    rows = []
    for test, ours in samples.get("lcrun", {}).items():
        best = {}
        for name, tests in samples.items():
            if name == "lcrun" or test not in tests:
                continue
            group = group_of(name)
            if group not in best or statistics.median(tests[test]) > statistics.median(samples[best[group]][test]):
                best[group] = name
        for name in best.values():
            theirs = samples[name][test]
            ratios = [mine / other for mine, other in zip(ours, theirs)]
            rows.append({"test": test, "lcrun_ts": statistics.median(ours), "lcrun_spread": spread(ours),
                         "peer": name, "peer_ts": statistics.median(theirs), "peer_spread": spread(theirs),
                         "rounds": len(ratios), "ratio": statistics.median(ratios), "ratio_min": min(ratios),
                         "ratio_max": max(ratios)})
    return rows


def markdown(result):
    here, model = result["machine"], result["model"]
    isa = result["contenders"].get("lcrun", {}).get("isa", "?")
    shares = result["read_share"].get("lcrun", {})
    lines = [f"{result['date']}, commit {result['commit']}; {here['cpu']}, {result['threads']} threads, isa {isa}; "
             f"{model['file']}; KV {result['type_k']}; {result['rounds']} alternating rounds", "",
             "| test | lcrun t/s | of read bandwidth | peer | its t/s | ratio (range, rounds) |",
             "|---|---|---|---|---|---|"]
    for row in result["table"]:
        share = f"{100 * statistics.median(shares[row['test']]):.0f} %" if row["test"] in shares else ""
        lines.append(f"| {row['test']} | {row['lcrun_ts']:.1f} ± {row['lcrun_spread']:.0f} % | {share} | "
                     f"{row['peer']} | {row['peer_ts']:.1f} ± {row['peer_spread']:.0f} % | "
                     f"**{row['ratio']:.2f}** ({row['ratio_min']:.2f} to {row['ratio_max']:.2f}, {row['rounds']}) |")
    for name, why in result["unmeasured"].items():
        lines.append(f"\nNot measured from depth {why['from_depth']} on: {name}: {why['reason']}")
    return "\n".join(lines)


def parse():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-m", "--model", required=True)
    parser.add_argument("-p", "--prompt", type=int, default=512)
    parser.add_argument("-n", "--gen", type=int, default=128)
    parser.add_argument("-d", "--depths", default="0", help="tokens already in the cache, rising: 0,2048,8192,32768")
    parser.add_argument("-t", "--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("-r", "--rounds", type=int, default=5)
    parser.add_argument("--depth-rounds", type=int, help="rounds at depths above 0 (default: as -r)")
    parser.add_argument("--depth-reps", type=int, default=1, help="repetitions within a run at depths above 0")
    parser.add_argument("--depth-gen", type=int, help="tokens generated at depths above 0 (default: as -n)")
    parser.add_argument("--budget", type=float, default=1800, help="seconds that a contender may spend at one depth")
    parser.add_argument("-ctk", "--type-k", default="f16", help="cache type of all programs, for K and V")
    parser.add_argument("--lcrun", default=str(ROOT / "build/cli/lcrun"))
    parser.add_argument("--lcrun-args", default="", help="more arguments for lcrun bench")
    parser.add_argument("--llama-bench")
    parser.add_argument("--peer", action="append", default=[], metavar="NAME=COMMAND")
    parser.add_argument("--results", default=str(ROOT / "bench/results"), help="folder of the JSON file")
    options = parser.parse_args()
    if not options.llama_bench and not options.peer:
        parser.error("wanted --llama-bench or --peer")
    options.depth_rounds = options.depth_rounds or options.rounds
    options.depth_gen = options.gen if options.depth_gen is None else options.depth_gen
    return options


def saver(target):
    """Writes the result whole or not at all."""
    def save(result):
        result["table"] = compare(result["samples"])
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = target.with_suffix(".partial")
        partial.write_text(json.dumps(result, indent=1) + "\n")
        partial.replace(target)
    return save


def on_signal(number, frame):
    raise KeyboardInterrupt


def main():
    options = parse()
    signal.signal(signal.SIGTERM, on_signal)
    now = datetime.datetime.now(datetime.timezone.utc)
    result = {"date": now.strftime("%Y-%m-%d %H:%M"), "commit": commit(options.lcrun),
              "machine": machine(), "model": model_facts(options.model), "threads": options.threads,
              "rounds": options.rounds, "depth_rounds": options.depth_rounds, "depth_reps": options.depth_reps,
              "type_k": options.type_k, "lcrun_args": options.lcrun_args, "complete": False}
    if options.rounds < 5:
        print("compare.py: fewer than 5 rounds: good for a look, not for a figure", file=sys.stderr)
    stem = f"{result['date'].replace(' ', '-').replace(':', '')}-{Path(options.model).stem}-{options.type_k}"
    target = Path(options.results) / f"{stem}.json"
    save = saver(target)
    status = 0
    try:
        Measurement(options, result, save).run()
        result["complete"] = True
        save(result)
    except KeyboardInterrupt:
        print("compare.py: cut off; what was measured is kept", file=sys.stderr)
        status = 130
    if "table" in result:
        print(markdown(result))
        print(f"raw samples: {target}", file=sys.stderr)
    return status or int(not result.get("table"))


if __name__ == "__main__":
    sys.exit(main())

#!/usr/bin/env python3
"""Speed of lcrun beside llama.cpp on the same file, in alternating runs of the two.

    bench/compare.py -m MODEL --llama-bench PATH [-p 512] [-n 128] [-d 0,8192] [-t 2] [-r 5]

A figure here is a ratio of two measurements taken in turns within one session: each round runs every contender
once, in an order that rotates, so that a machine that grows hot or busy slows all of them. llama.cpp takes part
twice, with and without flash attention, and the faster of the two at each test is the one that lcrun is compared
with. The table shows medians, the spread between the slowest and the fastest round, and the median over the rounds
of the ratio within a round. The raw samples go to bench/results/ as JSON, with what is needed to repeat them.
bench/fetch_peers.py builds llama-bench and prints its path.
"""

import argparse
import datetime
import hashlib
import json
import os
import platform
import shlex
import statistics
import subprocess
import sys
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


def run_once(command):
    """Returns the rows that one run of a bench program prints as JSON."""
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        raise SystemExit(f"compare.py: {shlex.join(command)}: exit status {done.returncode}\n{done.stderr[-2000:]}")
    return json.loads(done.stdout)


def contenders(options):
    common = ["-m", options.model, "-p", str(options.prompt), "-n", str(options.gen), "-t", str(options.threads),
              "-r", "1", "-o", "json"]
    if options.type_k:
        common += ["-ctk", options.type_k, "-ctv", options.type_k]
    found = {"lcrun": [options.lcrun, "bench", *common, *shlex.split(options.lcrun_args)]}
    for flash in ("0", "1"):
        found[f"llama.cpp fa={flash}"] = [options.llama_bench, *common, "-fa", flash]
    if options.type_k not in (None, "f32", "f16", "bf16"):
        del found["llama.cpp fa=0"]  # it has no quantised V without flash attention
    return found


def measure(options):
    """Returns ({contender: {test: [tokens/s, one a round]}}, {contender: facts about it})."""
    samples, facts = {}, {}
    commands = contenders(options)
    for depth in options.depths.split(","):
        for round_number in range(options.rounds):
            order = list(commands)
            shift = round_number % len(order)
            for name in order[shift:] + order[:shift]:
                for row in run_once([*commands[name], "-d", depth]):
                    samples.setdefault(name, {}).setdefault(test_name(row), []).append(row["avg_ts"])
                    keys = ("type_k", "n_threads", "build_commit", "isa", "bytes_per_token", "stream_gbs")
                    facts[name] = {key: row[key] for key in keys if key in row}
            print(f"depth {depth}: round {round_number + 1} of {options.rounds}", file=sys.stderr)
    return samples, facts


def spread(values):
    """Half of the range, as a percentage of the median."""
    return 50 * (max(values) - min(values)) / statistics.median(values)


def compare(samples):
    """One row a test: our median, the better peer's median, and the ratio within rounds."""
    rows = []
    for test, ours in samples["lcrun"].items():
        peers = {name: tests[test] for name, tests in samples.items() if name != "lcrun" and test in tests}
        best = max(peers, key=lambda name: statistics.median(peers[name]))
        ratios = [mine / theirs for mine, theirs in zip(ours, peers[best])]
        rows.append({"test": test, "lcrun_ts": statistics.median(ours), "lcrun_spread": spread(ours), "peer": best,
                     "peer_ts": statistics.median(peers[best]), "peer_spread": spread(peers[best]),
                     "ratio": statistics.median(ratios), "ratio_min": min(ratios), "ratio_max": max(ratios)})
    return rows


def markdown(result):
    here, model = result["machine"], result["model"]
    isa = result["contenders"]["lcrun"].get("isa", "?")
    lines = [f"{result['date']}, commit {result['commit']}; {here['cpu']}, {result['threads']} threads, isa {isa}; "
             f"{model['file']}; KV {result['type_k']}; {result['rounds']} alternating rounds", "",
             "| test | lcrun t/s | llama.cpp t/s | better of | ratio (range) |", "|---|---|---|---|---|"]
    for row in result["table"]:
        lines.append(f"| {row['test']} | {row['lcrun_ts']:.1f} ± {row['lcrun_spread']:.0f} % | "
                     f"{row['peer_ts']:.1f} ± {row['peer_spread']:.0f} % | {row['peer'].split()[-1]} | "
                     f"**{row['ratio']:.2f}** ({row['ratio_min']:.2f} to {row['ratio_max']:.2f}) |")
    return "\n".join(lines)


def parse():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-m", "--model", required=True)
    parser.add_argument("-p", "--prompt", type=int, default=512)
    parser.add_argument("-n", "--gen", type=int, default=128)
    parser.add_argument("-d", "--depths", default="0", help="tokens already in the cache, as a list: 0,8192")
    parser.add_argument("-t", "--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("-r", "--rounds", type=int, default=5)
    parser.add_argument("-ctk", "--type-k", default="f16", help="cache type of both programs, for K and V")
    parser.add_argument("--lcrun", default=str(ROOT / "build/cli/lcrun"))
    parser.add_argument("--lcrun-args", default="", help="more arguments for lcrun bench")
    parser.add_argument("--llama-bench", required=True)
    parser.add_argument("--results", default=str(ROOT / "bench/results"), help="folder of the JSON file")
    return parser.parse_args()


def main():
    options = parse()
    now = datetime.datetime.now(datetime.timezone.utc)
    result = {"date": now.strftime("%Y-%m-%d %H:%M"), "commit": commit(options.lcrun),
              "machine": machine(), "model": model_facts(options.model), "threads": options.threads,
              "rounds": options.rounds, "type_k": options.type_k, "lcrun_args": options.lcrun_args}
    if options.rounds < 5:
        print("compare.py: fewer than 5 rounds: good for a look, not for a figure", file=sys.stderr)
    result["samples"], result["contenders"] = measure(options)
    result["table"] = compare(result["samples"])
    stem = f"{result['date'].replace(' ', '-').replace(':', '')}-{Path(options.model).stem}-{options.type_k}"
    target = Path(options.results) / f"{stem}.json"
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(json.dumps(result, indent=1) + "\n")
    print(markdown(result))
    print(f"raw samples: {target}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())

#!/usr/bin/env python3
"""How far lcrun's logits are from llama.cpp's on the same file and text, position by position.

    bench/compare_logits.py -m MODEL -f TEXT --peer PATH [--top 8] [-ctk f16] [--isa NAME]... [-o FILE]

Both programs read the text themselves, so that the token ids are compared too; then, over all positions:
  top-1        the best token is the same; "clear" counts only positions where the peer's two best differ by >= 0.1
  KL           sum over the peer's best TOP tokens of p (ln p - ln q), p the peer's probability, q ours
  worst gap    how much the peer prefers its best token to ours, in logits, where they differ
  worst diff   the largest |ln p - ln q| over those tokens where p >= 1 %
A token that is not among our best --ours counts with the last of them, so its share is a lower bound; the report says
how many there were. bench/fetch_peers.py peer_logits builds the peer and prints its path.
"""

import argparse
import json
import math
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CLEAR = 0.1
LIKELY = 0.01


def parse_lines(text):
    """The positions that one program printed, checked to be 0, 1, 2 ..."""
    rows = [json.loads(line) for line in text.splitlines() if line.strip()]
    for expected, row in enumerate(rows):
        if row["pos"] != expected or not row["top"]:
            raise ValueError(f"line {expected + 1}: found position {row['pos']}, wanted {expected} with tokens")
    return rows


def first_difference(ours, theirs):
    """The first position whose token ids differ (or which only one has), or None."""
    for pos, (mine, other) in enumerate(zip(ours, theirs)):
        if mine["token"] != other["token"]:
            return pos
    return None if len(ours) == len(theirs) else min(len(ours), len(theirs))


def compare_position(mine, theirs, top):
    """What one position adds to the sums."""
    known = dict(map(tuple, mine["top"]))
    floor = mine["top"][-1][1]
    best = theirs["top"][:top]
    kl, worst, unknown = 0.0, 0.0, 0
    for token, logit in best:
        log_p = logit - theirs["lse"]
        log_q = known.get(token, floor) - mine["lse"]
        unknown += token not in known
        kl += math.exp(log_p) * (log_p - log_q)
        if math.exp(log_p) >= LIKELY:
            worst = max(worst, abs(log_p - log_q))
    gap = 0.0
    our_best = mine["top"][0][0]
    if our_best != best[0][0]:
        of_peer = dict(map(tuple, theirs["top"]))
        gap = best[0][1] - of_peer.get(our_best, theirs["top"][-1][1])
    clear = len(theirs["top"]) < 2 or theirs["top"][0][1] - theirs["top"][1][1] >= CLEAR
    return {"same": our_best == best[0][0], "clear": clear, "kl": kl, "gap": gap, "diff": worst, "unknown": unknown}


def compare(ours, theirs, top):
    """The figures over all positions."""
    pairs = [compare_position(mine, other, top) for mine, other in zip(ours, theirs)]
    clear = [pair for pair in pairs if pair["clear"]]
    widest = max(range(len(pairs)), key=lambda pos: pairs[pos]["gap"])
    return {"positions": len(pairs), "top1": sum(pair["same"] for pair in pairs),
            "clear": len(clear), "clear_top1": sum(pair["same"] for pair in clear),
            "kl_mean": sum(pair["kl"] for pair in pairs) / len(pairs), "kl_max": max(pair["kl"] for pair in pairs),
            "worst_gap": pairs[widest]["gap"], "worst_gap_pos": widest,
            "worst_diff": max(pair["diff"] for pair in pairs), "unknown": sum(pair["unknown"] for pair in pairs)}


def run(command, text):
    done = subprocess.run(command, input=text, capture_output=True)
    if done.returncode != 0:
        raise SystemExit(f"compare_logits.py: {' '.join(command)}: exit status {done.returncode}\n"
                         f"{done.stderr.decode(errors='replace')[-2000:]}")
    return parse_lines(done.stdout.decode())


def table(reports):
    lines = ["| | top-1 | clear | mean KL | worst KL | worst gap (position) | worst diff |",
             "|---|---|---|---|---|---|---|"]
    for name, r in reports.items():
        lines.append(f"| {name} | {r['top1']} / {r['positions']} ({100 * r['top1'] / r['positions']:.1f} %) | "
                     f"{r['clear_top1']} / {r['clear']} | {r['kl_mean']:.2e} | {r['kl_max']:.2e} | "
                     f"{r['worst_gap']:.2f} ({r['worst_gap_pos']}) | {r['worst_diff']:.3f} |")
        if r["unknown"]:
            lines.append(f"| | {r['unknown']} of the peer's best tokens were not among ours: raise --ours | | | | | |")
    return "\n".join(lines)


def parse():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-m", "--model", required=True)
    parser.add_argument("-f", "--file", required=True, help="the text, UTF-8")
    parser.add_argument("--peer", required=True, help="peer_logits, from bench/fetch_peers.py peer_logits")
    parser.add_argument("--top", type=int, default=8, help="the peer's best tokens that the KL goes over")
    parser.add_argument("--ours", type=int, default=512, help="how many of each program's tokens are printed")
    parser.add_argument("-t", "--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("-b", "--batch", type=int, default=512, help="tokens the peer reads at a time")
    parser.add_argument("-ctk", "--type-k", choices=["f16", "q8_0"], default="f16", help="cache type, K and V")
    parser.add_argument("-fa", "--flash", choices=["0", "1"], default="0", help="flash attention of the peer")
    parser.add_argument("--isa", action="append", help="instruction set of ours; repeat for several rows")
    parser.add_argument("--lcrun", default=str(ROOT / "build/cli/lcrun"))
    parser.add_argument("-o", "--output", help="write the figures as JSON too")
    return parser.parse_args()


def main():
    options = parse()
    text = Path(options.file).read_bytes()
    keep = str(max(options.ours, options.top))
    theirs = run([options.peer, options.model, keep, str(options.threads), str(options.batch), options.type_k,
                  options.flash], text)
    reports = {}
    for isa in options.isa or ["auto"]:
        ours = run([options.lcrun, "score", "-m", options.model, "--top", keep, "-t", str(options.threads),
                    "--isa", isa, "-ctk", options.type_k, "-ctv", options.type_k], text)
        at = first_difference(ours, theirs)
        if at is not None:
            print(f"compare_logits.py: token ids differ from position {at} on", file=sys.stderr)
            return 1
        reports[isa] = compare(ours, theirs, options.top)
    print(table(reports))
    if options.output:
        Path(options.output).write_text(json.dumps(reports, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())

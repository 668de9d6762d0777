#!/usr/bin/env python3
"""The same questions to lcrun and to llama.cpp: at lengths that fit the peer's context, and beyond it.

    answers_against_peer.py --lcrun build/cli/lcrun --peer PEER_ANSWER --model M.gguf --text kjv.txt --folder DIR
                            [--lengths 4000,30000,128000] [--depths 10,30,50,70,90] [--seeds 1] [--peer-ctx 32768]
                            [--json FILE]

A pass key (asked in its own words) and, half a text away, a number that opens a gate (asked in others) are hidden in
the beginning of a text, each length and depth in a text of its own; the prompt is plain: text, blank line, question,
the beginning of the answer. Greedy. llama.cpp reads the same tokens, in a context of what the model was trained on, and
shifts it where the text is longer. lcrun reads once (`encode`) and answers with --attention auto from its session; and
with --driver retri from the text. Right: the reply begins with the number. bench/fetch_peers.py peer_answer builds the
peer.
"""

import argparse
import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path

QUESTIONS = {
    "passkey": ("The pass key is {key}. Remember it. {key} is the pass key.", "What is the pass key?",
                "The pass key is "),
    "needle": ("The gate of the north tower opens with {key}.", "Which number opens the north tower's gate?",
               "The number is "),
}
REPLY = 8  # tokens


def run(command, text=None):
    done = subprocess.run(command, input=text, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        sys.exit(f"{' '.join(command)}: exit {done.returncode}\n{done.stderr[-2000:]}")
    return done.stdout


class Case:
    """A text with both sentences in it, and the numbers that they name."""

    def __init__(self, lines, length, depth, seed, chars_per_token):
        rng = random.Random(f"{length} {depth} {seed}")
        self.length, self.depth, self.seed = length, depth, seed
        self.keys = {name: str(rng.randrange(10000, 99999)) for name in QUESTIONS}
        size, part = int(length * chars_per_token), []
        for line in lines:
            part.append(line)
            size -= len(line) + 1
            if size <= 0:
                break
        # Half a text apart, or the numbers would be mistaken for each other.
        for name, at in (("passkey", depth), ("needle", (depth + 50) % 100)):
            part.insert(round(at / 100 * len(part)), QUESTIONS[name][0].format(key=self.keys[name]))
        self.text = "\n".join(part)


def ask_lcrun(options, case, path):
    """By (method, question): the reply; and the seconds of each method."""
    replies, seconds = {}, {}
    session = path.with_suffix(".session")
    session.unlink(missing_ok=True)
    base = ["-m", options.model, "-t", str(options.threads)]
    cache = ["-ctk", options.cache, "-ctv", options.cache]
    start = time.monotonic()
    run([options.lcrun, "encode", *base, *cache, "-no-cnv", "-f", str(path), "--session", str(session)])
    for name, (_, question, prefix) in QUESTIONS.items():
        asked = ["-p", question + "\n", "--answer-prefix", prefix, "-n", str(REPLY), "--temp", "0", "--json"]
        made = json.loads(run([options.lcrun, "ask", *base, "--session", str(session), *asked]))
        replies["lcrun", name] = made["text"].removeprefix(prefix)
    seconds["lcrun"] = time.monotonic() - start
    session.unlink()
    start = time.monotonic()
    for name, (_, question, prefix) in QUESTIONS.items():
        asked = ["-p", question + "\n", "--answer-prefix", prefix, "-n", str(REPLY), "--temp", "0", "--json"]
        made = json.loads(run([options.lcrun, "run", *base, "-no-cnv", "-f", str(path), "--driver", "retri", *asked]))
        replies["lcrun retri", name] = made["text"].removeprefix(prefix)
    seconds["lcrun retri"] = time.monotonic() - start
    return replies, seconds


def tokens_of(options, text, has_bos):
    command = [options.lcrun, "tokenize", "-m", options.model, "--no-parse-special"] + ([] if has_bos else ["--no-bos"])
    return json.loads(run(command, text))["tokens"]


class Peer:
    def __init__(self, options):
        self.options = options
        self.process = subprocess.Popen(
            [options.peer, options.model, str(options.peer_ctx), str(options.threads), options.cache],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def send(self, *words):
        self.process.stdin.write(" ".join(map(str, words)) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def ask(self, case):
        options, replies = self.options, {}
        start = time.monotonic()
        tokens = tokens_of(options, case.text, True)
        read = self.send("text", *tokens)
        for name, (_, question, prefix) in QUESTIONS.items():
            asked = tokens_of(options, "\n\n" + question + "\n", False) + tokens_of(options, prefix, False)
            made = self.send("ask", REPLY, *asked)
            replies["llama.cpp", name] = run([options.lcrun, "detokenize", "-m", options.model],
                                             json.dumps(made["tokens"]))
        return replies, {"llama.cpp": time.monotonic() - start}, len(tokens), read["shifts"]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("--lcrun", "--peer", "--model"):
        parser.add_argument(name, required=True)
    parser.add_argument("--text", required=True, type=Path)
    parser.add_argument("--folder", required=True, type=Path)
    parser.add_argument("--lengths", default="4000,30000,128000")
    parser.add_argument("--depths", default="10,30,50,70,90")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--peer-ctx", type=int, default=32768)
    parser.add_argument("--cache", default="q8_0")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    lines = options.text.read_text().splitlines()
    sample = "\n".join(lines[:2000])
    per_token = len(sample) / len(tokens_of(options, sample, True))
    peer, rows = Peer(options), []
    for length in map(int, options.lengths.split(",")):
        for depth in map(int, options.depths.split(",")):
            for seed in range(1, options.seeds + 1):
                case = Case(lines, length, depth, seed, per_token)
                path = options.folder / "case.txt"
                path.write_text(case.text + "\n")
                replies, seconds = ask_lcrun(options, case, path)
                others, more, n_tokens, shifts = peer.ask(case)
                for (method, name), reply in {**replies, **others}.items():
                    right = reply.strip().startswith(case.keys[name])
                    rows.append({"length": length, "tokens": n_tokens, "depth": depth, "seed": seed, "method": method,
                                 "question": name, "key": case.keys[name], "reply": reply, "right": right,
                                 "seconds": {**seconds, **more}[method], "shifts": shifts})
                    print(f"{length:7} {depth:3} % {method:12} {name:8} {'right' if right else 'WRONG'} {reply!r}",
                          flush=True)
    for length in map(int, options.lengths.split(",")):
        for method in ("llama.cpp", "lcrun", "lcrun retri"):
            some = [row for row in rows if (row["length"], row["method"]) == (length, method)]
            counts = ", ".join(f"{name} {sum(row['right'] for row in some if row['question'] == name)} of "
                               f"{sum(row['question'] == name for row in some)}" for name in QUESTIONS)
            mean = sum(row["seconds"] for row in some) / len(some)
            print(f"{length:7} tokens, {method:12} {counts}; {mean:.1f} s a text of two questions")
    if options.json:
        options.json.write_text(json.dumps({"what": "answers_against_peer", "options": vars(options), "rows": rows},
                                           indent=1, default=str) + "\n")


if __name__ == "__main__":
    main()

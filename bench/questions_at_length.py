#!/usr/bin/env python3
"""Reads a long text once and asks twenty questions about it, each from a process of its own.

    questions_at_length.py --lcrun build/cli/lcrun --model M.gguf --text kjv.txt --folder DIR [--json FILE]
                           [--mem-max 1GiB] [--options "-ctk q8_0 -ctv q8_0"] [--keep]

The use that ReKV (arXiv 2503.00540) is for: twenty sentences, each with a fact of its own, are spread over the text, a
line each; `lcrun encode` reads it into a sealed session; `lcrun ask` answers, greedily, in fresh processes. Half of the
questions have the sentence's words, half have others. Counted: is the answer in the first line of the reply, is the
sentence among the citations, how long until the model is open and then until the first token of the answer. An encoded
session that lies in the folder already is asked again. Prints a table; all figures go to --json.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "scripts"))
from make_qa import FACT_KINDS  # noqa: E402

# Beside those of make_qa.py, in the same form but for the answer, which is here.
MORE = (
    ("The safe in the harbour office opens with 48213.", "With what does the safe in the harbour office open?",
     "Which number must one dial to get at the harbour's money?", "The safe in the harbour office opens with", "48213"),
    ("The ferry to Alder Isle leaves at noon sharp.", "When does the ferry to Alder Isle leave?",
     "At what time of day should one be at the boat for Alder Isle?", "The ferry to Alder Isle leaves at", "noon"),
    ("The clockmaker's apprentice comes from Lisbon.", "Where does the clockmaker's apprentice come from?",
     "Which city is the home of the boy who learns to make clocks?", "The clockmaker's apprentice comes from",
     "Lisbon"),
    ("The recipe for the blue ink asks for walnut oil.", "What does the recipe for the blue ink ask for?",
     "What must one buy to make the blue ink?", "The recipe for the blue ink asks for", "walnut oil"),
    ("The library card of Mister Pell has the number 70516.", "What number has the library card of Mister Pell?",
     "Under which number does Mister Pell borrow his books?", "The library card of Mister Pell has the number",
     "70516"),
    ("The violin in the museum was made by Tomaso Brandt.", "Who made the violin in the museum?",
     "Whose hands built the museum's violin?", "The violin in the museum was made by", "Tomaso Brandt"),
    ("The night train to Krakow stops at platform nine.", "At which platform does the night train to Krakow stop?",
     "Where must one wait for the train that goes to Krakow at night?",
     "The night train to Krakow stops at platform", "nine"),
    ("The telescope on the roof was paid for by the brewery.", "Who paid for the telescope on the roof?",
     "Out of whose pocket came the money for the telescope?", "The telescope on the roof was paid for by the",
     "brewery"),
)


def facts():
    """(sentence, question, how the answer begins, answer, is the question in other words) of twenty facts."""
    made = []
    for i, (sentence, literal, other, prefix, pool) in enumerate(FACT_KINDS):
        answer = str(pool[(5 * i + 3) % len(pool)])
        made.append((sentence.format(a=answer), literal, other, prefix, answer))
    made += MORE
    return [(sentence, other if i % 2 else literal, prefix, answer, bool(i % 2))
            for i, (sentence, literal, other, prefix, answer) in enumerate(made)]


def write_text(source, path):
    """The source with a fact after each twentieth of it, and the number of each fact's line."""
    lines = source.read_text().splitlines()
    all_facts = facts()
    text, numbers = [], []
    for i, fact in enumerate(all_facts):
        first, last = (len(lines) * j // len(all_facts) for j in (i, i + 1))
        middle = (first + last) // 2
        text += lines[first:middle] + [fact[0]]
        numbers.append(len(text))
        text += lines[middle:last]
    path.write_text("\n".join(text) + "\n")
    return all_facts, numbers


def run(command):
    start = time.monotonic()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        sys.exit(f"{' '.join(command)}: exit {done.returncode}\n{done.stderr[-2000:]}")
    return json.loads(done.stdout), time.monotonic() - start


def ask(options, session, fact, line):
    _, question, prefix, answer, _ = fact
    command = [options.lcrun, "ask", "-m", options.model, "--session", session, "-p", question, "--answer-prefix",
               prefix, "-n", "16", "--temp", "0", "--mem-max", options.mem_max, "--json", *options.more]
    reply, seconds = run(command)
    first = reply["text"].removeprefix(prefix).split("\n")[0].lower()
    wanted = answer.lower().removeprefix("the ")
    cited = any(one["first_line"] <= line <= one["last_line"] for one in reply["citations"])
    return {"question": question, "answer": answer, "reply": reply["text"], "right": wanted in first, "cited": cited,
            "seconds": seconds, "load_ms": reply["timings"]["load_ms"],
            "first_token_ms": reply["timings"]["prefill_ms"], "decode_tps": reply["timings"]["decode_tps"],
            "peak_rss_bytes": reply["memory"]["peak_rss_bytes"],
            "read_bytes": reply["io"]["read_bytes"], "write_bytes": reply["io"]["write_bytes"]}


def version_of(lcrun):
    return subprocess.run([lcrun, "--version"], capture_output=True, text=True, check=True).stdout.splitlines()[0]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lcrun", required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--text", required=True, type=Path)
    parser.add_argument("--folder", required=True, type=Path)
    parser.add_argument("--mem-max", default="1GiB")
    parser.add_argument("--options", default="-t 2", help="of both commands")
    parser.add_argument("--encode-options", default="-ctk q8_0 -ctv q8_0")
    parser.add_argument("--keep", action="store_true", help="leave the session where it is")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    options.more = options.options.split()
    options.folder.mkdir(parents=True, exist_ok=True)
    text, session = options.folder / "questions.txt", options.folder / "questions.session"
    all_facts, lines = write_text(options.text, text)
    encoded = None
    if not session.exists():
        encoded, encoded["seconds"] = run(
            [options.lcrun, "encode", "-m", options.model, "-f", str(text), "--session", str(session), "--mem-max",
             options.mem_max, "--kv-dir", str(options.folder), "--json", *options.more,
             *options.encode_options.split()])
    answers = []
    for fact, line in zip(all_facts, lines):
        answers.append({**ask(options, str(session), fact, line), "in_other_words": fact[4]})
        one = answers[-1]
        print(f"{'right' if one['right'] else 'WRONG'} {'cited' if one['cited'] else 'not cited':9} "
              f"{one['first_token_ms']:6.0f} ms  {one['question']} {one['reply']!r}", flush=True)
    for words in (False, True):
        some = [one for one in answers if one["in_other_words"] == words]
        print(f"{'in other words' if words else 'in its words':15} right {sum(one['right'] for one in some)} of "
              f"{len(some)}, cited {sum(one['cited'] for one in some)}")
    for name in ("load_ms", "first_token_ms", "seconds", "decode_tps"):
        values = [one[name] for one in answers]
        print(f"{name:15} median {statistics.median(values):.1f}, at most {max(values):.1f}")
    if options.json:
        report = {"what": "questions_at_length", "version": version_of(options.lcrun), "machine": platform.processor(),
                  "cores": os.cpu_count(), "model": Path(options.model).name, "options": vars(options),
                  "encode": encoded, "answers": answers}
        options.json.write_text(json.dumps(report, indent=1, default=str) + "\n")
    if not options.keep:
        session.unlink()


if __name__ == "__main__":
    main()

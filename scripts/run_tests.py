#!/usr/bin/env python3
"""Runs the tests of a build folder and counts test cases, not executables.

    run_tests.py BUILD [--suite NAME]... [--wrapper 'qemu-aarch64 -L ...'] [--scale N] [--jobs N] [--totals FILE]

Catch2 executables are asked for XML, so that each TEST_CASE counts; one that crashes or runs out of time fails the
case it was in and every case it did not reach. Python tests run under pytest and count by its report. Any other
test counts as one, by its exit status (77 = skipped). A case that cannot run here prints a line
"SKIPPED: <case>: <reason>" on stdout and counts as skipped; lines that begin with HINT are shown of a test that passed
too. Lines go to stdout as they come; --totals adds the three numbers to a file, so that several runs make one sum.
"""

import argparse
import collections
import concurrent.futures
import json
import os
import re
import shlex
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ElementTree
from pathlib import Path

Counts = collections.namedtuple("Counts", "passed failed skipped report")
SKIP_EXIT = 77
SOME_FAILED = 3  # our own exit status: 1 is also Python's for a broken script


def ninja(build, *targets):
    log = subprocess.run(["ninja", "-C", str(build), *targets], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                         text=True)
    if log.returncode != 0:
        errors = [line for line in log.stdout.splitlines() if "error" in line or "FAILED" in line]
        print("\n".join(errors[:40] or log.stdout.splitlines()[-40:]))
        print(f"run_tests.py: {build}: the build failed")
        sys.exit(1)


def meson_tests(build, suites):
    ninja(build, "build.ninja")  # the list of tests is of the last configuration: bring that up to date
    meson = Path(sys.executable).parent / "meson"
    command = [str(meson) if meson.exists() else "meson", "introspect", "--tests", str(build)]
    tests = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    for test in tests:
        test["suites"] = [suite.split(":")[-1] for suite in test["suite"]]
    return [test for test in tests if not suites or set(suites) & set(test["suites"])]


def build_targets(build, tests):
    """Builds only what the chosen tests run: test executables and what they list as dependencies."""
    targets = set()
    names = {target["id"]: target["filename"] for target in json.loads(
        (Path(build) / "meson-info" / "intro-targets.json").read_text())}
    for test in tests:
        for identity in test["depends"]:
            targets.update(os.path.relpath(name, build) for name in names.get(identity, []))
    if targets:
        ninja(build, *sorted(targets))


def run(command, test, scale, extra_env=None):
    """Returns (exit status or None when out of time, stdout and stderr together)."""
    env = {**os.environ, **test["env"], **(extra_env or {})}
    limit = (test["timeout"] or 30) * scale
    try:
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=env, timeout=limit,
                              cwd=test["workdir"], stdin=subprocess.DEVNULL)
        return done.returncode, done.stdout.decode(errors="replace")
    except subprocess.TimeoutExpired as expired:
        return None, (expired.stdout or b"").decode(errors="replace")


def ending_of(status):
    if status is None:
        return "ran out of time"
    return f"ended by signal {-status}" if status < 0 else f"exit status {status}"


def catch_names(command, test):
    # Catch2 answers with the number of listed tests as exit status, so the status says nothing.
    _, text = run([*command, "--list-test-names-only"], test, 1)
    return [line for line in text.splitlines() if line.strip()]


def catch_failures(case):
    """The failed expressions of one case, as readable lines."""
    lines = []
    for expression in case.iter("Expression"):
        if expression.get("success") == "false":
            where = f"{expression.get('filename')}:{expression.get('line')}"
            original, expanded = (expression.findtext(tag, "").strip() for tag in ("Original", "Expanded"))
            lines.append(f"    {where}: {original}  with  {expanded}")
    for kind in ("Exception", "FatalErrorCondition", "Failure"):
        for item in case.iter(kind):
            lines.append(f"    {item.get('filename')}:{item.get('line')}: {kind}: {(item.text or '').strip()}")
    return lines


def parse_catch_xml(text):
    """Returns {case name: (passed, lines)}; a report cut off by a crash is read as far as it goes."""
    cases = {}
    for chunk in re.findall(r"<TestCase .*?</TestCase>", text, re.S):
        case = ElementTree.fromstring(re.sub(r"&#x?[0-9a-fA-F]+;|[\x00-\x08\x0b\x0c\x0e-\x1f]", "?", chunk))
        result = case.find("OverallResult")
        passed = result is not None and result.get("success") == "true"
        cases[case.get("name")] = (passed, [] if passed else catch_failures(case))
    return cases


def run_catch(test, wrapper, scale):
    command = [*wrapper, *test["cmd"]]
    names = catch_names(command, test)
    with tempfile.TemporaryDirectory() as folder:
        report_file = Path(folder) / "report.xml"
        status, output = run([*command, "-r", "xml", "-o", str(report_file)], test, scale)
        text = report_file.read_text(errors="replace") if report_file.exists() else ""
    cases = parse_catch_xml(text)
    # Cases of names that the list wraps or trims are counted by number, not by name.
    total = max(len(names), len(cases), 1)
    # A case with sections says it once a section, so equal lines are one case.
    report = sorted({line for line in output.splitlines() if line.startswith("SKIPPED: ")})
    passed = sum(ok for ok, _ in cases.values())
    skipped = min(len(report), passed)
    passed -= skipped
    for name, (ok, lines) in cases.items():
        if not ok:
            report += [f"  failed: {name}", *dict.fromkeys(lines)]
    if len(cases) < total or (status != 0 and all(ok for ok, _ in cases.values())):
        report.append(f"  {ending_of(status)} after {len(cases)} of {total} cases; its last words:")
        report += ["    " + line for line in output.splitlines()[-25:]]
    failed = total - passed - skipped
    if status != 0 and failed == 0:  # a leak or a late crash, after every case had passed
        passed, failed = passed - 1, 1
    return Counts(passed, failed, skipped, report)


def run_pytest(test, scale):
    with tempfile.TemporaryDirectory() as folder:
        report_file = Path(folder) / "report.xml"
        status, output = run([*test["cmd"], f"--junitxml={report_file}"], test, scale)
        if not report_file.exists():
            return Counts(0, 1, 0, [f"  {ending_of(status)}", *output.splitlines()[-25:]])
        cases = list(ElementTree.parse(report_file).getroot().iter("testcase"))
    failed = [case for case in cases if case.find("failure") is not None or case.find("error") is not None]
    skipped = [case for case in cases if case.find("skipped") is not None]
    report = [f"SKIPPED: {case.get('name')}: {case.find('skipped').get('message')}" for case in skipped]
    report += output.splitlines()[-120:] if failed else []
    n_failed = len(failed) if failed or status in (0, 5) else 1
    return Counts(len(cases) - len(failed) - len(skipped), n_failed, len(skipped), report)


def run_plain(test, wrapper, scale):
    status, output = run([*wrapper, *test["cmd"]], test, scale)
    if status == 0:
        return Counts(1, 0, 0, [line for line in output.splitlines() if line.startswith("HINT")])
    if status == SKIP_EXIT:
        return Counts(0, 0, 1, ["SKIPPED: " + (output.strip().splitlines() or ["no reason given"])[-1]])
    return Counts(0, 1, 0, [f"  {ending_of(status)}", *("    " + line for line in output.splitlines()[-40:])])


def run_one(test, wrapper, scale):
    start = time.monotonic()
    if "pytest" in test["cmd"]:
        counts = run_pytest(test, scale)
    elif Path(test["cmd"][0]).name.startswith(("unit_", "golden")):
        counts = run_catch(test, wrapper, scale)
    else:
        counts = run_plain(test, wrapper, scale)
    return test, counts, time.monotonic() - start


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("build")
    parser.add_argument("--suite", action="append", default=[])
    parser.add_argument("--wrapper", default="", help="command that runs a test executable, for a cross build")
    parser.add_argument("--scale", type=float, default=1.0, help="multiplies the time limits")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--totals", help="file of 'passed failed skipped' to add to")
    options = parser.parse_args()

    tests = meson_tests(options.build, options.suite)
    build_targets(options.build, tests)
    wrapper = shlex.split(options.wrapper)
    totals = [0, 0, 0]
    if options.jobs > 1:  # the longest must not be the last to start
        tests.sort(key=lambda test: -(test["timeout"] or 30))
    with concurrent.futures.ThreadPoolExecutor(options.jobs) as pool:
        for test, counts, seconds in pool.map(lambda test: run_one(test, wrapper, options.scale), tests):
            label = f"{test['suites'][0]}/{test['name']}"
            print(f"{'FAIL' if counts.failed else 'ok  '} {label:32} {counts.passed} passed, {counts.failed} failed, "
                  f"{counts.skipped} skipped  {seconds:.1f} s", flush=True)
            for line in counts.report:
                print("     " + line, flush=True)
            totals = [total + count for total, count in zip(totals, counts)]
    if options.totals:
        path = Path(options.totals)
        before = [int(word) for word in path.read_text().split()] if path.exists() else [0, 0, 0]
        path.write_text(" ".join(str(a + b) for a, b in zip(before, totals)) + "\n")
    else:
        print("{} passed, {} failed, {} skipped".format(*totals))
    return SOME_FAILED if totals[1] else 0


if __name__ == "__main__":
    sys.exit(main())

#!/usr/bin/env python3
"""Checks the countable part of the style page (CONTRIBUTING.md).

    check_style.py [ROOT]

Lines per file, lines per function (a scan of braces, not a parser: macros that open functions count as such),
columns, an opening comment in every file of ours, no std::regex (it recurses once per character of its input), no
marks of unfinished work, no -ffast-math and no -march=native in build files.
"""

import re
import subprocess
import sys
from pathlib import Path

MAX_FILE_LINES = 600
MAX_FUNCTION_LINES = 60
MAX_TEST_LINES = 120
MAX_COLUMNS = 120
DATA = "tests/golden/"  # texts of others, as they are
CODE = {".cpp", ".hpp", ".h", ".c", ".cu", ".cuh"}
COUNTED = CODE | {".py", ".sh"}
UNFINISHED = re.compile(r"\b(TO" + r"DO|FIX" + r"ME|XX" + r"X)\b")
BANNED_FLAGS = re.compile(r"-ffast-" + r"math|-march=" + r"native|-Ofast")
CONTROL = re.compile(r"\b(if|for|while|switch|catch|do|else|try)\b[^;{}]*$")
TYPE_OR_SCOPE = re.compile(
    r"^\s*(template\s*<.*>\s*)?(namespace|class|struct|union|enum|extern\s*\"C\")\b(?!.*\)\s*$)", re.S)


def blank_out(text):
    """The text with comments, literals and preprocessor lines replaced by blanks; line breaks stay."""
    pattern = re.compile(
        r'R"(?P<tag>[^()\s\\]{0,16})\((?:.*?)\)(?P=tag)"|//[^\n]*|/\*.*?\*/|"(?:\\.|[^"\\\n])*"'
        r"|(?<![0-9a-zA-Z_])'(?:\\.|[^'\\\n])+'|^[ \t]*#(?:\\\n|[^\n])*", re.S | re.M)
    return pattern.sub(lambda match: re.sub(r"[^\n]", " ", match.group()), text)


def opens_function(head):
    """Does a brace after `head` (the text since the last ; { or }) open a function's body?"""
    if TYPE_OR_SCOPE.match(head) or CONTROL.search(head) or ")" not in head:
        return False
    return not re.search(r"=\s*$|\b(return|enum)\b", head)


def long_functions(text, limit):
    """Yields (first line, lines) of every function body that is too long; a local lambda belongs to its function."""
    code = blank_out(text)
    stack, head_start, inside = [], 0, 0
    for match in re.finditer(r"[{};]", code):
        position = match.start()
        if match.group() == "{":
            head = code[head_start:position]
            starts = inside == 0 and opens_function(head)
            first = head_start + len(head) - len(head.lstrip())
            stack.append(first if starts else None)
            inside += starts
        elif match.group() == "}" and stack:
            first = stack.pop()
            if first is not None:
                inside -= 1
                lines = code.count("\n", first, position) + 1
                if lines > limit:
                    yield code.count("\n", 0, first) + 1, lines
        head_start = position + 1


def check_code(path, text, has_header):
    is_test = path.startswith("tests/")
    # A source file whose header says it all need not say it again.
    if not is_test and not has_header and not text.lstrip().startswith(("//", "/*")):
        yield 1, "wanted an opening comment: what the file is, why it exists, its invariants"
    limit = MAX_TEST_LINES if is_test else MAX_FUNCTION_LINES
    for line, lines in long_functions(text, limit):
        yield line, f"a function of {lines} lines, wanted at most {limit}"
    for number, line in enumerate(blank_out(text).splitlines(), 1):
        if "std::reg" + "ex" in line or re.search(r"#\s*include\s*<regex>", line):
            yield number, "std::reg" + "ex recurses on its input: write a scanner or use PCRE2"


def check_file(path, text, has_header):
    lines = text.splitlines()
    suffix = Path(path).suffix
    if suffix in COUNTED and len(lines) > MAX_FILE_LINES:
        yield 1, f"{len(lines)} lines, wanted at most {MAX_FILE_LINES}"
    for number, line in enumerate(lines, 1):
        if suffix in COUNTED and len(line) > MAX_COLUMNS and not path.startswith(DATA):
            yield number, f"{len(line)} columns, wanted at most {MAX_COLUMNS}"
        if UNFINISHED.search(line):
            yield number, f"unfinished work is marked here: {line.strip()[:60]}"
        if (Path(path).name == "meson.build" or suffix in {".sh", ".ini"}) and BANNED_FLAGS.search(line):
            yield number, f"banned compiler flag: {line.strip()[:60]}"
    if suffix in CODE:
        yield from check_code(path, text, has_header)


def files_of(root):
    """What git would carry: tracked and new files; everything outside build folders where git is absent."""
    listing = subprocess.run(["git", "-C", str(root), "ls-files", "--cached", "--others", "--exclude-standard"],
                             capture_output=True, text=True)
    if listing.returncode == 0 and listing.stdout:
        return [root / name for name in listing.stdout.splitlines()]
    skipped = re.compile(r"(^|/)(build[^/]*|\.git|\.venv|__pycache__)/")
    return [path for path in root.rglob("*") if not skipped.search(path.relative_to(root).as_posix())]


def main(arguments):
    root = Path(arguments[0] if arguments else Path(__file__).parent.parent).resolve()
    problems, checked = [], 0
    for path in sorted(files_of(root)):
        if not path.is_file() or not (path.suffix in COUNTED | {".md", ".build", ".ini"}):
            continue
        checked += 1
        relative = path.relative_to(root).as_posix()
        has_header = path.suffix == ".cpp" and path.with_suffix(".hpp").is_file()
        text = path.read_text(encoding="utf-8")
        problems += [f"{relative}:{line}: {what}" for line, what in check_file(relative, text, has_header)]
    print("\n".join(problems) if problems else f"{checked} files keep the countable rules")
    return 1 if problems or checked == 0 else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

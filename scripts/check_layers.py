#!/usr/bin/env python3
"""Checks that every #include of ours points downwards.

    check_layers.py [ROOT]

A file may include files of its own folder and of folders on lower layers; folders of one layer never include each
other. The table below is the whole rule. Quoted includes must name a file from the root of the repository (or a
generated *.gen.h); headers of others come in angle brackets.
"""

import re
import sys
from pathlib import Path

LAYERS = [
    ["src/base"],
    ["quant"],
    ["ggufish", "storage", "src/kernels"],
    ["src/text", "src/attention"],
    ["src/model"],
    ["src/runtime"],
    ["cli", "bench", "examples"],
]
# Narrower than the layers: a folder named here includes only what is listed.
ONLY = {
    "storage": ["src/base"],          # pages are bytes to it
    "src/text": ["src/base", "ggufish"],
    "examples": ["include/lcrun"],    # they show the public door
    "plugins": ["include/lcrun"],
    "include/lcrun": [],
}
MAY_SEE_PUBLIC = ["src/runtime", "cli", "bench", "examples", "plugins", "tests"]
SUFFIXES = {".cpp", ".hpp", ".h", ".c", ".cu", ".cuh"}
INCLUDE = re.compile(r'^\s*#\s*include\s*(["<])([^">]+)[">]')

LEVEL = {folder: level for level, folders in enumerate(LAYERS) for folder in folders}
FOLDERS = sorted({*LEVEL, *ONLY, "tests"}, key=len, reverse=True)


def folder_of(path):
    """The row of the table that a path from the root belongs to, or None."""
    return next((folder for folder in FOLDERS if path == folder or path.startswith(folder + "/")), None)


def allowed(source, target):
    if source == target or source == "tests":
        return True
    if target == "include/lcrun" and source in MAY_SEE_PUBLIC:
        return True
    if source in ONLY:
        return target in ONLY[source]
    return source in LEVEL and target in LEVEL and LEVEL[target] < LEVEL[source]


def check_include(root, path, bracket, name):
    """Returns what is wrong with one include, or None."""
    source = folder_of(path)
    if name.startswith("lcrun/"):
        name = "include/" + name
    elif bracket == "<":
        return None if folder_of(name) is None else f"<{name}> is ours: wanted quotes"
    elif name.endswith(".gen.h"):
        return None
    elif source == "include/lcrun" and "/" not in name:
        name = "include/lcrun/" + name
    if not (root / name).is_file():
        return f'"{name}" is not a file of this repository (paths start at its root)'
    target = folder_of(name)
    if target is None or not allowed(source, target):
        return f"{source} may not include {target or name}"
    return None


def main(arguments):
    root = Path(arguments[0] if arguments else Path(__file__).parent.parent).resolve()
    problems, checked = [], 0
    for path in sorted(file for folder in FOLDERS for file in (root / folder).rglob("*") if file.suffix in SUFFIXES):
        checked += 1
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            if match := INCLUDE.match(line):
                relative = path.relative_to(root).as_posix()
                if problem := check_include(root, relative, *match.groups()):
                    problems.append(f"{relative}:{number}: {problem}")
    print("\n".join(problems) if problems else f"{checked} files, every include points downwards")
    return 1 if problems or checked == 0 else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

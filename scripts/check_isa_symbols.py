#!/usr/bin/env python3
"""Checks that the kernel libraries of different instruction sets share no code.

    check_isa_symbols.py ARCHIVE...        (liblcrun_kernels_<isa>.a, one or more)

A function with external or weak linkage that two of these libraries define (say, an inline function of a common
header that the compiler did not inline) is kept once by the linker, in whichever version comes first: then a plain
x86-64 processor may meet AVX-512 instructions. So each library may define one external symbol, its table.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

# Data that carries no instructions: the reference to the C++ personality routine.
HARMLESS = {"DW.ref.__gxx_personality_v0"}


def external_symbols(archive):
    """Yields (kind, symbol) of what an archive defines and others can see."""
    listing = subprocess.run([os.environ.get("NM", "nm"), "--extern-only", "--defined-only", "-C", str(archive)],
                             check=True, capture_output=True, text=True).stdout
    for line in listing.splitlines():
        if match := re.match(r"^[0-9a-fA-F]* *([A-Za-z]) (.+)$", line):
            yield match.groups()


def problems_of(archive):
    isa = re.fullmatch(r"liblcrun_kernels_(\w+)\.a", archive.name)
    if isa is None:
        return [f"{archive}: wanted a name like liblcrun_kernels_<isa>.a"]
    table = f"lcrun::kernels::{isa.group(1)}::table"
    found = [(kind, name) for kind, name in external_symbols(archive) if name not in HARMLESS]
    problems = [f"{archive.name}: {kind} {name}: visible outside, wanted an anonymous namespace or forced inlining"
                for kind, name in found if name != table]
    if table not in (name for _, name in found):
        problems.append(f"{archive.name}: found no {table}")
    return problems


def main(arguments):
    if not arguments:
        print(__doc__)
        return 2
    problems = [problem for name in arguments for problem in problems_of(Path(name))]
    print("\n".join(problems) if problems else f"{len(arguments)} libraries, each shows its table only")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

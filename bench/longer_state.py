#!/usr/bin/env python3
"""Makes a longer state file of llama.cpp from a shorter one, to time how it is loaded.

    longer_state.py IN OUT TIMES

The peer needs a quarter of an hour to read 32,000 tokens on two cores; how long a state takes to load does not depend
on what its cells hold. OUT has the cells of IN (one stream, values not transposed: flash attention) TIMES over, at the
positions that follow. Layout: llama_state_save_file() and llama_kv_cache::state_write(), session version 10.
"""

import struct
import sys


class Reader:
    def __init__(self, data):
        self.data, self.at = memoryview(data), 0

    def take(self, size):
        if self.at + size > len(self.data):
            sys.exit(f"longer_state.py: the file ends at {len(self.data)}, wanted {size} bytes at {self.at}")
        self.at += size
        return self.data[self.at - size:self.at]

    def number(self, kind):
        return struct.unpack(kind, self.take(struct.calcsize(kind)))[0]


def wanted(what, found, value):
    if found != value:
        sys.exit(f"longer_state.py: {what}: found {found}, wanted {value}")


def write_longer(source, out, times):
    magic, version, n_tokens = source.number("<I"), source.number("<I"), source.number("<I")
    tokens = source.take(4 * n_tokens)
    out.write(struct.pack("<3I", magic, version, n_tokens * times))
    for _ in range(times):
        out.write(tokens)
    length = source.number("<I")
    out.write(struct.pack("<I", length) + source.take(length))
    wanted("streams", source.number("<I"), 1)
    cells = source.number("<I")
    wanted("cells", cells, n_tokens)
    out.write(struct.pack("<2I", 1, cells * times))
    sequences = []
    for cell in range(cells):
        wanted(f"position of cell {cell}", source.number("<i"), cell)
        sequences.append(bytes(source.take(4 * source.number("<I"))))
    for cell in range(cells * times):
        of_cell = sequences[cell % cells]
        out.write(struct.pack("<iI", cell, len(of_cell) // 4) + of_cell)
    wanted("transposed values", source.number("<I"), 0)
    layers = source.number("<I")
    out.write(struct.pack("<2I", 0, layers))
    for _ in range(2 * layers):  # keys of all layers, then values
        kind, row = source.number("<i"), source.number("<Q")
        rows = source.take(row * cells)
        out.write(struct.pack("<iQ", kind, row))
        for _ in range(times):
            out.write(rows)
    wanted("bytes behind the last layer", len(source.data) - source.at, 0)


def main():
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    with open(sys.argv[1], "rb") as source, open(sys.argv[2], "wb") as out:
        write_longer(Reader(source.read()), out, int(sys.argv[3]))


if __name__ == "__main__":
    main()

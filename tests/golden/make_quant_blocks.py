"""Makes quant_blocks.json: random blocks of every format that lcrun reads, and their values.

The values come from the Python package `gguf` (gguf.quants.dequantize), which shares no code with lcrun.
Run: python3 make_quant_blocks.py > quant_blocks.json   (needs numpy and gguf)
Bytes are random; the 16-bit scales are replaced by sane ones (sign and all), since NaN scales prove nothing.
"""
import json
import sys

import numpy as np
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType
from gguf.quants import dequantize

# Offsets of the f16 fields in a block.
HALF_FIELDS = {
    "Q8_0": [0], "Q4_0": [0], "Q4_1": [0, 2], "Q5_0": [0], "Q5_1": [0, 2], "Q2_K": [80, 82], "Q3_K": [108],
    "Q4_K": [0, 2], "Q5_K": [0, 2], "Q6_K": [208], "IQ4_NL": [0], "IQ4_XS": [0], "MXFP4": [], "F16": [0], "BF16": [],
    "F32": [],
}


def blocks_of(name, rng):
    block_size, block_bytes = GGML_QUANT_SIZES[GGMLQuantizationType[name]]
    count = 2 if block_size == 256 else 4 if block_size == 32 else 64
    blocks = rng.integers(0, 256, (count, block_bytes), dtype=np.uint8)
    for offset in HALF_FIELDS[name]:
        scale = rng.normal(0, 0.05, count).astype(np.float16)
        blocks[:, offset:offset + 2] = scale.view(np.uint8).reshape(count, 2)
    if name in ("F32", "BF16"):
        values = rng.normal(0, 1, count).astype(np.float32).view(np.uint8).reshape(count, 4)
        blocks = values if name == "F32" else values[:, 2:].copy()
    if name == "MXFP4":
        blocks[:, 0] = [0, 1, 120, 130]
    return blocks


def main():
    rng = np.random.default_rng(20)
    golden = []
    for name in HALF_FIELDS:
        blocks = blocks_of(name, rng)
        values = dequantize(blocks, GGMLQuantizationType[name]).astype(np.float32).reshape(-1)
        golden.append({"type": name, "bytes": blocks.tobytes().hex(), "values": values.tobytes().hex()})
    json.dump(golden, sys.stdout, indent=0)
    print()


if __name__ == "__main__":
    main()

// Where keys and values lie inside a block (docs/formats.md, "KV blocks").
#pragma once

#include <cstdint>

#include "src/attention/attention.hpp"
#include "src/kernels/slots.hpp"

namespace lcrun::attention {

// The row of the kernel table for a cache type; requires a layout that check() accepted.
int64_t kv_index(DType dtype);
// Does the type hold codes and scales?
bool is_quantised(DType dtype);
// Bytes of 64 tokens' V of one head, and of their K: Q4_0 ends with a key that others are less.
uint64_t part_bytes(DType dtype, int64_t dim);
uint64_t key_part_bytes(DType dtype, int64_t dim);
// That key: halves, rotated as all are, `dim` padded to 64.
const std::byte* shared_key(const std::byte* k_part, int64_t dim);
// How many keys of block `index` are less it. The first token's key is often unlike all others: in block 0 it is
// kept as it is, as the shared key of itself alone; in other blocks it is the mean of them all.
int64_t sharing_keys(int64_t index);

// All keys of one head of a block, dimension by dimension, as they were given.  // keys [k_dim, 64]
void decode_keys(const KvLayout& layout, const std::byte* part, int64_t index, float* keys);

}  // namespace lcrun::attention

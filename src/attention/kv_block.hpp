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
// Bytes of 64 tokens' K or V of one head.
uint64_t part_bytes(DType dtype, int64_t dim);

}  // namespace lcrun::attention

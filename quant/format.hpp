// The table of number formats: what a GGUF type is called, how big it is, and what can be computed with it.
//
// Each computable format is one header `quant/<name>.hpp` and one word in `quant/meson.build`; the list there is
// the registry (quant/format.cpp expands it). TypeInfo also knows the types we can size but not compute, and the
// ids that were removed from GGUF, so that messages can name them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "quant/packing.hpp"
#include "src/base/result.hpp"
#include "src/base/tensor.hpp"

namespace lcrun::quant {

struct TypeInfo {
  DType dtype;
  const char* name;     // "Q4_K": as GGUF tools print it
  int32_t block_size;   // elements in a block; a row is a whole number of blocks
  int32_t block_bytes;  // bytes of a block
  bool removed;         // the id once existed and must be re-quantised
};

// Null for ids that GGUF does not define.
const TypeInfo* find_type(DType dtype);
// Case-insensitive ("q4_k", "Q4_K"); null when unknown.
const TypeInfo* find_type(std::string_view name);
// Name of a type, or "type N" for an id unknown to us.
std::string type_name(DType dtype);
// Bytes of a row of n elements; n must be a multiple of the block size (checked by the caller).
uint64_t row_bytes(const TypeInfo& type, int64_t n);

// What can be computed with a format. Rows are whole blocks.
struct QuantOps {
  DType dtype;
  // dst[0..n) = values of the row.
  void (*dequantize)(const std::byte* src, int64_t n, float* dst);
  // Null for formats that are only read. Block formats take NaN as 0 and magnitudes beyond 2^30 as 2^30; F32, F16
  // and BF16 keep both (F16 turns what is too large into infinity).
  void (*quantize)(const float* src, int64_t n, std::byte* dst);
  // Block formats: what the codes mean, and one block in that form. Null (and no packing) for F32, F16, BF16.
  Packing packing;
  void (*unpack)(const std::byte* block, Unpacked& out);
};

// Null when the format cannot be computed with.
const QuantOps* find_ops(DType dtype);
// All computable formats, in registry order.
std::span<const QuantOps> all_ops();
// "F32 F16 ...": for messages. `writable_only` keeps those that can be quantised to.
std::string supported_types(bool writable_only);

// kUnsupported with the list of what is supported, naming `what` (a tensor, an option).
Error unsupported_type(std::string_view what, DType dtype);

}  // namespace lcrun::quant

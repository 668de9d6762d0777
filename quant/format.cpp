// The type table: sizes and names of every GGUF type.
//
// Sizes follow the GGUF specification (ggml type ids 0..42); an id that was once used and taken back stays here so
// that a message can name it and say what to do. All data is constant: any thread may call anything here.
#include "quant/format.hpp"

#include <algorithm>
#include <cctype>

#include "format_headers.gen.h"
#include "quant/canonical.hpp"
#include "src/base/format.hpp"

namespace lcrun::quant {
namespace {

constexpr DType id(uint32_t value) { return static_cast<DType>(value); }

// Ordered by id.
constexpr TypeInfo kTypes[] = {
    {DType::kF32, "F32", 1, 4, false},
    {DType::kF16, "F16", 1, 2, false},
    {DType::kQ4_0, "Q4_0", 32, 18, false},
    {DType::kQ4_1, "Q4_1", 32, 20, false},
    {id(4), "Q4_2", 16, 10, true},
    {id(5), "Q4_3", 16, 12, true},
    {DType::kQ5_0, "Q5_0", 32, 22, false},
    {DType::kQ5_1, "Q5_1", 32, 24, false},
    {DType::kQ8_0, "Q8_0", 32, 34, false},
    {DType::kQ8_1, "Q8_1", 32, 36, false},
    {DType::kQ2_K, "Q2_K", 256, 84, false},
    {DType::kQ3_K, "Q3_K", 256, 110, false},
    {DType::kQ4_K, "Q4_K", 256, 144, false},
    {DType::kQ5_K, "Q5_K", 256, 176, false},
    {DType::kQ6_K, "Q6_K", 256, 210, false},
    {DType::kQ8_K, "Q8_K", 256, 292, false},
    {DType::kIQ2_XXS, "IQ2_XXS", 256, 66, false},
    {DType::kIQ2_XS, "IQ2_XS", 256, 74, false},
    {DType::kIQ3_XXS, "IQ3_XXS", 256, 98, false},
    {DType::kIQ1_S, "IQ1_S", 256, 50, false},
    {DType::kIQ4_NL, "IQ4_NL", 32, 18, false},
    {DType::kIQ3_S, "IQ3_S", 256, 110, false},
    {DType::kIQ2_S, "IQ2_S", 256, 82, false},
    {DType::kIQ4_XS, "IQ4_XS", 256, 136, false},
    {DType::kI8, "I8", 1, 1, false},
    {DType::kI16, "I16", 1, 2, false},
    {DType::kI32, "I32", 1, 4, false},
    {DType::kI64, "I64", 1, 8, false},
    {DType::kF64, "F64", 1, 8, false},
    {DType::kIQ1_M, "IQ1_M", 256, 56, false},
    {DType::kBF16, "BF16", 1, 2, false},
    {id(31), "Q4_0_4_4", 32, 18, true},
    {id(32), "Q4_0_4_8", 32, 18, true},
    {id(33), "Q4_0_8_8", 32, 18, true},
    {DType::kTQ1_0, "TQ1_0", 256, 54, false},
    {DType::kTQ2_0, "TQ2_0", 256, 66, false},
    {id(36), "IQ4_NL_4_4", 32, 18, true},
    {id(37), "IQ4_NL_4_8", 32, 18, true},
    {id(38), "IQ4_NL_8_8", 32, 18, true},
    {DType::kMXFP4, "MXFP4", 32, 17, false},
    {DType::kNVFP4, "NVFP4", 64, 36, false},
    {id(41), "Q1_0", 128, 18, false},
    {id(42), "Q2_0", 64, 18, false},
};

bool same_name(std::string_view a, std::string_view b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(), [](char x, char y) {
    return std::tolower(static_cast<unsigned char>(x)) == std::tolower(static_cast<unsigned char>(y));
  });
}

constexpr const TypeInfo* find_constant(DType dtype) {
  for (const TypeInfo& type : kTypes) {
    if (type.dtype == dtype) return &type;
  }
  return nullptr;
}

// A format's header and the type table must say the same.
template <class F>
constexpr bool agrees() {
  const TypeInfo* type = find_constant(F::kDType);
  return type != nullptr && !type->removed && std::string_view(type->name) == F::kName &&
         type->block_size == F::kBlockSize && type->block_bytes == static_cast<int32_t>(sizeof(typename F::Block));
}

template <class F>
constexpr QuantOps make_ops() {
  static_assert(agrees<F>());
  QuantOps ops{};
  ops.dtype = F::kDType;
  if constexpr (BlockFormat<F>) {
    ops.dequantize = dequantize_row<F>;
    if constexpr (WritableBlockFormat<F>) ops.quantize = quantize_row<F>;
    ops.packing = F::kPacking;
    ops.unpack = unpack_block<F>;
  } else {
    ops.dequantize = widen_row<F>;
    ops.quantize = narrow_row<F>;
  }
  return ops;
}

constexpr QuantOps kOps[] = {
#define LCRUN_QUANT(name) make_ops<name>(),
#include "formats.gen.h"
#undef LCRUN_QUANT
};

}  // namespace

std::span<const QuantOps> all_ops() { return kOps; }

const TypeInfo* find_type(DType dtype) { return find_constant(dtype); }

const TypeInfo* find_type(std::string_view name) {
  for (const TypeInfo& type : kTypes) {
    if (same_name(type.name, name)) return &type;
  }
  return nullptr;
}

std::string type_name(DType dtype) {
  const TypeInfo* type = find_type(dtype);
  return type != nullptr ? std::string(type->name) : format("type {}", static_cast<uint32_t>(dtype));
}

uint64_t row_bytes(const TypeInfo& type, int64_t n) {
  return static_cast<uint64_t>(n / type.block_size) * static_cast<uint64_t>(type.block_bytes);
}

const QuantOps* find_ops(DType dtype) {
  for (const QuantOps& ops : all_ops()) {
    if (ops.dtype == dtype) return &ops;
  }
  return nullptr;
}

std::string supported_types(bool writable_only) {
  std::string list;
  for (const QuantOps& ops : all_ops()) {
    if (writable_only && ops.quantize == nullptr) continue;
    if (!list.empty()) list += ' ';
    list += type_name(ops.dtype);
  }
  return list;
}

Error unsupported_type(std::string_view what, DType dtype) {
  const TypeInfo* type = find_type(dtype);
  const bool removed = type != nullptr && type->removed;
  return make_error(Code::kUnsupported, "{}: found {}{}, wanted one of: {}{}", what, type_name(dtype),
                    removed ? " (removed from GGUF)" : "", supported_types(false),
                    removed ? "; convert the model again from its source" : "");
}

}  // namespace lcrun::quant

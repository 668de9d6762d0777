// Blocks of keys and values: sizes, encoding through the kernel table, and a plain decoder.
//
// decode_kv is written from the description in docs/formats.md with no vector code: tests hold the kernels' readers
// against it.
#include "src/attention/kv_block.hpp"

#include <algorithm>
#include <cstring>

#include "quant/half.hpp"
#include "src/attention/rotation.hpp"
#include "src/base/check.hpp"
#include "src/base/format.hpp"
#include "src/kernels/kernels.hpp"

namespace lcrun::attention {
namespace {

using kernels::kKvBlock;
using kernels::KvType;
constexpr int64_t kGroup = 32;

struct CacheType {
  DType dtype;
  KvType kv;
  const char* name;
  int64_t bits;       // of an element, without its scale
  bool is_quantised;  // 32 elements share an f16 scale
};
constexpr CacheType kTypes[] = {
    {DType::kF32, KvType::kF32, "f32", 32, false},    {DType::kF16, KvType::kF16, "f16", 16, false},
    {DType::kBF16, KvType::kBF16, "bf16", 16, false}, {DType::kQ8_0, KvType::kQ8_0, "q8_0", 8, true},
    {DType::kQ4_0, KvType::kQ4_0, "q4_0", 4, true},
};

const CacheType* find_cache_type(DType dtype) {
  for (const CacheType& type : kTypes) {
    if (type.dtype == dtype) return &type;
  }
  return nullptr;
}

Status check_part(const char* what, DType dtype, int64_t dim) {
  const CacheType* type = find_cache_type(dtype);
  if (type == nullptr) {
    return make_error(Code::kUnsupported, "{} cache: found type {}, wanted one of f32 f16 bf16 q8_0 q4_0", what,
                      static_cast<uint32_t>(dtype));
  }
  if (dim < 1 || dim > kernels::kMaxHeadDim) {
    return make_error(Code::kUnsupported, "{} cache: found a head of {}, wanted 1 to {}", what, dim,
                      kernels::kMaxHeadDim);
  }
  if (type->is_quantised && dim % kGroup != 0) {
    return make_error(Code::kInvalidArgument, "{} cache: {} needs heads that are multiples of {}, found {}; use f16",
                      what, type->name, kGroup, dim);
  }
  return {};
}

template <class T>
T read_at(const std::byte* p, int64_t index) {
  T value;
  std::memcpy(&value, p + index * static_cast<int64_t>(sizeof(T)), sizeof(T));
  return value;
}

// Position of an element in a part: `cell` counts elements in storage order, `scale` the scales.
struct Place {
  int64_t cell;
  int64_t scale;
  int64_t byte;  // q4_0: the byte, and whether the element is its high half
  bool is_high;
};

Place key_place(int64_t d, int64_t row) {
  return {d * kKvBlock + row, d / kGroup * kKvBlock + row, d / 2 * kKvBlock + row, d % 2 != 0};
}
Place value_place(int64_t d, int64_t row, int64_t dim) {
  const int64_t in_group = d % kGroup;
  return {row * dim + d, row * (dim / kGroup) + d / kGroup,
          row * (dim / 2) + d / kGroup * (kGroup / 2) + in_group % (kGroup / 2), in_group >= kGroup / 2};
}

float element(DType dtype, const std::byte* part, int64_t dim, const Place& at) {
  switch (dtype) {
    case DType::kF32:
      return read_at<float>(part, at.cell);
    case DType::kF16:
      return quant::f16_to_f32(read_at<uint16_t>(part, at.cell));
    case DType::kBF16:
      return quant::bf16_to_f32(read_at<uint16_t>(part, at.cell));
    case DType::kQ8_0: {
      const float scale = quant::f16_to_f32(read_at<uint16_t>(part + dim * kKvBlock, at.scale));
      return static_cast<float>(read_at<int8_t>(part, at.cell)) * scale;
    }
    case DType::kQ4_0: {
      const float scale = quant::f16_to_f32(read_at<uint16_t>(part + dim / 2 * kKvBlock, at.scale));
      const int packed = read_at<uint8_t>(part, at.byte);
      return static_cast<float>((at.is_high ? packed >> 4 : packed & 15) - 8) * scale;
    }
    default:
      return 0.0F;
  }
}

// A head as its cache type wants it: `x` itself, or rotated in `buffer`. Sizes that no scale can hold are cut before
// they would add up to infinities.
const float* as_cached(DType dtype, const float* x, int64_t dim, float* buffer) {
  if (!is_rotated(dtype)) return x;
  constexpr float kLargest = 1e6F;
  for (int64_t d = 0; d < dim; ++d) buffer[d] = std::clamp(x[d], -kLargest, kLargest);
  rotate(buffer, dim);
  return buffer;
}

}  // namespace

int64_t kv_index(DType dtype) {
  const CacheType* type = find_cache_type(dtype);
  LCRUN_CHECK(type != nullptr);
  return static_cast<int64_t>(type->kv);
}

bool is_quantised(DType dtype) {
  const CacheType* type = find_cache_type(dtype);
  return type != nullptr && type->is_quantised;
}

uint64_t part_bytes(DType dtype, int64_t dim) {
  const CacheType* type = find_cache_type(dtype);
  if (type == nullptr) return 0;
  const int64_t scales = type->is_quantised ? dim / kGroup * 2 : 0;
  return static_cast<uint64_t>(kKvBlock * (dim * type->bits / 8 + scales));
}

uint64_t KvLayout::head_bytes() const { return part_bytes(k_type, k_dim) + part_bytes(v_type, v_dim); }

const char* KvLayout::region_name() const { return is_rotated(k_type) || is_rotated(v_type) ? "kv_rotated" : "kv"; }

Status KvLayout::check() const {
  if (n_kv_heads < 1) {
    return make_error(Code::kInvalidArgument, "kv cache: found {} KV heads, wanted at least 1", n_kv_heads);
  }
  LCRUN_TRY(check_part("k", k_type, k_dim));
  return check_part("v", v_type, v_dim);
}

void encode_kv(const KvLayout& layout, const float* k, const float* v, int64_t row, std::byte* block) {
  const kernels::AttentionSlots& kernel = kernels::active().attention;
  const auto encode_k = kernel.encode_k[kv_index(layout.k_type)];
  const auto encode_v = kernel.encode_v[kv_index(layout.v_type)];
  const uint64_t head_bytes = layout.head_bytes();
  const uint64_t k_bytes = part_bytes(layout.k_type, layout.k_dim);
  for (int64_t head = 0; head < layout.n_kv_heads; ++head) {
    std::byte* part = block + static_cast<uint64_t>(head) * head_bytes;
    float buffer[kernels::kMaxHeadDim];
    encode_k(as_cached(layout.k_type, k + head * layout.k_dim, layout.k_dim, buffer), layout.k_dim, row, part);
    encode_v(as_cached(layout.v_type, v + head * layout.v_dim, layout.v_dim, buffer), layout.v_dim, row,
             part + k_bytes);
  }
}

void decode_kv(const KvLayout& layout, const std::byte* block, int64_t row, float* k, float* v) {
  const uint64_t k_bytes = part_bytes(layout.k_type, layout.k_dim);
  for (int64_t head = 0; head < layout.n_kv_heads; ++head) {
    const std::byte* part = block + static_cast<uint64_t>(head) * layout.head_bytes();
    for (int64_t d = 0; d < layout.k_dim; ++d) k[d] = element(layout.k_type, part, layout.k_dim, key_place(d, row));
    for (int64_t d = 0; d < layout.v_dim; ++d) {
      v[d] = element(layout.v_type, part + k_bytes, layout.v_dim, value_place(d, row, layout.v_dim));
    }
    if (is_rotated(layout.k_type)) rotate(k, layout.k_dim);
    if (is_rotated(layout.v_type)) rotate(v, layout.v_dim);
    k += layout.k_dim;
    v += layout.v_dim;
  }
}

}  // namespace lcrun::attention

// Blocks of keys and values: sizes, encoding through the kernel table, sealing, and a plain decoder.
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

// The mean of a key dimension over the rows of a block, in an order of its own so that it is the same everywhere.
float mean_of(const float* x, int64_t stride) {
  constexpr int64_t kSums = 8;
  float sums[kSums] = {};
  for (int64_t i = 0; i < kKvBlock; i += kSums) {
    for (int64_t j = 0; j < kSums; ++j) sums[j] += x[(i + j) * stride];
  }
  float total = 0.0F;
  for (const float sum : sums) total += sum;
  return total / static_cast<float>(kKvBlock);
}

// Rows [64, dim] as a part, less what they share; rows are changed.
void encode_less_shared(float* rows, int64_t dim, int64_t index, std::byte* part) {
  const auto encode = kernels::active().attention.encode_k[kv_index(DType::kQ4_0)];
  std::byte* shared = part + part_bytes(DType::kQ4_0, dim);
  for (int64_t d = 0; d < dim; ++d) {
    const uint16_t half = quant::f32_to_f16(index == 0 ? rows[d] : mean_of(rows + d, dim));
    const float shift = quant::f16_to_f32(half);
    std::memcpy(shared + d * 2, &half, sizeof(half));
    for (int64_t i = 0; i < sharing_keys(index); ++i) rows[i * dim + d] -= shift;
  }
  for (int64_t i = 0; i < kKvBlock; ++i) encode(rows + i * dim, dim, i, part);
}

// Keys of one head less what they share: their mean, or in block 0 the first key.
void seal_keys(const std::byte* open, int64_t dim, int64_t index, std::byte* part) {
  const kernels::AttentionSlots& kernel = kernels::active().attention;
  float rows[kKvBlock * kernels::kMaxHeadDim];
  for (int64_t group = 0; group < dim; group += kGroup) {
    float tile[kGroup * kKvBlock];
    kernel.k_tile[kv_index(DType::kF16)](open + group * kKvBlock * 2, kGroup, reinterpret_cast<std::byte*>(tile));
    for (int64_t d = 0; d < kGroup; ++d) {
      for (int64_t i = 0; i < kKvBlock; ++i) rows[i * dim + group + d] = tile[d * kKvBlock + i];
    }
  }
  encode_less_shared(rows, dim, index, part);
}

void seal_values(const std::byte* open, int64_t dim, std::byte* part) {
  const kernels::AttentionSlots& kernel = kernels::active().attention;
  float row[kernels::kMaxHeadDim + kernels::kValuePad];
  const auto* halves = reinterpret_cast<const uint16_t*>(open);
  for (int64_t i = 0; i < kKvBlock; ++i) {
    for (int64_t d = 0; d < dim; ++d) row[d] = quant::f16_to_f32(halves[i * dim + d]);
    kernel.encode_v[kv_index(DType::kQ4_0)](row, dim, i, part);
  }
}

// A token's heads, prepared as `layout` wants them (rotated or not), in the formats of `form`.
void encode_as(const KvLayout& layout, const KvLayout& form, const float* k, const float* v, int64_t row,
               std::byte* block) {
  const kernels::AttentionSlots& kernel = kernels::active().attention;
  const auto encode_k = kernel.encode_k[kv_index(form.k_type)];
  const auto encode_v = kernel.encode_v[kv_index(form.v_type)];
  const uint64_t head_bytes = form.head_bytes();
  const uint64_t k_bytes = key_part_bytes(form.k_type, form.k_dim);
  for (int64_t head = 0; head < form.n_kv_heads; ++head) {
    std::byte* part = block + static_cast<uint64_t>(head) * head_bytes;
    float buffer[kernels::kMaxHeadDim];
    encode_k(as_cached(layout.k_type, k + head * form.k_dim, form.k_dim, buffer), form.k_dim, row, part);
    encode_v(as_cached(layout.v_type, v + head * form.v_dim, form.v_dim, buffer), form.v_dim, row, part + k_bytes);
  }
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

uint64_t key_part_bytes(DType dtype, int64_t dim) {
  const int64_t padded = (dim + kKvBlock - 1) / kKvBlock * kKvBlock;
  return part_bytes(dtype, dim) + (dtype == DType::kQ4_0 ? static_cast<uint64_t>(padded) * 2 : 0);
}

const std::byte* shared_key(const std::byte* k_part, int64_t dim) { return k_part + part_bytes(DType::kQ4_0, dim); }

int64_t sharing_keys(int64_t index) { return index == 0 ? 1 : kKvBlock; }

uint64_t KvLayout::head_bytes() const { return key_part_bytes(k_type, k_dim) + part_bytes(v_type, v_dim); }

const char* KvLayout::region_name() const { return is_sealed() ? "kv_sealed" : "kv"; }

KvLayout KvLayout::open_form() const {
  KvLayout open = *this;
  if (k_type == DType::kQ4_0) open.k_type = DType::kF16;
  if (v_type == DType::kQ4_0) open.v_type = DType::kF16;
  return open;
}

Status KvLayout::check() const {
  if (n_kv_heads < 1) {
    return make_error(Code::kInvalidArgument, "kv cache: found {} KV heads, wanted at least 1", n_kv_heads);
  }
  LCRUN_TRY(check_part("k", k_type, k_dim));
  return check_part("v", v_type, v_dim);
}

void encode_kv(const KvLayout& layout, const float* k, const float* v, int64_t row, std::byte* block) {
  encode_as(layout, layout, k, v, row, block);
}

void encode_open(const KvLayout& layout, const float* k, const float* v, int64_t row, std::byte* open) {
  encode_as(layout, layout.open_form(), k, v, row, open);
}

void seal_kv(const KvLayout& layout, int64_t index, const std::byte* open, std::byte* block) {
  const KvLayout form = layout.open_form();
  const uint64_t open_k_bytes = key_part_bytes(form.k_type, form.k_dim);
  const uint64_t k_bytes = key_part_bytes(layout.k_type, layout.k_dim);
  for (int64_t head = 0; head < layout.n_kv_heads; ++head) {
    const std::byte* from = open + static_cast<uint64_t>(head) * form.head_bytes();
    std::byte* to = block + static_cast<uint64_t>(head) * layout.head_bytes();
    if (form.k_type == layout.k_type) {
      std::memcpy(to, from, k_bytes);
    } else {
      seal_keys(from, layout.k_dim, index, to);
    }
    if (form.v_type == layout.v_type) {
      std::memcpy(to + k_bytes, from + open_k_bytes, part_bytes(layout.v_type, layout.v_dim));
    } else {
      seal_values(from + open_k_bytes, layout.v_dim, to + k_bytes);
    }
  }
}

void decode_keys(const KvLayout& layout, const std::byte* part, int64_t index, float* keys) {
  const int64_t dim = layout.k_dim;
  if (layout.k_type == DType::kF32) {
    std::memcpy(keys, part, static_cast<size_t>(dim * kKvBlock) * sizeof(float));
    return;
  }
  if (!is_quantised(layout.k_type)) {
    kernels::active().attention.k_tile[kv_index(layout.k_type)](part, dim, reinterpret_cast<std::byte*>(keys));
    return;
  }
  const bool is_q8 = layout.k_type == DType::kQ8_0;
  const std::byte* scales = part + (is_q8 ? dim : dim / 2) * kKvBlock;
  float scale[kKvBlock];
  for (int64_t d = 0; d < dim; ++d) {
    if (d % kGroup == 0) {
      for (int64_t i = 0; i < kKvBlock; ++i) {
        scale[i] = quant::f16_to_f32(read_at<uint16_t>(scales, d / kGroup * kKvBlock + i));
      }
    }
    float* out = keys + d * kKvBlock;
    const auto* bytes = reinterpret_cast<const uint8_t*>(part) + (is_q8 ? d : d / 2) * kKvBlock;
    if (is_q8) {
      for (int64_t i = 0; i < kKvBlock; ++i) out[i] = static_cast<float>(static_cast<int8_t>(bytes[i])) * scale[i];
      continue;
    }
    const int half = d % 2 == 0 ? 0 : 4;
    const float shift = quant::f16_to_f32(read_at<uint16_t>(shared_key(part, dim), d));
    for (int64_t i = 0; i < kKvBlock; ++i) out[i] = static_cast<float>((bytes[i] >> half & 15) - 8) * scale[i];
    for (int64_t i = 0; i < sharing_keys(index); ++i) out[i] += shift;
  }
  if (is_rotated(layout.k_type)) rotate_columns(keys, dim, kKvBlock);
}

void decode_kv(const KvLayout& layout, const std::byte* block, int64_t row, float* k, float* v, int64_t index) {
  const uint64_t k_bytes = key_part_bytes(layout.k_type, layout.k_dim);
  for (int64_t head = 0; head < layout.n_kv_heads; ++head) {
    const std::byte* part = block + static_cast<uint64_t>(head) * layout.head_bytes();
    for (int64_t d = 0; d < layout.k_dim; ++d) {
      k[d] = element(layout.k_type, part, layout.k_dim, key_place(d, row));
      if (layout.k_type == DType::kQ4_0 && row < sharing_keys(index)) {
        k[d] += quant::f16_to_f32(read_at<uint16_t>(shared_key(part, layout.k_dim), d));
      }
    }
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

#include "src/attention/block_means.hpp"

#include <algorithm>
#include <vector>

#include "src/attention/kv_block.hpp"
#include "src/attention/tile.hpp"
#include "src/kernels/kernels.hpp"

namespace lcrun::attention {

using kernels::kKvBlock;

storage::RegionSpec BlockMeans::region() const {
  storage::RegionSpec spec;
  spec.kind = storage::RegionKind::kIndex;
  spec.name = "means";
  spec.block_bytes = static_cast<uint64_t>(layout_.n_kv_heads) *
                     (keys_.part_bytes() + attention::part_bytes(value_type(), layout_.v_dim));
  spec.window = kKvBlock;
  return spec;
}

int64_t BlockMeans::bytes_of(int64_t tokens) const {
  return tokens / kKvBlock * static_cast<int64_t>(region().block_bytes) / kKvBlock;
}

const std::byte* BlockMeans::key_part(int64_t group, int64_t kv_head, const storage::Region& means) const {
  return means.block(group) + static_cast<uint64_t>(kv_head) * keys_.part_bytes();
}

const std::byte* BlockMeans::value_part(int64_t group, int64_t kv_head, const storage::Region& means) const {
  return means.block(group) + static_cast<uint64_t>(layout_.n_kv_heads) * keys_.part_bytes() +
         static_cast<uint64_t>(kv_head) * attention::part_bytes(value_type(), layout_.v_dim);
}

// Attention with scores that are all alike: the kernels read every type of the cache.
void BlockMeans::mean_value(const std::byte* v_part, float* mean) const {
  const int64_t type = kv_index(layout_.v_type);
  const int64_t v_dim = layout_.v_dim, o_stride = round_up(v_dim, kernels::kValuePad);
  alignas(64) float s[kKvBlock] = {}, o[kernels::kMaxHeadDim] = {};
  alignas(64) int16_t w[kKvBlock] = {};
  alignas(64) float values[kKvBlock * kernels::kMaxHeadDim];
  float m = -3e38F, l = 0, decay = 0, gain = 0;
  kernels::AttnTile tile;
  tile.rows = 1;
  tile.o_stride = o_stride;
  tile.whole = true;
  tile.s = s;
  tile.w = w;
  tile.o = o;
  tile.m = &m;
  tile.l = &l;
  tile.decay = &decay;
  tile.gain = &gain;
  kernels::active().attention.softmax[type](tile);
  add_values(tile, type, v_part, v_dim, reinterpret_cast<std::byte*>(values));
  for (int64_t d = 0; d < v_dim; ++d) mean[d] = o[d] / l;
}

void BlockMeans::make_rows(int64_t b, const std::byte* kv_block, storage::Region& means) const {
  keys_.make_rows(b, kv_block, means);
  const auto encode = kernels::active().attention.encode_v[kv_index(value_type())];
  const uint64_t k_bytes = key_part_bytes(layout_.k_type, layout_.k_dim);
  float mean[kernels::kMaxHeadDim];
  for (int64_t head = 0; head < layout_.n_kv_heads; ++head) {
    mean_value(kv_block + static_cast<uint64_t>(head) * layout_.head_bytes() + k_bytes, mean);
    auto* part = const_cast<std::byte*>(value_part(b / kKvBlock, head, means));
    encode(mean, layout_.v_dim, b % kKvBlock, part);
  }
}

void BlockMeans::read_row(int64_t b, int64_t kv_head, const storage::Region& means, float* key, float* value) const {
  keys_.read_rows(b, kv_head, means, key);
  const KvLayout layout{1, layout_.k_dim, layout_.v_dim, key_type(), value_type()};
  // decode_kv() wants a key before its value.
  std::vector<std::byte> pair(static_cast<size_t>(layout.block_bytes()));
  const std::byte* part = value_part(b / kKvBlock, kv_head, means);
  const uint64_t bytes = attention::part_bytes(value_type(), layout_.v_dim);
  std::copy_n(part, bytes, pair.data() + key_part_bytes(key_type(), layout_.k_dim));
  std::vector<float> unused(static_cast<size_t>(layout_.k_dim));
  decode_kv(layout, pair.data(), b % kKvBlock, unused.data(), value);
}

}  // namespace lcrun::attention

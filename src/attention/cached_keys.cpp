#include "src/attention/cached_keys.hpp"

#include <algorithm>
#include <utility>

#include "src/attention/kv_block.hpp"
#include "src/attention/rotation.hpp"
#include "src/kernels/kernels.hpp"

namespace lcrun::attention {

using kernels::kKvBlock;

Status CachedKeys::load(int64_t block) {
  const KvLayout& layout = params_.layout;
  const auto head = static_cast<uint64_t>(kv_head_);
  const bool is_of_batch = block >= pos0_ / kKvBlock;
  if (params_.open != nullptr && is_of_batch) {
    const KvLayout open = layout.open_form();
    decode_keys(open, params_.open->block(block) + head * open.head_bytes(), block, keys_.data());
    if (is_rotated(layout.k_type)) rotate_columns(keys_.data(), layout.k_dim, kKvBlock);
    return {};
  }
  const std::byte* bytes = nullptr;
  if (is_of_batch) {
    bytes = std::as_const(kv_).block(block);
  } else {
    LCRUN_ASSIGN(const auto read, kv_.read_block(block));
    bytes = read.data();
  }
  decode_keys(layout, bytes + head * layout.head_bytes(), block, keys_.data());
  return {};
}

void CachedKeys::score(const float* q, float* scores) const {
  const kernels::OpSlots& ops = kernels::active().ops;
  std::fill_n(scores, kKvBlock, 0.0F);
  for (int64_t d = 0; d < params_.layout.k_dim; ++d) {
    ops.add_scaled(scores, keys_.data() + d * kKvBlock, q[d], kKvBlock);
  }
}

}  // namespace lcrun::attention

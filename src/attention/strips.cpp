#include "src/attention/strips.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <numeric>

#include "src/attention/block_index.hpp"
#include "src/attention/cached_keys.hpp"
#include "src/attention/turn.hpp"
#include "src/kernels/kernels.hpp"

namespace lcrun::attention {

using kernels::kKvBlock;

int64_t strip_floats(const AttnParams& params) {
  return (params.n_heads / params.layout.n_kv_heads + 1) * params.layout.k_dim;
}

Status score_strips(const AttnParams& params, storage::Region& kv, const StripQueries& queries,
                    std::span<const int32_t> blocks, float* scores, int64_t stride, std::span<float> scratch) {
  const kernels::OpSlots& ops = kernels::active().ops;
  const int64_t dim = params.layout.k_dim, group = params.n_heads / params.layout.n_kv_heads;
  const int64_t n_channels = strip_channels(dim);
  float* const q = scratch.data();
  float* const largest = q + group * dim;
  std::array<int32_t, kernels::kMaxHeadDim> channels{};
  CachedKeys keys(params, kv, queries.pos, queries.kv_head);
  for (size_t i = 0; i < blocks.size(); ++i) {
    LCRUN_TRY(keys.load(blocks[i]));
    for (int64_t j = 0; j < group * dim; ++j) q[j] = queries.q[j] * params.scale;
    turn(params.rotary, kIndexQueryPlace - queries.pos + blocks[i] * kKvBlock, q, group, dim);
    std::fill_n(largest, dim, 0.0F);
    for (int64_t j = 0; j < group * dim; ++j) largest[j % dim] = std::max(largest[j % dim], std::abs(q[j]));
    std::iota(channels.begin(), channels.begin() + dim, 0);
    std::nth_element(
        channels.begin(), channels.begin() + n_channels - 1, channels.begin() + dim,
        [&](int32_t a, int32_t b) { return largest[a] > largest[b] || (largest[a] == largest[b] && a < b); });
    std::sort(channels.begin(), channels.begin() + n_channels);  // sums in one order
    for (int64_t g = 0; g < group; ++g) {
      const float* row = q + g * dim;
      float s[kKvBlock] = {};
      float all = 0, some = 0;
      for (int64_t d = 0; d < dim; ++d) all += std::abs(row[d]);
      for (int64_t c = 0; c < n_channels; ++c) {
        const int64_t d = channels[static_cast<size_t>(c)];
        some += std::abs(row[d]);
        ops.add_scaled(s, keys.dimension(d), row[d], kKvBlock);
      }
      const float temperature = some > 0 ? std::sqrt(some / all) : 1.0F;
      scores[g * stride + static_cast<int64_t>(i)] = ops.max_value(s, kKvBlock) / temperature;
    }
  }
  return {};
}

}  // namespace lcrun::attention

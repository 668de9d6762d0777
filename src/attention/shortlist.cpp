#include "src/attention/shortlist.hpp"

#include <algorithm>

#include "src/attention/strips.hpp"
#include "src/attention/tile.hpp"

namespace lcrun::attention {

size_t pick_shortlist(std::span<const float> shares, int64_t first, std::span<RankedBlock> room,
                      std::span<int32_t> best) {
  const size_t n = std::min(best.size(), shares.size());
  for (size_t i = 0; i < shares.size(); ++i)
    room[i] = {shares[i], static_cast<int32_t>(first) + static_cast<int32_t>(i)};
  // Heaps and sorted lists cost a comparison for each place that a block moves; of thousands only the set matters.
  if (n < shares.size()) {
    std::nth_element(room.begin(), room.begin() + static_cast<int64_t>(n),
                     room.begin() + static_cast<int64_t>(shares.size()),
                     [](const RankedBlock& a, const RankedBlock& b) {
                       return a.share > b.share || (a.share == b.share && a.block < b.block);
                     });
  }
  for (size_t i = 0; i < n; ++i) best[i] = room[i].block;
  std::sort(best.begin(), best.begin() + static_cast<int64_t>(n));
  return n;
}

uint64_t shortlist_scratch_bytes(const Attention& attention, const AttnParams& params, int64_t tiles, int64_t rows,
                                 int n_threads) {
  const bool has_strips = attention.ask.choice == Choice::kStrips || attention.read.choice == Choice::kStrips;
  const IndexKind* kind =
      has_strips && attention.coarse_index() == nullptr ? attention.index() : attention.coarse_index();
  if (kind == nullptr) return 0;
  const BlockIndex coarse(*kind, params.layout, params.rotary);
  const int64_t far = ceil_div(attention.n_ctx, storage::kBlockTokens);
  const int64_t most = std::max(attention.ask.most_listed(), attention.read.most_listed());
  const int64_t floats = coarse.score_floats(rows / params.layout.n_kv_heads);
  return Workspace::bytes_of<int32_t>(tiles * most) + Workspace::bytes_of<float>(rows) + coarse.queries_bytes(rows) +
         Workspace::bytes_of<float>(rows * far) + Workspace::bytes_of<RankedBlock>(far * n_threads) +
         Workspace::bytes_of<float>(2 * params.n_heads * params.layout.k_dim) +
         Workspace::bytes_of<float>(floats * n_threads) + Workspace::bytes_of<float>(strip_floats(params));
}

int64_t scanned_bytes(const Reading& reading, const BlockIndex& index, const BlockIndex* coarse, int64_t pos0,
                      int64_t n) {
  constexpr int64_t kBlock = storage::kBlockTokens;
  const int64_t first = std::max(reading.sinks, reading.gone_until);
  const int64_t far = std::max<int64_t>(0, reading.window_begin(pos0 + n - 1) - first);
  if (far <= reading.blocks * kBlock) return 0;
  if (coarse == nullptr || !reading.has_levels() || far <= reading.most_listed() * kBlock) return index.bytes_of(far);
  // Each query that chooses has a list of its own.
  const int64_t lists = reading.choice == Choice::kTile ? 1 : n;
  return coarse->bytes_of(far) + lists * index.bytes_of(reading.most_listed() * kBlock);
}

}  // namespace lcrun::attention

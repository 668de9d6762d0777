#include "src/attention/position_map.hpp"

#include <algorithm>

#include "src/base/format.hpp"
#include "storage/region.hpp"

namespace lcrun::attention {
namespace {

constexpr int64_t kBlock = storage::kBlockTokens;
constexpr int64_t kLeastTrained = 8 * kBlock;  // smaller contexts have no room for chunks and windows

}  // namespace

const char* name_of(Positions kind) {
  constexpr const char* kNames[] = {"true", "relay", "clip", "group", "chunk"};
  return kNames[static_cast<size_t>(kind)];
}

int64_t PositionMap::shift(int64_t query_block, int64_t row) const {
  if (kind == Positions::kChunk) {
    const int64_t begin = row / chunk * chunk;
    const int64_t last = query_block + kBlock - 1;
    // Its own chunk; and the one before while no distance gets too large.
    if (query_block / chunk * chunk == begin) return 0;
    if (query_block / chunk * chunk == begin + chunk && last - begin <= limit) return 0;
    return last - begin - limit;
  }
  if (kind != Positions::kClip && kind != Positions::kGroup) return 0;
  const int64_t beyond = query_block - (row + kBlock) - near;  // of the block's last key
  if (beyond <= 0) return 0;
  return kind == Positions::kClip ? beyond : beyond - beyond / group;
}

Result<PositionMap> make_positions(Positions kind, int64_t n_ctx, int64_t n_ctx_train, int64_t window) {
  PositionMap map;
  map.kind = kind;
  if (!map.moves()) return map;
  if (n_ctx_train < kLeastTrained) {
    return make_error(Code::kInvalidArgument,
                      "positions past the trained context: found a model trained on {} tokens, wanted at least {}",
                      n_ctx_train, kLeastTrained);
  }
  map.near = window > 0 ? window : n_ctx_train / 8 / kBlock * kBlock;
  map.chunk = n_ctx_train * 5 / 8 / kBlock * kBlock;
  map.limit = std::max(n_ctx_train * 3 / 4 / kBlock * kBlock, map.chunk + kBlock);
  // What is far fits between the window and half of the trained context.
  const int64_t room = std::max(kBlock, n_ctx_train / 2 - map.near);
  map.group = std::max<int64_t>(1, (n_ctx - map.near + room - 1) / room);
  return map;
}

}  // namespace lcrun::attention

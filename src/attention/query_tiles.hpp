// Tiles of a plan from the blocks that queries have chosen: where sinks, blocks and window lie, one behind the other.
#pragma once

#include <algorithm>
#include <cstdint>
#include <span>

#include "src/attention/plan.hpp"
#include "src/attention/policy.hpp"
#include "src/base/workspace.hpp"
#include "src/kernels/kernels.hpp"

namespace lcrun::attention {

// Appends rows at their new place; rows that go on where the last ones end, there and here, make one segment.
inline void add_segment(std::span<Segment> segments, size_t& n, const Segment& segment) {
  if (segment.first_row >= segment.end_row) return;
  if (n > 0 && segments[n - 1].end_row == segment.first_row && segments[n - 1].shift == segment.shift) {
    segments[n - 1].end_row = segment.end_row;
  } else {
    segments[n++] = segment;
  }
}

// Sinks, chosen blocks (ascending) and window of queries up to `end`, in places one behind the other.
inline std::span<const Segment> lay_out(const Reading& reading, int64_t window_begin, int64_t end,
                                        std::span<const int32_t> chosen, std::span<Segment> segments) {
  size_t n = 0;
  const auto n_chosen = static_cast<int64_t>(chosen.size());
  // By how much rows at the front come nearer.
  const int64_t gap = window_begin - reading.sinks - n_chosen * kernels::kKvBlock;
  const bool is_relay = reading.positions.kind == Positions::kRelay;
  const int64_t query_block = (end - 1) / kernels::kKvBlock * kernels::kKvBlock;
  // Rows from `first` on that relay puts `relayed` positions later.
  const auto place = [&](int64_t first, int64_t relayed) {
    return is_relay ? relayed : reading.positions.shift(query_block, first);
  };
  if (window_begin > 0) {
    // What was dropped leaves no gap, whatever the positions.
    const int64_t gone = std::max<int64_t>(0, reading.gone_until - reading.sinks);
    add_segment(segments, n, {0, reading.sinks, reading.positions.kind == Positions::kTrue ? gone : place(0, gap)});
    for (int64_t i = 0; i < n_chosen; ++i) {
      const int64_t first = chosen[static_cast<size_t>(i)] * kernels::kKvBlock;
      add_segment(
          segments, n,
          {first, first + kernels::kKvBlock, place(first, gap + reading.sinks + i * kernels::kKvBlock - first)});
    }
  }
  add_segment(segments, n, {window_begin, end, 0});
  return segments.first(n);
}

// Tiles of queries from pos0 on, `each` of them together (and for each KV head that chooses apart).
class QueryTiles {
 public:
  QueryTiles(const Reading& reading, int64_t pos0, int64_t n, int64_t scopes, Workspace& scratch, int64_t each = 1)
      : reading_(reading),
        pos0_(pos0),
        each_(each),
        scopes_(scopes),
        most_(static_cast<size_t>(reading.blocks + 2)),
        tiles_(scratch.take<PlanTile>(n * scopes)),
        segments_(scratch.take<Segment>(n * scopes * (reading.blocks + 2))) {}

  int64_t size() const { return static_cast<int64_t>(tiles_.size()); }
  // chosen: ascending
  void fill(int64_t tile, std::span<const int32_t> chosen) {
    const int64_t query = tile / scopes_ * each_;
    const int64_t pos = pos0_ + query;
    PlanTile& out = tiles_[static_cast<size_t>(tile)];
    out = {query, each_, reading_.scope == Scope::kHead ? tile % scopes_ : -1, {}};
    const auto room = segments_.subspan(static_cast<size_t>(tile) * most_, most_);
    out.segments = lay_out(reading_, reading_.window_begin(pos), pos + each_, chosen, room);
  }
  TilePlan plan() const { return {tiles_}; }

 private:
  const Reading& reading_;
  int64_t pos0_;
  int64_t each_;
  int64_t scopes_;
  size_t most_;
  std::span<PlanTile> tiles_;
  std::span<Segment> segments_;
};

}  // namespace lcrun::attention

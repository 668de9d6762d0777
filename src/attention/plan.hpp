// Plans say which cached rows queries read; execute() does what they say.
//
// Plain data: a plan can be written by hand, logged and replayed. What a query sees is always the plan's rows at or
// before its own position (and within the window). Two forms: a Plan is for all queries of a batch alike; a TilePlan
// has rows for each tile of queries, as selectors write them. They give the same bits for the same rows.
#pragma once

#include <span>

#include "src/attention/attention.hpp"

namespace lcrun::attention {

struct Plan {
  std::span<const Segment> segments;  // ascending, disjoint, held by the region
};

// What queries [first, first + count) of a batch read.
struct PlanTile {
  int64_t first = 0;
  int64_t count = 0;
  int64_t kv_head = -1;               // whose queries; -1: those of all heads
  std::span<const Segment> segments;  // ascending, disjoint
};
struct TilePlan {
  std::span<const PlanTile> tiles;  // each query of each head once, in order of `first`
};

// Attention of queries at positions pos0.. over the plan's rows. Takes attend_scratch_bytes() from `scratch`; the
// caller resets it. Errors as attend().  // q [n, n_heads * k_dim], o [n, n_heads * v_dim]
Status execute(const AttnParams& params, storage::Region& kv, const Plan& plan, int64_t pos0, MatView q, MatView o,
               Workspace& scratch, int n_threads);

class RemainderTerm;  // remainder.hpp

// The same for a TilePlan, with tile_scratch_bytes(). With pages, the blocks of one tile must fit in a wave. `rest`, if
// not null, adds what the plan leaves out.
Status execute(const AttnParams& params, storage::Region& kv, const TilePlan& plan, int64_t pos0, MatView q, MatView o,
               Workspace& scratch, int n_threads, const RemainderTerm* rest = nullptr);
uint64_t tile_scratch_bytes(const AttnParams& params, int64_t n_queries, int n_threads);

}  // namespace lcrun::attention

// A Plan says which cached rows a batch reads; execute() does what it says.
//
// Plain data: it can be written by hand, logged and replayed. Dense and window layers have one segment; a selector
// writes several. What a query sees is always the plan's rows at or before its own position (and within the window).
#pragma once

#include <span>

#include "src/attention/attention.hpp"

namespace lcrun::attention {

struct Plan {
  std::span<const Segment> segments;  // ascending, disjoint, held by the region
};

// Attention of queries at positions pos0.. over the plan's rows. Takes attend_scratch_bytes() from `scratch`; the
// caller resets it. Errors as attend().  // q [n, n_heads * k_dim], o [n, n_heads * v_dim]
Status execute(const AttnParams& params, storage::Region& kv, const Plan& plan, int64_t pos0, MatView q, MatView o,
               Workspace& scratch, int n_threads);

}  // namespace lcrun::attention

// PlanObserver: whoever wants to see what attention has read, plan by plan.
//
// A step shows its observers each plan of the layers that see everything, after it was carried out: a log of plans, a
// meter of recall. They change nothing of what is computed; without any nothing is done.
// Thread rule: the thread that drives the step.
#pragma once

#include <cstdint>

#include "src/attention/plan.hpp"
#include "src/base/result.hpp"
#include "src/base/tensor.hpp"

namespace lcrun::attention {

// Queries at positions pos0.. of a layer that have just attended as `plan` says.
struct PlanSeen {
  int64_t layer = 0;
  bool is_chosen = false;  // by an index; otherwise sinks and window, or everything
  bool is_moved = false;   // keys stand elsewhere than at their true positions
  bool has_gaps = false;   // rows were dropped: not all that lies before the queries can be read
  const AttnParams& params;
  storage::Region& kv;
  const TilePlan& plan;
  int64_t pos0 = 0;
  MatView q;  // [n, n_heads * k_dim]
};

class PlanObserver {
 public:
  virtual ~PlanObserver() = default;
  // Errors end the step.
  virtual Status observe(const PlanSeen& seen) = 0;
};

}  // namespace lcrun::attention

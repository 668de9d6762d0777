// AttnProbe: how much attention chosen heads pay to each cached token.
//
// Whoever wants to know what a question or an answer has read gives a probe to its steps. After a layer has attended,
// the probe computes the weights of the watched queries once more, over the rows that the layer's plan names, and adds
// them up token by token. It changes nothing of what is computed; without a probe nothing is done.
// Cost: queries x heads x keys of the watched layers, and 256 bytes for each block and slot that was read.
// Thread rule: the thread that drives the step.
#pragma once

#include <cstdint>
#include <map>
#include <span>
#include <vector>

#include "src/attention/plan.hpp"
#include "src/base/result.hpp"
#include "src/base/tensor.hpp"
#include "storage/region.hpp"

namespace lcrun::attention {

// A query head, and where its attention is counted: heads with the same slot are added up.
struct WatchedHead {
  int64_t layer = 0;
  int64_t head = 0;
  int64_t slot = 0;

  bool operator==(const WatchedHead&) const = default;
};

class AttnProbe {
 public:
  AttnProbe() = default;
  explicit AttnProbe(std::vector<WatchedHead> heads);

  std::span<const WatchedHead> heads() const { return heads_; }
  // Forgets what was counted; from now on queries at positions [from, until) are watched.
  void watch(int64_t from, int64_t until);
  // Layers beyond the last watched one are of no use to whoever gave the probe: steps may leave them out. What such a
  // step computes is good for nothing else, its cache included.
  void leave_out_the_rest(bool yes) { leaves_out_ = yes; }
  // Weights below `least` are not counted: what is left is what heads single out, not what they spread over all.
  void count_from(float least) { least_ = least; }
  // Layers that a step of a model with n_layers runs.
  int64_t layers_to_run(int64_t n_layers) const;

  bool wants(int64_t layer, int64_t pos0, int64_t n) const;
  // Queries at pos0.. of a layer that have just attended as `plan` says. Errors of reading blocks.
  // q [n, n_heads * k_dim]
  Status observe(int64_t layer, const AttnParams& params, storage::Region& kv, const TilePlan& plan, int64_t pos0,
                 MatView q);
  // The same where each query has seen all rows up to its own.
  Status observe_dense(int64_t layer, const AttnParams& params, storage::Region& kv, int64_t pos0, MatView q);

  // What tokens [first, end) got, of a slot.
  std::vector<float> mass(int64_t first, int64_t end, int64_t slot = 0) const;

 private:
  class Look;

  std::vector<WatchedHead> heads_;
  int64_t n_slots_ = 0;
  int64_t last_layer_ = -1;
  int64_t from_ = 0;
  int64_t until_ = 0;
  bool leaves_out_ = false;
  float least_ = 0;
  std::map<int64_t, std::vector<float>> mass_;  // by block  // [n_slots, 64]
};

}  // namespace lcrun::attention

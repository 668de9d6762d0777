// Keys of a block as floats, wherever the block lies: for what looks at attention from outside (probes, meters).
//
// Slow and exact: keys are decoded one block at a time, and meet queries dimension by dimension.
// Thread rule: one thread.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "src/attention/attention.hpp"
#include "src/base/result.hpp"

namespace lcrun::attention {

class CachedKeys {
 public:
  // `pos0`: position of the first query of the step, whose own blocks may still be open.
  CachedKeys(const AttnParams& params, storage::Region& kv, int64_t pos0, int64_t kv_head)
      : params_(params),
        kv_(kv),
        pos0_(pos0),
        kv_head_(kv_head),
        keys_(static_cast<size_t>(params.layout.k_dim * storage::kBlockTokens)) {}

  // Errors of reading the block.
  Status load(int64_t block);
  // Products of the loaded keys with a query that has been scaled and turned.  // q [k_dim], scores [64]
  void score(const float* q, float* scores) const;
  // One dimension of the loaded keys.  // [64]
  const float* dimension(int64_t d) const { return keys_.data() + d * storage::kBlockTokens; }

 private:
  const AttnParams& params_;
  storage::Region& kv_;
  const int64_t pos0_;
  const int64_t kv_head_;
  std::vector<float> keys_;  // [k_dim, 64]
};

}  // namespace lcrun::attention

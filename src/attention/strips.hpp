// Scores of blocks by a few channels of their keys.
//
// SparQ (Ribar et al., arXiv 2312.04985, section 3.2) reads of all keys the r channels in which a query is largest, and
// makes up for the others by a temperature: softmax(q_r k_r / sqrt(d |q_r|_1 / |q|_1)). SparF (InstInfer, Pan et al.,
// arXiv 2409.04992) keeps keys by channel on a disk for it. Strips of a whole text are as many bytes as an index, so
// here they decide within a shortlist alone; a block of the cache has its keys channel by channel as it is
// (docs/formats.md).
// r is a quarter of the head, the same channels for the queries of a KV head: those with the largest |q| of any.
// Queries stand as near to a block as an index sees it; channels are compared where keys are, rotated.
// Thread rule: one thread; reads pages.
#pragma once

#include <cstdint>
#include <span>

#include "src/attention/attention.hpp"

namespace lcrun::attention {

constexpr int64_t strip_channels(int64_t head_dim) { return head_dim < 4 ? 1 : head_dim / 4; }

// The queries of a KV head, at one position.
struct StripQueries {
  const float* q = nullptr;  // [group, k_dim], as attention gets them
  int64_t pos = 0;
  int64_t kv_head = 0;
};
// Floats of scratch.
int64_t strip_floats(const AttnParams& params);
// Best key of each of the blocks, which are full, for each query. Errors of reading keys.  // scores [group, stride]
Status score_strips(const AttnParams& params, storage::Region& kv, const StripQueries& queries,
                    std::span<const int32_t> blocks, float* scores, int64_t stride, std::span<float> scratch);

}  // namespace lcrun::attention

// RemainderTerm: what the far blocks that a query does not read are worth to it, by their means (block_means.hpp).
//
// A plan leaves out far blocks, and a softmax over the rest gives all of the attention to what was read. Here each
// block that was left out counts as 64 keys which all score like its mean key:
//   logit  soft cap(scale q . mean key) + log 64     the query as near as an index sees it, 65 to 128 tokens behind
// A mean of scores is less than the logarithm of their mean exponential: the estimate never flatters a block.
//   blocks  a block enters the softmax with that logit and its mean value (the compressed branch of Native Sparse
//           Attention, Yuan et al., arXiv 2502.11089, section 3.3.1, merged by its sum in place of a trained gate)
//   mean    out = a * attention over what was read + (1 - a) * mean of all far values, a the share of what was read
//           (SparF, Pan et al., arXiv 2409.04992; SparQ, Ribar et al., arXiv 2312.04985, section 3.2). What was read
//           counts with its true sum, what was left out with the estimated one.
// Either is a partial that is merged like any other. Where nothing is left out there is none: the bits of dense
// attention. A row's bits do not depend on the rows beside it, or on who computes it.
// Thread rule: workers share one, and write their own scratch and partial.
#pragma once

#include <cstdint>
#include <span>

#include "src/attention/block_means.hpp"
#include "src/attention/partial.hpp"
#include "src/attention/plan.hpp"
#include "src/attention/policy.hpp"
#include "src/attention/tile.hpp"

namespace lcrun::attention {

class RemainderTerm {
 public:
  RemainderTerm(const Reading& reading, const BlockMeans& means, const storage::Region& rows, const AttnParams& params)
      : reading_(reading), means_(means), rows_(rows), params_(params) {}

  // Some queries of a plan's tile, of one KV head, all of one block of 64: `q` from the first of them on.
  struct Queries {
    int64_t kv_head = 0;
    int64_t pos = 0;  // of the first
    int64_t count = 0;
    MatView q;                          // [count, n_heads * k_dim]
    std::span<const Segment> segments;  // what they read
  };
  // Merges the term into `total`, [count * group] rows as TileWorker gathers them. All of `scratch` is overwritten.
  void add(const Queries& queries, const TileScratch& scratch, const AttnPartial& total) const;
  // Bytes of means that a query at `pos` looks at, of all KV heads.
  int64_t bytes_read(int64_t pos) const;

 private:
  int64_t first_far() const { return std::max(reading_.sinks, reading_.gone_until) / kernels::kKvBlock; }
  int64_t end_far(int64_t pos) const { return reading_.window_begin(pos) / kernels::kKvBlock; }
  void turn(const Queries& queries, const TileScratch& scratch) const;
  // One group of 64 means meets all rows; blocks that `is_read` marks count as nothing.
  struct Group {
    int64_t index;
    int64_t lo;  // of its blocks, those that are far
    int64_t hi;
    const bool* is_read;  // [64]; null: scores are not looked at, all far blocks count alike
    bool with_values;
  };
  void meet(const Group& group, const Queries& queries, int64_t rows, const TileScratch& scratch,
            const AttnPartial& partial) const;

  const Reading& reading_;
  const BlockMeans& means_;
  const storage::Region& rows_;
  const AttnParams& params_;
};

}  // namespace lcrun::attention

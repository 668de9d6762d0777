// Shortlist: the far blocks that a coarse index leaves for a fine one to look at.
//
// Reading an index of every key is what bounds decoding with narrow heads: a coarse one first, over all far blocks,
// and the fine one only over its best, as InfiniteHiP's stages prune chunks (Lee et al., arXiv 2502.08910, section 3.2;
// here two of them, over blocks of 64). Blocks compete by the share that a selector gives them (selector.hpp).
// Thread rule: see selector.hpp.
#pragma once

#include <cstdint>
#include <span>

#include "src/attention/block_index.hpp"
#include "src/attention/policy.hpp"

namespace lcrun::attention {

// A coarse index, and its rows.
struct CoarseIndex {
  const BlockIndex& index;
  const storage::Region& rows;
};

struct RankedBlock {
  float share;  // its logarithm
  int32_t block;
};

// The `best.size()` blocks with the largest shares, ascending; ties go to the earlier one. All of them where there are
// fewer.  // shares [n] of blocks first, first + 1, ...; room [n]. Returns how many.
size_t pick_shortlist(std::span<const float> shares, int64_t first, std::span<RankedBlock> room,
                      std::span<int32_t> best);

// Scratch of a shortlist for so many tiles and query rows, beside that of the selection from it.
uint64_t shortlist_scratch_bytes(const Attention& attention, const AttnParams& params, int64_t tiles, int64_t rows,
                                 int n_threads);

// Bytes of indexes that n queries from pos0 on look at, of all KV heads. `coarse` may be null.
int64_t scanned_bytes(const Reading& reading, const BlockIndex& index, const BlockIndex* coarse, int64_t pos0,
                      int64_t n);

}  // namespace lcrun::attention

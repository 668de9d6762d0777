// Shares of far blocks for the queries of a block of text that choose together, by the cached keys themselves.
//
// Choices that need no index (policy.hpp): every far key is read once for a tile of up to 64 queries, of which each
// query head makes no more than 9 rows. Shares are those of the softmax over all far keys (or groups of them), as
// logarithms.
// Frame: where a row reads at true positions, keys and queries meet as they are cached and computed, and a sampled
// query's shares are those of dense attention among the far blocks. Where positions are moved, they meet in the frame
// of an index: keys turned back to their place in the block, queries so that the last of them stands at
// kIndexQueryPlace; the distances of a tile's queries to one another stay.
// Thread rule: one driving thread. Results do not depend on threads, pages or what was chosen before.
#pragma once

#include <cstdint>
#include <span>

#include "src/attention/attention.hpp"
#include "src/attention/policy.hpp"
#include "src/base/workspace.hpp"

namespace lcrun::attention {

// Queries [pos0, pos0 + q.rows), at most 64, and the full blocks [first, end) before them.
struct FarBlocks {
  const Reading& reading;
  const AttnParams& params;
  storage::Region& keys;
  int64_t pos0;
  MatView q;  // [n, n_heads * k_dim]
  int64_t first;
  int64_t end;
};

// Errors of reading keys.  // shares [n_heads, end - first]
Status find_shares(const FarBlocks& far, std::span<float> shares, Workspace& scratch, int n_threads);
// Scratch of it, for up to n queries and so many far blocks.
uint64_t find_shares_bytes(const Reading& reading, const AttnParams& params, int64_t n, int64_t far_blocks,
                           int n_threads);

}  // namespace lcrun::attention

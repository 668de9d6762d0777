// Plans of streams and selections.
//
// Selection (docs/long-context.md): each query scores the far blocks, those between sinks and window, by the best row
// of their index; scores become shares of all far blocks' softmax, head by head; a block counts what the head that
// wants it most gives it; the largest win, ties the earlier block. Shares are compared as logarithms. Choices by the
// keys begin with shares (tile_choice.hpp).
// Thread rule: one driving thread.
#pragma once

#include <cstdint>
#include <optional>
#include <span>

#include "src/attention/chosen_blocks.hpp"
#include "src/attention/plan.hpp"
#include "src/attention/policy.hpp"
#include "src/attention/shortlist.hpp"
#include "src/base/workspace.hpp"

namespace lcrun::attention {

constexpr int64_t kAskQueries = 8;  // that are planned together, at most

// Tiles of a stream for queries [pos0, pos0 + n): one for each run of 64 positions, of all heads.
TilePlan plan_stream(const Reading& reading, int64_t pos0, int64_t n, Workspace& scratch);

// Everything before `end` that was not dropped, where reading.positions puts it for queries of the block that ends
// with or behind `end`. With everything_scratch_bytes(), past the end of the context too: what is there never grows.
std::span<const Segment> plan_everything(const Reading& reading, const Slide& slide, int64_t end, Workspace& scratch);
uint64_t everything_scratch_bytes(const Attention& attention);

// Tiles for up to kAskQueries queries, one each (and for each KV head, if that is the scope), or one for up to 64 of a
// block that choose together. Queries as attention gets them.  // q [n, n_heads * k_dim]
struct SelectionExtras {
  ChosenBlocks* keep = nullptr;            // where choices go, too
  storage::Region* keys = nullptr;         // of the layer; for exact choices and those by all keys
  std::optional<CoarseIndex> coarse = {};  // for readings with levels
  std::span<const int32_t> forced;         // blocks that are chosen whatever the index says, where they are far
  int64_t looked_at = 0;                   // parts of blocks (of a KV head) whose keys a choice has read
};
// The layer's index; null, both, where the choice needs none.
struct IndexOfLayer {
  const BlockIndex* index = nullptr;
  const storage::Region* rows = nullptr;
};
// Errors of reading keys.
Result<TilePlan> plan_selection(const Reading& reading, const IndexOfLayer& index, const AttnParams& params,
                                int64_t pos0, MatView q, Workspace& scratch, int n_threads, SelectionExtras& extras);
// The same with the blocks that these queries chose in another layer, or, if `leader` is a position, with those that
// the query there chose for all of them.
TilePlan plan_taken_over(const Reading& reading, const ChosenBlocks& chosen, const AttnParams& params, int64_t pos0,
                         int64_t n, Workspace& scratch, int64_t leader = -1);
// Choices that a query makes: KV heads that choose apart, or 1.
int64_t scopes_of(const Reading& reading, const AttnParams& params);

// Scratch of either, for batches of up to n queries in a context of n_ctx.
uint64_t plan_scratch_bytes(const Attention& attention, const AttnParams& params, int64_t n, int n_threads);

// KV blocks that the tiles read, each head counted.
int64_t blocks_of(const TilePlan& plan, const KvLayout& layout);

}  // namespace lcrun::attention

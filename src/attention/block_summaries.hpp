// BlockSummaries: all that a layer keeps of its full blocks besides keys and values, and where in its state it is.
//
// The index that chooses among blocks, a coarse one before it, and the means of those that are left out: what a layer's
// part in the session's attention asks for (Attention::keeps_index, keeps_means). Their regions are its last, in this
// order.
// They can be made again from the keys and values.
// Thread rule: that of the parts.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "src/attention/block_index.hpp"
#include "src/attention/block_means.hpp"
#include "src/attention/policy.hpp"
#include "storage/region.hpp"

namespace lcrun::attention {

class BlockSummaries {
 public:
  // `attention` may be null: nothing is kept then.
  BlockSummaries(const Attention* attention, int64_t layer, const KvLayout& layout, Rotary rotary);

  const std::optional<BlockIndex>& index() const { return index_; }
  const std::optional<BlockIndex>& coarse() const { return coarse_; }
  const std::optional<BlockMeans>& means() const { return means_; }
  bool is_empty() const { return n_regions() == 0; }
  // Of a layer's state.
  storage::Region& index_rows(storage::LayerState& state) const { return from_end(state, n_regions()); }
  storage::Region& coarse_rows(storage::LayerState& state) const { return from_end(state, means_ ? 2 : 1); }
  storage::Region& mean_rows(storage::LayerState& state) const { return from_end(state, 1); }

  std::vector<storage::RegionSpec> regions() const;
  Status check() const;
  // Makes room for what blocks that are full after `tokens` add. Errors of reserving memory.
  Status reserve(storage::LayerState& state, int64_t tokens) const;
  // Rows of block `b` from its keys and values.
  void make_rows(int64_t b, const std::byte* kv_block, storage::LayerState& state) const;
  // Rows of so many tokens exist from now on.
  void commit(storage::LayerState& state, int64_t tokens) const;

 private:
  int64_t n_regions() const { return (index_ ? 1 : 0) + (coarse_ ? 1 : 0) + (means_ ? 1 : 0); }
  static storage::Region& from_end(storage::LayerState& state, int64_t i) {
    return state.regions[state.regions.size() - static_cast<size_t>(i)];
  }

  std::optional<BlockIndex> index_;
  std::optional<BlockIndex> coarse_;
  std::optional<BlockMeans> means_;
};

}  // namespace lcrun::attention

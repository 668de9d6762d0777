// ChosenBlocks: the far blocks that the queries of a step chose in one layer, kept for layers that take them over.
//
// Neighbouring layers often want the same blocks (Shared Attention, Liao and Vargas, arXiv 2407.12866, shares even the
// weights); a layer that takes over another's choice saves the scan of its index, and needs none.
// Memory is planned with the step; nothing is allocated while it runs.
// Thread rule: the thread that drives the step.
#pragma once

#include <algorithm>
#include <cstdint>
#include <span>
#include <vector>

#include "src/base/check.hpp"

namespace lcrun::attention {

class ChosenBlocks {
 public:
  ChosenBlocks() = default;
  // Room for a step of so many queries, with a choice for each of `scopes` (KV heads that choose apart; 1).
  ChosenBlocks(int64_t queries, int64_t scopes, int64_t blocks)
      : queries_(queries),
        scopes_(scopes),
        most_(blocks),
        blocks_(static_cast<size_t>(queries * scopes * blocks)),
        counts_(static_cast<size_t>(queries * scopes)) {}

  uint64_t bytes() const { return (blocks_.size() + counts_.size()) * sizeof(int32_t); }
  // Queries from position `pos` on are about to choose.
  void begin(int64_t pos) { first_pos_ = pos; }
  void put(int64_t pos, int64_t scope, std::span<const int32_t> blocks) {
    const size_t at = place(pos, scope);
    LCRUN_CHECK(static_cast<int64_t>(blocks.size()) <= most_);
    std::copy(blocks.begin(), blocks.end(), blocks_.begin() + static_cast<int64_t>(at) * most_);
    counts_[at] = static_cast<int32_t>(blocks.size());
  }
  // Ascending.
  std::span<const int32_t> at(int64_t pos, int64_t scope) const {
    const size_t i = place(pos, scope);
    return std::span(blocks_).subspan(i * static_cast<size_t>(most_), static_cast<size_t>(counts_[i]));
  }

 private:
  size_t place(int64_t pos, int64_t scope) const {
    LCRUN_CHECK(pos >= first_pos_ && pos < first_pos_ + queries_ && scope < scopes_);
    return static_cast<size_t>((pos - first_pos_) * scopes_ + scope);
  }

  int64_t queries_ = 0;
  int64_t scopes_ = 0;
  int64_t most_ = 0;
  int64_t first_pos_ = 0;
  std::vector<int32_t> blocks_;  // [queries, scopes, most]
  std::vector<int32_t> counts_;  // [queries, scopes]
};

}  // namespace lcrun::attention

// LedChoices: blocks that the first query of a group has chosen, for the others of the group (Reading::cadence).
//
// Choosing costs a scan of the whole index, and neighbouring tokens want much the same: with a cadence the first asked
// query of each `cadence` positions, the leader, chooses, and those behind it read what it has chosen (the refresh
// intervals of InfiniteHiP, Lee et al., arXiv 2502.08910, section 3.3). Answers come a token at a time: what was chosen
// outlives a step. It can be had again by reading the leader again, so no file keeps it.
// Memory is planned with the session; nothing is allocated while a step runs. Thread rule: the thread that drives it.
#pragma once

#include <algorithm>
#include <cstdint>
#include <span>
#include <vector>

#include "src/attention/chosen_blocks.hpp"

namespace lcrun::attention {

class LedChoices {
 public:
  LedChoices() = default;
  // scopes [n_layers]: choices that a leader makes in a layer; 0: it makes none
  LedChoices(int64_t cadence, std::span<const int64_t> scopes, int64_t blocks) : cadence_(cadence) {
    for (const int64_t n : scopes) by_layer_.emplace_back(1, n, blocks);
  }

  bool is_used() const { return !by_layer_.empty(); }
  uint64_t bytes() const {
    uint64_t sum = 0;
    for (const ChosenBlocks& one : by_layer_) sum += one.bytes();
    return sum;
  }
  // Position of the query whose choice is complete in all layers; -1: there is none.
  int64_t leader() const { return leader_; }
  void settle(int64_t leader) { leader_ = leader; }
  void forget() { leader_ = -1; }

  // A step begins at a position that is led by `leader`, itself or one before it.
  void begin_step(int64_t leader) { first_ = leader; }
  // Who leads a query of the step.
  int64_t leader_of(int64_t pos) const { return std::max(first_, pos / cadence_ * cadence_); }
  // End of its group.
  int64_t end_of(int64_t pos) const { return (pos / cadence_ + 1) * cadence_; }
  ChosenBlocks& layer(int64_t i) { return by_layer_[static_cast<size_t>(i)]; }

 private:
  int64_t cadence_ = 1;
  int64_t leader_ = -1;
  int64_t first_ = 0;
  std::vector<ChosenBlocks> by_layer_;
};

}  // namespace lcrun::attention

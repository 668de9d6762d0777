// Machine: the pushdown matcher, determinised lazily.
//
// A stack is a node (position, parent) in a shared tree, so that equal stacks are one number; a state is a sorted set
// of stacks, each waiting at a character; equal sets are one number too. Transitions are remembered per class of
// code points, so that walking a vocabulary costs a table look-up for most bytes. Bounded: a set of more than
// kMaxStacks stacks becomes the dead state, and the tables are rebuilt from the live state when they grow too large.
// Thread rule: single thread.
#pragma once

#include <cstdint>
#include <memory>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "src/text/grammar_rules.hpp"

namespace lcrun::text::grammar {

constexpr size_t kMaxStacks = 2048;
constexpr size_t kMaxClosureSteps = 200'000;
constexpr size_t kMaxTableEntries = size_t{8} << 20;
constexpr size_t kMaxNodes = size_t{4} << 20;

class Machine {
 public:
  using State = int32_t;
  static constexpr State kDead = 0;

  explicit Machine(std::shared_ptr<const Rules> rules);

  State start();
  State step(State state, char32_t cp) { return step_class(state, class_of(cp)); }
  // Can any code point in [first, last] follow?
  bool can_step(State state, char32_t first, char32_t last);
  bool can_end(State state) const { return sets_[static_cast<size_t>(state)].ends; }
  bool is_full() const;
  // Forgets all but `state`; returns its new number.
  State compact(State state);
  // Changes whenever compact() made the numbers of states void.
  uint64_t generation() const { return generation_; }

 private:
  static constexpr uint32_t kBottom = ~uint32_t{0};
  static constexpr State kUnknown = -1;

  struct Node {
    uint32_t position = 0;
    uint32_t parent = 0;
  };
  struct Set {
    std::vector<uint32_t> stacks;  // ascending
    bool ends = false;             // an empty stack belongs to it
  };

  size_t class_of(char32_t cp) const;
  State step_class(State state, size_t cls);
  uint32_t intern_node(uint32_t position, uint32_t parent);
  State intern_set(Set set);
  // All stacks that wait at a character after moves that read none. Takes work_.
  Set close();
  void push(uint32_t position, uint32_t parent);
  void clear();

  std::shared_ptr<const Rules> rules_;
  size_t n_classes_ = 0;
  std::vector<uint16_t> ascii_classes_;  // [128]
  std::vector<Node> nodes_;
  std::unordered_map<uint64_t, uint32_t> node_ids_;
  std::vector<Set> sets_;                                     // [state]; 0 is the dead one
  std::unordered_map<uint64_t, std::vector<State>> set_ids_;  // by hash
  std::vector<State> table_;                                  // [state, class]
  std::vector<Node> work_;
  std::unordered_set<uint64_t> seen_;
  bool overflow_ = false;
  uint64_t generation_ = 0;
};

}  // namespace lcrun::text::grammar

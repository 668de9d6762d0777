// Stack sets and their lazily filled transition table; see grammar_machine.hpp.
#include "src/text/grammar_machine.hpp"

#include <algorithm>
#include <utility>

namespace lcrun::text::grammar {
namespace {
uint64_t key_of(uint32_t position, uint32_t parent) { return uint64_t{position} << 32 | parent; }
}  // namespace

Machine::Machine(std::shared_ptr<const Rules> rules)
    : rules_(std::move(rules)), n_classes_(rules_->class_starts.size()), ascii_classes_(128) {
  const auto& starts = rules_->class_starts;
  for (char32_t cp = 0; cp < 128; ++cp) {
    ascii_classes_[cp] = static_cast<uint16_t>(std::upper_bound(starts.begin(), starts.end(), cp) - starts.begin() - 1);
  }
  clear();
}

void Machine::clear() {
  nodes_.clear();
  node_ids_.clear();
  sets_.assign(1, Set{});
  set_ids_.clear();
  table_.assign(n_classes_, kDead);
  ++generation_;
}

size_t Machine::class_of(char32_t cp) const {
  if (cp < 128) return ascii_classes_[cp];
  const auto& starts = rules_->class_starts;
  return static_cast<size_t>(std::upper_bound(starts.begin(), starts.end(), cp) - starts.begin() - 1);
}

uint32_t Machine::intern_node(uint32_t position, uint32_t parent) {
  const auto [it, is_new] = node_ids_.emplace(key_of(position, parent), static_cast<uint32_t>(nodes_.size()));
  if (is_new) nodes_.push_back({position, parent});
  return it->second;
}

Machine::State Machine::intern_set(Set set) {
  if (set.stacks.empty() && !set.ends) return kDead;
  uint64_t hash = set.ends ? 1 : 0;
  for (const uint32_t stack : set.stacks) hash = (hash ^ stack) * 0x9E3779B97F4A7C15ULL + (hash >> 29);
  std::vector<State>& same_hash = set_ids_[hash];
  for (const State state : same_hash) {
    const Set& other = sets_[static_cast<size_t>(state)];
    if (other.ends == set.ends && other.stacks == set.stacks) return state;
  }
  const auto state = static_cast<State>(sets_.size());
  same_hash.push_back(state);
  sets_.push_back(std::move(set));
  table_.resize(table_.size() + n_classes_, kUnknown);
  return state;
}

void Machine::push(uint32_t position, uint32_t parent) {
  if (seen_.insert(key_of(position, parent)).second) work_.push_back({position, parent});
}

Machine::Set Machine::close() {
  Set set;
  size_t steps = 0;
  while (!work_.empty() && !overflow_) {
    const Node item = work_.back();
    work_.pop_back();
    overflow_ = ++steps > kMaxClosureSteps || set.stacks.size() > kMaxStacks;
    const Element& element = rules_->elements[item.position];
    if (element.kind == ElementKind::kChars) {
      set.stacks.push_back(intern_node(item.position, item.parent));
    } else if (element.kind == ElementKind::kEnd) {
      if (item.parent == kBottom) {
        set.ends = true;
      } else {
        push(nodes_[item.parent].position, nodes_[item.parent].parent);
      }
    } else {
      // A last reference needs no place to come back to: right recursion and repetition keep the stack flat.
      const bool is_last = rules_->elements[item.position + 1].kind == ElementKind::kEnd;
      const uint32_t parent = is_last ? item.parent : intern_node(item.position + 1, item.parent);
      for (const uint32_t alternative : rules_->alternatives[element.value]) push(alternative, parent);
    }
  }
  work_.clear();
  seen_.clear();
  if (std::exchange(overflow_, false)) return {};  // too ambiguous: nothing may follow
  std::sort(set.stacks.begin(), set.stacks.end());
  return set;
}

Machine::State Machine::start() {
  for (const uint32_t alternative : rules_->alternatives[rules_->root]) push(alternative, kBottom);
  return intern_set(close());
}

Machine::State Machine::step_class(State state, size_t cls) {
  const size_t entry = static_cast<size_t>(state) * n_classes_ + cls;
  if (table_[entry] != kUnknown) return table_[entry];
  if (table_.size() > 4 * kMaxTableEntries || nodes_.size() > 4 * kMaxNodes) return kDead;  // within one walk
  const char32_t cp = rules_->class_starts[cls];  // stands for its whole class
  for (const uint32_t stack : sets_[static_cast<size_t>(state)].stacks) {
    const Node node = nodes_[stack];
    if (contains(rules_->char_sets[rules_->elements[node.position].value], cp)) push(node.position + 1, node.parent);
  }
  const State next = intern_set(close());
  table_[entry] = next;
  return next;
}

bool Machine::can_step(State state, char32_t first, char32_t last) {
  for (size_t cls = class_of(first); cls < n_classes_ && rules_->class_starts[cls] <= last; ++cls) {
    if (step_class(state, cls) != kDead) return true;
  }
  return false;
}

bool Machine::is_full() const { return table_.size() > kMaxTableEntries || nodes_.size() > kMaxNodes; }

Machine::State Machine::compact(State state) {
  const Set live = sets_[static_cast<size_t>(state)];
  const std::vector<Node> old = std::move(nodes_);
  clear();
  // Parents have lower numbers than their children, so one ascending pass over what is reachable renumbers all.
  std::vector<uint32_t> reachable;
  std::vector<bool> seen(old.size());
  for (uint32_t stack : live.stacks) {
    for (; stack != kBottom && !seen[stack]; stack = old[stack].parent) {
      seen[stack] = true;
      reachable.push_back(stack);
    }
  }
  std::sort(reachable.begin(), reachable.end());
  std::unordered_map<uint32_t, uint32_t> renumbered;
  for (const uint32_t stack : reachable) {
    const uint32_t parent = old[stack].parent == kBottom ? kBottom : renumbered.at(old[stack].parent);
    renumbered[stack] = intern_node(old[stack].position, parent);
  }
  Set set;
  set.ends = live.ends;
  for (const uint32_t stack : live.stacks) set.stacks.push_back(renumbered.at(stack));
  std::sort(set.stacks.begin(), set.stacks.end());
  return intern_set(std::move(set));
}

}  // namespace lcrun::text::grammar

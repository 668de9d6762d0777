// What must hold of the rules before matching: no left recursion (the matcher's stacks would grow without reading a
// character) and a root that can match something. Linear in the grammar, no recursion: grammars come from outside.
#include <algorithm>

#include "src/text/grammar_rules.hpp"

namespace lcrun::text::grammar {
namespace {

// Rules that can come to a result, where a character counts as one (productive) or not (nullable).
std::vector<bool> derive(const Rules& rules, bool chars_count) {
  struct Alternative {
    uint32_t rule = 0;
    uint32_t missing = 0;  // references not yet known to succeed
  };
  std::vector<Alternative> alternatives;
  std::vector<std::vector<uint32_t>> users(rules.alternatives.size());  // [rule] -> alternatives that refer to it
  std::vector<bool> done(rules.alternatives.size());
  std::vector<uint32_t> ready;
  const auto finish = [&](uint32_t rule) {
    if (done[rule]) return;
    done[rule] = true;
    ready.push_back(rule);
  };
  for (uint32_t rule = 0; rule < rules.alternatives.size(); ++rule) {
    for (uint32_t i : rules.alternatives[rule]) {
      const auto id = static_cast<uint32_t>(alternatives.size());
      Alternative alternative{rule, 0};
      for (; rules.elements[i].kind != ElementKind::kEnd; ++i) {
        const Element& element = rules.elements[i];
        if (element.kind == ElementKind::kChars && chars_count) continue;
        ++alternative.missing;
        if (element.kind == ElementKind::kRule) users[element.value].push_back(id);
      }
      alternatives.push_back(alternative);
      if (alternative.missing == 0) finish(rule);
    }
  }
  while (!ready.empty()) {
    const uint32_t rule = ready.back();
    ready.pop_back();
    for (const uint32_t id : users[rule]) {
      if (--alternatives[id].missing == 0) finish(alternatives[id].rule);
    }
  }
  return done;
}

struct Edge {
  uint32_t to = 0;
  bool grows = false;  // something follows the reference: entering it deepens the stack
};

// Rules that a rule can enter before any character is read.
std::vector<std::vector<Edge>> left_corners(const Rules& rules, const std::vector<bool>& nullable) {
  std::vector<std::vector<Edge>> edges(rules.alternatives.size());
  for (size_t rule = 0; rule < rules.alternatives.size(); ++rule) {
    for (uint32_t i : rules.alternatives[rule]) {
      for (; rules.elements[i].kind == ElementKind::kRule; ++i) {
        const uint32_t to = rules.elements[i].value;
        edges[rule].push_back({to, rules.elements[i + 1].kind != ElementKind::kEnd});
        if (!nullable[to]) break;
      }
    }
  }
  return edges;
}

// Tarjan's strongly connected components (1972) with an explicit stack: component of each rule.
class Components {
 public:
  explicit Components(const std::vector<std::vector<Edge>>& edges)
      : edges_(edges), order_(edges.size()), low_(edges.size()), component_(edges.size()), on_stack_(edges.size()) {
    for (uint32_t rule = 0; rule < edges.size(); ++rule) {
      if (order_[rule] == 0) visit(rule);
    }
  }
  uint32_t of(uint32_t rule) const { return component_[rule]; }

 private:
  struct Frame {
    uint32_t rule = 0;
    size_t next_edge = 0;
  };

  void open(uint32_t rule) {
    order_[rule] = low_[rule] = ++counter_;
    stack_.push_back(rule);
    on_stack_[rule] = true;
    frames_.push_back({rule, 0});
  }

  void visit(uint32_t start) {
    open(start);
    while (!frames_.empty()) {
      Frame& frame = frames_.back();
      const uint32_t rule = frame.rule;
      if (frame.next_edge < edges_[rule].size()) {
        const uint32_t to = edges_[rule][frame.next_edge++].to;
        if (order_[to] == 0) {
          open(to);
        } else if (on_stack_[to]) {
          low_[rule] = std::min(low_[rule], order_[to]);
        }
        continue;
      }
      frames_.pop_back();
      if (!frames_.empty()) low_[frames_.back().rule] = std::min(low_[frames_.back().rule], low_[rule]);
      if (low_[rule] == order_[rule]) close(rule);
    }
  }

  void close(uint32_t rule) {
    ++n_components_;
    uint32_t member = 0;
    do {
      member = stack_.back();
      stack_.pop_back();
      on_stack_[member] = false;
      component_[member] = n_components_;
    } while (member != rule);
  }

  const std::vector<std::vector<Edge>>& edges_;
  std::vector<uint32_t> order_;  // 0 = not seen
  std::vector<uint32_t> low_;
  std::vector<uint32_t> component_;
  std::vector<bool> on_stack_;
  std::vector<uint32_t> stack_;
  std::vector<Frame> frames_;
  uint32_t counter_ = 0;
  uint32_t n_components_ = 0;
};

}  // namespace

void check_rules(const Rules& rules, const std::vector<std::string>& names) {
  if (!derive(rules, true)[rules.root]) fail("grammar: 'root' can match no text at all");
  const auto edges = left_corners(rules, derive(rules, false));
  const Components components(edges);
  for (uint32_t rule = 0; rule < edges.size(); ++rule) {
    for (const Edge& edge : edges[rule]) {
      // A cycle of last references only (as in (x*)*) leaves the stack as it is: the matcher sees the repeat.
      if (edge.grows && components.of(rule) == components.of(edge.to)) {
        fail("grammar: left recursion through the rule '{}'", names[edge.to]);
      }
    }
  }
}

}  // namespace lcrun::text::grammar

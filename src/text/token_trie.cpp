// Builds the trie depth first over ranges of the sorted texts, without recursion.
#include "src/text/token_trie.hpp"

#include <algorithm>

namespace lcrun::text {

namespace {

// Tokens [first, last) of the sorted order share the node's path of `depth` bytes.
struct Pending {
  int32_t node;
  size_t first;
  size_t last;
  size_t depth;
};

}  // namespace

TokenTrie::TokenTrie(const Vocab& vocab, TokenAttr wanted, TokenAttr unwanted) : nodes_(1) {
  std::vector<Token> order;
  for (Token id = 0; id < vocab.size(); ++id) {
    if ((vocab.attr(id) & wanted) != 0 && (vocab.attr(id) & unwanted) == 0) order.push_back(id);
  }
  std::sort(order.begin(), order.end(), [&](Token a, Token b) { return vocab.text(a) < vocab.text(b); });

  std::vector<Pending> pending{{kRoot, 0, order.size(), 0}};
  while (!pending.empty()) {
    const Pending range = pending.back();
    pending.pop_back();
    size_t at = range.first;
    // The text that is the path itself sorts before those that go on.
    if (at < range.last && vocab.text(order[at]).size() == range.depth) {
      nodes_[static_cast<size_t>(range.node)].token = order[at++];
    }
    const auto first_child = static_cast<int32_t>(nodes_.size());
    while (at < range.last) {
      const auto byte = static_cast<uint8_t>(vocab.text(order[at])[range.depth]);
      const size_t begin = at;
      while (at < range.last && static_cast<uint8_t>(vocab.text(order[at])[range.depth]) == byte) ++at;
      const auto node = static_cast<int32_t>(nodes_.size());
      nodes_.push_back({.byte = byte});
      pending.push_back({node, begin, at, range.depth + 1});
    }
    Node& parent = nodes_[static_cast<size_t>(range.node)];
    parent.first_child = first_child;
    parent.child_count = static_cast<uint16_t>(nodes_.size() - static_cast<size_t>(first_child));
  }
  root_children_.fill(-1);
  const Node& root = nodes_[kRoot];
  for (int32_t i = 0; i < root.child_count; ++i) {
    const int32_t node = root.first_child + i;
    root_children_[nodes_[static_cast<size_t>(node)].byte] = node;
  }
}

int32_t TokenTrie::child(int32_t node, char byte) const {
  const auto wanted = static_cast<uint8_t>(byte);
  if (node == kRoot) return root_children_[wanted];
  const Node& parent = nodes_[static_cast<size_t>(node)];
  const auto first = nodes_.begin() + parent.first_child;
  const auto last = first + parent.child_count;
  const auto found =
      std::lower_bound(first, last, wanted, [](const Node& child, uint8_t value) { return child.byte < value; });
  return found != last && found->byte == wanted ? static_cast<int32_t>(found - nodes_.begin()) : -1;
}

}  // namespace lcrun::text

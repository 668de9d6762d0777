// A trie over the texts of tokens, for the kinds of tokenizer that look for tokens that start at a place.
//
// Built from the sorted texts in one pass; children of a node lie side by side, ordered by byte. Depth is the
// longest text, walked in a loop. Thread rule: immutable after construction.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "src/text/vocab.hpp"

namespace lcrun::text {

class TokenTrie {
 public:
  static constexpr int32_t kRoot = 0;

  // Tokens with an attribute of `wanted` and none of `unwanted`.
  TokenTrie(const Vocab& vocab, TokenAttr wanted, TokenAttr unwanted);

  // The child of `node` for a byte, -1 when there is none.
  int32_t child(int32_t node, char byte) const;
  // The token that ends at `node`, -1 when none does.
  Token token(int32_t node) const { return nodes_[static_cast<size_t>(node)].token; }

 private:
  struct Node {
    int32_t first_child = 0;
    uint16_t child_count = 0;
    uint8_t byte = 0;
    Token token = -1;
  };
  std::vector<Node> nodes_;
  std::array<int32_t, 256> root_children_{};
};

}  // namespace lcrun::text

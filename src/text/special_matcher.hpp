// Finds special tokens in a text and cuts it at them.
//
// The rule is the reference runtime's: longer tokens first, each from left to right, only where nothing longer was
// taken. Its way (search the text once per special token) costs thousands of passes with large vocabularies; here
// one Aho-Corasick pass (Aho and Corasick, 1975) finds the stretches that special tokens cover, and the rule is
// applied inside those alone. Thread rule: immutable after construction.
#pragma once

#include <array>
#include <cstdint>
#include <string_view>
#include <vector>

#include "src/text/vocab.hpp"

namespace lcrun::text {

// A special token, or (token < 0) text to be tokenised.
struct Fragment {
  Token token = -1;
  size_t begin = 0;
  size_t size = 0;
};

class SpecialMatcher {
 public:
  // Tokens with an attribute of `wanted` and none of `unwanted`.
  SpecialMatcher(const Vocab& vocab, TokenAttr wanted, TokenAttr unwanted);

  // Appends the fragments of text[begin, begin + size), in order, with positions in `text`. White space beside
  // tokens that strip it belongs to no fragment.
  void split(const Vocab& vocab, std::string_view text, size_t begin, size_t size,
             std::vector<Fragment>& fragments) const;

 private:
  struct Node {
    int32_t first_child = -1;
    int32_t next_sibling = -1;
    int32_t fallback = 0;  // node of the longest proper suffix that is a path
    int32_t shorter = -1;  // nearest node on the chain of fallbacks that ends a token
    Token token = -1;
    uint32_t depth = 0;
    uint8_t byte = 0;
  };
  struct Stretch {
    size_t begin;
    size_t end;
  };

  void add(std::string_view text, Token token);
  void link();
  int32_t child(int32_t node, uint8_t byte) const;
  int32_t advance(int32_t node, uint8_t byte) const;
  std::vector<Stretch> find_stretches(std::string_view text, size_t begin, size_t end) const;
  std::vector<Token> tokens_in(std::string_view stretch, std::vector<bool>& seen) const;
  Token exact(std::string_view stretch) const;

  std::vector<Node> nodes_;
  std::array<int32_t, 256> root_{};  // 0 = none
};

}  // namespace lcrun::text

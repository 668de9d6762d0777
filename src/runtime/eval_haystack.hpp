// A long text as tokens, and where a sentence may be put into it.
//
// All lengths are exact numbers of tokens: a text is tokenised once, a case takes its first tokens, and a hidden
// sentence replaces as many tokens as it has. So everything but the replaced tokens is the same in all cases of a
// length, and what a session has read of it serves the next case.
// Thread rule: immutable after it is made.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "src/base/result.hpp"
#include "src/model/model.hpp"
#include "src/runtime/eval_random.hpp"
#include "src/text/tokenizer.hpp"

namespace lcrun::runtime {

using model::Token;

class Haystack {
 public:
  // The first `n_tokens` tokens of a text. kInvalidArgument when it has fewer; `name` for the message.
  static Result<Haystack> create(const text::Tokenizer& tokenizer, std::string_view text, std::string_view name,
                                 int64_t n_tokens);

  std::span<const Token> tokens() const { return tokens_; }
  int64_t size() const { return static_cast<int64_t>(tokens_.size()); }

  // How a sentence joins what lies before it.
  enum class Join : uint8_t {
    kNone,  // inside a sentence
    kLine,  // a line has ended: the sentence becomes a line
    kBlank  // a sentence has ended, and a blank follows
  };
  // Of the place before token `at`, 0 .. size().
  Join join(int64_t at) const { return joins_[static_cast<size_t>(at)]; }

 private:
  std::vector<Token> tokens_;
  std::vector<Join> joins_;  // [size() + 1]
};

// A sentence in the tokens of each way to join it.
struct HiddenSentence {
  std::vector<Token> as_line;
  std::vector<Token> after_blank;

  HiddenSentence(const text::Tokenizer& tokenizer, const std::string& sentence);
  const std::vector<Token>& joined(Haystack::Join join) const {
    return join == Haystack::Join::kBlank ? after_blank : as_line;
  }
};

// Tokens put in place of as many others.
struct Replacement {
  int64_t at = 0;
  std::vector<Token> tokens;

  int64_t end() const { return at + static_cast<int64_t>(tokens.size()); }
};

// Places in the first `n_tokens` tokens for all sentences, none overlapping another. The first one begins near `depth`
// (0..1, of what there is room for; negative: anywhere), the others anywhere; `random` moves it by up to 1.5 % of the
// text, at most 2,048 tokens, so that other seeds have other places. Ends of lines and sentences are preferred,
// on both sides where there are any near. kInvalidArgument when there is no room. Result in the order of the sentences.
Result<std::vector<Replacement>> place_sentences(const Haystack& haystack, int64_t n_tokens,
                                                 std::span<const HiddenSentence> sentences, double depth,
                                                 EvalRandom& random);

}  // namespace lcrun::runtime

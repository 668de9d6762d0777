// Citations: which passages of a text an answer was read from.
//
// While a question's last tokens and an answer's first ones are computed, a probe counts the attention that heads in
// the middle of the network pay to the text; the passages that got most of it are named, with their place in the file,
// so that an answer can be checked. What heads attend to is evidence, no proof.
// Thread rule: that of the session.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "src/attention/probe.hpp"
#include "src/runtime/passages.hpp"
#include "src/runtime/session.hpp"

namespace lcrun::runtime {

struct Citation {
  TextPlace place;
  int64_t begin = 0;  // tokens of the prompt
  int64_t end = 0;
  double share = 0;  // of the attention that the text got
  std::string text;
};

constexpr size_t kMostCitations = 5;

// Watches one reply. The session must not outlive it without Session::watch(nullptr); the destructor does that.
class CitationWatch {
 public:
  // `n_prompt` tokens come before the reply, which ends a prompt whose text ends at `text_end`.
  CitationWatch(Session& session, int64_t text_end, int64_t n_prompt);
  ~CitationWatch() { session_.watch(nullptr); }
  CitationWatch(const CitationWatch&) = delete;
  CitationWatch& operator=(const CitationWatch&) = delete;

  // After the reply: the passages that were read most, the most important one first; neighbours are one.
  std::vector<Citation> cite(const text::Tokenizer& tokenizer, std::span<const Token> prompt,
                             std::span<const PromptPassage> passages) const;

 private:
  Session& session_;
  attention::AttnProbe probe_;
};

// Heads that look back: those of layers that see everything, in the second half of the network but for its end.
std::vector<attention::WatchedHead> citing_heads(const model::ModelConfig& config);

// The passages with the largest sums of `mass` (by token, of the tokens from `first` on), as above.
std::vector<Citation> rank_passages(const text::Tokenizer& tokenizer, std::span<const Token> prompt,
                                    std::span<const PromptPassage> passages, std::span<const float> mass,
                                    int64_t first);

}  // namespace lcrun::runtime

// Sampler: the next token from a row of logits.
//
// The chain, each stage on what the one before left: penalties for tokens seen lately, top-k, typical, top-p, min-p,
// temperature, one draw. That is the order most runtimes use, so that their settings carry over. temp <= 0 takes the
// most likely token after penalties (lowest id on ties) and draws nothing.
// Invariants: pick neither allocates nor fails; NaN logits count as -inf; equal logits, history and seed give equal
// tokens on every platform (own generator, own draw; a libm whose exp differs may move a borderline case).
// Thread rule: one thread at a time.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "src/base/result.hpp"
#include "src/text/tokenizer.hpp"

namespace lcrun::runtime {

using text::Token;

struct SamplerOptions {
  float temp = 0.8F;
  int top_k = 40;               // <= 0 = off
  float top_p = 0.95F;          // 1 = off
  float min_p = 0.05F;          // 0 = off
  float typical_p = 1.0F;       // 1 = off
  float repeat_penalty = 1;     // divides positive logits of tokens seen, multiplies negative ones; 1 = off
  float presence_penalty = 0;   // subtracted once from each token seen
  float frequency_penalty = 0;  // subtracted for each time that it was seen
  int repeat_last_n = 64;       // tokens of history that penalties look at; -1 = all, 0 = none
  uint64_t seed = 0;
  int min_keep = 1;  // top-p, min-p and typical keep at least so many
};

class Sampler {
 public:
  // State of the generator, for saved sessions.
  struct State {
    uint64_t seed = 0;
    uint64_t draws = 0;
  };

  // kInvalidArgument names the option and what it may be.
  static Result<Sampler> create(const SamplerOptions& options, int64_t n_vocab);

  // logits [n_vocab]: changed in place by penalties. history: tokens so far, latest last; ids outside the
  // vocabulary are ignored. Where no token has a finite logit, the lowest id wins.
  Token pick(std::span<float> logits, std::span<const Token> history) noexcept;

  // Sets logits of tokens that are not allowed to -inf. allowed: [n_vocab], missing entries count as not allowed.
  static void mask(std::span<float> logits, const std::vector<bool>& allowed) noexcept;

  const SamplerOptions& options() const { return options_; }
  State state() const { return {options_.seed, draws_}; }
  void set_state(const State& state) {
    options_.seed = state.seed;
    draws_ = state.draws;
  }

 private:
  struct Candidate {
    float logit = 0;
    float p = 0;
    Token id = 0;
  };

  Sampler(const SamplerOptions& options, int64_t n_vocab);

  void penalize(std::span<float> logits, std::span<const Token> history) noexcept;
  Token greedy(std::span<const float> logits) const noexcept;
  // Fills candidates_ with the top-k tokens, most likely first.
  void take_candidates(std::span<const float> logits) noexcept;
  void softmax(float temp) noexcept;
  void keep_typical() noexcept;
  void keep_top_p() noexcept;
  void keep_min_p() noexcept;
  Token draw() noexcept;

  SamplerOptions options_;
  uint64_t draws_ = 0;
  size_t n_candidates_ = 0;            // of candidates_, those still in
  std::vector<Candidate> candidates_;  // [n_vocab]
  std::vector<float> shift_;           // [n_vocab], scratch of keep_typical
  std::vector<int32_t> counts_;        // [n_vocab], all zero between calls
};

}  // namespace lcrun::runtime

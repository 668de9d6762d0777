// How likely a model finds a text: logits position by position, and perplexity over windows.
// Thread rule: that of the Session.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <utility>
#include <vector>

#include "src/base/result.hpp"
#include "src/runtime/session.hpp"

namespace lcrun::runtime {

// The k largest logits, largest first; equal ones by id. `order` is scratch.
std::vector<std::pair<Token, float>> top_logits(std::span<const float> logits, int64_t k, std::vector<Token>& order);

struct Perplexity {
  int64_t window = 0;
  int64_t scored = 0;  // tokens
  double nll = 0;      // mean, in nats
  double ppl() const;
};

// Windows of `window` tokens, one after another, a part at the end left out. In each, the tokens after position
// window/2 are scored given all before them in the window. first_token >= 0 replaces the first token of each window
// (BOS). kInvalidArgument when there is not even one window.
Result<Perplexity> perplexity(Session& session, std::span<const Token> tokens, int64_t window, Token first_token,
                              const ProgressCallback& progress = {});

}  // namespace lcrun::runtime

// Scores against their definition in double precision.
#include "src/runtime/scoring.hpp"

#include <catch2/catch.hpp>
#include <cmath>

#include "tests/support/tiny_session.hpp"

using namespace lcrun;
using namespace lcrun::runtime;
using namespace lcrun::testing;

TEST_CASE("the largest logits come first, equal ones by id", "[runtime][scoring]") {
  const std::vector<float> logits = {1.0F, 3.0F, 3.0F, -2.0F, 7.0F};
  std::vector<Token> order;
  const auto top = top_logits(logits, 3, order);
  CHECK(top == std::vector<std::pair<Token, float>>{{4, 7.0F}, {1, 3.0F}, {2, 3.0F}});
  CHECK(top_logits(logits, 99, order).size() == 5);
  CHECK(top_logits(logits, 0, order).empty());
}

TEST_CASE("perplexity is the mean over the second half of each window", "[runtime][scoring]") {
  const auto model = load_tiny("llama");
  const auto tokens = random_tokens(70, kTinyVocab, 41);
  constexpr int64_t kWindow = 16;
  constexpr Token kFirst = 5;
  double sum = 0;
  int64_t n = 0;
  for (int64_t window = 0; window < 4; ++window) {
    std::vector<Token> part(tokens.begin() + window * kWindow, tokens.begin() + (window + 1) * kWindow);
    part[0] = kFirst;
    for (int64_t pos = kWindow / 2; pos + 1 < kWindow; ++pos) {
      auto session = open_tiny_session(model);
      const auto logits = sync_copy(session, std::vector<Token>(part.begin(), part.begin() + pos + 1));
      double total = 0;
      for (const float logit : logits) total += std::exp(static_cast<double>(logit));
      sum += std::log(total) - static_cast<double>(logits[static_cast<size_t>(part[static_cast<size_t>(pos + 1)])]);
      ++n;
    }
  }
  auto session = open_tiny_session(model);
  const auto result = perplexity(session, tokens, kWindow, kFirst);
  REQUIRE(result.has_value());
  CHECK(result->scored == n);
  // The fast sum of exponentials is float inside; 1e-5 is some hundred of its units here.
  CHECK(result->nll == Approx(sum / static_cast<double>(n)).epsilon(1e-5));
  CHECK(result->ppl() == Approx(std::exp(result->nll)));
}

TEST_CASE("a text shorter than a window is an invalid argument", "[runtime][scoring]") {
  auto session = open_tiny_session(load_tiny("llama"));
  const auto result = perplexity(session, random_tokens(15, kTinyVocab, 1), 16, -1);
  REQUIRE_FALSE(result.has_value());
  CHECK(result.error().code == Code::kInvalidArgument);
}

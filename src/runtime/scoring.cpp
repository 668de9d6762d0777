#include "src/runtime/scoring.hpp"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "src/base/format.hpp"
#include "src/kernels/ops.hpp"

namespace lcrun::runtime {

std::vector<std::pair<Token, float>> top_logits(std::span<const float> logits, int64_t k, std::vector<Token>& order) {
  const auto n = static_cast<int64_t>(logits.size());
  k = std::min(k, n);
  order.resize(logits.size());
  std::iota(order.begin(), order.end(), 0);
  const auto value = [&](Token id) { return logits[static_cast<size_t>(id)]; };
  std::partial_sort(order.begin(), order.begin() + k, order.end(),
                    [&](Token a, Token b) { return value(a) != value(b) ? value(a) > value(b) : a < b; });
  std::vector<std::pair<Token, float>> top;
  top.reserve(static_cast<size_t>(k));
  for (int64_t i = 0; i < k; ++i) top.emplace_back(order[static_cast<size_t>(i)], value(order[static_cast<size_t>(i)]));
  return top;
}

double Perplexity::ppl() const { return std::exp(nll); }

Result<Perplexity> perplexity(Session& session, std::span<const Token> tokens, int64_t window, Token first_token,
                              const ProgressCallback& progress) {
  const int64_t n_windows = static_cast<int64_t>(tokens.size()) / window;
  if (n_windows == 0) {
    return make_error(Code::kInvalidArgument, "the text has {} tokens, wanted at least one window of {}", tokens.size(),
                      window);
  }
  Perplexity result;
  result.window = window;
  double sum = 0;
  for (int64_t i = 0; i < n_windows; ++i) {
    const auto part = tokens.subspan(static_cast<size_t>(i * window), static_cast<size_t>(window));
    std::vector<Token> ids(part.begin(), part.end());
    if (first_token >= 0) ids[0] = first_token;
    session.clear();
    const int64_t first_scored = window / 2;
    const auto sink = [&](int64_t pos, std::span<const float> logits) -> Status {
      if (pos + 1 >= window) return {};
      const auto next = static_cast<size_t>(ids[static_cast<size_t>(pos + 1)]);
      sum +=
          kernels::log_sum_exp(logits.data(), static_cast<int64_t>(logits.size())) - static_cast<double>(logits[next]);
      ++result.scored;
      return {};
    };
    LCRUN_TRY(session.score(ids, window - first_scored, sink));
    if (progress && !progress((i + 1) * window, n_windows * window)) {
      return make_error(Code::kCancelled, "scoring was stopped");
    }
  }
  result.nll = sum / static_cast<double>(result.scored);
  return result;
}

}  // namespace lcrun::runtime

// The chain of sampler.hpp. Candidates live in one array, sorted by falling logit (rising id on ties), so that
// every stage is a cut of its tail; only typical sampling reorders.
//
// Locally typical sampling: Meister et al. 2022, arXiv 2202.00666, section 4: keep the tokens whose surprise is
// nearest to the entropy, until their probability reaches typical_p.
#include "src/runtime/sampler.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <string_view>
#include <utility>

#include "src/base/format.hpp"

namespace lcrun::runtime {
namespace {

constexpr float kMinusInfinity = -std::numeric_limits<float>::infinity();

// SplitMix64 (Steele, Lea, Flood 2014) as a counter-based generator: draw i of a seed needs no state but i.
uint64_t random_bits(uint64_t seed, uint64_t index) noexcept {
  uint64_t z = seed + (index + 1) * 0x9E3779B97F4A7C15ULL;
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ULL;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBULL;
  return z ^ (z >> 31);
}

Status check_float(std::string_view name, float value, float low, float high) {
  if (std::isfinite(value) && value >= low && value <= high) return {};
  return make_error(Code::kInvalidArgument, "{}: found {}, wanted a number from {} to {}", name, value, low, high);
}

Status check_int(std::string_view name, int64_t value, int64_t low, int64_t high) {
  if (value >= low && value <= high) return {};
  return make_error(Code::kInvalidArgument, "{}: found {}, wanted an integer from {} to {}", name, value, low, high);
}

Status check(const SamplerOptions& options) {
  LCRUN_TRY(check_float("temp", options.temp, 0, 1000));
  LCRUN_TRY(check_int("top-k", options.top_k, -1, std::numeric_limits<int>::max()));
  LCRUN_TRY(check_float("top-p", options.top_p, 0, 1));
  LCRUN_TRY(check_float("min-p", options.min_p, 0, 1));
  LCRUN_TRY(check_float("typical-p", options.typical_p, 0, 1));
  LCRUN_TRY(check_float("repeat-penalty", options.repeat_penalty, 0.01F, 100));
  LCRUN_TRY(check_float("presence-penalty", options.presence_penalty, -100, 100));
  LCRUN_TRY(check_float("frequency-penalty", options.frequency_penalty, -100, 100));
  LCRUN_TRY(check_int("repeat-last-n", options.repeat_last_n, -1, std::numeric_limits<int>::max()));
  return check_int("min-keep", options.min_keep, 1, std::numeric_limits<int>::max());
}

}  // namespace

Result<Sampler> Sampler::create(const SamplerOptions& options, int64_t n_vocab) {
  LCRUN_TRY(check(options));
  LCRUN_TRY(check_int("vocabulary size", n_vocab, 1, std::numeric_limits<Token>::max()));
  return Sampler(options, n_vocab);
}

Sampler::Sampler(const SamplerOptions& options, int64_t n_vocab)
    : options_(options),
      candidates_(static_cast<size_t>(n_vocab)),
      shift_(static_cast<size_t>(n_vocab)),
      counts_(static_cast<size_t>(n_vocab)) {}

Token Sampler::pick(std::span<float> logits, std::span<const Token> history) noexcept {
  logits = logits.first(std::min(logits.size(), candidates_.size()));
  penalize(logits, history);
  if (options_.temp <= 0 || options_.top_k == 1) return greedy(logits);
  take_candidates(logits);
  if (n_candidates_ == 0) return 0;
  keep_typical();
  keep_top_p();
  keep_min_p();
  softmax(options_.temp);
  return draw();
}

void Sampler::mask(std::span<float> logits, const std::vector<bool>& allowed) noexcept {
  for (size_t i = 0; i < logits.size(); ++i) {
    if (i >= allowed.size() || !allowed[i]) logits[i] = kMinusInfinity;
  }
}

void Sampler::penalize(std::span<float> logits, std::span<const Token> history) noexcept {
  const bool is_off = options_.repeat_penalty == 1 && options_.presence_penalty == 0 && options_.frequency_penalty == 0;
  if (is_off || options_.repeat_last_n == 0) return;
  if (options_.repeat_last_n > 0) {
    history = history.last(std::min(history.size(), static_cast<size_t>(options_.repeat_last_n)));
  }
  const auto is_known = [&](Token token) { return token >= 0 && static_cast<size_t>(token) < logits.size(); };
  for (const Token token : history) {
    if (is_known(token)) ++counts_[static_cast<size_t>(token)];
  }
  for (const Token token : history) {
    if (!is_known(token)) continue;
    const auto id = static_cast<size_t>(token);
    const int32_t count = std::exchange(counts_[id], 0);
    if (count == 0) continue;  // done at its first occurrence
    float& logit = logits[id];
    logit = logit > 0 ? logit / options_.repeat_penalty : logit * options_.repeat_penalty;
    logit -= static_cast<float>(count) * options_.frequency_penalty + options_.presence_penalty;
  }
}

Token Sampler::greedy(std::span<const float> logits) const noexcept {
  size_t best = 0;
  float best_logit = kMinusInfinity;
  for (size_t i = 0; i < logits.size(); ++i) {
    if (logits[i] > best_logit) {  // false for NaN
      best = i;
      best_logit = logits[i];
    }
  }
  return static_cast<Token>(best);
}

void Sampler::take_candidates(std::span<const float> logits) noexcept {
  size_t n = 0;
  for (size_t i = 0; i < logits.size(); ++i) {
    if (!(logits[i] > kMinusInfinity)) continue;  // -inf and NaN
    candidates_[n++] = {std::min(logits[i], std::numeric_limits<float>::max()), 0, static_cast<Token>(i)};
  }
  const auto is_before = [](const Candidate& a, const Candidate& b) {
    return a.logit > b.logit || (a.logit == b.logit && a.id < b.id);
  };
  const auto first = candidates_.begin();
  const auto last = first + static_cast<ptrdiff_t>(n);
  size_t keep = n;
  if (options_.top_k > 0) keep = std::min(n, static_cast<size_t>(options_.top_k));
  const auto middle = first + static_cast<ptrdiff_t>(keep);
  if (keep < n) std::nth_element(first, middle, last, is_before);
  std::sort(first, middle, is_before);
  n_candidates_ = keep;
}

void Sampler::softmax(float temp) noexcept {
  float highest = kMinusInfinity;  // not candidates_[0]: typical sampling reorders
  for (size_t i = 0; i < n_candidates_; ++i) highest = std::max(highest, candidates_[i].logit);
  double sum = 0;
  for (size_t i = 0; i < n_candidates_; ++i) {
    Candidate& one = candidates_[i];
    one.p = static_cast<float>(std::exp(static_cast<double>(one.logit - highest) / static_cast<double>(temp)));
    sum += static_cast<double>(one.p);
  }
  for (size_t i = 0; i < n_candidates_; ++i) {
    candidates_[i].p = static_cast<float>(static_cast<double>(candidates_[i].p) / sum);
  }
}

void Sampler::keep_typical() noexcept {
  if (options_.typical_p >= 1) return;
  softmax(1);
  double entropy = 0;
  for (size_t i = 0; i < n_candidates_; ++i) {
    const auto p = static_cast<double>(candidates_[i].p);
    if (p > 0) entropy -= p * std::log(p);
  }
  for (size_t i = 0; i < n_candidates_; ++i) {  // by id, so that the order below survives the sort
    const Candidate& one = candidates_[i];
    const double surprise = one.p > 0 ? -std::log(static_cast<double>(one.p)) : 1e30;
    shift_[static_cast<size_t>(one.id)] = static_cast<float>(std::fabs(surprise - entropy));
  }
  const auto first = candidates_.begin();
  std::sort(first, first + static_cast<ptrdiff_t>(n_candidates_), [&](const Candidate& a, const Candidate& b) {
    const float left = shift_[static_cast<size_t>(a.id)];
    const float right = shift_[static_cast<size_t>(b.id)];
    return left < right || (left == right && a.id < b.id);
  });
  double sum = 0;
  for (size_t i = 0; i < n_candidates_; ++i) {
    sum += static_cast<double>(candidates_[i].p);
    if (sum > static_cast<double>(options_.typical_p) && i + 1 >= static_cast<size_t>(options_.min_keep)) {
      n_candidates_ = i + 1;
      break;
    }
  }
  std::sort(first, first + static_cast<ptrdiff_t>(n_candidates_), [](const Candidate& a, const Candidate& b) {
    return a.logit > b.logit || (a.logit == b.logit && a.id < b.id);
  });
}

void Sampler::keep_top_p() noexcept {
  if (options_.top_p >= 1) return;
  softmax(1);
  double sum = 0;
  for (size_t i = 0; i < n_candidates_; ++i) {
    sum += static_cast<double>(candidates_[i].p);
    if (sum >= static_cast<double>(options_.top_p) && i + 1 >= static_cast<size_t>(options_.min_keep)) {
      n_candidates_ = i + 1;
      return;
    }
  }
}

void Sampler::keep_min_p() noexcept {
  if (options_.min_p <= 0) return;
  const float lowest = candidates_[0].logit + std::log(options_.min_p);
  size_t keep = n_candidates_;
  while (keep > static_cast<size_t>(options_.min_keep) && candidates_[keep - 1].logit < lowest) --keep;
  n_candidates_ = keep;
}

Token Sampler::draw() noexcept {
  // 53 bits, so that the draw is exact in double and in [0, 1).
  const double r = static_cast<double>(random_bits(options_.seed, draws_++) >> 11) * 0x1.0p-53;
  double sum = 0;
  for (size_t i = 0; i < n_candidates_; ++i) {
    sum += static_cast<double>(candidates_[i].p);
    if (r < sum) return candidates_[i].id;
  }
  return candidates_[0].id;  // the sum fell short of r by rounding
}

}  // namespace lcrun::runtime

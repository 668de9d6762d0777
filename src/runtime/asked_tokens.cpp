#include "src/runtime/asked_tokens.hpp"

#include <algorithm>

namespace lcrun::runtime {

void AskedTokens::set(int64_t begin, int64_t end) {
  if (begin >= end) return;
  cut(begin);
  if (!spans_.empty() && spans_.back().end == begin) {
    spans_.back().end = end;
  } else {
    spans_.push_back({begin, end});
  }
}

void AskedTokens::append(std::span<const Span> others, int64_t begin, int64_t end) {
  for (const Span& other : others) set(std::max(other.begin, begin), std::min(other.end, end));
}

void AskedTokens::cut(int64_t end) {
  while (!spans_.empty() && spans_.back().begin >= end) spans_.pop_back();
  if (!spans_.empty()) spans_.back().end = std::min(spans_.back().end, end);
}

std::optional<int64_t> AskedTokens::begin_of(int64_t pos) const {
  const auto after = std::upper_bound(spans_.begin(), spans_.end(), pos,
                                      [](int64_t wanted, const Span& span) { return wanted < span.begin; });
  if (after == spans_.begin() || pos >= std::prev(after)->end) return std::nullopt;
  return std::prev(after)->begin;
}

int64_t AskedTokens::alike(int64_t pos, int64_t n) const {
  for (const Span& span : spans_) {
    if (span.begin > pos) n = std::min(n, span.begin - pos);
    if (span.end > pos) n = std::min(n, span.end - pos);
  }
  return n;
}

}  // namespace lcrun::runtime

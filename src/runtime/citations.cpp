#include "src/runtime/citations.hpp"

#include <algorithm>
#include <numeric>

namespace lcrun::runtime {
namespace {

constexpr int64_t kQuestionTokens = 16;  // at its end, that are watched
constexpr int64_t kAnswerTokens = 24;    // at its beginning
constexpr float kLeastWeight = 0.03F;    // that counts: most heads spread their attention and single nothing out
constexpr double kMostUnlike = 4;        // times that the attention of neighbours may differ to be one citation
constexpr double kLeastShare = 0.02;
constexpr size_t kMostTextBytes = 400;  // that a citation quotes

}  // namespace

std::vector<attention::WatchedHead> citing_heads(const model::ModelConfig& config) {
  std::vector<int64_t> layers;
  for (size_t i = 0; i < config.layers.size(); ++i) {
    if (config.layers[i].mixer == "attention" && config.layers[i].window == 0) {
      layers.push_back(static_cast<int64_t>(i));
    }
  }
  const auto n = static_cast<int64_t>(layers.size());
  std::vector<attention::WatchedHead> heads;
  for (int64_t i = 0; i < n; ++i) {
    const bool is_middle = 2 * i >= n && 6 * i < 5 * n;
    if (n > 6 && !is_middle) continue;
    const int64_t layer = layers[static_cast<size_t>(i)];
    const int64_t n_heads = config.layers[static_cast<size_t>(layer)].n_heads;
    for (int64_t head = 0; head < n_heads; ++head) heads.push_back({layer, head, 0});
  }
  return heads;
}

CitationWatch::CitationWatch(Session& session, int64_t text_end, int64_t n_prompt)
    : session_(session), probe_(citing_heads(session.model().config())) {
  probe_.watch(std::max(text_end, n_prompt - kQuestionTokens), n_prompt + kAnswerTokens);
  probe_.count_from(kLeastWeight);
  session.watch(&probe_);
}

std::vector<Citation> CitationWatch::cite(const text::Tokenizer& tokenizer, std::span<const Token> prompt,
                                          std::span<const PromptPassage> passages) const {
  if (passages.empty()) return {};
  const int64_t first = passages.front().begin;
  return rank_passages(tokenizer, prompt, passages, probe_.mass(first, passages.back().end), first);
}

std::vector<Citation> rank_passages(const text::Tokenizer& tokenizer, std::span<const Token> prompt,
                                    std::span<const PromptPassage> passages, std::span<const float> mass,
                                    int64_t first) {
  std::vector<double> sums(passages.size());
  for (size_t i = 0; i < passages.size(); ++i) {
    for (int64_t at = passages[i].begin; at < passages[i].end; ++at) {
      sums[i] += static_cast<double>(mass[static_cast<size_t>(at - first)]);
    }
  }
  const double total = std::accumulate(sums.begin(), sums.end(), 0.0);
  if (!(total > 0)) return {};
  std::vector<size_t> order(passages.size());
  std::iota(order.begin(), order.end(), size_t{0});
  const size_t most = std::min(kMostCitations, order.size());
  std::partial_sort(order.begin(), order.begin() + static_cast<std::ptrdiff_t>(most), order.end(),
                    [&](size_t a, size_t b) { return sums[a] != sums[b] ? sums[a] > sums[b] : a < b; });
  order.resize(most);
  while (order.size() > 1 && sums[order.back()] < kLeastShare * total) order.pop_back();
  std::sort(order.begin(), order.end());
  std::vector<Citation> citations;
  for (size_t i = 0; i < order.size();) {
    size_t last = i;
    // What lies in one line is one, and so are neighbours that got about as much.
    const auto touches = [&](size_t a, size_t b) {
      const TextPlace& before = passages[a].place;
      const TextPlace& after = passages[b].place;
      if (after.first_line <= before.last_line) return true;
      const double less = std::min(sums[a], sums[b]);
      return before.end_byte == after.first_byte && less * kMostUnlike >= std::max(sums[a], sums[b]);
    };
    while (last + 1 < order.size() && touches(order[last], order[last + 1])) ++last;
    const PromptPassage& from = passages[order[i]];
    const PromptPassage& to = passages[order[last]];
    Citation citation;
    citation.place = {from.place.first_byte, to.place.end_byte, from.place.first_line, to.place.last_line};
    citation.begin = from.begin;
    citation.end = to.end;
    for (; i <= last; ++i) citation.share += sums[order[i]] / total;
    const auto tokens = prompt.subspan(static_cast<size_t>(from.begin), static_cast<size_t>(to.end - from.begin));
    citation.text = text_of(tokenizer, tokens);
    if (citation.text.size() > kMostTextBytes) {
      size_t cut = kMostTextBytes;
      while (cut > 0 && (static_cast<uint8_t>(citation.text[cut]) & 0xC0) == 0x80) --cut;
      citation.text = citation.text.substr(0, cut) + "...";
    }
    citations.push_back(std::move(citation));
  }
  std::stable_sort(citations.begin(), citations.end(),
                   [](const Citation& a, const Citation& b) { return a.share > b.share; });
  return citations;
}

}  // namespace lcrun::runtime

#include "src/runtime/eval_haystack.hpp"

#include <algorithm>
#include <cmath>

#include "src/base/format.hpp"

namespace lcrun::runtime {
namespace {

using Join = Haystack::Join;

// Bytes a token has at least, on average, in a first attempt at how much text is needed.
constexpr size_t kBytesPerToken = 6;
constexpr double kReach = 0.015;      // of the text: how far chance moves a place
constexpr int64_t kMostReach = 2048;  // tokens: cases of one depth stay near to one another in long texts
constexpr int64_t kSearch = 512;      // tokens on each side in which the end of a sentence is looked for
constexpr int64_t kFitSearch = 24;    // and in which a better place is preferred to a nearer one
constexpr int kMostTries = 1000;

// A cut that splits no word: the end of the last line of the first `limit` bytes, or of the last word.
size_t cut_of(std::string_view text, size_t limit) {
  if (limit >= text.size()) return text.size();
  for (const char end : {'\n', ' '}) {
    const size_t at = text.rfind(end, limit);
    if (at != std::string_view::npos && at > 0) return at;
  }
  return text.size();
}

Join join_between(std::string_view before, std::string_view after) {
  if (!before.empty() && before.back() == '\n') return Join::kLine;
  const bool ends = !before.empty() && (before.back() == '.' || before.back() == '!' || before.back() == '?');
  return ends && !after.empty() && after.front() == ' ' ? Join::kBlank : Join::kNone;
}

bool is_free(const std::vector<Replacement>& taken, int64_t at, int64_t n) {
  return std::none_of(taken.begin(), taken.end(),
                      [&](const Replacement& other) { return at < other.end() && other.at < at + n; });
}

// Looks for the best start in [first, last] near to `wanted`; -1 when all of it is taken.
class PlaceSearch {
 public:
  PlaceSearch(const Haystack& haystack, int64_t n_tokens, const HiddenSentence& sentence,
              const std::vector<Replacement>& taken)
      : haystack_(haystack), n_tokens_(n_tokens), sentence_(sentence), taken_(taken) {}

  int64_t best(int64_t first, int64_t last, int64_t wanted) const {
    int64_t found = -1;
    int found_rank = -1;
    for (int64_t away = 0; away <= std::max(wanted - first, last - wanted); ++away) {
      for (const int64_t at : {wanted - away, wanted + away}) {
        if (at < first || at > last) continue;
        const int rank = rank_of(at);
        if (rank > found_rank) {
          found = at;
          found_rank = rank;
        }
      }
      if (found_rank == kBestRank || (found_rank > 0 && away >= kFitSearch)) break;
    }
    return found;
  }

 private:
  static constexpr int kBestRank = 2;

  // -1 impossible, 0 inside a sentence, 1 after the end of one, 2 with an end after the replaced text, too.
  int rank_of(int64_t at) const {
    const auto n = static_cast<int64_t>(sentence_.joined(haystack_.join(at)).size());
    if (at + n > n_tokens_ || !is_free(taken_, at, n)) return -1;
    if (haystack_.join(at) == Join::kNone) return 0;
    return haystack_.join(at + n) == haystack_.join(at) ? kBestRank : 1;
  }

  const Haystack& haystack_;
  int64_t n_tokens_;
  const HiddenSentence& sentence_;
  const std::vector<Replacement>& taken_;
};

}  // namespace

Result<Haystack> Haystack::create(const text::Tokenizer& tokenizer, std::string_view text, std::string_view name,
                                  int64_t n_tokens) {
  const auto wanted = static_cast<size_t>(n_tokens);
  Haystack made;
  for (size_t bytes = (wanted + 64) * kBytesPerToken;; bytes *= 2) {
    const size_t cut = cut_of(text, bytes);
    const text::Span span{text.substr(0, cut), false};
    made.tokens_ = tokenizer.encode_continuation({&span, 1});
    // What is used must not be what the cut has changed.
    if (made.tokens_.size() >= wanted + 16 || cut == text.size()) break;
  }
  if (made.tokens_.size() < wanted) {
    return make_error(Code::kInvalidArgument,
                      "{}: the text has {} tokens, wanted {}; shorter --lengths, a longer text, or --haystack prose",
                      name, made.tokens_.size(), wanted);
  }
  made.tokens_.resize(wanted);
  made.joins_.assign(wanted + 1, Join::kNone);
  made.joins_[0] = Join::kLine;
  std::string before;
  for (size_t i = 0; i < wanted; ++i) {
    std::string piece = tokenizer.piece(made.tokens_[i], false);
    if (i > 0) made.joins_[i] = join_between(before, piece);
    before = std::move(piece);
  }
  made.joins_[wanted] = join_between(before, " ");
  return made;
}

HiddenSentence::HiddenSentence(const text::Tokenizer& tokenizer, const std::string& sentence) {
  const std::string line = sentence + "\n";
  const std::string blank = " " + sentence;
  const text::Span line_span{line, false};
  const text::Span blank_span{blank, false};
  as_line = tokenizer.encode_continuation({&line_span, 1});
  after_blank = tokenizer.encode_continuation({&blank_span, 1});
}

Result<std::vector<Replacement>> place_sentences(const Haystack& haystack, int64_t n_tokens,
                                                 std::span<const HiddenSentence> sentences, double depth,
                                                 EvalRandom& random) {
  std::vector<Replacement> taken;
  n_tokens = std::min(n_tokens, haystack.size());
  for (const HiddenSentence& sentence : sentences) {
    const auto longest = static_cast<int64_t>(std::max(sentence.as_line.size(), sentence.after_blank.size()));
    const int64_t room = n_tokens - longest;
    const auto reach = std::min(kMostReach, static_cast<int64_t>(kReach * static_cast<double>(n_tokens)));
    const bool at_depth = taken.empty() && depth >= 0;
    const PlaceSearch search(haystack, n_tokens, sentence, taken);
    int64_t at = -1;
    for (int i = 0; i < kMostTries && at < 0 && room >= 0; ++i) {
      int64_t wanted = 0;
      if (at_depth) {
        const auto place = static_cast<int64_t>(std::llround(depth * static_cast<double>(room)));
        wanted = std::clamp<int64_t>(place + random.between(-reach, reach), 0, room);
      } else {
        wanted = random.between(0, room);
      }
      at = search.best(std::max<int64_t>(0, wanted - kSearch), std::min(room, wanted + kSearch), wanted);
    }
    if (at < 0) {
      return make_error(Code::kInvalidArgument,
                        "{} tokens of text have no room for {} hidden sentences; longer --lengths",
                        std::max<int64_t>(0, n_tokens), sentences.size());
    }
    taken.push_back({at, sentence.joined(haystack.join(at))});
  }
  return taken;
}

}  // namespace lcrun::runtime

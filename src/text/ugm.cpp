// Normalisation and the Viterbi search.
#include "src/text/ugm.hpp"

#include <algorithm>
#include <cfloat>

#include "src/text/unicode.hpp"

namespace lcrun::text {

namespace {

constexpr std::string_view kReplacement = "\xEF\xBF\xBD";
// A character that no token spells costs this much more than the worst token.
constexpr float kUnknownPenalty = 10.0f;

// The best way to reach a byte position: its score and last token.
struct Best {
  double score = -DBL_MAX;
  Token token = -1;
  uint32_t size = 0;  // bytes of that token; 0 = not reached
};

}  // namespace

UnigramTokenizer::UnigramTokenizer(Vocab loaded, Charsmap charsmap, bool merges_blanks)
    : TokenizerBase(std::move(loaded), "t5", "default"),
      charsmap_(std::move(charsmap)),
      merges_blanks_(merges_blanks),
      trie_(vocab(), kNormalToken | kUserDefinedToken | kUnusedToken, 0) {
  float worst = FLT_MAX;
  for (Token id = 0; id < vocab().size(); ++id) {
    if ((vocab().attr(id) & kNormalToken) != 0) worst = std::min(worst, vocab().score(id));
  }
  unknown_score_ = static_cast<double>(worst - kUnknownPenalty);
}

std::string UnigramTokenizer::normalise(std::string_view text) const {
  std::string out;
  out.reserve(text.size() + text.size() / 2);
  bool prefix_done = false;
  bool in_word = false;
  const auto take = [&](std::string_view bytes) {
    for (const char c : bytes) {
      if (c == ' ') {
        in_word = false;
        if (!merges_blanks_) out += kBlankMark;
        continue;
      }
      if (!in_word) {
        in_word = true;
        if ((vocab().adds_space_prefix && !prefix_done) || merges_blanks_) {
          out += kBlankMark;
          prefix_done = true;
        }
      }
      out.push_back(c);
    }
  };
  for (size_t at = 0; at < text.size();) {
    const Charsmap::Match match = charsmap_.longest_match(text.substr(at));
    if (match.size > 0) {
      take(match.replacement);
      at += match.size;
      continue;
    }
    const CodePoint cp = decode_code_point(text, at);
    const bool stray = cp.size == 1 && static_cast<uint8_t>(text[at]) >= 0x80;
    take(stray ? kReplacement : text.substr(at, cp.size));
    at += cp.size;
  }
  return out;
}

void UnigramTokenizer::encode_text(std::string_view text, bool, std::vector<Token>& out) const {
  const std::string normal = normalise(text);
  const Token unknown = vocab().special().unk;
  std::vector<Best> best(normal.size() + 1, Best{-DBL_MAX, unknown, 0});
  best[0].score = 0;
  const auto offer = [&](size_t end, size_t size, Token token, double score) {
    if (score > best[end].score) best[end] = {score, token, static_cast<uint32_t>(size)};
  };
  for (size_t begin = 0; begin < normal.size();) {
    const size_t unit = unit_size(normal, begin);
    const double so_far = best[begin].score;
    bool unit_is_token = false;
    int32_t node = TokenTrie::kRoot;
    for (size_t end = begin; end < normal.size();) {
      node = trie_.child(node, normal[end++]);
      if (node < 0) break;
      const Token token = trie_.token(node);
      if (token < 0) continue;
      if (end - begin == unit) unit_is_token = true;
      // User-defined tokens outweigh all others, whose scores are logarithms of probabilities.
      const bool certain = (vocab().attr(token) & kUserDefinedToken) != 0;
      offer(end, end - begin, token, so_far + (certain ? 0.0 : static_cast<double>(vocab().score(token))));
    }
    if (!unit_is_token) offer(begin + unit, unit, unknown, so_far + unknown_score_);
    begin += unit;
  }
  // Back from the end; neighbouring unknown characters are one unknown token.
  const auto first = static_cast<std::ptrdiff_t>(out.size());
  bool after_unknown = false;
  for (size_t end = normal.size(); end > 0;) {
    const Best& step = best[end];
    const bool is_unknown = step.token == unknown;
    if (!(after_unknown && is_unknown)) out.push_back(step.token);
    after_unknown = is_unknown;
    if (step.size == 0) break;  // not reachable with finite scores
    end -= step.size;
  }
  std::reverse(out.begin() + first, out.end());
}

Result<std::unique_ptr<const Tokenizer>> load_unigram(const ggufish::Metadata& meta) {
  LCRUN_ASSIGN(Charsmap charsmap, Charsmap::load(meta));
  LCRUN_ASSIGN(const bool merges_blanks, meta.bool_or("tokenizer.ggml.remove_extra_whitespaces", false));
  LCRUN_ASSIGN(Vocab vocab, Vocab::load(meta, VocabKind::kUnigram));
  return std::unique_ptr<const Tokenizer>(
      std::make_unique<UnigramTokenizer>(std::move(vocab), std::move(charsmap), merges_blanks));
}

}  // namespace lcrun::text

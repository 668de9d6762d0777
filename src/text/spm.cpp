// Encoding by stretches; see the header for why stretches are independent.
#include "src/text/spm.hpp"

#include <bit>

#include "src/text/pretokenize.hpp"
#include "src/text/unicode.hpp"
#include "src/text/word_cache.hpp"

namespace lcrun::text {

namespace {

constexpr unsigned kNeighbourBits = 23;  // 1 MiB of table; Gemma's vocabulary sets about 2 % of it

std::string_view unit_at(std::string_view text, size_t at) { return text.substr(at, unit_size(text, at)); }

uint32_t packed(std::string_view unit) {
  uint32_t bytes = 0;
  for (const char c : unit) bytes = bytes << 8 | static_cast<uint8_t>(c);
  return bytes;
}

// Order-reversing map of floats to integers: a higher score is a lower rank. -0 counts as 0.
uint32_t rank_of(float score) {
  const auto bits = std::bit_cast<uint32_t>(score + 0.0f);
  const uint32_t ascending = (bits & 0x80000000u) != 0 ? ~bits : bits | 0x80000000u;
  return ~ascending;
}

}  // namespace

size_t SpmTokenizer::bit_of(std::string_view left, std::string_view right) {
  const uint64_t pair = uint64_t{packed(left)} << 32 | packed(right);
  uint64_t hash = pair * 0x9E3779B97F4A7C15u;
  hash = (hash ^ (hash >> 29)) * 0xBF58476D1CE4E5B9u;
  return static_cast<size_t>(hash >> (64 - kNeighbourBits));
}

SpmTokenizer::SpmTokenizer(Vocab loaded, std::string model_name)
    : TokenizerBase(std::move(loaded), std::move(model_name), "default"),
      neighbours_((size_t{1} << kNeighbourBits) / 64) {
  constexpr TokenAttr kNeverJoined = kControlToken | kUnknownToken | kByteToken;
  for (Token id = 0; id < vocab().size(); ++id) {
    if ((vocab().attr(id) & kNeverJoined) != 0) continue;
    const std::string_view text = vocab().text(id);
    std::string_view left = unit_at(text, 0);
    for (size_t at = left.size(); at < text.size();) {
      const std::string_view right = unit_at(text, at);
      const size_t bit = bit_of(left, right);
      neighbours_[bit / 64] |= uint64_t{1} << (bit % 64);
      left = right;
      at += right.size();
    }
  }
}

bool SpmTokenizer::may_join(std::string_view left, std::string_view right) const {
  const size_t bit = bit_of(left, right);
  return (neighbours_[bit / 64] >> (bit % 64) & 1) != 0;
}

void SpmTokenizer::encode_text(std::string_view text, bool after_special, std::vector<Token>& out) const {
  std::string escaped;
  escaped.reserve(text.size() + text.size() / 2 + kBlankMark.size());
  if (vocab().adds_space_prefix && after_special) escaped = kBlankMark;
  append_escaped(text, escaped);

  Merger merger;
  WordCache cache(escaped.size());
  const auto encode = [&](std::string_view stretch, std::vector<Token>& tokens) {
    encode_stretch(stretch, merger, tokens);
  };
  const std::string_view all = escaped;
  size_t begin = 0;
  std::string_view left = unit_at(all, 0);
  for (size_t at = left.size(); at < all.size();) {
    const std::string_view right = unit_at(all, at);
    if (!may_join(left, right) || at - begin >= kMaxPieceBytes) {
      cache.append(all.substr(begin, at - begin), out, encode);
      begin = at;
    }
    left = right;
    at += right.size();
  }
  cache.append(all.substr(begin), out, encode);
}

void SpmTokenizer::encode_stretch(std::string_view stretch, Merger& merger, std::vector<Token>& out) const {
  merger.clear();
  for (size_t at = 0; at < stretch.size();) {
    const size_t size = unit_size(stretch, at);
    merger.push(static_cast<uint32_t>(at), static_cast<uint32_t>(size), -1);
    at += size;
  }
  merger.run([&](const MergeSymbol& left, const MergeSymbol& right) -> Joined {
    const Token token = vocab().find_plain(stretch.substr(left.begin, left.size + right.size));
    return token < 0 ? Joined{} : Joined{rank_of(vocab().score(token)), token};
  });
  for (const MergeSymbol& symbol : merger.symbols) {
    if (symbol.size == 0) continue;
    if (symbol.id >= 0) {
      out.push_back(symbol.id);
    } else {
      emit_unmerged(stretch.substr(symbol.begin, symbol.size), out);
    }
  }
}

// A single character: its token, else its bytes, else the unknown token.
void SpmTokenizer::emit_unmerged(std::string_view text, std::vector<Token>& out) const {
  if (const Token token = vocab().find_plain(text); token >= 0) {
    out.push_back(token);
    return;
  }
  for (size_t i = 0; i < text.size(); ++i) {
    Token token = vocab().byte_token(static_cast<uint8_t>(text[i]));
    if (token < 0) token = vocab().find_plain(text.substr(i, 1));
    if (token < 0) token = vocab().special().unk;
    if (token >= 0) out.push_back(token);
  }
}

Result<std::unique_ptr<const Tokenizer>> load_spm(const ggufish::Metadata& meta) {
  LCRUN_ASSIGN(Vocab vocab, Vocab::load(meta, VocabKind::kSpm));
  return std::unique_ptr<const Tokenizer>(std::make_unique<SpmTokenizer>(std::move(vocab), "llama"));
}

}  // namespace lcrun::text

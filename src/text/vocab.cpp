// Reads the arrays; what the tokens mean (ends of replies, strip rules) is vocab_special.cpp's.
#include "src/text/vocab.hpp"

#include <xxhash.h>

#include <algorithm>
#include <bit>
#include <cmath>

#include "src/base/format.hpp"
#include "src/base/log.hpp"

namespace lcrun::text {

namespace {

constexpr std::string_view kTokens = "tokenizer.ggml.tokens";
constexpr std::string_view kScores = "tokenizer.ggml.scores";
constexpr std::string_view kTypes = "tokenizer.ggml.token_type";
// Ids are 32-bit and the table of slots is twice the vocabulary.
constexpr size_t kMaxTokens = size_t{1} << 29;

int hex_digit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  return -1;
}

bool is_byte_text(std::string_view text) {
  return text.size() == 6 && text.starts_with("<0x") && text[5] == '>' && hex_digit(text[3]) >= 0 &&
         hex_digit(text[4]) >= 0;
}

size_t slot_hash(std::string_view text) { return static_cast<size_t>(XXH3_64bits(text.data(), text.size())); }

TokenAttr attr_of_type(int64_t type, std::string_view text) {
  switch (type) {
    case 1:
      return kNormalToken;
    case 2:
      return kUnknownToken;
    case 3:
      return kControlToken;
    case 4:
      return kUserDefinedToken;
    case 5:
      return kUnusedToken;
    // A text that names no byte ("<0x-1>") is plain text: its digits are never trusted.
    case 6:
      return is_byte_text(text) ? kByteToken : kNormalToken;
    default:
      return 0;
  }
}

}  // namespace

uint8_t Vocab::byte_value(std::string_view byte_token_text) {
  return static_cast<uint8_t>(hex_digit(byte_token_text[3]) * 16 + hex_digit(byte_token_text[4]));
}

Token Vocab::find(std::string_view text) const {
  if (text.size() > max_text_bytes_) return -1;
  const size_t mask = slots_.size() - 1;
  for (size_t at = slot_hash(text) & mask; slots_[at] >= 0; at = (at + 1) & mask) {
    if (this->text(slots_[at]) == text) return slots_[at];
  }
  return -1;
}

void Vocab::insert(Token id) {
  const size_t mask = slots_.size() - 1;
  size_t at = slot_hash(text(id)) & mask;
  while (slots_[at] >= 0) at = (at + 1) & mask;
  slots_[at] = id;
}

Result<Vocab> Vocab::load(const ggufish::Metadata& meta, VocabKind kind) {
  Vocab vocab;
  LCRUN_TRY(vocab.load_texts(meta));
  LCRUN_TRY(vocab.load_scores(meta, kind));
  LCRUN_TRY(vocab.load_types(meta));
  vocab.find_byte_tokens();
  LCRUN_TRY(vocab.load_special_ids(meta, kind));
  LCRUN_TRY(vocab.load_switches(meta, kind));
  vocab.mark_end_tokens(meta);
  LCRUN_TRY(vocab.apply_strip_rules(meta));
  return vocab;
}

Status Vocab::load_texts(const ggufish::Metadata& meta) {
  LCRUN_ASSIGN(const std::vector<std::string_view> tokens, meta.get_strings(kTokens));
  if (tokens.empty()) return meta.fail(kTokens, "an empty array", "at least one token");
  if (tokens.size() > kMaxTokens) {
    return meta.fail(kTokens, format("{} tokens", tokens.size()), format("at most {}", kMaxTokens));
  }
  size_t total = 0;
  for (const std::string_view token : tokens) total += token.size();
  texts_.reserve(total);
  offsets_.reserve(tokens.size() + 1);
  offsets_.push_back(0);
  attrs_.assign(tokens.size(), kNormalToken);
  slots_.assign(std::bit_ceil(tokens.size() * 2), -1);
  for (size_t i = 0; i < tokens.size(); ++i) {
    if (tokens[i].empty()) {
      texts_ += format("[EMPTY_{}]", i);
    } else {
      texts_ += tokens[i];
    }
    offsets_.push_back(texts_.size());
    const auto id = static_cast<Token>(i);
    max_text_bytes_ = std::max(max_text_bytes_, text(id).size());
    if (const Token same = find(text(id)); same >= 0) {
      return meta.fail(kTokens, format("the same text for tokens {} and {}", same, i),
                       "a text of its own for every token");
    }
    insert(id);
  }
  return {};
}

Status Vocab::load_scores(const ggufish::Metadata& meta, VocabKind kind) {
  const bool needed = kind == VocabKind::kSpm || kind == VocabKind::kUnigram;
  if (!needed && !meta.has(kScores)) return {};
  auto scores = meta.get_floats(kScores);
  if (scores) {
    scores_ = std::move(scores).value();
  } else {
    // Some converters write whole numbers.
    const auto whole = meta.get_ints(kScores);
    if (!whole) return Error(std::move(scores).error());
    scores_.assign(whole->begin(), whole->end());
  }
  const auto count = static_cast<size_t>(size());
  if (scores_.size() < count) {
    return meta.fail(kScores, format("{} scores", scores_.size()), format("one for each of {} tokens", count));
  }
  scores_.resize(count);
  const auto nan = std::find_if(scores_.begin(), scores_.end(), [](float score) { return std::isnan(score); });
  if (nan != scores_.end()) {
    return meta.fail(kScores, format("not a number for token {}", nan - scores_.begin()), "numbers");
  }
  return {};
}

Status Vocab::load_types(const ggufish::Metadata& meta) {
  if (!meta.has(kTypes)) return {};
  LCRUN_ASSIGN(const std::vector<int64_t> types, meta.get_ints(kTypes));
  if (types.size() < attrs_.size()) {
    return meta.fail(kTypes, format("{} types", types.size()), format("one for each of {} tokens", size()));
  }
  for (Token id = 0; id < size(); ++id) set_attr(id, attr_of_type(types[static_cast<size_t>(id)], text(id)));
  return {};
}

void Vocab::find_byte_tokens() {
  constexpr std::string_view kDigits = "0123456789ABCDEF";
  for (size_t byte = 0; byte < byte_tokens_.size(); ++byte) {
    const char name[] = {'<', '0', 'x', kDigits[byte >> 4], kDigits[byte & 15], '>'};
    byte_tokens_[byte] = find(std::string_view(name, sizeof(name)));
  }
}

Token Vocab::special_id(const ggufish::Metadata& meta, std::string_view key, Token fallback) const {
  if (!has(fallback)) fallback = -1;
  if (!meta.has(key)) return fallback;
  const auto id = meta.get_int(key);
  if (id && *id >= 0 && *id < size()) return static_cast<Token>(*id);
  log(LogLevel::kWarn, "{}: not a token of this vocabulary ({} tokens), ignored", key, size());
  return fallback;
}

Status Vocab::load_special_ids(const ggufish::Metadata& meta, VocabKind kind) {
  SpecialTokens defaults;
  switch (kind) {
    case VocabKind::kSpm:
      defaults = {.bos = 1, .eos = 2, .unk = 0};
      break;
    case VocabKind::kWordPiece:
      defaults = {.bos = 101, .unk = 100, .pad = 0, .sep = 102};
      break;
    case VocabKind::kUnigram:
      defaults = {.eos = 1, .unk = 2, .pad = 0};
      break;
    case VocabKind::kBpe:
      break;
  }
  special_.bos = special_id(meta, "tokenizer.ggml.bos_token_id", defaults.bos);
  special_.eos = special_id(meta, "tokenizer.ggml.eos_token_id", defaults.eos);
  special_.eot = special_id(meta, "tokenizer.ggml.eot_token_id", -1);
  special_.unk = special_id(meta, "tokenizer.ggml.unknown_token_id", defaults.unk);
  special_.pad = special_id(meta, "tokenizer.ggml.padding_token_id", defaults.pad);
  // The specification's spelling and the one that converters write.
  special_.sep = special_id(meta, "tokenizer.ggml.separator_token_id", defaults.sep);
  special_.sep = special_id(meta, "tokenizer.ggml.seperator_token_id", special_.sep);
  if ((kind == VocabKind::kUnigram || kind == VocabKind::kWordPiece) && special_.unk < 0) {
    return meta.fail("tokenizer.ggml.unknown_token_id", "no token of the vocabulary",
                     "one: this kind of tokenizer needs it for text that no token spells");
  }
  return {};
}

Status Vocab::load_switches(const ggufish::Metadata& meta, VocabKind kind) {
  const bool spm = kind == VocabKind::kSpm;
  LCRUN_ASSIGN(adds_bos, meta.bool_or("tokenizer.ggml.add_bos_token", spm));
  LCRUN_ASSIGN(adds_eos, meta.bool_or("tokenizer.ggml.add_eos_token", kind == VocabKind::kUnigram));
  LCRUN_ASSIGN(adds_space_prefix, meta.bool_or("tokenizer.ggml.add_space_prefix", spm));
  if (kind == VocabKind::kWordPiece) adds_bos = adds_eos = true;
  return {};
}

}  // namespace lcrun::text

// The vocabulary of a tokenizer: texts, scores, kinds and special ids, as tokenizer.ggml.* gives them.
//
// Texts lie end to end in one buffer and are found through one open-addressed table: a vocabulary of 262,144
// tokens loads without an allocation per token. What the file may get wrong is settled in load(): arrays of wrong
// type or length, repeated texts and NaN scores are errors; special ids out of range are dropped with a warning
// (many converted models name a padding token that they lack). Thread rule: immutable after load.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "ggufish/model_file.hpp"
#include "src/base/result.hpp"
#include "src/text/tokenizer.hpp"

namespace lcrun::text {

enum class VocabKind : uint8_t { kSpm, kBpe, kUnigram, kWordPiece };

// Bits: a token may have several (a user-defined token that ends replies is also a control token).
using TokenAttr = uint8_t;
inline constexpr TokenAttr kNormalToken = 1;
inline constexpr TokenAttr kUnknownToken = 2;
inline constexpr TokenAttr kControlToken = 4;
inline constexpr TokenAttr kUserDefinedToken = 8;
inline constexpr TokenAttr kUnusedToken = 16;
inline constexpr TokenAttr kByteToken = 32;   // "<0xHH>", checked
inline constexpr TokenAttr kStripRight = 64;  // eats the white space after it
inline constexpr TokenAttr kStripLeft = 128;

class Vocab {
 public:
  // `kind` decides the defaults of special ids and which arrays must be there.
  static Result<Vocab> load(const ggufish::Metadata& meta, VocabKind kind);

  int32_t size() const { return static_cast<int32_t>(attrs_.size()); }
  bool has(Token id) const { return id >= 0 && id < size(); }
  // The calls below need has(id).
  std::string_view text(Token id) const {
    const auto i = static_cast<size_t>(id);
    return std::string_view(texts_).substr(offsets_[i], offsets_[i + 1] - offsets_[i]);
  }
  TokenAttr attr(Token id) const { return attrs_[static_cast<size_t>(id)]; }
  float score(Token id) const { return scores_.empty() ? 0.0f : scores_[static_cast<size_t>(id)]; }
  bool ends_generation(Token id) const { return ends_generation_[static_cast<size_t>(id)]; }

  // -1 when no token has this text.
  Token find(std::string_view text) const;
  // The same among tokens that plain text may become: no control, unknown or byte token.
  Token find_plain(std::string_view text) const {
    const Token id = find(text);
    return id >= 0 && (attr(id) & (kControlToken | kUnknownToken | kByteToken)) == 0 ? id : -1;
  }
  // "<0xHH>" of a byte, -1 when absent.
  Token byte_token(uint8_t byte) const { return byte_tokens_[byte]; }
  static uint8_t byte_value(std::string_view byte_token_text);

  const SpecialTokens& special() const { return special_; }
  size_t max_text_bytes() const { return max_text_bytes_; }

  // Tokenizer-wide switches, with the defaults of the kind where the file is silent.
  bool adds_bos = false;
  bool adds_eos = false;
  bool adds_space_prefix = false;

 private:
  Status load_texts(const ggufish::Metadata& meta);
  Status load_scores(const ggufish::Metadata& meta, VocabKind kind);
  Status load_types(const ggufish::Metadata& meta);
  Status load_special_ids(const ggufish::Metadata& meta, VocabKind kind);
  Status load_switches(const ggufish::Metadata& meta, VocabKind kind);
  Status apply_strip_rules(const ggufish::Metadata& meta);
  void find_byte_tokens();
  void mark_end_tokens(const ggufish::Metadata& meta);
  void unmark_named_exceptions();
  Token special_id(const ggufish::Metadata& meta, std::string_view key, Token fallback) const;
  void insert(Token id);
  void set_attr(Token id, TokenAttr attr) { attrs_[static_cast<size_t>(id)] = attr; }

  std::string texts_;
  std::vector<size_t> offsets_;  // [size + 1]
  std::vector<TokenAttr> attrs_;
  std::vector<float> scores_;  // empty = all 0
  std::vector<bool> ends_generation_;
  std::vector<int32_t> slots_;  // power of two; -1 = free
  std::array<Token, 256> byte_tokens_{};
  SpecialTokens special_;
  size_t max_text_bytes_ = 0;
};

}  // namespace lcrun::text

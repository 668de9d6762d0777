// What all kinds of tokenizer share: special tokens cut out of the text, BOS and EOS, tokens back to text. A kind
// says how plain text becomes tokens. Thread rule: immutable after construction.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "src/text/special_matcher.hpp"
#include "src/text/tokenizer.hpp"
#include "src/text/vocab.hpp"

namespace lcrun::text {

// U+2581, which stands for a blank in SentencePiece vocabularies.
inline constexpr std::string_view kBlankMark = "\xE2\x96\x81";

// Every blank of `text` as U+2581, appended to `out`.
void append_escaped(std::string_view text, std::string& out);
std::string unescape_blanks(std::string_view text);

class TokenizerBase : public Tokenizer {
 public:
  TokenizerBase(Vocab vocab, std::string model_name, std::string pre_name);

  int64_t vocab_size() const override { return vocab_.size(); }
  const SpecialTokens& special() const override { return vocab_.special(); }
  bool adds_bos() const override { return vocab_.adds_bos && vocab_.special().bos >= 0; }
  bool adds_eos() const override { return vocab_.adds_eos && end_token() >= 0; }
  std::vector<Token> encode(std::string_view text, bool add_special, bool parse_special) const override;
  std::vector<Token> encode_spans(std::span<const Span> spans, bool add_special) const override;
  std::vector<Token> encode_continuation(std::span<const Span> spans) const override;
  std::string piece(Token token, bool special) const override;
  std::string decode(std::span<const Token> tokens, bool special) const override;
  std::string_view raw_text(Token token) const override { return vocab_.has(token) ? vocab_.text(token) : ""; }
  bool is_control(Token token) const override { return vocab_.has(token) && (vocab_.attr(token) & kControlToken) != 0; }
  bool is_end_of_generation(Token token) const override { return vocab_.has(token) && vocab_.ends_generation(token); }
  std::string_view model_name() const override { return model_name_; }
  std::string_view pre_tokenizer_name() const override { return pre_name_; }

 protected:
  // Appends the tokens of plain text (not empty). `after_special`: nothing, or a special token, comes before it.
  virtual void encode_text(std::string_view text, bool after_special, std::vector<Token>& out) const = 0;
  // The bytes that a normal token's vocabulary text stands for.
  virtual std::string text_of(std::string_view vocab_text) const { return unescape_blanks(vocab_text); }
  // What adds_eos appends.
  virtual Token end_token() const { return vocab_.special().eos; }

  const Vocab& vocab() const { return vocab_; }

 private:
  // Spans cut at special tokens; the fragments lie in `text`, which is filled.
  std::vector<Fragment> fragments_of(std::span<const Span> spans, std::string& text) const;
  std::vector<Token> encode_fragments(std::string_view text, std::span<const Fragment> fragments,
                                      bool add_special) const;
  void append_fragments(std::string_view text, std::span<const Fragment> fragments, bool after_special,
                        std::vector<Token>& out) const;

  Vocab vocab_;
  std::string model_name_;
  std::string pre_name_;
  SpecialMatcher all_special_;
  SpecialMatcher user_defined_;
};

Result<std::unique_ptr<const Tokenizer>> load_spm(const ggufish::Metadata& meta);
Result<std::unique_ptr<const Tokenizer>> load_bpe(const ggufish::Metadata& meta, std::string_view model_name);
Result<std::unique_ptr<const Tokenizer>> load_unigram(const ggufish::Metadata& meta);
Result<std::unique_ptr<const Tokenizer>> load_word_piece(const ggufish::Metadata& meta);

}  // namespace lcrun::text

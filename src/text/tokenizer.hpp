// Text to token ids and back, as the model file's metadata describes it (tokenizer.ggml.*).
//
// Kinds: byte-level BPE ("gpt2"), SentencePiece BPE ("llama"), Unigram ("t5"), WordPiece ("bert"). Time is linear
// in the text (times log for the merge queues), the stack constant, whatever the text. Thread rule: immutable.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "ggufish/model_file.hpp"
#include "src/base/result.hpp"

namespace lcrun::text {

using Token = int32_t;

struct SpecialTokens {  // -1 = the model has none
  Token bos = -1, eos = -1, eot = -1, unk = -1, pad = -1, sep = -1;
};

// A stretch of a prompt. Special tokens are recognised only in `trusted` text (the template's own); what a user
// typed can never become one.
struct Span {
  std::string_view text;
  bool trusted = false;
};

class Tokenizer {
 public:
  virtual ~Tokenizer() = default;
  // kBadModel when the vocabulary is damaged; kUnsupported for a model or pre-tokenizer that we do not have.
  static Result<std::unique_ptr<const Tokenizer>> load(const ggufish::ModelFile& file);
  static Result<std::unique_ptr<const Tokenizer>> load(const ggufish::Metadata& meta);

  virtual int64_t vocab_size() const = 0;
  virtual const SpecialTokens& special() const = 0;
  virtual bool adds_bos() const = 0;
  virtual bool adds_eos() const = 0;

  // parse_special: "<|im_end|>" and the like become their ids (CONTROL and USER_DEFINED tokens); otherwise only
  // USER_DEFINED ones do, as in the reference runtime. add_special: BOS and EOS as the model asks for.
  virtual std::vector<Token> encode(std::string_view text, bool add_special, bool parse_special) const = 0;
  // Spans one after another, as one text: `trusted` spans are parsed for special tokens, others are not.
  virtual std::vector<Token> encode_spans(std::span<const Span> spans, bool add_special) const = 0;
  // Spans that go on where other text ended: no BOS or EOS, and no blank put before the first word.
  virtual std::vector<Token> encode_continuation(std::span<const Span> spans) const = 0;

  // Bytes of one token; control tokens give their text when `special`, else nothing.
  virtual std::string piece(Token token, bool special) const = 0;
  // Bytes of a sequence (SentencePiece's leading blank removed as the reference does).
  virtual std::string decode(std::span<const Token> tokens, bool special) const = 0;
  // The vocabulary's own text of a token ("Ġthe"), for inspection.
  virtual std::string_view raw_text(Token token) const = 0;
  virtual bool is_control(Token token) const = 0;
  // Ends a reply (eos, eot, and the tokens that metadata or well-known names mark as such).
  virtual bool is_end_of_generation(Token token) const = 0;
  virtual std::string_view model_name() const = 0;          // "gpt2", "llama", ...
  virtual std::string_view pre_tokenizer_name() const = 0;  // "smollm", "default", ...
};

// Pre-tokenizer names we know, for messages.
std::vector<std::string> known_pre_tokenizers();

// Turns token bytes into whole code points: holds back an unfinished UTF-8 sequence (at most 3 bytes), replaces
// invalid bytes by U+FFFD.
class Utf8Stream {
 public:
  // Appends the complete part of `bytes` (with what was held back) to `out`.
  void push(std::string_view bytes, std::string& out);
  // Emits what is left (as U+FFFD when incomplete).
  void finish(std::string& out);

 private:
  std::string held_;
};

}  // namespace lcrun::text

// Passages: the sentences and lines of a text, as tokens, with their place in the text.
//
// A passage ends with a line, or with a sentence that a blank follows; very long ones are cut at a word. Whatever names
// parts of a text (citations, drivers that keep some of it) works on passages, so that what a model reads and what a
// person is shown are whole sentences. Texts come token by token or as a stream of bytes that is never held as a whole.
// Thread rule: values; a source belongs to one thread.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "src/base/result.hpp"
#include "src/model/model.hpp"
#include "src/text/tokenizer.hpp"

namespace lcrun::runtime {

using model::Token;

// Where a passage lies in its text.
struct TextPlace {
  uint64_t first_byte = 0;
  uint64_t end_byte = 0;
  int64_t first_line = 1;  // from 1
  int64_t last_line = 1;
};

struct Passage {
  std::vector<Token> tokens;
  TextPlace place;
};

// Finds where passages end, token by token.
class PassageSplitter {
 public:
  // Most tokens of a passage.
  static constexpr int64_t kMostTokens = 128;

  // Does a new passage begin with this token, whose bytes these are? To be asked of every token, in order.
  bool begins_with(std::string_view piece);

 private:
  bool ends_sentence(char next) const;

  std::string tail_;    // the last bytes
  int64_t tokens_ = 0;  // of the passage so far
};

// Counts bytes and lines on the way through a text.
class PlaceCounter {
 public:
  explicit PlaceCounter(uint64_t first_byte = 0, int64_t first_line = 1) : byte_(first_byte), line_(first_line) {}
  // The place of the next bytes of the text.
  TextPlace take(std::string_view bytes);

 private:
  uint64_t byte_;
  int64_t line_;
};

// A text, passage by passage.
class PassageSource {
 public:
  explicit PassageSource(const text::Tokenizer& tokenizer) : tokenizer_(tokenizer) {}
  virtual ~PassageSource() = default;
  PassageSource(const PassageSource&) = delete;
  PassageSource& operator=(const PassageSource&) = delete;
  // False at the end of the text. Errors of reading it.
  Result<bool> next(Passage& passage);

 protected:
  // The next token, if there is one; skip() goes on to the one after it.
  virtual Result<std::optional<Token>> peek() = 0;
  virtual void skip() = 0;

  const text::Tokenizer& tokenizer_;

 private:
  PassageSplitter splitter_;
  PlaceCounter places_;
  bool has_begun_ = false;
};

// Passages of tokens that are there already, and outlive the source.
class TokenPassages final : public PassageSource {
 public:
  TokenPassages(const text::Tokenizer& tokenizer, std::span<const Token> tokens)
      : PassageSource(tokenizer), tokens_(tokens) {}

 protected:
  Result<std::optional<Token>> peek() override;
  void skip() override { ++at_; }

 private:
  std::span<const Token> tokens_;
  size_t at_ = 0;
};

// Passages of a stream of bytes: it is read as it comes, and no more than some kilobytes of it are held.
class StreamPassages final : public PassageSource {
 public:
  // Fills the buffer with what there is (at least one byte, unless the stream has ended); 0 at its end.
  using Reader = std::function<Result<size_t>(std::span<char> buffer)>;

  StreamPassages(const text::Tokenizer& tokenizer, Reader read) : PassageSource(tokenizer), read_(std::move(read)) {}
  uint64_t bytes_read() const { return bytes_read_; }

 protected:
  Result<std::optional<Token>> peek() override;
  void skip() override { ++at_; }

 private:
  Status fill();

  Reader read_;
  std::string bytes_;          // read and not yet tokenised
  std::vector<Token> tokens_;  // and not yet given out, from at_ on
  size_t at_ = 0;
  bool has_ended_ = false;
  uint64_t bytes_read_ = 0;
};

// A passage of a prompt: its tokens are [begin, end) of the prompt's.
struct PromptPassage {
  int64_t begin = 0;
  int64_t end = 0;
  TextPlace place;
};

// The passages of the text of `text_bytes` bytes that ends with `tokens`; what precedes it (a template) is left out.
std::vector<PromptPassage> passages_of(const text::Tokenizer& tokenizer, std::span<const Token> tokens,
                                       uint64_t text_bytes);

// The bytes of some tokens, line ends at their end left out.
std::string text_of(const text::Tokenizer& tokenizer, std::span<const Token> tokens);

}  // namespace lcrun::runtime

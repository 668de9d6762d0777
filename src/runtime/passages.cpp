#include "src/runtime/passages.hpp"

#include <algorithm>
#include <utility>

namespace lcrun::runtime {
namespace {

constexpr size_t kTailBytes = 16;
constexpr int64_t kLongTokens = 96;              // from here on a passage may end with any word
constexpr size_t kReadBytes = size_t{16} << 10;  // of a stream at a time
constexpr size_t kMostHeldBytes = size_t{64} << 10;

bool is_closing(char c) { return c == '"' || c == '\'' || c == ')' || c == ']'; }
bool is_letter(char c) { return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z'); }

// Where the part of `bytes` ends that may be tokenised apart from what follows it: after a line, a sentence, a word.
size_t end_of_whole(std::string_view bytes) {
  const size_t line = bytes.rfind('\n');
  if (line != std::string_view::npos) return line + 1;
  const size_t sentence = bytes.rfind(". ");
  if (sentence != std::string_view::npos) return sentence + 1;
  if (bytes.size() < kMostHeldBytes) return 0;
  const size_t blank = bytes.rfind(' ');
  if (blank != std::string_view::npos && blank > 0) return blank;
  size_t end = bytes.size();  // no word is that long: before the last character
  while (end > 1 && (static_cast<uint8_t>(bytes[end - 1]) & 0xC0) == 0x80) --end;
  return end - 1;
}

}  // namespace

// After ". ! ?" and closing marks, where no small letter follows; not after initials, short titles ("J. ", "Mr. ") and
// words before a number ("no. 9").
bool PassageSplitter::ends_sentence(char next) const {
  if (next >= 'a' && next <= 'z') return false;
  size_t end = tail_.size();
  while (end > 0 && (is_closing(tail_[end - 1]) || tail_[end - 1] == ' ')) --end;
  if (end == 0) return false;
  const char mark = tail_[end - 1];
  if (mark == '!' || mark == '?') return true;
  if (mark != '.') return false;
  size_t first = --end;
  while (first > 0 && is_letter(tail_[first - 1])) --first;
  const size_t letters = end - first;
  const bool is_title = letters >= 1 && letters <= 2 && tail_[first] >= 'A' && tail_[first] <= 'Z';
  const bool is_count = letters >= 1 && letters <= 3 && next >= '0' && next <= '9';
  return !is_title && !is_count;
}

bool PassageSplitter::begins_with(std::string_view piece) {
  bool begins = tokens_ >= kMostTokens;
  if (tokens_ > 0 && !piece.empty() && !tail_.empty()) {
    if (tail_.back() == '\n') begins = begins || piece.front() != '\n';
    // A word comes with its blank, or after one that is a token of its own.
    const bool has_blank = piece.size() > 1 && piece.front() == ' ';
    if (has_blank || (tail_.back() == ' ' && piece.front() != ' ')) {
      begins = begins || tokens_ >= kLongTokens || ends_sentence(piece[has_blank ? 1 : 0]);
    }
  }
  tokens_ = begins ? 1 : tokens_ + 1;
  tail_ += piece;
  if (tail_.size() > kTailBytes) tail_.erase(0, tail_.size() - kTailBytes);
  return begins;
}

TextPlace PlaceCounter::take(std::string_view bytes) {
  TextPlace place{byte_, byte_ + bytes.size(), line_, line_};
  const auto lines = std::count(bytes.begin(), bytes.end(), '\n');
  line_ += lines;
  byte_ += bytes.size();
  // A line's end belongs to the line.
  place.last_line = line_ - (!bytes.empty() && bytes.back() == '\n' ? 1 : 0);
  return place;
}

Result<bool> PassageSource::next(Passage& passage) {
  passage.tokens.clear();
  std::string bytes;
  while (true) {
    LCRUN_ASSIGN(const std::optional<Token> token, peek());
    if (!token.has_value()) break;
    const std::string piece = tokenizer_.piece(*token, true);
    // The token that ended the last passage has been asked about.
    if (!std::exchange(has_begun_, false) && splitter_.begins_with(piece) && !passage.tokens.empty()) {
      has_begun_ = true;
      break;
    }
    passage.tokens.push_back(*token);
    bytes += piece;
    skip();
  }
  passage.place = places_.take(bytes);
  return !passage.tokens.empty();
}

Result<std::optional<Token>> TokenPassages::peek() {
  if (at_ == tokens_.size()) return std::optional<Token>();
  return std::optional<Token>(tokens_[at_]);
}

Status StreamPassages::fill() {
  tokens_.erase(tokens_.begin(), tokens_.begin() + static_cast<std::ptrdiff_t>(at_));
  at_ = 0;
  size_t whole = 0;
  while (!has_ended_ && whole == 0) {
    const size_t held = bytes_.size();
    bytes_.resize(held + kReadBytes);
    LCRUN_ASSIGN(const size_t n, read_({bytes_.data() + held, kReadBytes}));
    bytes_.resize(held + n);
    bytes_read_ += n;
    has_ended_ = n == 0;
    whole = has_ended_ ? bytes_.size() : end_of_whole(bytes_);
  }
  const text::Span span{std::string_view(bytes_).substr(0, whole), false};
  const auto more = tokenizer_.encode_continuation({&span, 1});
  tokens_.insert(tokens_.end(), more.begin(), more.end());
  bytes_.erase(0, whole);
  return {};
}

Result<std::optional<Token>> StreamPassages::peek() {
  while (at_ == tokens_.size() && !has_ended_) LCRUN_TRY(fill());
  if (at_ == tokens_.size()) return std::optional<Token>();
  return std::optional<Token>(tokens_[at_]);
}

std::vector<PromptPassage> passages_of(const text::Tokenizer& tokenizer, std::span<const Token> tokens,
                                       uint64_t text_bytes) {
  size_t first = tokens.size();
  uint64_t bytes = 0;
  while (first > 0 && bytes < text_bytes) bytes += tokenizer.piece(tokens[--first], true).size();
  TokenPassages source(tokenizer, tokens.subspan(first));
  std::vector<PromptPassage> passages;
  Passage passage;
  auto at = static_cast<int64_t>(first);
  while (true) {
    const auto more = source.next(passage);
    if (!more.has_value() || !*more) return passages;
    const auto n = static_cast<int64_t>(passage.tokens.size());
    passages.push_back({at, at + n, passage.place});
    at += n;
  }
}

std::string text_of(const text::Tokenizer& tokenizer, std::span<const Token> tokens) {
  std::string text;
  for (const Token token : tokens) text += tokenizer.piece(token, true);
  while (!text.empty() && (text.back() == '\n' || text.back() == '\r' || text.back() == ' ')) text.pop_back();
  const size_t first = text.find_first_not_of(" \r\n");
  return first == std::string::npos ? std::string() : text.substr(first);
}

}  // namespace lcrun::runtime

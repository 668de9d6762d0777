// Passages are whole sentences and lines, and their places are those of the text, however it comes.
#include "src/runtime/passages.hpp"

#include <catch2/catch.hpp>

#include "src/base/format.hpp"
#include "src/runtime/citations.hpp"
#include "tests/support/tiny_model.hpp"

using namespace lcrun;
using namespace lcrun::runtime;
using namespace lcrun::testing;

namespace {

std::shared_ptr<const text::Tokenizer> tiny_tokenizer() {
  auto tokenizer = text::Tokenizer::load(*open_tiny(tiny_recipe({})));
  REQUIRE(tokenizer.has_value());
  return std::move(tokenizer).value();
}

const std::string kText =
    "Mr. Penn saw J. Cole. \"Did he?\" asked Ann. Yes!\n\nA heading\nThe bell (no. 9.) rang. It rang again\nand again";

std::vector<Passage> all_of(PassageSource& source) {
  std::vector<Passage> all;
  Passage one;
  while (true) {
    const auto more = source.next(one);
    REQUIRE(more.has_value());
    if (!*more) return all;
    all.push_back(one);
  }
}

std::vector<std::string> words_of(const std::vector<Passage>& passages, const std::string& text) {
  std::vector<std::string> parts;
  for (const Passage& one : passages) {
    std::string part = text.substr(one.place.first_byte, one.place.end_byte - one.place.first_byte);
    // A blank between passages belongs to one of them: that depends on the tokenizer.
    part.erase(0, part.find_first_not_of(' '));
    part.erase(part.find_last_not_of(' ') + 1);
    parts.push_back(part);
  }
  return parts;
}

// A reader that gives `step` bytes at a time.
StreamPassages::Reader reader_of(const std::string& text, size_t step, size_t& at) {
  return [&text, step, &at](std::span<char> out) -> Result<size_t> {
    const size_t n = std::min({step, out.size(), text.size() - at});
    std::copy_n(text.data() + at, n, out.data());
    at += n;
    return n;
  };
}

}  // namespace

TEST_CASE("passages end with sentences and lines, not with initials and titles", "[runtime][passages]") {
  const auto tokenizer = tiny_tokenizer();
  size_t at = 0;
  StreamPassages source(*tokenizer, reader_of(kText, kText.size(), at));
  const auto passages = all_of(source);
  CHECK(words_of(passages, kText) == std::vector<std::string>{"Mr. Penn saw J. Cole.", "\"Did he?\" asked Ann.",
                                                              "Yes!\n\n", "A heading\n", "The bell (no. 9.) rang.",
                                                              "It rang again\n", "and again"});
  std::vector<std::string> lines;
  for (const Passage& one : passages) lines.push_back(format("{}-{}", one.place.first_line, one.place.last_line));
  CHECK(lines == std::vector<std::string>{"1-1", "1-1", "1-2", "3-3", "4-4", "4-4", "5-5"});
}

TEST_CASE("a stream gives the same passages however it comes", "[runtime][passages]") {
  const auto tokenizer = tiny_tokenizer();
  std::string text;
  for (int i = 0; i < 400; ++i) text += kText + "\nnumber " + std::to_string(i) + " of many. ";
  size_t at = 0;
  StreamPassages whole(*tokenizer, reader_of(text, text.size(), at));
  const auto want = all_of(whole);
  CHECK(whole.bytes_read() == text.size());
  for (const size_t step : {size_t{1}, size_t{7}, size_t{5000}}) {
    at = 0;
    StreamPassages parts(*tokenizer, reader_of(text, step, at));
    std::string joined;
    for (const Passage& one : all_of(parts)) {
      CHECK(one.place.first_byte == joined.size());
      for (const Token token : one.tokens) joined += tokenizer->piece(token, true);
      CHECK(one.place.end_byte == joined.size());
    }
    CHECK(joined == text);
  }
}

TEST_CASE("texts without any sentence or blank have passages of bounded length", "[runtime][passages]") {
  const auto tokenizer = tiny_tokenizer();
  for (const std::string unit : {"x", "x ", "\xC3\xA9"}) {
    std::string text;
    while (text.size() < 200000) text += unit;
    size_t at = 0;
    StreamPassages source(*tokenizer, reader_of(text, 4096, at));
    uint64_t bytes = 0;
    for (const Passage& one : all_of(source)) {
      CHECK(static_cast<int64_t>(one.tokens.size()) <= PassageSplitter::kMostTokens);
      CHECK(one.place.first_byte == bytes);
      bytes = one.place.end_byte;
    }
    CHECK(bytes == text.size());
  }
}

TEST_CASE("the passages of a prompt are those of its text, and what precedes it is left out", "[runtime][passages]") {
  const auto tokenizer = tiny_tokenizer();
  const text::Span frame{"<user>\nread: ", false}, text{kText, false};
  std::vector<Token> prompt = tokenizer->encode_continuation({&frame, 1});
  const auto before = static_cast<int64_t>(prompt.size());
  const auto tokens = tokenizer->encode_continuation({&text, 1});
  prompt.insert(prompt.end(), tokens.begin(), tokens.end());
  const auto passages = passages_of(*tokenizer, prompt, kText.size());
  REQUIRE(passages.size() == 7);
  CHECK(passages.front().begin == before);
  CHECK(passages.back().end == static_cast<int64_t>(prompt.size()));
  CHECK(passages.back().place.end_byte == kText.size());
  CHECK(passages.back().place.first_line == 5);
}

TEST_CASE("citations are the passages with most attention, neighbours as one", "[runtime][citations]") {
  const auto tokenizer = tiny_tokenizer();
  const text::Span text{kText, false};
  const auto prompt = tokenizer->encode_continuation({&text, 1});
  const auto passages = passages_of(*tokenizer, prompt, kText.size());
  std::vector<float> mass(prompt.size(), 0.0F);
  const auto put = [&](size_t passage, float value) { mass[static_cast<size_t>(passages[passage].begin)] = value; };
  put(3, 10.0F);
  put(4, 2.0F);
  put(5, 1.5F);
  put(0, 1.0F);
  put(6, 0.01F);
  const auto citations = rank_passages(*tokenizer, prompt, passages, mass, 0);
  REQUIRE(citations.size() == 3);
  CHECK(citations[0].text == "A heading");
  CHECK(citations[0].place.first_line == 3);
  CHECK(citations[0].share == Approx(10.0 / 14.51));
  CHECK(citations[1].text == "The bell (no. 9.) rang. It rang again");
  CHECK((citations[1].place.first_line == 4 && citations[1].place.last_line == 4));
  CHECK(citations[2].text == "Mr. Penn saw J. Cole.");
  CHECK(citations[2].place.first_byte == 0);
  CHECK(rank_passages(*tokenizer, prompt, passages, std::vector<float>(prompt.size(), 0.0F), 0).empty());
}

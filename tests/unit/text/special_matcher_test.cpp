// Special tokens: the one-pass matcher against the rule carried out literally, token by token.
#include "src/text/special_matcher.hpp"

#include <algorithm>

#include "tests/support/random.hpp"
#include "tests/unit/text/test_vocab.hpp"

namespace lcrun::text {
namespace {

using testing::kControl;
using testing::kUserDefined;
using testing::TestVocab;

Vocab load_vocab(const TestVocab& test) {
  const std::vector<std::byte> bytes = test.file();
  auto file = ggufish::ModelFile::parse(bytes, "test.gguf");
  REQUIRE(file);
  auto vocab = Vocab::load((*file)->meta(), VocabKind::kBpe);
  if (!vocab) FAIL(vocab.error().message);
  return std::move(vocab).value();
}

// Longer tokens first (equal ones by id); each cuts every piece of text at each of its occurrences.
std::vector<Fragment> cut_slowly(const Vocab& vocab, std::string_view text) {
  std::vector<Token> order;
  for (Token id = 0; id < vocab.size(); ++id) order.push_back(id);
  std::stable_sort(order.begin(), order.end(),
                   [&](Token a, Token b) { return vocab.text(a).size() > vocab.text(b).size(); });
  std::vector<Fragment> parts;
  if (!text.empty()) parts.push_back({-1, 0, text.size()});
  for (const Token id : order) {
    std::vector<Fragment> next;
    for (const Fragment& part : parts) {
      size_t at = part.begin;
      const size_t end = part.begin + part.size;
      while (part.token < 0 && at < end) {
        const size_t hit = text.substr(0, end).find(vocab.text(id), at);
        if (hit == std::string_view::npos) break;
        if (hit > at) next.push_back({-1, at, hit - at});
        next.push_back({id, hit, vocab.text(id).size()});
        at = hit + vocab.text(id).size();
      }
      if (at < end) next.push_back({part.token, at, end - at});
    }
    parts = std::move(next);
  }
  return parts;
}

using Rows = std::vector<std::array<int64_t, 3>>;
Rows rows(const std::vector<Fragment>& fragments) {
  Rows out;
  for (const Fragment& f : fragments) {
    out.push_back({f.token, static_cast<int64_t>(f.begin), static_cast<int64_t>(f.size)});
  }
  return out;
}

TEST_CASE("special tokens are cut out longest first, as token after token would", "[text]") {
  test::Random random(17);
  for (int round = 0; round < 150; ++round) {
    TestVocab test;
    for (int64_t n = 1 + random.below(8); n > 0; --n) {
      std::string text;
      for (int64_t k = 1 + random.below(5); k > 0; --k) text.push_back(static_cast<char>('a' + random.below(2)));
      if (std::find(test.tokens.begin(), test.tokens.end(), text) == test.tokens.end()) test.add(text, kControl);
    }
    const Vocab vocab = load_vocab(test);
    const SpecialMatcher matcher(vocab, kControlToken, 0);
    for (int i = 0; i < 40; ++i) {
      std::string text;
      for (int64_t k = random.below(30); k > 0; --k) text.push_back(static_cast<char>('a' + random.below(3)));
      std::vector<Fragment> got;
      matcher.split(vocab, text, 0, text.size(), got);
      REQUIRE(rows(got) == rows(cut_slowly(vocab, text)));
    }
  }
}

TEST_CASE("megabytes of nested special tokens are cut in linear time", "[text]") {
  TestVocab test;
  for (size_t n = 1; n <= 31; ++n) test.add(std::string(n, '\n'), kUserDefined);
  const Vocab vocab = load_vocab(test);
  const SpecialMatcher matcher(vocab, kUserDefinedToken, 0);
  const std::string text(31 * 50'000 + 7, '\n');
  std::vector<Fragment> got;
  matcher.split(vocab, text, 0, text.size(), got);
  REQUIRE(got.size() == 50'001);
  CHECK(got.front().token == 30);
  CHECK(got.back().token == 6);
}

TEST_CASE("only user-defined tokens are found in text that is not trusted", "[text]") {
  TestVocab test = testing::byte_vocab();
  const Token user = test.add("<tag>", kUserDefined);
  const Token control = test.add("<|x|>", kControl);
  test.scores.clear();
  const auto tokenizer = test.load();
  CHECK(tokenizer->encode("<tag>", false, false) == std::vector<Token>{user});
  CHECK(tokenizer->encode("<|x|>", false, false).size() == 5);
  CHECK(tokenizer->encode("<|x|>", false, true) == std::vector<Token>{control});
  CHECK(tokenizer->piece(control, false).empty());
  CHECK(tokenizer->piece(control, true) == "<|x|>");
}

TEST_CASE("spans are one text, in which trust ends at the border", "[text]") {
  TestVocab test = testing::byte_vocab({"a b"});
  const Token control = test.add("<|x|>", kControl);
  test.scores.clear();
  const auto tokenizer = test.load();
  const Token ab = 256;
  const std::vector<Span> joined = {{"a", true}, {"b", false}, {"<|x|>", true}};
  CHECK(tokenizer->encode_spans(joined, false) == std::vector<Token>{ab, control});
  const std::vector<Span> forged = {{"<|", true}, {"x|>", false}};
  CHECK(tokenizer->encode_spans(forged, false).size() == 5);
  const std::vector<Span> typed = {{"", true}, {"<|x|>", false}, {"", true}};
  CHECK(tokenizer->encode_spans(typed, false).size() == 5);
  CHECK(tokenizer->encode_spans({}, false).empty());
}

TEST_CASE("tokens of phi-3 eat the white space after them", "[text]") {
  TestVocab test = testing::byte_vocab();
  const Token end = test.add("<|end|>", kControl);
  const Token text_end = test.add("<|endoftext|>", kControl);
  test.scores.clear();
  test.name = "Phi-3 mini";
  const auto tokenizer = test.load();
  CHECK(tokenizer->encode("<|end|> \n a", false, true) == std::vector<Token>{end, 'a'});
  CHECK(tokenizer->encode("<|end|>\n<|end|>\n", false, true) == std::vector<Token>{end, end});
  CHECK(tokenizer->encode("<|endoftext|> a", false, true) == std::vector<Token>{text_end, ' ', 'a'});
}

}  // namespace
}  // namespace lcrun::text

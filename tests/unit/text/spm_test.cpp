// SentencePiece BPE: merges against a slow twin, byte fallback, the blank at the start.
#include <algorithm>

#include "tests/support/random.hpp"
#include "tests/unit/text/test_vocab.hpp"

namespace lcrun::text {
namespace {

using testing::kControl;
using testing::TestVocab;

constexpr const char* kMark = "\xE2\x96\x81";

TestVocab spm_vocab() {
  TestVocab vocab;
  vocab.model = "llama";
  vocab.pre = "";
  vocab.add("<unk>", testing::kUnknown);
  vocab.add("<s>", kControl);
  vocab.add("</s>", kControl);
  vocab.add_bytes();
  return vocab;
}
constexpr Token kFirstByte = 3;

// By definition: join the best-scored neighbours whose text is a token, the leftmost among equals.
std::vector<std::string> merge_slowly(std::vector<std::string> symbols, const TestVocab& vocab) {
  while (true) {
    float best = 0;
    size_t at = symbols.size();
    for (size_t i = 0; i + 1 < symbols.size(); ++i) {
      const auto token = std::find(vocab.tokens.begin(), vocab.tokens.end(), symbols[i] + symbols[i + 1]);
      if (token == vocab.tokens.end()) continue;
      const float score = vocab.scores[static_cast<size_t>(token - vocab.tokens.begin())];
      if (at == symbols.size() || score > best) {
        best = score;
        at = i;
      }
    }
    if (at == symbols.size()) return symbols;
    symbols[at] += symbols[at + 1];
    symbols.erase(symbols.begin() + static_cast<std::ptrdiff_t>(at) + 1);
  }
}

TEST_CASE("SentencePiece merging agrees with its definition", "[text]") {
  test::Random random(3);
  const std::vector<std::string> alphabet = {"a", "b", "c", kMark, "\xC3\xA9"};
  for (int round = 0; round < 30; ++round) {
    TestVocab vocab = spm_vocab();
    vocab.switches = {{"add_space_prefix", false}};
    for (const std::string& letter : alphabet) vocab.add(letter, testing::kNormal, -100);
    for (int i = 0; i < 20; ++i) {
      std::string text;
      for (int64_t n = 2 + random.below(4); n > 0; --n) text += alphabet[static_cast<size_t>(random.below(5))];
      if (std::find(vocab.tokens.begin(), vocab.tokens.end(), text) != vocab.tokens.end()) continue;
      vocab.add(text, testing::kNormal, static_cast<float>(random.below(7)) - 3);
    }
    const auto tokenizer = vocab.load();
    for (int i = 0; i < 30; ++i) {
      std::vector<std::string> symbols;
      std::string text;
      for (int64_t n = 1 + random.below(40); n > 0; --n) {
        symbols.push_back(alphabet[static_cast<size_t>(random.below(5))]);
        text += symbols.back() == kMark ? " " : symbols.back();
      }
      std::vector<std::string> got;
      for (const Token id : tokenizer->encode(text, false, false)) got.emplace_back(tokenizer->raw_text(id));
      CHECK(got == merge_slowly(symbols, vocab));
    }
  }
}

TEST_CASE("text without a token becomes bytes and comes back", "[text]") {
  TestVocab vocab = spm_vocab();
  vocab.add(kMark);
  const Token a = vocab.add("a");
  const auto tokenizer = vocab.load();
  CHECK(tokenizer->encode("a\n", false, false) == std::vector<Token>{259, a, kFirstByte + '\n'});
  test::Random random(9);
  for (int i = 0; i < 200; ++i) {
    std::string text;
    for (int64_t n = random.below(50); n > 0; --n) text.push_back(static_cast<char>(random.below(128)));
    if (random.below(2) == 0) text += "\xFF\xC3\xA9\xE2\x82";
    CHECK(tokenizer->decode(tokenizer->encode(text, false, false), false) == text);
    CHECK(tokenizer->decode(tokenizer->encode(text, true, false), false) == text);
  }
}

TEST_CASE("plain text never becomes a control or a byte token", "[text]") {
  TestVocab vocab = spm_vocab();
  vocab.add(kMark);
  for (const char* text : {"<", "s", ">", "<s", "s>", "0", "x", "A", "<0", "<0x", "<0x0", "<0x0A"}) vocab.add(text);
  const auto tokenizer = vocab.load();
  for (const char* text : {"<s>", "<0x0A>"}) {
    const auto ids = tokenizer->encode(text, false, false);
    CHECK(std::none_of(ids.begin(), ids.end(), [&](Token id) { return tokenizer->is_control(id); }));
    CHECK(tokenizer->decode(ids, false) == text);
  }
  CHECK(tokenizer->encode("<s>", false, true) == std::vector<Token>{1});
}

TEST_CASE("the blank at the start follows special tokens", "[text]") {
  TestVocab vocab = spm_vocab();
  const Token mark = vocab.add(kMark);
  const Token a = vocab.add("a");
  const auto tokenizer = vocab.load();
  CHECK(tokenizer->encode("a", true, true) == std::vector<Token>{1, mark, a});
  CHECK(tokenizer->encode("a<s>a", false, true) == std::vector<Token>{mark, a, 1, mark, a});
  CHECK(tokenizer->encode("", true, true) == std::vector<Token>{1});
  // Text that goes on gets no blank of its own, and neither BOS.
  const std::vector<Span> spans = {{"a", false}, {"<s>a", true}};
  CHECK(tokenizer->encode_continuation(spans) == std::vector<Token>{a, 1, mark, a});
  vocab.switches = {{"add_space_prefix", false}};
  CHECK(vocab.load()->encode("a", false, true) == std::vector<Token>{a});
}

TEST_CASE("long text that joins throughout merges in n log n", "[text]") {
  TestVocab vocab = spm_vocab();
  vocab.add("a");
  vocab.add("aa", testing::kNormal, 1);
  vocab.add("aaaa", testing::kNormal, 2);
  vocab.switches = {{"add_space_prefix", false}};
  CHECK(vocab.load()->encode(std::string(2'000'000, 'a'), false, false).size() == 500'000);
}

TEST_CASE("a vocabulary without byte tokens falls back to the unknown token", "[text]") {
  TestVocab vocab;
  vocab.model = "llama";
  vocab.add("<unk>", testing::kUnknown);
  vocab.add(kMark);
  vocab.add("a");
  vocab.ids = {{"bos_token_id", 77}};
  const auto tokenizer = vocab.load();
  CHECK(tokenizer->encode("az", true, false).back() == 0);
}

}  // namespace
}  // namespace lcrun::text

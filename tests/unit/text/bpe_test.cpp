// Byte-level BPE: merges against a slow twin, round trips, the odd vocabularies.
#include <algorithm>

#include "tests/support/random.hpp"
#include "tests/unit/text/test_vocab.hpp"

namespace lcrun::text {
namespace {

using testing::byte_vocab;
using testing::spelt;
using testing::TestVocab;

std::string spell_all(std::string_view bytes) {
  std::string text;
  for (const char c : bytes) text += spelt(static_cast<unsigned char>(c));
  return text;
}

// Merges by definition: again and again the leftmost pair of the lowest rank.
std::vector<std::string> merge_slowly(std::vector<std::string> symbols, const std::vector<std::string>& merges) {
  while (true) {
    size_t best_rank = merges.size();
    size_t best_at = 0;
    for (size_t at = 0; at + 1 < symbols.size(); ++at) {
      const auto rank = static_cast<size_t>(
          std::find(merges.begin(), merges.end(), symbols[at] + " " + symbols[at + 1]) - merges.begin());
      if (rank < best_rank) {
        best_rank = rank;
        best_at = at;
      }
    }
    if (best_rank == merges.size()) return symbols;
    symbols[best_at] += symbols[best_at + 1];
    symbols.erase(symbols.begin() + static_cast<std::ptrdiff_t>(best_at) + 1);
  }
}

TEST_CASE("merging agrees with its definition on random words and merge lists", "[text]") {
  test::Random random(11);
  for (int round = 0; round < 40; ++round) {
    std::vector<std::string> symbols{"a", "b", "c"};
    std::vector<std::string> merges;
    while (merges.size() < 14) {
      const auto pick = [&] {
        return symbols[static_cast<size_t>(random.below(static_cast<int64_t>(symbols.size())))];
      };
      const std::string left = pick();
      const std::string right = pick();
      if (std::find(symbols.begin(), symbols.end(), left + right) != symbols.end()) continue;
      merges.push_back(left + " " + right);
      symbols.push_back(left + right);
    }
    const auto tokenizer = byte_vocab(merges).load();
    for (int i = 0; i < 40; ++i) {
      std::string word;
      std::vector<std::string> letters;
      for (int64_t n = 1 + random.below(40); n > 0; --n) {
        letters.emplace_back(1, static_cast<char>('a' + random.below(3)));
        word += letters.back();
      }
      std::vector<std::string> got;
      for (const Token id : tokenizer->encode(word, false, false)) got.emplace_back(tokenizer->raw_text(id));
      CHECK(got == merge_slowly(letters, merges));
    }
  }
}

TEST_CASE("any bytes come back from a byte-level vocabulary", "[text]") {
  for (const char* pre : {"gpt-2", "llama-bpe", "deepseek-v3", "falcon", "gpt-4o"}) {
    TestVocab vocab = byte_vocab({"a b", "ab c", spelt(' ') + " a"});
    vocab.pre = pre;
    const auto tokenizer = vocab.load();
    test::Random random(5);
    for (int i = 0; i < 300; ++i) {
      std::string text;
      for (int64_t n = random.below(60); n > 0; --n) {
        text.push_back(static_cast<char>(random.below(random.below(2) == 0 ? 256 : 128)));
      }
      CHECK(tokenizer->decode(tokenizer->encode(text, false, false), false) == text);
    }
  }
}

TEST_CASE("a very long word merges in n log n", "[text]") {
  const auto tokenizer = byte_vocab({"a a", "aa aa", "aaaa aaaa", "a b"}).load();
  const std::string word(3'000'000, 'a');
  CHECK(tokenizer->encode(word, false, false).size() == word.size() / 8);
}

TEST_CASE("whole words that are tokens skip the merges where the model says so", "[text]") {
  TestVocab vocab = byte_vocab({"h e"});
  const Token hello = static_cast<Token>(vocab.tokens.size());
  vocab.add("hello");
  vocab.scores.clear();
  vocab.pre = "gpt-2";
  CHECK(vocab.load()->encode("hello", false, false).size() == 4);
  vocab.pre = "llama-bpe";
  CHECK(vocab.load()->encode("hello", false, false) == std::vector<Token>{hello});
}

TEST_CASE("a merge whose result is no token is spelt out again", "[text]") {
  TestVocab vocab = byte_vocab();
  vocab.merges = {"x y", "xy z", "q unknown", "nothing", "", " ", "a ", " b"};
  const auto tokenizer = vocab.load();
  CHECK(tokenizer->encode("xyz", false, false) == std::vector<Token>{'x', 'y', 'z'});
  CHECK(tokenizer->encode("ab", false, false) == std::vector<Token>{'a', 'b'});
}

TEST_CASE("the first of equal merges counts", "[text]") {
  const std::vector<std::string> merges = {"a b", "b c", "a b"};
  TestVocab vocab = byte_vocab({"a b", "b c"});
  vocab.merges = merges;
  const auto tokenizer = vocab.load();
  CHECK(tokenizer->raw_text(tokenizer->encode("abc", false, false)[0]) == "ab");
}

TEST_CASE("a byte that the vocabulary lacks is dropped", "[text]") {
  TestVocab vocab = byte_vocab();
  vocab.tokens['q'] = "qq";
  const auto tokenizer = vocab.load();
  CHECK(tokenizer->encode("aqb", false, false) == std::vector<Token>{'a', 'b'});
}

TEST_CASE("raw byte-pair vocabularies mark blanks and fall back to bytes", "[text]") {
  TestVocab vocab;
  vocab.pre = "gemma4";
  vocab.add("<bos>", testing::kControl);
  vocab.ids = {{"bos_token_id", 0}};
  vocab.add_bytes();
  const Token blank = vocab.add("\xE2\x96\x81");
  const Token a = vocab.add("a");
  const Token joined = vocab.add(
      "\xE2\x96\x81"
      "a");
  const Token lines = vocab.add("\n\n");
  vocab.merges = {"\xE2\x96\x81 a"};
  vocab.scores.clear();
  const auto tokenizer = vocab.load();
  CHECK(tokenizer->adds_bos());
  const auto ids = tokenizer->encode("a a \n\n\xFF", true, false);
  CHECK(ids == std::vector<Token>{0, a, joined, blank, lines, 1 + 0xFF});
  CHECK(tokenizer->decode(ids, false) == "a a \n\n\xFF");
}

TEST_CASE("spelling covers the bytes as GPT-2 defined it", "[text]") {
  CHECK(spell_all(" \n") == "\xC4\xA0\xC4\x8A");
  const auto tokenizer = byte_vocab().load();
  for (Token byte = 0; byte < 256; ++byte) {
    CHECK(tokenizer->piece(byte, false) == std::string(1, static_cast<char>(byte)));
  }
}

}  // namespace
}  // namespace lcrun::text

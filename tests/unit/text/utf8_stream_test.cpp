// Streaming repair of UTF-8, and the code points and classes under the tokenizers.
#include <catch2/catch.hpp>

#include "src/text/tokenizer.hpp"
#include "src/text/unicode.hpp"
#include "tests/support/random.hpp"

namespace lcrun::text {
namespace {

std::string repaired(std::string_view bytes) {
  Utf8Stream stream;
  std::string out;
  stream.push(bytes, out);
  stream.finish(out);
  return out;
}

TEST_CASE("repair does not depend on where the bytes are cut", "[text]") {
  test::Random random(2);
  constexpr unsigned char kBytes[] = {'a',  0x80, 0xBF, 0xC3, 0xA9, 0xE2, 0x82, 0xAC, 0xED,
                                      0xA0, 0xF0, 0x9F, 0x98, 0xF4, 0x90, 0xFF, 0xC0, 0x00};
  for (int i = 0; i < 2000; ++i) {
    std::string bytes;
    for (int64_t n = random.below(12); n > 0; --n) {
      bytes.push_back(static_cast<char>(kBytes[random.below(static_cast<int64_t>(sizeof(kBytes)))]));
    }
    Utf8Stream stream;
    std::string out;
    for (size_t at = 0; at < bytes.size();) {
      const auto size = static_cast<size_t>(1 + random.below(3));
      stream.push(std::string_view(bytes).substr(at, size), out);
      at += size;
    }
    stream.finish(out);
    CHECK(out == repaired(bytes));
    for (size_t at = 0; at < out.size();) {
      const CodePoint cp = decode_code_point(out, at);
      CHECK((cp.size > 1 || static_cast<unsigned char>(out[at]) < 0x80));
      at += cp.size;
    }
  }
}

TEST_CASE("an unfinished character is held back", "[text]") {
  Utf8Stream stream;
  std::string out;
  stream.push("a\xF0\x9F", out);
  CHECK(out == "a");
  stream.push("\x98\x80", out);
  CHECK(out == "a\xF0\x9F\x98\x80");
  stream.push("\xE2\x82", out);
  stream.finish(out);
  CHECK(out == "a\xF0\x9F\x98\x80\xEF\xBF\xBD");
}

TEST_CASE("broken sequences become one mark for each part that could have begun one", "[text]") {
  CHECK(repaired("\xF0\x9F\x98z") == "\xEF\xBF\xBDz");
  CHECK(repaired("\xC0\xAF") == "\xEF\xBF\xBD\xEF\xBF\xBD");
  CHECK(repaired("\xED\xA0\x80") == "\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD");
  CHECK(repaired("\xF4\x90") == "\xEF\xBF\xBD\xEF\xBF\xBD");
}

TEST_CASE("every code point survives encoding and decoding", "[text]") {
  for (uint32_t cp = 0; cp < 0x110000; cp += 7) {
    if (cp >= 0xD800 && cp <= 0xDFFF) continue;
    std::string text;
    append_utf8(cp, text);
    const CodePoint back = decode_code_point(text, 0);
    REQUIRE(back.value == cp);
    REQUIRE(back.size == text.size());
    REQUIRE(unit_size(text, 0) == text.size());
  }
}

TEST_CASE("every code point has exactly one class of the partition", "[text]") {
  for (uint32_t cp = 0; cp < 0x110000; ++cp) {
    const CharClass part = char_class(cp) & kAnyChar;
    REQUIRE((part != 0 && (part & (part - 1)) == 0));
  }
  CHECK((char_class(0x3007) & kHan) != 0);
  CHECK((char_class(0x85) & kSpace) != 0);
  CHECK((char_class(0x200B) & kSpace) == 0);
  CHECK((char_class(0x2EBF0) & kLo) != 0);
  CHECK((char_class(0x1C5) & kLt) != 0);
  CHECK(to_lower('K') == 'k');
  CHECK(base_letter(0xE9) == 'e');
}

}  // namespace
}  // namespace lcrun::text

// SHA-256 against the examples of FIPS 180-4 and NIST's long messages.
#include "src/base/sha256.hpp"

#include <catch2/catch.hpp>
#include <string>
#include <string_view>

using namespace lcrun;

namespace {

std::string hex(const Sha256Digest& digest) {
  static constexpr char kDigits[] = "0123456789abcdef";
  std::string text;
  for (const uint8_t byte : digest) {
    text += kDigits[byte >> 4];
    text += kDigits[byte & 15];
  }
  return text;
}

std::string of(std::string_view text) { return hex(sha256(std::as_bytes(std::span(text)))); }

}  // namespace

TEST_CASE("digests are those of the standard", "[base]") {
  CHECK(of("") == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  CHECK(of("abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  CHECK(of("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq") ==
        "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
  CHECK(of(std::string(1000000, 'a')) == "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
}

TEST_CASE("a digest does not depend on how its bytes were handed over", "[base]") {
  std::string text;
  for (int i = 0; i < 400; ++i) text += static_cast<char>(i * 37);
  for (size_t n = 0; n <= text.size(); n += 7) {
    for (const size_t piece : {1, 13, 64, 65, 399}) {
      Sha256 hash;
      for (size_t at = 0; at < n; at += piece) {
        hash.update(std::as_bytes(std::span(text).subspan(at, std::min(piece, n - at))));
      }
      CHECK(hex(hash.finish()) == of(std::string_view(text).substr(0, n)));
      CHECK(hash.finish() == sha256({}));  // it starts anew
    }
  }
}

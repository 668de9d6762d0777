// Replays the seed corpus of fuzz_tokenizer through its entry point, and random inputs of the same form.
#include <catch2/catch.hpp>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>

#include "tests/support/random.hpp"

#define LLVMFuzzerTestOneInput fuzz_tokenizer_entry
#include "tests/fuzz/fuzz_tokenizer.cpp"
#undef LLVMFuzzerTestOneInput

namespace {

int replay(const std::string& bytes) {
  const LogLevel before = log_level();
  const int result = fuzz_tokenizer_entry(reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size());
  set_log_level(before);
  return result;
}

}  // namespace

TEST_CASE("the seed corpus of fuzz_tokenizer runs through", "[text]") {
  int count = 0;
  for (const auto& entry : std::filesystem::directory_iterator(LCRUN_TEST_ROOT "/fuzz/corpus/tokenizer")) {
    INFO(entry.path());
    std::ifstream file(entry.path(), std::ios::binary);
    CHECK(replay(std::string((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>())) == 0);
    ++count;
  }
  CHECK(count >= 10);
}

TEST_CASE("random vocabularies and texts keep fuzz_tokenizer's laws", "[text]") {
  lcrun::test::Random random(77);
  constexpr std::string_view kBytes = "ab c\n\x1E<0x41>\xE2\x96\x81\xFF'sLL 12";
  for (int i = 0; i < 1500; ++i) {
    std::string bytes{static_cast<char>(random.below(256)), static_cast<char>(random.below(256))};
    for (int64_t n = random.below(80); n > 0; --n) {
      bytes.push_back(kBytes[static_cast<size_t>(random.below(static_cast<int64_t>(kBytes.size())))]);
    }
    CHECK(replay(bytes) == 0);
  }
}

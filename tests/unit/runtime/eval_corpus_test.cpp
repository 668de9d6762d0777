// Replays the seed corpus of fuzz_eval through its entry point, and damaged copies of it.
#include <catch2/catch.hpp>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>

#include "tests/support/random.hpp"

#define LLVMFuzzerTestOneInput fuzz_eval_entry
#include "tests/fuzz/fuzz_eval.cpp"
#undef LLVMFuzzerTestOneInput

namespace {

int replay(const std::string& bytes) {
  return fuzz_eval_entry(reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size());
}

}  // namespace

TEST_CASE("the seed corpus of fuzz_eval runs through, whole and damaged", "[runtime][eval]") {
  lcrun::test::Random random(79);
  int count = 0;
  for (const auto& entry : std::filesystem::directory_iterator(LCRUN_TEST_ROOT "/fuzz/corpus/eval")) {
    INFO(entry.path());
    std::ifstream file(entry.path(), std::ios::binary);
    const std::string good((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
    CHECK(replay(good) == 0);
    for (int i = 0; i < 300; ++i) {
      std::string bad = good;
      const auto at = static_cast<size_t>(random.below(static_cast<int64_t>(std::min<size_t>(bad.size(), 400))));
      bad[at] = static_cast<char>(random.below(256));
      if (i % 10 == 0) bad.resize(at);
      CHECK(replay(bad) == 0);
    }
    ++count;
  }
  CHECK(count >= 2);
}

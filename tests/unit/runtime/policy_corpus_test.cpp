// Replays the seed corpora of fuzz_policies and fuzz_plans through their entry points, and damaged copies of them.
#include <catch2/catch.hpp>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>

#include "tests/support/random.hpp"

#define LLVMFuzzerTestOneInput fuzz_policies_entry
#include "tests/fuzz/fuzz_policies.cpp"
#undef LLVMFuzzerTestOneInput
#define LLVMFuzzerTestOneInput fuzz_plans_entry
#include "tests/fuzz/fuzz_plans.cpp"
#undef LLVMFuzzerTestOneInput

namespace {

int replay(const std::string& folder, int (*entry)(const uint8_t*, size_t)) {
  const auto run = [&](const std::string& bytes) {
    return entry(reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size());
  };
  lcrun::test::Random random(23);
  int count = 0;
  for (const auto& file : std::filesystem::directory_iterator(LCRUN_TEST_ROOT "/fuzz/corpus/" + folder)) {
    INFO(file.path());
    std::ifstream stream(file.path(), std::ios::binary);
    const std::string good((std::istreambuf_iterator<char>(stream)), std::istreambuf_iterator<char>());
    CHECK(run(good) == 0);
    for (int i = 0; i < 600; ++i) {
      std::string bad = good;
      const auto at = static_cast<size_t>(random.below(static_cast<int64_t>(bad.size())));
      bad[at] = i % 3 == 0 ? static_cast<char>(random.below(256)) : "0129,-[]{}\""[random.below(11)];
      if (i % 10 == 0) bad.resize(at);
      CHECK(run(bad) == 0);
    }
    ++count;
  }
  return count;
}

}  // namespace

TEST_CASE("the seed corpora of fuzz_policies and fuzz_plans run through, whole and damaged", "[runtime][policy]") {
  CHECK(replay("policies", fuzz_policies_entry) >= 3);
  CHECK(replay("plans", fuzz_plans_entry) >= 1);
}

// Replays the seed corpus of fuzz_jinja through its entry point.
#include <catch2/catch.hpp>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>

#define LLVMFuzzerTestOneInput fuzz_jinja_entry
#include "tests/fuzz/fuzz_jinja.cpp"
#undef LLVMFuzzerTestOneInput

TEST_CASE("the seed corpus of fuzz_jinja runs through", "[text]") {
  int count = 0;
  for (const auto& entry : std::filesystem::directory_iterator(LCRUN_TEST_ROOT "/fuzz/corpus/jinja")) {
    INFO(entry.path());
    std::ifstream file(entry.path(), std::ios::binary);
    const std::string bytes((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
    CHECK(fuzz_jinja_entry(reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size()) == 0);
    ++count;
  }
  CHECK(count >= 10);
}

// Replays the seed corpus of fuzz_matmul through its entry point.
#include <catch2/catch.hpp>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>

#define LLVMFuzzerTestOneInput fuzz_matmul_entry
#include "tests/fuzz/fuzz_matmul.cpp"
#undef LLVMFuzzerTestOneInput

TEST_CASE("the seed corpus of fuzz_matmul runs through", "[matmul]") {
  int count = 0;
  for (const auto& entry : std::filesystem::directory_iterator(LCRUN_TEST_ROOT "/fuzz/corpus/matmul")) {
    INFO(entry.path());
    std::ifstream file(entry.path(), std::ios::binary);
    const std::string bytes((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
    CHECK(fuzz_matmul_entry(reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size()) == 0);
    ++count;
  }
  CHECK(count >= 16);
}

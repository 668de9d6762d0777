// Numbers with units: what is read, and that everything else is refused.
#include "src/runtime/option_values.hpp"

#include <catch2/catch.hpp>

using namespace lcrun;
using namespace lcrun::runtime;

TEST_CASE("tokens are decimal: k is a thousand, M a million", "[runtime][options]") {
  CHECK(*parse_tokens("4096") == 4096);
  CHECK(*parse_tokens("64k") == 64000);
  CHECK(*parse_tokens("1M") == 1000000);
  CHECK(*parse_tokens("64Ki") == 65536);
  CHECK(*parse_tokens("1.5M") == 1500000);
  CHECK(*parse_tokens("-1") == -1);
}

TEST_CASE("sizes in bytes take binary and decimal units", "[runtime][options]") {
  CHECK(*parse_bytes("4096") == 4096);
  CHECK(*parse_bytes("4KiB") == 4096);
  CHECK(*parse_bytes("1GiB") == int64_t{1} << 30);
  CHECK(*parse_bytes("1G") == int64_t{1} << 30);
  CHECK(*parse_bytes("1GB") == 1000000000);
  CHECK(*parse_bytes("0.5GiB") == int64_t{1} << 29);
}

TEST_CASE("what is not a number with a known unit is an invalid argument", "[runtime][options]") {
  for (const char* text : {"", " 1", "1 ", "k", "1x", "1kk", "--1", "0x10", "1e3", ".", "1.2.3", "nan", "inf",
                           "99999999999999999999", "1.5", "9e99", "0.0001k", "10000000T"}) {
    INFO(text);
    REQUIRE_FALSE(parse_tokens(text).has_value());
    CHECK(parse_tokens(text).error().code == Code::kInvalidArgument);
  }
  CHECK_FALSE(parse_bytes("4KB ").has_value());
  CHECK_FALSE(parse_bytes("9999999TiB").has_value());
}

TEST_CASE("real numbers must be finite and whole texts", "[runtime][options]") {
  CHECK(*parse_real("0.8") == 0.8);
  CHECK(*parse_real("-1e-3") == -1e-3);
  for (const char* text : {"nan", "inf", "-inf", "1.0x", "", "0,8", "1e999"}) {
    INFO(text);
    CHECK_FALSE(parse_real(text).has_value());
  }
}

TEST_CASE("lists are commas between token counts", "[runtime][options]") {
  CHECK(*parse_tokens_list("0,8192,1k") == std::vector<int64_t>{0, 8192, 1000});
  CHECK_FALSE(parse_tokens_list("1,,2").has_value());
  CHECK_FALSE(parse_tokens_list("").has_value());
  CHECK_FALSE(parse_tokens_list("1,").has_value());
}

TEST_CASE("edit distance counts insertions, deletions and replacements", "[runtime][options]") {
  CHECK(edit_distance("", "abc") == 3);
  CHECK(edit_distance("--theads", "--threads") == 1);
  CHECK(edit_distance("kitten", "sitting") == 3);
  CHECK(edit_distance("same", "same") == 0);
  CHECK(edit_distance("--tmep", "--temp") == 1);
}

TEST_CASE("bytes are written with the largest unit that fits", "[runtime][options]") {
  CHECK(bytes_text(300) == "300 B");
  CHECK(bytes_text(1536) == "1.50 KiB");
  CHECK(bytes_text(uint64_t{3} << 30) == "3.00 GiB");
}

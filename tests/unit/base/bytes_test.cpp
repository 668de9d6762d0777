#include "src/base/bytes.hpp"

#include <catch2/catch.hpp>

using namespace lcrun;

TEST_CASE("a reader refuses to read past the end and names offset, found and wanted", "[base]") {
  ByteWriter out;
  out.write<uint32_t>(7);
  out.write<uint8_t>(1);
  ByteReader in(out.bytes(), "x.gguf", Code::kBadModel);
  REQUIRE(in.read<uint32_t>("a").value() == 7);
  const auto result = in.read<uint32_t>("count");
  REQUIRE_FALSE(result.has_value());
  CHECK(result.error().code == Code::kBadModel);
  CHECK(result.error().message == "x.gguf: offset 4: count: found 1 bytes left, wanted 4 bytes");
  CHECK(in.offset() == 4);
}

TEST_CASE("a length near 2^64 cannot wrap the bounds check", "[base]") {
  ByteWriter out;
  out.write<uint32_t>(7);
  ByteReader in(out.bytes(), "x", Code::kBadModel);
  REQUIRE(in.read<uint16_t>("a").has_value());
  CHECK_FALSE(in.read_bytes("s", ~uint64_t{0}).has_value());
  CHECK_FALSE(in.skip("s", ~uint64_t{0} - 1).has_value());
}

// The type table, and dequantisation bit for bit against another implementation (tests/golden/quant_blocks.json).
#include "quant/format.hpp"

#include <catch2/catch.hpp>
#include <cstring>
#include <fstream>
#include <nlohmann/json.hpp>
#include <set>
#include <string>
#include <vector>

#include "quant/half.hpp"

using namespace lcrun;
using namespace lcrun::quant;

namespace {

std::vector<std::byte> from_hex(const std::string& hex) {
  std::vector<std::byte> bytes;
  for (size_t i = 0; i + 1 < hex.size(); i += 2) {
    bytes.push_back(static_cast<std::byte>(std::stoi(hex.substr(i, 2), nullptr, 16)));
  }
  return bytes;
}

}  // namespace

TEST_CASE("every computable format agrees bit for bit with the gguf package", "[quant]") {
  std::ifstream file(std::string(LCRUN_TEST_ROOT) + "/golden/quant_blocks.json");
  REQUIRE(file.good());
  const auto golden = nlohmann::json::parse(file);
  std::set<std::string> seen;
  for (const auto& entry : golden) {
    const std::string name = entry["type"];
    INFO(name);
    seen.insert(name);
    const TypeInfo* type = find_type(std::string_view(name));
    REQUIRE(type != nullptr);
    const QuantOps* ops = find_ops(type->dtype);
    REQUIRE(ops != nullptr);
    const auto bytes = from_hex(entry["bytes"]);
    const auto values = from_hex(entry["values"]);
    const auto n = static_cast<int64_t>(values.size() / sizeof(float));
    REQUIRE(row_bytes(*type, n) == bytes.size());
    std::vector<float> got(static_cast<size_t>(n));
    ops->dequantize(bytes.data(), n, got.data());
    REQUIRE(std::memcmp(got.data(), values.data(), values.size()) == 0);
  }
  for (const QuantOps& ops : all_ops()) REQUIRE(seen.count(type_name(ops.dtype)) == 1);
}

TEST_CASE("types are found by id and by name in any case", "[quant]") {
  REQUIRE(find_type(DType::kQ4_K) == find_type("q4_k"));
  REQUIRE(find_type("Q4_K")->block_size == 256);
  REQUIRE(row_bytes(*find_type(DType::kQ6_K), 512) == 420);
  REQUIRE(find_type("q4") == nullptr);
  REQUIRE(find_type("") == nullptr);
  REQUIRE(find_type(static_cast<DType>(1000)) == nullptr);
  REQUIRE(type_name(static_cast<DType>(1000)) == "type 1000");
}

TEST_CASE("ids and names in the type table are unique", "[quant]") {
  std::set<std::string> names;
  for (uint32_t id = 0; id < 43; ++id) {
    const TypeInfo* type = find_type(static_cast<DType>(id));
    INFO(id);
    REQUIRE(type != nullptr);
    REQUIRE(type->block_size > 0);
    REQUIRE(type->block_bytes > 0);
    REQUIRE(names.insert(type->name).second);
  }
}

TEST_CASE("an unsupported type is refused with its name and the choices", "[quant]") {
  const Error known = unsupported_type("tensor blk.0.attn_q.weight", DType::kIQ2_XXS);
  REQUIRE(known.code == Code::kUnsupported);
  REQUIRE(known.message.find("IQ2_XXS") != std::string::npos);
  REQUIRE(known.message.find("blk.0.attn_q.weight") != std::string::npos);
  REQUIRE(known.message.find("Q4_K") != std::string::npos);
  const Error removed = unsupported_type("x", static_cast<DType>(31));
  REQUIRE(removed.message.find("Q4_0_4_4 (removed from GGUF)") != std::string::npos);
}

TEST_CASE("writable types are a subset of the supported ones", "[quant]") {
  REQUIRE(supported_types(true) == "F32 F16 BF16 Q8_0 Q4_0 Q4_1 Q5_0 Q5_1 Q4_K Q5_K Q6_K");
  REQUIRE(supported_types(false).find("MXFP4") != std::string::npos);
}

TEST_CASE("every half widens and narrows to itself", "[quant]") {
  for (uint32_t bits = 0; bits < 65536; ++bits) {
    const auto half = static_cast<uint16_t>(bits);
    const float wide = f16_to_f32(half);
    const float brain = bf16_to_f32(half);
    if (wide == wide && f32_to_f16(wide) != half) FAIL("f16 " << bits);
    if (brain == brain && f32_to_bf16(brain) != half) FAIL("bf16 " << bits);
    if (wide != wide) REQUIRE(f16_to_f32(f32_to_f16(wide)) != f16_to_f32(f32_to_f16(wide)));
    if (brain != brain) REQUIRE(bf16_to_f32(f32_to_bf16(brain)) != bf16_to_f32(f32_to_bf16(brain)));
  }
}

TEST_CASE("narrowing rounds to nearest, ties to even", "[quant]") {
  REQUIRE(f32_to_f16(1.0f + 0x1p-11f) == 0x3c00);             // tie, even below
  REQUIRE(f32_to_f16(1.0f + 0x1p-10f + 0x1p-11f) == 0x3c02);  // tie, even above
  REQUIRE(f32_to_f16(65519.0f) == 0x7bff);
  REQUIRE(f32_to_f16(65520.0f) == 0x7c00);
  REQUIRE(f32_to_f16(-1e30f) == 0xfc00);
  REQUIRE(f32_to_f16(0x1p-25f) == 0);  // tie between zero and the least subnormal
  REQUIRE(f32_to_f16(0x1.8p-25f) == 1);
  REQUIRE(f32_to_f16(0x1p-14f - 0x1p-25f) == 0x0400);  // rounds up into the normals
  REQUIRE(f32_to_bf16(1.0f + 0x1p-8f) == 0x3f80);
  REQUIRE(f32_to_bf16(1.0f + 0x1p-7f + 0x1p-8f) == 0x3f82);
}

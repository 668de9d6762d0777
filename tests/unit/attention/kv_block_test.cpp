// Encoding and reading back keys and values: every cache type, every instruction set.
#include "src/attention/kv_block.hpp"

#include <catch2/catch.hpp>
#include <cstring>
#include <vector>

#include "src/attention/attention.hpp"
#include "src/attention/rotation.hpp"
#include "src/kernels/kernels.hpp"
#include "tests/support/isas.hpp"
#include "tests/support/random.hpp"

using namespace lcrun;
using namespace lcrun::test;
using attention::KvLayout;

namespace {

const DType kTypes[] = {DType::kF32, DType::kF16, DType::kBF16, DType::kQ8_0, DType::kQ4_0};

// Largest error of a value of size <= 4 in a group whose largest is <= 4.
double step_of(DType type) {
  switch (type) {
    case DType::kF32:
      return 0.0;
    case DType::kF16:
      return 4.0 / 2048;
    case DType::kBF16:
      return 4.0 / 256;
    case DType::kQ8_0:
      return 4.0 / 127 * 0.51 + 4.0 / 2048;  // half a step, and the rounding of the scale
    default:
      // Rotated: rows of up to 10 in size, errors of half a step (a whole one at the extreme) spread over the head.
      return 1.6;
  }
}

std::vector<std::byte> random_block(const KvLayout& layout, uint64_t seed) {
  std::vector<std::byte> block(layout.block_bytes());
  Random random(seed);
  for (int64_t row = 0; row < 64; ++row) {
    const auto k = random.row(layout.n_kv_heads * layout.k_dim, -4, 4);
    const auto v = random.row(layout.n_kv_heads * layout.v_dim, -4, 4);
    attention::encode_kv(layout, k.data(), v.data(), row, block.data());
  }
  return block;
}

}  // namespace

TEST_CASE("a row reads back within the step of its format", "[attention]") {
  for_each_isa([](const std::string&) {
    for (const DType type : kTypes) {
      const KvLayout layout{2, 64, 96, type, type};
      std::vector<std::byte> block(layout.block_bytes());
      Random random(7);
      const auto k = random.row(2 * 64, -4, 4), v = random.row(2 * 96, -4, 4);
      attention::encode_kv(layout, k.data(), v.data(), 37, block.data());
      std::vector<float> k_back(k.size()), v_back(v.size());
      attention::decode_kv(layout, block.data(), 37, k_back.data(), v_back.data());
      CAPTURE(static_cast<int>(type));
      for (size_t i = 0; i < k.size(); ++i) REQUIRE(std::abs(double(k[i]) - double(k_back[i])) <= step_of(type));
      for (size_t i = 0; i < v.size(); ++i) REQUIRE(std::abs(double(v[i]) - double(v_back[i])) <= step_of(type));
      // The neighbours are still the zeros that the block was made of.
      attention::decode_kv(layout, block.data(), 36, k_back.data(), v_back.data());
      for (const float value : k_back) REQUIRE(value == 0.0F);
      for (const float value : v_back) REQUIRE(value == 0.0F);
    }
  });
}

TEST_CASE("blocks have the same bytes whatever instruction set wrote them", "[attention]") {
  for (const DType type : kTypes) {
    const KvLayout layout{2, 64, 96, type, type};
    std::vector<std::byte> first;
    for_each_isa([&](const std::string&) {
      const auto block = random_block(layout, 3);
      if (first.empty()) first = block;
      REQUIRE(block == first);
    });
  }
}

namespace {

// Element d of token `row` in a tile, as AttentionSlots describes tiles.
float key_of_tile(const std::vector<std::byte>& tile, bool is_quantised, int64_t dim, int64_t d, int64_t row) {
  if (!is_quantised) return reinterpret_cast<const float*>(tile.data())[d * 64 + row];
  const auto* codes = reinterpret_cast<const int16_t*>(tile.data());
  const auto* scales = reinterpret_cast<const float*>(codes + dim * 64);
  return static_cast<float>(codes[d / 2 * 128 + row * 2 + d % 2]) * scales[d / 32 * 64 + row];
}
float value_of_tile(const std::vector<std::byte>& tile, bool is_quantised, int64_t dim, int64_t d, int64_t row) {
  const int64_t stride = (dim + kernels::kValuePad - 1) / kernels::kValuePad * kernels::kValuePad;
  if (!is_quantised) return reinterpret_cast<const float*>(tile.data())[row * stride + d];
  const auto* codes = reinterpret_cast<const int16_t*>(tile.data());
  const auto* scales = reinterpret_cast<const float*>(codes + dim * 64);
  return static_cast<float>(codes[(row / 2 * dim + d) * 2 + row % 2]) * scales[d / 32 * 64 + row];
}

}  // namespace

TEST_CASE("the kernels' tiles equal the plain decoder bit for bit", "[attention]") {
  for_each_isa([](const std::string&) {
    for (const DType type : kTypes) {
      const bool is_quantised = attention::is_quantised(type);
      for (const int64_t dim : {int64_t{64}, int64_t{160}, int64_t{is_quantised ? 32 : 37}}) {
        const KvLayout layout{1, dim, dim, type, type};
        const auto block = random_block(layout, 5);
        const int64_t stride = (dim + kernels::kValuePad - 1) / kernels::kValuePad * kernels::kValuePad;
        std::vector<std::byte> k_tile(static_cast<size_t>(dim * 64 * 4), std::byte{0x7f});
        std::vector<std::byte> v_tile(static_cast<size_t>(stride * 64 * 4), std::byte{0x7f});
        const auto& kernel = kernels::active().attention;
        const int64_t index = attention::kv_index(type);
        kernel.k_tile[index](block.data(), dim, k_tile.data());
        kernel.v_tile[index](block.data() + attention::key_part_bytes(type, dim), dim, v_tile.data());
        std::vector<float> k(static_cast<size_t>(dim)), v(static_cast<size_t>(dim));
        bool same = true;
        for (int64_t row = 0; row < 64; ++row) {
          attention::decode_kv(layout, block.data(), row, k.data(), v.data());
          std::vector<float> k_kernel, v_kernel;
          for (int64_t d = 0; d < dim; ++d) {
            k_kernel.push_back(key_of_tile(k_tile, is_quantised, dim, d, row));
            v_kernel.push_back(value_of_tile(v_tile, is_quantised, dim, d, row));
          }
          if (attention::is_rotated(type)) {
            attention::rotate(k_kernel.data(), dim);
            attention::rotate(v_kernel.data(), dim);
          }
          same = same && k_kernel == k && v_kernel == v;
          for (int64_t d = dim; d < stride; ++d) same = same && value_of_tile(v_tile, false, dim, d, row) == 0.0F;
        }
        CAPTURE(static_cast<int>(type), dim);
        REQUIRE(same);
      }
    }
  });
}

TEST_CASE("a rotation keeps products and undoes itself", "[attention]") {
  for (const int64_t dim : {int64_t{32}, int64_t{64}, int64_t{96}, int64_t{256}}) {
    Random random(static_cast<uint64_t>(dim));
    const auto a = random.row(dim, -4, 4), b = random.row(dim, -4, 4);
    auto a_turned = a, b_turned = b;
    attention::rotate(a_turned.data(), dim);
    attention::rotate(b_turned.data(), dim);
    double before = 0, after = 0;
    for (size_t d = 0; d < a.size(); ++d) {
      before += double(a[d]) * double(b[d]);
      after += double(a_turned[d]) * double(b_turned[d]);
    }
    REQUIRE(std::abs(after - before) < 1e-4);
    attention::rotate(a_turned.data(), dim);
    for (size_t d = 0; d < a.size(); ++d) REQUIRE(std::abs(double(a_turned[d]) - double(a[d])) < 1e-5);
  }
}

TEST_CASE("one large dimension leaves the others of a q4_0 row their values", "[attention]") {
  const KvLayout layout{1, 64, 64, DType::kQ4_0, DType::kQ4_0};
  std::vector<std::byte> block(layout.block_bytes());
  auto row = Random(3).row(64, -1, 1);
  row[7] = 30.0F;
  attention::encode_kv(layout, row.data(), row.data(), 0, block.data());
  std::vector<float> k(64), v(64);
  attention::decode_kv(layout, block.data(), 0, k.data(), v.data());
  double error = 0;
  for (size_t d = 0; d < row.size(); ++d) {
    if (d != 7) error += (double(k[d]) - double(row[d])) * (double(k[d]) - double(row[d])) / 63;
  }
  // Rounded as it lies, with steps of 30 / 8, the group of the large one would be zeros: 0.17 over the head.
  REQUIRE(error < 0.1);
}

TEST_CASE("f16 caches saturate, quantised ones survive zeros and huge values", "[attention]") {
  for_each_isa([](const std::string&) {
    for (const DType type : {DType::kF16, DType::kQ8_0, DType::kQ4_0}) {
      const KvLayout layout{1, 32, 32, type, type};
      std::vector<std::byte> block(layout.block_bytes());
      for (const float size : {0.0F, 1e-30F, 1e-6F, 1e6F, 3e38F, std::numeric_limits<float>::infinity()}) {
        std::vector<float> row(32, size);
        row[5] = -size;
        attention::encode_kv(layout, row.data(), row.data(), 0, block.data());
        std::vector<float> k(32), v(32);
        attention::decode_kv(layout, block.data(), 0, k.data(), v.data());
        for (const float value : k) REQUIRE(std::isfinite(value));
        for (const float value : v) REQUIRE(std::isfinite(value));
        if (size == 0.0F) REQUIRE(k == row);
        if (type == DType::kF16 && size > 65504.0F) REQUIRE((k[0] == 65504.0F && k[5] == -65504.0F));
      }
    }
  });
}

TEST_CASE("half floats of every size round to nearest even", "[attention]") {
  for_each_isa([](const std::string&) {
    const KvLayout layout{1, 16, 16, DType::kF16, DType::kF16};
    std::vector<std::byte> block(layout.block_bytes());
    std::vector<float> x = {1.0F + 0x1p-11F,
                            1.0F + 3 * 0x1p-11F,
                            0x1p-24F,
                            0x1p-25F,
                            3 * 0x1p-25F,
                            0x1p-14F,
                            0x1p-14F - 0x1p-25F,
                            65503.0F,
                            -0x1.8p-24F,
                            -0.0F,
                            0.1F,
                            1e-7F,
                            1e-9F,
                            2047.5F,
                            2048.5F,
                            -1.0F};
    const std::vector<float> wanted = {1.0F,     1.0F + 0x1p-9F, 0x1p-24F,  0.0F, 0x1p-23F,    0x1p-14F,
                                       0x1p-14F, 65504.0F,       -0x1p-23F, 0.0F, 0x1.998p-4F, 2 * 0x1p-24F,
                                       0.0F,     2048.0F,        2048.0F,   -1.0F};
    attention::encode_kv(layout, x.data(), x.data(), 1, block.data());
    std::vector<float> k(16), v(16);
    attention::decode_kv(layout, block.data(), 1, k.data(), v.data());
    REQUIRE(k == wanted);
    REQUIRE(v == wanted);
  });
}

TEST_CASE("layouts that cannot be stored are refused with their reason", "[attention]") {
  REQUIRE(KvLayout{2, 64, 64, DType::kQ8_0, DType::kQ4_0}.check().has_value());
  REQUIRE(KvLayout{2, 80, 80, DType::kF16, DType::kBF16}.check().has_value());
  const Status quant = KvLayout{2, 80, 80, DType::kQ8_0, DType::kF16}.check();
  REQUIRE(quant.error().code == Code::kInvalidArgument);
  REQUIRE(quant.error().message.find("multiples of 32, found 80") != std::string::npos);
  const Status type = KvLayout{2, 64, 64, DType::kF16, DType::kQ4_K}.check();
  REQUIRE(type.error().code == Code::kUnsupported);
  REQUIRE(KvLayout{0, 64, 64, DType::kF16, DType::kF16}.check().error().code == Code::kInvalidArgument);
  REQUIRE(KvLayout{1, 4096, 64, DType::kF16, DType::kF16}.check().error().code == Code::kUnsupported);
}

TEST_CASE("blocks are as small as their formats promise", "[attention]") {
  REQUIRE(KvLayout{1, 64, 64, DType::kF32, DType::kF32}.block_bytes() == 64 * 128 * 4);
  REQUIRE(KvLayout{3, 64, 64, DType::kF16, DType::kBF16}.block_bytes() == 3 * 64 * 128 * 2);
  REQUIRE(KvLayout{1, 64, 64, DType::kQ8_0, DType::kQ8_0}.block_bytes() == 64 * 4 * 34);
  REQUIRE(KvLayout{1, 64, 64, DType::kQ4_0, DType::kQ4_0}.block_bytes() == 64 * 4 * 18 + 64 * 2);
  REQUIRE(KvLayout{1, 96, 64, DType::kQ4_0, DType::kQ4_0}.block_bytes() == 64 * 5 * 18 + 128 * 2);
}

namespace {

// A sealed block of 64 rows around `offset`, and the rows.
struct SealedBlock {
  KvLayout layout{2, 96, 64, DType::kQ4_0, DType::kQ4_0};
  std::vector<float> k, v;
  std::vector<std::byte> block;

  SealedBlock(int64_t index, float offset, uint64_t seed = 8) : block(layout.block_bytes(), std::byte{0x5a}) {
    Random random(seed);
    k = random.row(64 * 2 * 96, -1, 1);
    v = random.row(64 * 2 * 64, -1, 1);
    for (size_t i = 0; i < k.size(); ++i) k[i] += i % 3 == 0 ? offset : -offset;
    std::vector<std::byte> open(layout.open_form().block_bytes());
    for (int64_t row = 0; row < 64; ++row) {
      attention::encode_open(layout, k.data() + row * 2 * 96, v.data() + row * 2 * 64, row, open.data());
    }
    attention::seal_kv(layout, index, open.data(), block.data());
  }
  // Root of the mean squared error of keys [from, to).
  double key_error(int64_t index, int64_t from, int64_t to) const {
    double sum = 0;
    std::vector<float> key(2 * 96), value(2 * 64);
    for (int64_t row = from; row < to; ++row) {
      attention::decode_kv(layout, block.data(), row, key.data(), value.data(), index);
      for (size_t d = 0; d < key.size(); ++d) {
        const double error = double(key[d]) - double(k[static_cast<size_t>(row) * key.size() + d]);
        sum += error * error;
      }
    }
    return std::sqrt(sum / static_cast<double>((to - from) * 2 * 96));
  }
};

}  // namespace

TEST_CASE("what all keys of a sealed block share costs them no precision", "[attention]") {
  for_each_isa([](const std::string&) {
    // Keys are within 1 of the offset: 15 steps over a range near 2.5 (rotated), errors of some 0.3 steps.
    REQUIRE(SealedBlock(1, 0.0F).key_error(1, 0, 64) < 0.08);
    REQUIRE(SealedBlock(1, 20.0F).key_error(1, 0, 64) < 0.08);
    // Block 0 keeps the first key instead and rounds the others as they are.
    REQUIRE(SealedBlock(0, 20.0F).key_error(0, 0, 1) < 0.02);
    REQUIRE(SealedBlock(0, 20.0F).key_error(0, 1, 64) > 0.5);
  });
}

TEST_CASE("sealed blocks have the same bytes whatever instruction set made them", "[attention]") {
  std::vector<std::byte> first;
  for_each_isa([&](const std::string&) {
    const SealedBlock made(3, 2.0F);
    if (first.empty()) first = made.block;
    REQUIRE(made.block == first);
  });
}

TEST_CASE("sealing copies the part that is not rounded to 4 bits", "[attention]") {
  const KvLayout layout{1, 64, 32, DType::kF16, DType::kQ4_0}, twin{1, 64, 32, DType::kQ4_0, DType::kQ8_0};
  for (const KvLayout& mixed : {layout, twin}) {
    Random random(4);
    std::vector<std::byte> open(mixed.open_form().block_bytes()), block(mixed.block_bytes());
    std::vector<float> k = random.row(64 * 64), v = random.row(64 * 32);
    for (int64_t row = 0; row < 64; ++row) {
      attention::encode_open(mixed, k.data() + row * 64, v.data() + row * 32, row, open.data());
    }
    attention::seal_kv(mixed, 1, open.data(), block.data());
    const bool keeps_keys = mixed.k_type == DType::kF16;
    for (int64_t row = 0; row < 64; ++row) {
      std::vector<float> key(64), value(32);
      attention::decode_kv(mixed, block.data(), row, key.data(), value.data());
      for (size_t d = 0; d < 64; ++d) {
        REQUIRE(std::abs(double(key[d]) - double(k[static_cast<size_t>(row) * 64 + d])) < (keeps_keys ? 1e-3 : 0.5));
      }
      for (size_t d = 0; d < 32; ++d) {
        REQUIRE(std::abs(double(value[d]) - double(v[static_cast<size_t>(row) * 32 + d])) < (keeps_keys ? 0.5 : 5e-3));
      }
    }
  }
}

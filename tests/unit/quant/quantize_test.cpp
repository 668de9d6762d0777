// Quantisers: round trips, hostile values, whole tensors.
#include "quant/quantize.hpp"

#include <catch2/catch.hpp>
#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <vector>

#include "quant/format.hpp"

using namespace lcrun;
using namespace lcrun::quant;

namespace {

std::vector<float> normal_values(int64_t n, uint32_t seed) {
  std::mt19937 rng(seed);
  std::normal_distribution<float> normal(0.0f, 0.03f);
  std::vector<float> x(static_cast<size_t>(n));
  for (float& v : x) v = normal(rng);
  return x;
}

TensorView view_of(const std::vector<float>& x, int64_t cols) {
  TensorView view;
  view.data = reinterpret_cast<const std::byte*>(x.data());
  view.ne = {cols, static_cast<int64_t>(x.size()) / cols, 1, 1};
  view.size_bytes = x.size() * sizeof(float);
  view.row_bytes = static_cast<uint64_t>(cols) * sizeof(float);
  return view;
}

std::vector<float> round_trip(const QuantOps& ops, const std::vector<float>& x) {
  const auto n = static_cast<int64_t>(x.size());
  std::vector<std::byte> bytes(row_bytes(*find_type(ops.dtype), n));
  std::vector<float> back(x.size());
  ops.quantize(x.data(), n, bytes.data());
  ops.dequantize(bytes.data(), n, back.data());
  return back;
}

// Root mean square error relative to that of the input.
double relative_error(const std::vector<float>& x, const std::vector<float>& y) {
  double error = 0;
  double norm = 0;
  for (size_t i = 0; i < x.size(); ++i) {
    const double d = static_cast<double>(x[i]) - static_cast<double>(y[i]);
    error += d * d;
    norm += static_cast<double>(x[i]) * static_cast<double>(x[i]);
  }
  return std::sqrt(error / norm);
}

// Upper bounds for normal values. An even grid of 2^b levels over +-2.2 sigma (blocks of 32) leaves about
// 4.4 / 2^b / sqrt(12) sigma; the search and the offsets bring it below that, the rounding of scales above it.
double bound_of(DType dtype) {
  switch (dtype) {
    case DType::kF32:
      return 0.0;
    case DType::kF16:
      return 3e-4;
    case DType::kBF16:
      return 2.5e-3;
    case DType::kQ8_0:
      return 6e-3;
    case DType::kQ6_K:
      return 0.018;
    case DType::kQ5_0:
      return 0.042;
    case DType::kQ5_1:
      return 0.038;
    case DType::kQ5_K:
      return 0.038;
    case DType::kQ4_0:
      return 0.085;
    case DType::kQ4_1:
      return 0.077;
    case DType::kQ4_K:
      return 0.077;
    default:
      return -1.0;
  }
}

}  // namespace

TEST_CASE("round trips of normal values stay within the bound of each format", "[quant]") {
  const auto x = normal_values(64 * 256, 1);
  for (const QuantOps& ops : all_ops()) {
    if (ops.quantize == nullptr) continue;
    INFO(type_name(ops.dtype));
    const double error = relative_error(x, round_trip(ops, x));
    INFO(error);
    REQUIRE(error <= bound_of(ops.dtype));
  }
}

TEST_CASE("values on the grid of a block format come back exactly", "[quant]") {
  // Codes times a power of two, the full range in use.
  for (const DType dtype : {DType::kQ4_0, DType::kQ4_1, DType::kQ5_0, DType::kQ5_1}) {
    INFO(type_name(dtype));
    const int levels = dtype == DType::kQ4_0 || dtype == DType::kQ4_1 ? 16 : 32;
    std::vector<float> x(256);
    for (size_t i = 0; i < x.size(); ++i) {
      x[i] = static_cast<float>(static_cast<int>(i * 7 % 32) % levels - levels / 2) * 0.25f;
    }
    REQUIRE(relative_error(x, round_trip(*find_ops(dtype), x)) == 0.0);
  }
}

TEST_CASE("zeros stay zero and constants are kept", "[quant]") {
  const std::vector<float> zeros(256, 0.0f);
  const std::vector<float> ones(256, -0.5f);
  for (const QuantOps& ops : all_ops()) {
    if (ops.quantize == nullptr) continue;
    INFO(type_name(ops.dtype));
    REQUIRE(relative_error(ones, round_trip(ops, ones)) < 0.01);
    for (const float v : round_trip(ops, zeros)) REQUIRE(v == 0.0f);
  }
}

TEST_CASE("tiny and huge values give finite results", "[quant]") {
  for (const float scale : {1e-40f, 1e-30f, 1e-7f, 1e5f, 1e12f, 3e38f}) {
    auto x = normal_values(256, 3);
    for (float& v : x) v = std::fmin(std::fmax(v * 30.0f, -1.0f), 1.0f) * scale;
    for (const QuantOps& ops : all_ops()) {
      if (ops.quantize == nullptr || ops.unpack == nullptr) continue;
      INFO(type_name(ops.dtype) << " scale " << scale);
      for (const float v : round_trip(ops, x)) REQUIRE(std::isfinite(v));
    }
  }
}

TEST_CASE("block formats take NaN as zero and infinity as a large value", "[quant]") {
  auto x = normal_values(512, 4);
  x[3] = std::numeric_limits<float>::quiet_NaN();
  x[300] = std::numeric_limits<float>::infinity();
  x[400] = -std::numeric_limits<float>::infinity();
  for (const QuantOps& ops : all_ops()) {
    if (ops.quantize == nullptr || ops.unpack == nullptr) continue;
    INFO(type_name(ops.dtype));
    const auto back = round_trip(ops, x);
    for (const float v : back) REQUIRE(std::isfinite(v));
    REQUIRE(std::fabs(back[3]) < 0.02f);
    REQUIRE(back[300] > 1e4f);
    REQUIRE(back[400] < -1e4f);
  }
}

TEST_CASE("a tensor is converted row by row with a report that does not depend on threads", "[quant]") {
  const auto x = normal_values(301 * 512, 5);
  const TensorView source = view_of(x, 512);
  const auto bytes = quantized_bytes(source, DType::kQ5_K);
  REQUIRE(bytes.has_value());
  REQUIRE(*bytes == 301u * 2u * 176u);
  std::vector<std::byte> one(*bytes), three(*bytes);
  const auto report_one = quantize_tensor(source, DType::kQ5_K, one, 1);
  const auto report_three = quantize_tensor(source, DType::kQ5_K, three, 3);
  REQUIRE(report_one.has_value());
  REQUIRE(report_three.has_value());
  REQUIRE(one == three);
  REQUIRE(report_one->rmse == report_three->rmse);
  REQUIRE(report_one->n == 301 * 512);
  REQUIRE(report_one->rmse > 0.0);
  REQUIRE(report_one->max_error >= report_one->rmse);
  std::vector<float> back(x.size());
  find_ops(DType::kQ5_K)->dequantize(one.data(), static_cast<int64_t>(x.size()), back.data());
  REQUIRE(relative_error(x, back) < bound_of(DType::kQ5_K));
}

TEST_CASE("values that are not finite are counted apart in the report", "[quant]") {
  auto x = normal_values(64, 6);
  x[5] = std::numeric_limits<float>::quiet_NaN();
  x[6] = std::numeric_limits<float>::infinity();
  std::vector<std::byte> out(64 * 4);
  const auto report = quantize_tensor(view_of(x, 32), DType::kF32, out, 1);
  REQUIRE(report.has_value());
  REQUIRE(report->n == 62);
  REQUIRE(report->n_not_finite == 2);
  REQUIRE(report->rmse == 0.0);
  REQUIRE(std::memcmp(out.data(), x.data(), out.size()) == 0);
}

TEST_CASE("conversions that cannot be are refused", "[quant]") {
  const auto x = normal_values(96 * 2, 7);
  const TensorView source = view_of(x, 96);
  REQUIRE(quantized_bytes(source, DType::kIQ2_XS).error().code == Code::kUnsupported);
  REQUIRE(quantized_bytes(source, DType::kIQ4_NL).error().message.find("Q5_K") != std::string::npos);
  REQUIRE(quantized_bytes(source, DType::kQ4_K).error().code == Code::kInvalidArgument);
  TensorView unreadable = source;
  unreadable.dtype = DType::kIQ1_S;
  REQUIRE(quantized_bytes(unreadable, DType::kQ8_0).error().code == Code::kUnsupported);
  std::vector<std::byte> small(10);
  REQUIRE(quantize_tensor(source, DType::kQ8_0, small, 1).error().code == Code::kInvalidArgument);
}

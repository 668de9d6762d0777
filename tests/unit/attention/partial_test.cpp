// Merging partials: associative, and empty ones count for nothing.
#include "src/attention/partial.hpp"

#include <catch2/catch.hpp>
#include <cmath>
#include <limits>
#include <vector>

#include "tests/support/random.hpp"

using namespace lcrun;
using namespace lcrun::test;
using attention::AttnPartial;

namespace {

constexpr int64_t kRows = 3;
constexpr int64_t kStride = 16;

struct Owned {
  std::vector<float> memory;
  AttnPartial view;
  explicit Owned(uint64_t seed = 0) : memory(static_cast<size_t>(AttnPartial::floats(kRows, kStride))) {
    view = AttnPartial::over(memory.data(), kRows, kStride);
    attention::init(view);
    if (seed == 0) return;
    Random random(seed);
    memory = random.row(static_cast<int64_t>(memory.size()));
    view = AttnPartial::over(memory.data(), kRows, kStride);
    for (int64_t row = 0; row < kRows; ++row) {
      view.m[row] = random.uniform(-40, 40);
      view.l[row] = random.uniform(1, 50);
    }
  }
  Owned(const Owned& other) : memory(other.memory), view(AttnPartial::over(memory.data(), kRows, kStride)) {}
  Owned& operator=(const Owned&) = delete;

  std::vector<float> finished(const float* sink = nullptr) const {
    std::vector<float> out(static_cast<size_t>(kRows * kStride));
    for (int64_t row = 0; row < kRows; ++row) {
      attention::finish(view, row, sink, kStride, out.data() + row * kStride);
    }
    return out;
  }
};

Owned merged(const Owned& a, const Owned& b) {
  Owned result(a);
  attention::merge(result.view, b.view);
  return result;
}

}  // namespace

TEST_CASE("merging partials is associative within rounding", "[attention]") {
  for (uint64_t seed = 1; seed < 50; ++seed) {
    const Owned a(3 * seed), b(3 * seed + 1), c(3 * seed + 2);
    const auto left = merged(merged(a, b), c).finished();
    const auto right = merged(a, merged(b, c)).finished();
    for (size_t i = 0; i < left.size(); ++i) REQUIRE(left[i] == Approx(right[i]).epsilon(0).margin(2e-6));
  }
}

TEST_CASE("an empty partial merges as nothing from either side", "[attention]") {
  const Owned empty, full(9);
  REQUIRE(merged(empty, full).memory == full.memory);
  REQUIRE(merged(full, empty).memory == full.memory);
  REQUIRE(merged(empty, empty).memory == empty.memory);
}

TEST_CASE("a partial without keys finishes as zeros, with a sink or without", "[attention]") {
  const Owned empty;
  const float sink = 2.0F;
  for (const float value : empty.finished()) REQUIRE(value == 0.0F);
  for (const float value : empty.finished(&sink)) REQUIRE(value == 0.0F);
}

TEST_CASE("a sink joins the denominator once", "[attention]") {
  const Owned full(4);
  for (const float sink : {-50.0F, 0.0F, 3.0F, 60.0F}) {
    const auto found = full.finished(&sink);
    for (int64_t row = 0; row < kRows; ++row) {
      const double total = double(full.view.l[row]) + std::exp(double(sink) - double(full.view.m[row]));
      for (int64_t i = 0; i < kStride; ++i) {
        const double wanted = double(full.view.o[row * kStride + i]) / total;
        REQUIRE(double(found[static_cast<size_t>(row * kStride + i)]) == Approx(wanted).epsilon(1e-5).margin(1e-9));
      }
    }
  }
}

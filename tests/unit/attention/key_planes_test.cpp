// Keys in bit planes: what they keep of the keys, and scores by them against products in double precision.
#include "src/attention/key_planes.hpp"

#include <algorithm>
#include <catch2/catch.hpp>
#include <cmath>
#include <vector>

#include "src/attention/rotation.hpp"
#include "src/kernels/kernels.hpp"
#include "tests/support/isas.hpp"
#include "tests/support/random.hpp"

using namespace lcrun;
using namespace lcrun::test;
using kernels::PlanePart;

namespace {

// 64 keys about a mean of their own, some of them far larger than the rest.
struct Part {
  int64_t dim;
  std::vector<float> keys;
  std::vector<std::byte> bytes;

  explicit Part(int64_t n, uint64_t seed = 3) : dim(n), bytes(static_cast<size_t>(PlanePart::bytes(n))) {
    Random random(seed);
    const auto mean = random.row(dim, -3, 3);
    for (int64_t i = 0; i < 64; ++i) {
      auto row = random.row(dim, -1, 1);
      for (int64_t d = 0; d < dim; ++d) keys.push_back(mean[size_t(d)] + row[size_t(d)] * (i % 9 == 0 ? 4.0F : 1.0F));
    }
    auto copy = keys;
    attention::encode_planes(copy.data(), dim, bytes.data());
  }
  std::vector<float> decoded() const {
    std::vector<float> rows(keys.size());
    attention::decode_planes(bytes.data(), dim, rows.data());
    return rows;
  }
};

// Scores of queries that are not rotated yet.
std::vector<float> scores_of(const Part& part, std::vector<float> q) {
  const auto n = static_cast<int64_t>(q.size()) / part.dim;
  for (int64_t i = 0; i < n; ++i) attention::rotate(q.data() + i * part.dim, part.dim);
  std::vector<uint8_t> tables(q.size() * 4);
  std::vector<int16_t> centres(static_cast<size_t>(n));
  std::vector<float> factors(static_cast<size_t>(n)), scores(static_cast<size_t>(n));
  attention::make_plane_tables(q.data(), n, part.dim, {tables.data(), centres.data(), factors.data()});
  kernels::PlaneTile tile;
  tile.rows = n;
  tile.dim = part.dim;
  tile.q = q.data();
  tile.tables = tables.data();
  tile.centres = centres.data();
  tile.factors = factors.data();
  tile.shift = attention::plane_shift(part.dim);
  kernels::active().attention.plane_scores(tile, part.bytes.data(), scores.data(), 1);
  return scores;
}

double dot(const float* a, const float* b, int64_t n) {
  double sum = 0;
  for (int64_t i = 0; i < n; ++i) sum += double(a[i]) * double(b[i]);
  return sum;
}

}  // namespace

TEST_CASE("bit planes keep keys to 4 bits of their distance from the block's mean", "[attention]") {
  for (const int64_t dim : {32, 64, 96, 128, 256, 1024}) {
    const Part part(dim);
    const auto decoded = part.decoded();
    double error = 0, spread = 0;
    for (int64_t d = 0; d < dim; ++d) {
      double mean = 0;
      for (int64_t i = 0; i < 64; ++i) mean += double(part.keys[size_t(i * dim + d)]) / 64;
      for (int64_t i = 0; i < 64; ++i) {
        const auto at = size_t(i * dim + d);
        error += std::pow(double(part.keys[at]) - double(decoded[at]), 2);
        spread += std::pow(double(part.keys[at]) - mean, 2);
      }
    }
    CAPTURE(dim);
    // The best uniform quantiser of 16 levels leaves 0.0115 of a normal distribution's variance.
    CHECK(error / spread < 0.016);
  }
}

TEST_CASE("bit planes score as the codes they hold do", "[attention]") {
  for_each_isa([](const std::string& isa) {
    for (const int64_t dim : {32, 64, 96, 128, 256, 1024}) {
      const Part part(dim);
      const auto decoded = part.decoded();
      const int64_t n = 7;
      const auto q = Random(8).row(n * dim, -1, 1);
      const auto scores = scores_of(part, q);
      for (int64_t r = 0; r < n; ++r) {
        double best = -1e300, exact = -1e300, scale = 0;
        for (int64_t i = 0; i < 64; ++i) {
          best = std::max(best, dot(q.data() + r * dim, decoded.data() + i * dim, dim));
          exact = std::max(exact, dot(q.data() + r * dim, part.keys.data() + i * dim, dim));
          scale = std::max(scale, std::sqrt(dot(&part.keys[size_t(i * dim)], &part.keys[size_t(i * dim)], dim)));
        }
        scale *= std::sqrt(dot(q.data() + r * dim, q.data() + r * dim, dim));
        CAPTURE(isa, dim, r);
        // Tables of 64 steps, of fewer above 256 dimensions, and what 4 bits lose.
        CHECK(std::abs(double(scores[size_t(r)]) - best) < (dim > 256 ? 0.01 : 0.007) * scale);
        CHECK(std::abs(double(scores[size_t(r)]) - exact) < 0.035 * scale);
      }
    }
  });
}

TEST_CASE("every instruction set finds the same best key", "[attention]") {
  // The mean is zero, so that all of a score is integers.
  for (const int64_t dim : {32, 64, 80 + 16, 256}) {
    Part part(dim);
    for (int64_t i = 0; i < 64; i += 2) {
      for (int64_t d = 0; d < dim; ++d) part.keys[size_t((i + 1) * dim + d)] = -part.keys[size_t(i * dim + d)];
    }
    auto copy = part.keys;
    attention::encode_planes(copy.data(), dim, part.bytes.data());
    for (const int64_t n : {1, 2, 3, 4, 8}) {
      const auto q = Random(uint64_t(n)).row(n * dim, -2, 2);
      std::vector<float> first;
      for_each_isa([&](const std::string& isa) {
        const auto scores = scores_of(part, q);
        CAPTURE(isa, dim, n);
        if (first.empty()) first = scores;
        for (size_t i = 0; i < scores.size(); ++i) CHECK(scores[i] == Approx(first[i]).epsilon(1e-6).margin(1e-6));
      });
    }
  }
}

TEST_CASE("keys and queries that are not finite make no score that is not", "[attention]") {
  for (const float odd : {INFINITY, -INFINITY, 1e38F}) {
    Part part(64);
    part.keys[100] = odd;
    auto copy = part.keys;
    attention::encode_planes(copy.data(), 64, part.bytes.data());
    auto q = Random(1).row(128, -1, 1);
    for (const float score : scores_of(part, q)) CHECK(std::isfinite(score));
  }
  const Part zero = [] {
    Part made(32);
    std::fill(made.keys.begin(), made.keys.end(), 0.0F);
    auto copy = made.keys;
    attention::encode_planes(copy.data(), 32, made.bytes.data());
    return made;
  }();
  for (const float score : scores_of(zero, std::vector<float>(32, 0.0F))) CHECK(score == 0.0F);
}

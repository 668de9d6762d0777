// Two levels of indexes, and strips of keys: what they leave, against their definitions in double precision.
#include <algorithm>
#include <catch2/catch.hpp>
#include <cmath>
#include <vector>

#include "tests/support/indexed_cache.hpp"
#include "tests/support/isas.hpp"

using namespace lcrun;
using namespace lcrun::test;
using attention::IndexKind;
using attention::Reading;
using attention::Scope;

namespace {

// SparQ's estimate of the best key in a block: a quarter of the channels, and its temperature.
double strip_reference(const Indexed& made, const std::vector<float>& q, int64_t head, int64_t pos, int64_t b) {
  const int64_t dim = 32, first = head / 3 * 3;
  std::vector<std::vector<double>> turned;
  for (int64_t h = first; h < first + 3; ++h) {
    std::vector<double> x(q.begin() + h * dim, q.begin() + (h + 1) * dim);
    auto y = x;
    for (size_t i = 0; i < 16; ++i) {
      const double angle = double(128 - pos + b * 64) * made.frequency[i], c = std::cos(angle), s = std::sin(angle);
      y[i] = x[i] * c - x[i + 16] * s;
      y[i + 16] = x[i + 16] * c + x[i] * s;
    }
    turned.push_back(y);
  }
  std::vector<std::pair<double, size_t>> largest(32, {0, 0});
  for (size_t d = 0; d < 32; ++d) {
    for (const auto& y : turned) largest[d] = {std::max(largest[d].first, std::abs(y[d])), d};
  }
  std::sort(largest.begin(), largest.end(), std::greater<>());
  const auto& own = turned[size_t(head - first)];
  double some = 0, all = 0, best = -1e300;
  for (const double x : own) all += std::abs(x);
  for (size_t i = 0; i < 8; ++i) some += std::abs(own[largest[i].second]);
  for (int64_t row = b * 64; row < b * 64 + 64; ++row) {
    double score = 0;
    for (size_t i = 0; i < 8; ++i) {
      const size_t d = largest[i].second;
      score += own[d] * double(made.cache.k[size_t(row * 64 + head / 3 * 32) + d]);
    }
    best = std::max(best, score * double(made.params.scale) / std::sqrt(some / all));
  }
  return best;
}

}  // namespace

TEST_CASE("a list of blocks is scored as a run of them is, bit for bit", "[attention]") {
  for_each_isa([](const std::string&) {
    for (const IndexKind& kind : attention::index_kinds()) {
      CAPTURE(kind.name);
      Indexed made(kind.name, DType::kQ8_0, 2048);
      made.build(2048);
      const auto q = Random(6).row(made.params.n_heads * 32, -2, 2);
      Workspace memory;
      REQUIRE(memory.reserve(made.index->queries_bytes(6)).has_value());
      const auto queries = made.index->take_queries(6, memory);
      for (int64_t head = 0; head < 2; ++head) {
        made.index->turn_queries(q.data() + head * 3 * 32, 2047, made.params.scale,
                                 made.index->part_of(queries, head * 3, 3));
      }
      std::vector<float> scratch(static_cast<size_t>(made.index->score_floats(3)));
      std::vector<float> all(6 * 32), some(6 * 5), of_head(3 * 5);
      made.index->score(queries, *made.rows, 0, 32, all.data(), 32, scratch.data());
      const std::vector<int32_t> list{1, 2, 8, 15, 31};
      made.index->score_listed(queries, 0, 2, *made.rows, list, some.data(), 5, scratch.data());
      made.index->score_listed(made.index->part_of(queries, 3, 3), 1, 1, *made.rows, list, of_head.data(), 5,
                               scratch.data());
      for (size_t row = 0; row < 6; ++row) {
        for (size_t i = 0; i < list.size(); ++i) {
          CHECK(some[row * 5 + i] == all[row * 32 + size_t(list[i])]);
          if (row >= 3) CHECK(of_head[(row - 3) * 5 + i] == some[row * 5 + i]);
        }
      }
    }
  });
}

TEST_CASE("the fine index chooses among the blocks that the coarse one finds best, by shares of those", "[attention]") {
  for (const Scope scope : {Scope::kLayer, Scope::kHead}) {
    Indexed made("scan8", DType::kF32, 4096), rough("mean", DType::kF32, 4096);
    made.build(4096);
    rough.build(4096);
    made.build_coarse("mean");
    const int64_t pos = 4095, far_end = 61, most = 12, heads = scope == Scope::kHead ? 1 : 2;
    const auto q = Random(14).row(made.params.n_heads * 32, -2, 2);
    Reading reading = selecting("scan8", 4, scope);
    reading.coarse = "mean";
    reading.shortlist = most;
    const auto plan = choose(made, reading, pos, q);
    for (size_t tile = 0; tile < plan.tiles.size(); ++tile) {
      const auto shares = [&](Indexed& by, const std::vector<int64_t>& blocks) {
        std::vector<std::pair<double, int64_t>> all;
        for (const int64_t b : blocks) all.push_back({-1e300, b});
        for (int64_t head = int64_t(tile) * 3; head < (int64_t(tile) + heads) * 3; ++head) {
          double total = 0;
          for (const int64_t b : blocks) total += std::exp(by.reference(by.index->kind(), q, head, pos, b));
          for (auto& [share, b] : all) {
            share = std::max(share, by.reference(by.index->kind(), q, head, pos, b) - std::log(total));
          }
        }
        std::sort(all.begin(), all.end(), std::greater<>());
        return all;
      };
      std::vector<int64_t> blocks;
      for (int64_t b = 1; b < far_end; ++b) blocks.push_back(b);
      const auto rough_shares = shares(rough, blocks);
      std::vector<int64_t> listed;
      for (int64_t i = 0; i < most; ++i) listed.push_back(rough_shares[size_t(i)].second);
      const auto fine_shares = shares(made, listed);
      const auto found = blocks_in(plan.tiles[tile], 1, far_end);
      REQUIRE(found.size() == 4);
      for (const int64_t b : found) {
        // Rounding to 8 bits may swap neighbours in rank, in either index.
        const auto in_list =
            std::find_if(rough_shares.begin(), rough_shares.end(), [&](auto& e) { return e.second == b; });
        CHECK(in_list->first > rough_shares[most - 1].first - 0.02);
        const auto fine = std::find_if(fine_shares.begin(), fine_shares.end(), [&](auto& e) { return e.second == b; });
        if (fine != fine_shares.end()) CHECK(fine->first > fine_shares[3].first - 0.05);
      }
      // The list leaves out what the fine index alone would have taken.
      if (scope == Scope::kLayer) CHECK(choose(made, selecting("scan8", 4, scope), pos, q) != plan);
    }
    CHECK(choose(made, reading, pos, q, 3) == plan);
    reading.shortlist = far_end - 1;
    CHECK(choose(made, reading, pos, q) == choose(made, selecting("scan8", 4, scope), pos, q));
    reading.blocks = 100;  // as many as are wanted
    CHECK(choose(made, reading, pos, q) == choose(made, selecting("scan8", 100, scope), pos, q));
  }
}

TEST_CASE("strips choose within a shortlist by the channels where queries are largest", "[attention]") {
  for (const DType type : {DType::kF32, DType::kQ8_0, DType::kQ4_0}) {
    for (const Scope scope : {Scope::kLayer, Scope::kHead}) {
      CAPTURE(static_cast<int>(type), static_cast<int>(scope));
      Indexed made("mean", type, 4096);
      made.build(4096);
      const int64_t pos = 4095, far_end = 61, dim = 32;
      const auto q = Random(23).row(made.params.n_heads * dim, -2, 2);
      Reading reading = selecting("mean", 4, scope);
      reading.choice = attention::Choice::kStrips;
      const auto plan = choose(made, reading, pos, q);
      CHECK(plan.looked_at == 2 * 16);
      CHECK(choose(made, reading, pos, q, 3) == plan);
      Reading list = selecting("mean", 16, scope);
      const auto listed = choose(made, list, pos, q);
      for (size_t tile = 0; tile < plan.tiles.size(); ++tile) {
        const auto blocks = blocks_in(listed.tiles[tile], 1, far_end);
        const auto found = blocks_in(plan.tiles[tile], 1, far_end);
        REQUIRE(blocks.size() == 16);
        REQUIRE(found.size() == 4);
        const int64_t heads = scope == Scope::kHead ? 1 : 2;
        std::vector<std::pair<double, int64_t>> shares;
        for (const int64_t b : blocks) shares.push_back({-1e300, b});
        for (int64_t head = int64_t(tile) * 3; head < (int64_t(tile) + heads) * 3; ++head) {
          std::vector<double> scores;
          for (const int64_t b : blocks) scores.push_back(strip_reference(made, q, head, pos, b));
          double total = 0;
          for (const double s : scores) total += std::exp(s);
          for (size_t i = 0; i < scores.size(); ++i) {
            shares[i].first = std::max(shares[i].first, scores[i] - std::log(total));
          }
        }
        std::sort(shares.begin(), shares.end(), std::greater<>());
        for (const int64_t b : found) {
          const auto entry = std::find_if(shares.begin(), shares.end(), [&](const auto& e) { return e.second == b; });
          REQUIRE(entry != shares.end());
          CHECK(entry->first > shares[3].first - (type == DType::kF32 ? 1e-4 : type == DType::kQ8_0 ? 0.1 : 0.8));
        }
      }
      // Not what the index alone would have taken.
      if (scope == Scope::kLayer) CHECK(choose(made, selecting("mean", 4, scope), pos, q) != plan);
    }
  }
}

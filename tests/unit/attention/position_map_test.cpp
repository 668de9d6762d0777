// Position maps against the definitions of their papers, which move each key apart.
#include "src/attention/position_map.hpp"

#include <algorithm>
#include <catch2/catch.hpp>

using namespace lcrun;
using attention::make_positions;
using attention::PositionMap;
using attention::Positions;

namespace {

constexpr int64_t kTrained = 8192;

int64_t distance(const PositionMap& map, int64_t query, int64_t key) {
  return query - key - map.shift(query / 64 * 64, key / 64 * 64);
}

// Dual chunk attention, An et al., arXiv 2402.17463, section 3: where the query stands, less where the key does.
int64_t chunked(int64_t chunk, int64_t limit, int64_t query, int64_t key) {
  const int64_t place = key % chunk;
  if (query / chunk == key / chunk) return query % chunk - place;
  if (query / chunk == key / chunk + 1) return std::min(query % chunk + chunk, limit) - place;
  return limit - place;
}

// Self-Extend, Jin et al., arXiv 2401.01325, section 3, in real numbers.
double grouped(const PositionMap& map, int64_t query, int64_t key) {
  const auto d = static_cast<double>(query - key), near = static_cast<double>(map.near);
  return d <= near ? d : near + (d - near) / static_cast<double>(map.group);
}

template <class Check>
void for_pairs(int64_t n_ctx, const Check& check) {
  for (int64_t query = 0; query < n_ctx; query += 997) {
    for (int64_t key = 0; key <= query; key += 211) check(query, key);
    check(query, query);
  }
}

}  // namespace

TEST_CASE("chunks put keys within a block of where dual chunk attention does, and none too far", "[attention]") {
  const auto map = make_positions(Positions::kChunk, 100000, kTrained, 0);
  REQUIRE(map.has_value());
  CHECK(map->chunk == 5120);
  CHECK(map->limit == 6144);
  int64_t largest = 0;
  for_pairs(100000, [&](int64_t query, int64_t key) {
    const int64_t found = distance(*map, query, key);
    const int64_t wanted = chunked(map->chunk, map->limit, query, key);
    CAPTURE(query, key, found, wanted);
    CHECK(std::abs(found - wanted) < 64);
    CHECK(found >= 0);
    if (query / map->chunk == key / map->chunk) CHECK(found == wanted);
    largest = std::max(largest, found);
  });
  CHECK(largest <= map->limit);
}

TEST_CASE("groups put keys within a block of where Self-Extend does", "[attention]") {
  const auto map = make_positions(Positions::kGroup, 100000, kTrained, 0);
  REQUIRE(map.has_value());
  CHECK(map->near == 1024);
  CHECK(map->group == 33);
  int64_t largest = 0;
  for_pairs(100000, [&](int64_t query, int64_t key) {
    const int64_t found = distance(*map, query, key);
    CAPTURE(query, key, found);
    CHECK(std::abs(static_cast<double>(found) - grouped(*map, query, key)) < 129);
    largest = std::max(largest, found);
  });
  CHECK(largest <= kTrained / 2 + 128);
}

TEST_CASE("clipping lets nothing stand farther away than the window and a block", "[attention]") {
  const auto map = make_positions(Positions::kClip, 100000, kTrained, 2048);
  REQUIRE(map.has_value());
  for_pairs(100000, [&](int64_t query, int64_t key) {
    const int64_t found = distance(*map, query, key);
    CAPTURE(query, key, found);
    CHECK(found <= 2048 + 128);
    if (query - key <= 2048) CHECK(found == query - key);
  });
}

TEST_CASE("maps that move nothing need no trained context, others do", "[attention]") {
  for (const Positions kind : {Positions::kTrue, Positions::kRelay}) {
    const auto map = make_positions(kind, 100000, 0, 0);
    REQUIRE(map.has_value());
    CHECK_FALSE(map->moves());
    CHECK(map->shift(6400, 64) == 0);
  }
  for (const Positions kind : {Positions::kClip, Positions::kGroup, Positions::kChunk}) {
    for (const int64_t trained : {0, 64, 511}) {
      const auto map = make_positions(kind, 100000, trained, 0);
      REQUIRE_FALSE(map.has_value());
      CHECK(map.error().code == Code::kInvalidArgument);
    }
    CHECK(make_positions(kind, 100000, 512, 0).has_value());
  }
}

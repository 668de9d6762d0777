#include "storage/region.hpp"

#include <catch2/catch.hpp>
#include <cstring>

using namespace lcrun;
using namespace lcrun::storage;

namespace {

constexpr uint64_t kRowBytes = 16;

// Writes row numbers into rows [region.rows(), region.rows() + n).
void append(Region& region, int64_t n) {
  REQUIRE(region.reserve_rows(n).has_value());
  for (int64_t row = region.rows(); row < region.rows() + n; ++row) {
    std::memcpy(region.block(row / kBlockTokens) + (row % kBlockTokens) * static_cast<int64_t>(kRowBytes), &row,
                sizeof(row));
  }
  region.commit_rows(n);
}

int64_t row_at(const Region& region, int64_t row) {
  int64_t value = -1;
  std::memcpy(&value, region.block(row / kBlockTokens) + (row % kBlockTokens) * static_cast<int64_t>(kRowBytes),
              sizeof(value));
  return value;
}

RegionSpec append_spec() { return {RegionKind::kAppend, "kv", kRowBytes * kBlockTokens, 0}; }
RegionSpec ring_spec(int64_t capacity) { return {RegionKind::kRing, "kv", kRowBytes * kBlockTokens, capacity}; }
RegionSpec fixed_spec() { return {RegionKind::kFixed, "ssm", 100, 0}; }

}  // namespace

TEST_CASE("an append region keeps every row and grows by whole blocks only when rows come", "[storage]") {
  Region region(append_spec());
  CHECK(region.memory_bytes() == 0);
  append(region, 1);
  CHECK(region.memory_bytes() == kRowBytes * kBlockTokens);
  append(region, 500);
  for (int64_t row = 0; row < 501; ++row) CHECK(row_at(region, row) == row);
}

TEST_CASE("a ring holds the last capacity rows and its memory stops growing", "[storage]") {
  Region region(ring_spec(100));
  for (int step = 0; step < 50; ++step) append(region, 7);
  CHECK(region.rows() == 350);
  CHECK(region.first_row() <= 250);
  CHECK(region.first_row() > 250 - kBlockTokens);
  for (int64_t row = region.first_row(); row < 350; ++row) CHECK(row_at(region, row) == row);
  const uint64_t before = region.memory_bytes();
  for (int step = 0; step < 500; ++step) append(region, 7);
  CHECK(region.memory_bytes() == before);
}

TEST_CASE("truncation is allowed exactly where the rows that are needed are held", "[storage]") {
  Region ring(ring_spec(64));
  append(ring, 640);
  CHECK(ring.can_truncate(640));
  CHECK(ring.can_truncate(0));
  CHECK_FALSE(ring.can_truncate(100));
  CHECK_FALSE(ring.can_truncate(641));
  const int64_t oldest = ring.first_row() + 64;
  CHECK(ring.can_truncate(oldest));
  CHECK_FALSE(ring.can_truncate(oldest - 1));

  Region all(append_spec());
  append(all, 640);
  REQUIRE(all.can_truncate(100));
  all.truncate(100);
  append(all, 50);
  for (int64_t row = 0; row < 150; ++row) CHECK(row_at(all, row) == row);

  SequenceState state = SequenceState::create({{fixed_spec()}}).value();
  state.layer(0).regions[0].commit_rows(5);
  state.set_tokens(5);
  CHECK_FALSE(state.can_truncate(3));
  CHECK(state.can_truncate(5));
  state.layer(0).regions[0].fixed()[7] = std::byte{9};
  state.clear();
  CHECK(state.layer(0).regions[0].fixed()[7] == std::byte{0});
}

TEST_CASE("what was saved comes back byte for byte, and a clone is independent", "[storage]") {
  SequenceState state = SequenceState::create({{append_spec(), fixed_spec()}, {ring_spec(70)}}).value();
  for (int i = 0; i < 30; ++i) {
    append(state.layer(0).regions[0], 9);
    append(state.layer(1).regions[0], 9);
    state.layer(0).regions[1].fixed()[static_cast<size_t>(i)] = std::byte{static_cast<uint8_t>(i)};
    state.layer(0).regions[1].commit_rows(9);
  }
  state.set_tokens(270);
  ByteWriter first;
  state.save(first);

  SequenceState clone = state.clone().value();
  append(state.layer(0).regions[0], 1);
  ByteWriter second;
  clone.save(second);
  CHECK(first.bytes() == second.bytes());

  SequenceState restored = SequenceState::create({{append_spec(), fixed_spec()}, {ring_spec(70)}}).value();
  ByteReader in(first.bytes(), "s", Code::kBadSession);
  REQUIRE(restored.load(in).has_value());
  CHECK(in.remaining() == 0);
  ByteWriter third;
  restored.save(third);
  CHECK(first.bytes() == third.bytes());
}

TEST_CASE("a fixed region that was written but not committed goes back to nothing only", "[storage]") {
  SequenceState state = SequenceState::create({{fixed_spec()}}).value();
  Region& region = state.layer(0).regions[0];
  region.fixed()[3] = std::byte{1};
  region.commit_rows(5);
  state.set_tokens(5);
  CHECK(state.can_truncate(5));
  region.fixed()[3] = std::byte{2};  // a step that fails before its commit
  CHECK_FALSE(state.can_truncate(5));
  CHECK_FALSE(state.clone().value().can_truncate(5));
  REQUIRE(state.can_truncate(0));
  state.clear();
  CHECK(std::as_const(region).fixed()[3] == std::byte{0});
  CHECK(state.can_truncate(0));
}

TEST_CASE("any cut or foreign state is refused and changes nothing", "[storage]") {
  SequenceState state = SequenceState::create({{append_spec(), fixed_spec()}}).value();
  append(state.layer(0).regions[0], 3);
  state.layer(0).regions[1].commit_rows(3);
  state.set_tokens(3);
  ByteWriter out;
  state.save(out);
  SequenceState target = SequenceState::create({{append_spec(), fixed_spec()}}).value();
  for (size_t cut = 0; cut < out.size(); ++cut) {
    ByteReader in(std::span(out.bytes()).first(cut), "s", Code::kBadSession);
    const Status status = target.load(in);
    REQUIRE_FALSE(status.has_value());
    CHECK(status.error().code == Code::kBadSession);
    CHECK(target.tokens() == 0);
  }
  SequenceState other = SequenceState::create({{ring_spec(64), fixed_spec()}}).value();
  ByteReader in(out.bytes(), "s", Code::kBadSession);
  CHECK_FALSE(other.load(in).has_value());
}

#include "storage/region.hpp"

#include <catch2/catch.hpp>
#include <cstring>

#include "tests/support/state_bytes.hpp"

using namespace lcrun;
using namespace lcrun::storage;

namespace {

constexpr uint64_t kRowBytes = 16;

// Writes row numbers into rows [region.rows(), region.rows() + n).
void append(Region& region, int64_t n, int64_t mark_spacing = 0) {
  REQUIRE(region.reserve_rows(n).has_value());
  for (int64_t row = region.rows(); row < region.rows() + n; ++row) {
    std::memcpy(region.block(row / kBlockTokens) + (row % kBlockTokens) * static_cast<int64_t>(kRowBytes), &row,
                sizeof(row));
  }
  region.commit_rows(n, mark_spacing);
}

// One step of a sequence: row numbers, with `salt` added, in every region of rows.
void append_all(SequenceState& state, int64_t n, int64_t salt = 0) {
  for (int64_t i = 0; i < state.n_layers(); ++i) {
    for (Region& region : state.layer(i).regions) {
      if (region.spec().kind == RegionKind::kFixed) continue;
      const int64_t end = region.spec().rows_of(state.tokens() + n);
      REQUIRE(region.reserve_rows(end - region.rows()).has_value());
      for (int64_t row = region.rows(); row < end; ++row) {
        const int64_t value = row + salt;
        std::memcpy(region.block(row / kBlockTokens) + (row % kBlockTokens) * static_cast<int64_t>(kRowBytes), &value,
                    sizeof(value));
      }
    }
  }
  state.commit(n);
}

int64_t row_at(const Region& region, int64_t row) {
  int64_t value = -1;
  std::memcpy(&value, region.block(row / kBlockTokens) + (row % kBlockTokens) * static_cast<int64_t>(kRowBytes),
              sizeof(value));
  return value;
}

RegionSpec append_spec() { return {RegionKind::kAppend, "kv", kRowBytes * kBlockTokens, 0}; }
RegionSpec ring_spec(int64_t window) { return {RegionKind::kRing, "kv", kRowBytes * kBlockTokens, window}; }
RegionSpec index_spec(int64_t row_tokens) {
  return {RegionKind::kIndex, "index", kRowBytes * kBlockTokens, row_tokens};
}
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

TEST_CASE("a ring holds its window and slack, and its memory stops growing", "[storage]") {
  Region region(ring_spec(36));
  for (int step = 0; step < 50; ++step) append(region, 7);
  CHECK(region.rows() == 350);
  CHECK(region.first_row() <= 250);
  CHECK(region.first_row() > 250 - kBlockTokens);
  for (int64_t row = region.first_row(); row < 350; ++row) CHECK(row_at(region, row) == row);
  const uint64_t before = region.memory_bytes();
  for (int step = 0; step < 500; ++step) append(region, 7);
  CHECK(region.memory_bytes() == before);
}

TEST_CASE("tokens dropped from the middle give their memory back, and the end goes on", "[storage]") {
  const auto made = SequenceState::create({{append_spec(), index_spec(16)}, {ring_spec(36)}});
  REQUIRE(made.has_value());
  SequenceState state = made->clone().value();
  append_all(state, 1024);
  for (int64_t tokens = 1024; tokens < 9216; tokens += 64) {
    state.drop_tokens(64, tokens - 640);
    append_all(state, 64);
  }
  const uint64_t before = state.memory_bytes();
  for (int64_t tokens = 9216; tokens < 18432; tokens += 64) {
    state.drop_tokens(64, tokens - 640);
    append_all(state, 64);
  }
  CHECK(state.memory_bytes() == before);
  const Region& kv = state.layer(0).regions[0];
  for (int64_t row = 0; row < 64; ++row) CHECK(row_at(kv, row) == row);
  for (int64_t row = 18432 - 640 - 64; row < 18432; ++row) CHECK(row_at(kv, row) == row);
  const Region& index = state.layer(0).regions[1];
  for (int64_t row = (18432 - 640) / 16; row < 18432 / 16; ++row) CHECK(row_at(index, row) == row);

  // Back to a point that was reached after the last rows were dropped, or to the first rows.
  CHECK(state.truncation_point(18400) == 18400);
  CHECK(state.truncation_point(18300) == 0);  // the ring has nothing of that time
  auto fork = state.clone();
  REQUIRE(fork.has_value());
  CHECK(fork->has_dropped());
  fork->truncate(18400);
  append_all(*fork, 100);
  CHECK(row_at(fork->layer(0).regions[0], 18450) == 18450);
  CHECK(row_at(state.layer(0).regions[0], 18431) == 18431);
  fork->clear();
  CHECK_FALSE(fork->has_dropped());
  append_all(*fork, 300);
  for (int64_t row = 0; row < 300; ++row) CHECK(row_at(fork->layer(0).regions[0], row) == row);

  auto plain = SequenceState::create({{append_spec()}});
  REQUIRE(plain.has_value());
  append_all(*plain, 1000);
  plain->drop_tokens(64, 512);
  CHECK(plain->truncation_point(999) == 64);
  CHECK(plain->truncation_point(1000) == 1000);
  CHECK(plain->truncation_point(30) == 30);
  plain->truncate(64);
  CHECK_FALSE(plain->has_dropped());
  append_all(*plain, 500);
  for (int64_t row = 0; row < 564; ++row) CHECK(row_at(plain->layer(0).regions[0], row) == row);
}

TEST_CASE("truncation is allowed exactly where the rows that are needed are held", "[storage]") {
  Region ring(ring_spec(64));
  append(ring, 640);
  CHECK(ring.truncation_point(640) == 640);
  CHECK(ring.truncation_point(641) == 640);
  CHECK(ring.truncation_point(0) == 0);
  CHECK(ring.truncation_point(100) == 0);
  const int64_t oldest = ring.first_row() + 64;
  CHECK(oldest <= 640 - kRingSlack);
  CHECK(ring.truncation_point(oldest) == oldest);
  CHECK(ring.truncation_point(oldest - 1) == 0);
  ring.truncate(oldest);
  append(ring, 50);
  for (int64_t row = oldest - 64; row < oldest + 50; ++row) CHECK(row_at(ring, row) == row);

  Region all(append_spec());
  append(all, 640);
  REQUIRE(all.truncation_point(100) == 100);
  all.truncate(100);
  append(all, 50);
  for (int64_t row = 0; row < 150; ++row) CHECK(row_at(all, row) == row);

  SequenceState state = SequenceState::create({{fixed_spec()}}).value();
  state.commit(5);
  CHECK_FALSE(state.can_truncate(3));
  CHECK(state.can_truncate(5));
  state.layer(0).regions[0].fixed()[7] = std::byte{9};
  state.clear();
  CHECK(state.layer(0).regions[0].fixed()[7] == std::byte{0});
}

TEST_CASE("a ring without a window goes back to where a held block is, or else to where one begins", "[storage]") {
  Region open(ring_spec(0));
  append(open, 600);
  REQUIRE(open.first_row() == 512);
  CHECK(open.truncation_point(600) == 600);
  CHECK(open.truncation_point(513) == 513);
  CHECK(open.truncation_point(512) == 512);
  CHECK(open.truncation_point(511) == 448);
  CHECK(open.truncation_point(130) == 128);
  open.truncate(530);
  append(open, 5);
  for (int64_t row = 512; row < 535; ++row) CHECK(row_at(open, row) == row);
  open.truncate(128);
  CHECK(open.first_row() == 128);
  append(open, 100);
  for (int64_t row = 192; row < 228; ++row) CHECK(row_at(open, row) == row);
  CHECK(open.truncation_point(150) == 150);
}

TEST_CASE("a clone is equal and independent", "[storage]") {
  SequenceState state = SequenceState::create({{append_spec(), fixed_spec()}, {ring_spec(6)}}).value();
  for (int i = 0; i < 30; ++i) {
    state.layer(0).regions[1].fixed()[static_cast<size_t>(i)] = std::byte{static_cast<uint8_t>(i)};
    append_all(state, 9);
  }
  const auto before = testing::state_bytes(state);
  SequenceState clone = state.clone().value();
  append_all(state, 1);
  CHECK(testing::state_bytes(clone) == before);
  CHECK(testing::state_bytes(state) != before);
}

TEST_CASE("a fixed region that was written but not committed goes back to nothing only", "[storage]") {
  SequenceState state = SequenceState::create({{fixed_spec()}}).value();
  Region& region = state.layer(0).regions[0];
  region.fixed()[3] = std::byte{1};
  state.commit(5);
  CHECK(state.can_truncate(5));
  region.fixed()[3] = std::byte{2};  // a step that fails before its commit
  CHECK_FALSE(state.can_truncate(5));
  CHECK_FALSE(state.clone().value().can_truncate(5));
  REQUIRE(state.can_truncate(0));
  state.clear();
  CHECK(std::as_const(region).fixed()[3] == std::byte{0});
  CHECK(state.can_truncate(0));
}

TEST_CASE("marks let a ring and a fixed state go back, exactly to what they were", "[storage]") {
  SequenceState state = SequenceState::create({{ring_spec(512), fixed_spec()}, {append_spec()}}).value();
  state.keep_marks(uint64_t{1} << 30);
  Region& ring = state.layer(0).regions[0];
  Region& fixed = state.layer(0).regions[1];
  for (int64_t done = 0; done < 6144; done += 256) {
    fixed.fixed()[0] = std::byte{static_cast<uint8_t>(done / 256 + 1)};
    append_all(state, 256);
  }
  CHECK(state.truncation_point(6144) == 6144);
  for (const int64_t edit : {6100, 3000, 1024, 600}) {
    SequenceState branch = state.clone().value();
    const int64_t point = branch.truncation_point(edit);
    CAPTURE(edit, point);
    CHECK(point == edit / 512 * 512);
    branch.truncate(point);
    CHECK(branch.layer(0).regions[1].fixed()[0] == std::byte{static_cast<uint8_t>(point / 256)});
    append_all(branch, 100, 1000000);
    for (int64_t row = std::max<int64_t>(0, point - 512); row < point; ++row) {
      CHECK(row_at(branch.layer(0).regions[0], row) == row);
    }
    for (int64_t row = point; row < point + 100; ++row) {
      CHECK(row_at(branch.layer(0).regions[0], row) == row + 1000000);
      CHECK(row_at(branch.layer(1).regions[0], row) == row + 1000000);
    }
  }
  // The branches wrote into blocks of their own.
  for (int64_t row = ring.first_row(); row < 6144; ++row) CHECK(row_at(ring, row) == row);
}

TEST_CASE("marks get sparser so that they fit in the memory they may have", "[storage]") {
  SequenceState state = SequenceState::create({{ring_spec(512)}}).value();
  constexpr uint64_t kWindow = 8 * kBlockTokens * kRowBytes;
  state.keep_marks(4 * kWindow);
  for (int step = 0; step < 100; ++step) {
    append_all(state, 512);
    CHECK(state.mark_bytes() <= 4 * kWindow);
  }
  const int64_t point = state.truncation_point(30000);
  CHECK(point > 30000 - 16384);
  CHECK(point % 512 == 0);
  state.keep_marks(0);
  CHECK(state.mark_bytes() == 0);
  CHECK(state.truncation_point(30000) == 0);
}

TEST_CASE("blocks that lie before the saved tokens have not changed", "[storage]") {
  SequenceState state = SequenceState::create({{append_spec()}}).value();
  append_all(state, 300);
  CHECK(state.saved_tokens() == 0);
  state.mark_saved();
  append_all(state, 100);
  CHECK(state.saved_tokens() == 300);
  state.truncate(200);
  append_all(state, 200, 7);
  CHECK(state.saved_tokens() == 200);
}

TEST_CASE("a region restored block by block is the region that was saved; a hole is refused", "[storage]") {
  for (const RegionSpec& spec : {append_spec(), ring_spec(100)}) {
    Region source(spec);
    for (int step = 0; step < 40; ++step) append(source, 33, 256);
    const auto held = source.held_blocks();
    CHECK((spec.kind == RegionKind::kAppend) == (held.size() == 21));
    for (size_t hole = 0; hole <= held.size(); ++hole) {
      Region target(spec);
      target.begin_restore();
      for (size_t i = 0; i < held.size(); ++i) {
        if (i == hole) continue;
        const auto from = source.read_block(held[i]).value();
        std::memcpy(target.restore_block(held[i]).value().data(), from.data(), from.size());
      }
      const bool needed = hole < held.size() && (held[hole] + 1) * kBlockTokens > source.rows() - spec.window;
      const bool whole = hole == held.size() || (spec.kind == RegionKind::kRing && !needed);
      CAPTURE(hole, held.size());
      REQUIRE(target.end_restore(source.rows()).has_value() == whole);
      if (!whole) continue;
      for (int64_t row = source.rows() - 100; row < source.rows(); ++row) CHECK(row_at(target, row) == row);
      CHECK((hole < held.size() || target.held_blocks() == held));
    }
  }
}

TEST_CASE("an index has rows for whole blocks of tokens alone, however they come", "[storage]") {
  for (const int64_t row_tokens : {1, 8, 64}) {
    auto state = SequenceState::create({{append_spec(), index_spec(row_tokens)}}).value();
    const int64_t per_block = kBlockTokens / row_tokens;
    for (int64_t step = 1; state.tokens() < 1000; step = step % 90 + 7) {
      append_all(state, step);
      const Region& index = state.layer(0).regions[1];
      REQUIRE(index.rows() == state.tokens() / kBlockTokens * per_block);
      for (int64_t row = 0; row < index.rows(); ++row) REQUIRE(row_at(index, row) == row);
    }
  }
}

TEST_CASE("an index goes back and on with its sequence, and a fork's rows are its own", "[storage]") {
  auto state = SequenceState::create({{append_spec(), index_spec(8)}}).value();
  append_all(state, 700);
  for (const int64_t n : {650, 640, 639, 100, 0}) {
    auto fork = state.clone().value();
    REQUIRE(fork.truncation_point(n) == n);
    fork.truncate(n);
    CHECK(fork.layer(0).regions[1].rows() == n / kBlockTokens * 8);
    append_all(fork, 700 - n, 1000);
    const Region& index = fork.layer(0).regions[1];
    for (int64_t row = 0; row < index.rows(); ++row) {
      REQUIRE(row_at(index, row) == row + (row < n / kBlockTokens * 8 ? 0 : 1000));
    }
  }
  for (int64_t row = 0; row < 80; ++row) REQUIRE(row_at(state.layer(0).regions[1], row) == row);
}

TEST_CASE("a change in the middle goes on as the unchanged sequence does, and shares its blocks", "[storage]") {
  SequenceState state =
      SequenceState::create({{append_spec(), index_spec(8)}, {ring_spec(100)}, {append_spec(), index_spec(16)}})
          .value();
  state.keep_marks(uint64_t{1} << 30);
  CHECK(state.joint_tokens() == 1024);
  append_all(state, 1500);
  SequenceState early = state.clone().value();
  append_all(state, 2600);
  const auto before = testing::state_bytes(state);

  SequenceState changed = early.clone().value();
  append_all(changed, 2048 - 1500, 1000000);
  REQUIRE(changed.go_on_as(state).has_value());
  CHECK(changed.tokens() == 4100);
  for (int64_t row = 0; row < 4100; ++row) {
    const bool is_changed = row >= 1500 && row < 2048;
    CHECK(row_at(changed.layer(0).regions[0], row) == row + (is_changed ? 1000000 : 0));
  }
  for (int64_t row = 0; row < 4096 / 8; ++row) {
    const bool is_changed = row >= 1500 / 64 * 8 && row < 2048 / 8;
    CHECK(row_at(changed.layer(0).regions[1], row) == row + (is_changed ? 1000000 : 0));
  }
  for (int64_t row = 4000; row < 4100; ++row) CHECK(row_at(changed.layer(1).regions[0], row) == row);
  // Back to a mark after the change, never to one before it.
  CHECK(changed.truncation_point(3600) == 3584);
  CHECK(changed.truncation_point(1600) == 0);

  // What either one writes next is its own.
  append_all(changed, 100, 5000000);
  CHECK(row_at(changed.layer(2).regions[0], 4110) == 5004110);
  CHECK(testing::state_bytes(state) == before);
  append_all(state, 100);
  CHECK(row_at(changed.layer(2).regions[0], 4110) == 5004110);
}

TEST_CASE("within the open chunk one can go back anywhere, further back only to the beginning of a chunk",
          "[storage]") {
  Region region({RegionKind::kPending, "open", 500, 50});
  REQUIRE(region.prepare_fixed().has_value());
  const auto write = [&](int64_t n) {
    region.fixed()[static_cast<size_t>(region.rows() % 50)] = std::byte{7};
    region.commit_rows(n, kMarkSpacing);
  };
  for (int i = 0; i < 530; ++i) write(1);
  CHECK(region.mark_bytes() == 0);
  CHECK(region.truncation_point(530) == 530);
  CHECK(region.truncation_point(501) == 501);
  CHECK(region.truncation_point(500) == 500);
  CHECK(region.truncation_point(499) == 450);
  region.truncate(510);
  CHECK(region.rows() == 510);
  CHECK(std::as_const(region).fixed()[9] == std::byte{7});
  region.fixed()[10] = std::byte{8};  // a step that fails
  CHECK(region.truncation_point(510) == 500);
  region.truncate(500);
  write(1);
  CHECK(region.truncation_point(501) == 501);
}

TEST_CASE("a state that changes once a chunk goes back freely inside it, and to marks before", "[storage]") {
  Region region({RegionKind::kFixed, "memory", 8, 100});
  REQUIRE(region.prepare_fixed().has_value());
  for (int64_t n = 1; n <= 1250; ++n) {
    const int64_t chunk = n / 100;
    std::memcpy(region.fixed().data(), &chunk, sizeof(chunk));
    region.commit_rows(1, kMarkSpacing);
  }
  const auto holds = [&] {
    int64_t chunk = 0;
    std::memcpy(&chunk, std::as_const(region).fixed().data(), sizeof(chunk));
    return chunk;
  };
  CHECK(region.truncation_point(1200) == 1200);
  CHECK(region.truncation_point(1199) == 1024);  // the mark in chunk 10
  CHECK(region.truncation_point(1099) == 1099);  // which is all of that chunk
  CHECK(region.truncation_point(700) == 512);
  CHECK(region.truncation_point(99) == 99);  // nothing had changed yet
  region.truncate(1201);
  CHECK(holds() == 12);
  region.truncate(1050);
  CHECK(holds() == 10);
  region.truncate(580);
  CHECK(holds() == 5);
  region.truncate(60);
  CHECK(holds() == 0);
}

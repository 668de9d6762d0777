#include "storage/page_store.hpp"

#include <catch2/catch.hpp>
#include <cstring>
#include <set>

#include "storage/fault_device.hpp"
#include "storage/file_device.hpp"
#include "storage/sim_device.hpp"
#include "tests/support/alloc_counter.hpp"
#include "tests/support/cap_more.hpp"
#include "tests/support/small_disk.hpp"
#include "tests/support/temp_dir.hpp"

using namespace lcrun;
using namespace lcrun::storage;

namespace {

constexpr uint64_t kPayload = 3000;
constexpr uint64_t kPlace = 3072;  // whole sectors

PageStoreConfig config_of(uint64_t frames) {
  PageStoreConfig config;
  config.page_bytes = {kPayload};
  config.frames = frames;
  config.sink_blocks = 1;
  config.window_blocks = 2;
  return config;
}

std::unique_ptr<PageStore> store_of(const PageStoreConfig& config, std::unique_ptr<BlockDevice> device) {
  auto store = PageStore::create(config, std::move(device));
  REQUIRE(store.has_value());
  return std::move(store).value();
}

std::unique_ptr<BlockDevice> disk(uint64_t capacity = 1 << 20) {
  return std::make_unique<SimDevice>(SimConfig{.seed = 3, .capacity = capacity});
}

// Block b of sequence s begins with its number.
void append(PageStore& store, SequenceId s, int64_t first, int64_t n) {
  for (int64_t b = first; b < first + n; ++b) {
    auto pin = store.append(s, 0);
    REQUIRE(pin.has_value());
    std::memcpy(pin.value().writable().data(), &b, sizeof(b));
    pin.value().release();
    store.seal(s, 0, b);
  }
}

int64_t number_in(PageStore& store, SequenceId s, int64_t block) {
  auto pin = store.pin(s, 0, block);
  if (!pin) return -1;
  int64_t found = 0;
  std::memcpy(&found, pin.value().bytes().data(), sizeof(found));
  return found;
}

}  // namespace

TEST_CASE("forgotten blocks give their frames and places back, and the others keep their numbers", "[storage]") {
  const test::CapMore room(64 * 1024 + (1 << 20));
  auto store = store_of(config_of(8), disk());
  const SequenceId s = store->create_sequence().value();
  append(*store, s, 0, 40);
  const SequenceId fork = store->fork(s).value();
  for (int64_t b = 1; b < 30; ++b) store->forget(s, 0, b);
  for (int64_t b = 0; b < 40; ++b) CHECK(number_in(*store, s, b) == (b >= 1 && b < 30 ? -1 : b));
  for (int64_t b = 0; b < 40; ++b) CHECK(number_in(*store, fork, b) == b);
  const SequenceId late = store->fork(s).value();
  CHECK(number_in(*store, late, 10) == -1);
  store->drop(fork);
  while (store->pages() > 11) store->poll();
  CHECK(store->pages() == 11);
  const uint64_t places = store->extents_in_use();
  for (int64_t b = 40; b < 400; ++b) {
    append(*store, s, b, 1);
    store->forget(s, 0, b - 10);
  }
  CHECK(store->pages() <= 22);
  CHECK(store->extents_in_use() <= places + 22);
  CHECK(number_in(*store, s, 399) == 399);
  CHECK(number_in(*store, late, 39) == 39);
  store->truncate(s, 0, 5);
  CHECK(store->blocks(s, 0) == 5);
  append(*store, s, 5, 1);
  CHECK(number_in(*store, s, 5) == 5);
  store->drop(s);
  store->drop(late);
  while (store->pages() > 0) store->poll();
  CHECK(store->extents_in_use() == 0);
}

TEST_CASE("a hundred blocks live in eight frames, and memory is what was reserved", "[storage]") {
  const test::CapMore room(64 * 1024 + (1 << 20));
  const MemoryBudget& memory = MemoryBudget::process();
  const uint64_t cache = memory.used(Arena::kCache), index = memory.used(Arena::kIndex), all = memory.used();
  auto store = store_of(config_of(8), disk());
  CHECK(memory.used(Arena::kCache) == cache + 8 * kPlace);
  const SequenceId s = store->create_sequence().value();
  append(*store, s, 0, 100);
  for (int64_t b = 0; b < 100; ++b) CHECK(number_in(*store, s, b) == b);
  CHECK(store->stats().evicted >= 92);
  CHECK(memory.used(Arena::kCache) == cache + 8 * kPlace);
  CHECK(memory.used(Arena::kIndex) > index);
  store->drop(s);
  while (store->pages() > 0) store->poll();
  CHECK(store->free_frames() == 8);
  CHECK(store->extents_in_use() == 0);
  store.reset();
  CHECK(memory.used() == all);
}

TEST_CASE("frames over the memory cap and space over the disk are refused before anything runs", "[storage]") {
  const MemoryBudget& memory = MemoryBudget::process();
  const uint64_t before = memory.used();
  const auto no_memory = [] {
    const test::CapMore small(1000);
    return PageStore::create(config_of(8), disk());
  }();
  REQUIRE_FALSE(no_memory.has_value());
  CHECK(no_memory.error().code == Code::kNoMemory);
  CHECK(memory.used() == before);
  PageStoreConfig config = config_of(8);
  config.reserve_pages = 1000;
  const auto no_space = PageStore::create(config, disk());
  REQUIRE_FALSE(no_space.has_value());
  CHECK(no_space.error().code == Code::kNoSpace);
  CHECK(memory.used() == before);
  CHECK(PageStore::create({}, disk()).error().code == Code::kInvalidArgument);
}

TEST_CASE("a fork shares pages until one side writes, and each side keeps its own bytes", "[storage]") {
  auto store = store_of(config_of(8), disk());
  const SequenceId a = store->create_sequence().value();
  append(*store, a, 0, 20);
  const SequenceId b = store->fork(a).value();
  CHECK(store->pages() == 20);
  {
    auto pin = store->pin_for_writing(b, 0, 19);
    REQUIRE(pin.has_value());
    const int64_t other = 1234;
    std::memcpy(pin.value().writable().data(), &other, sizeof(other));
    CHECK(store->fork(b).error().code == Code::kInvalidArgument);  // while it is written
  }
  store->seal(b, 0, 19);
  CHECK(store->pages() == 21);
  CHECK(number_in(*store, a, 19) == 19);
  CHECK(number_in(*store, b, 19) == 1234);
  store->truncate(a, 0, 5);
  CHECK(store->blocks(a, 0) == 5);
  CHECK_FALSE(store->pin(a, 0, 5).has_value());
  for (int64_t block = 0; block < 19; ++block) CHECK(number_in(*store, b, block) == block);
  store->drop(a);
  CHECK(number_in(*store, b, 3) == 3);
}

TEST_CASE("a sequence goes on with the pages of another", "[storage]") {
  auto store = store_of(config_of(8), disk());
  const SequenceId a = store->create_sequence().value();
  append(*store, a, 0, 20);
  const SequenceId b = store->fork(a).value();
  store->truncate(b, 0, 5);
  {
    auto pin = store->append(b, 0);
    REQUIRE(pin.has_value());
    const int64_t other = 1234;
    std::memcpy(pin.value().writable().data(), &other, sizeof(other));
  }
  store->seal(b, 0, 5);
  {
    const auto pin = store->pin_for_writing(a, 0, 19);
    REQUIRE(pin.has_value());
    CHECK(store->append_shared(b, 0, a).error().code == Code::kInvalidArgument);
    CHECK(store->blocks(b, 0) == 6);
  }
  store->seal(a, 0, 19);
  REQUIRE(store->append_shared(b, 0, a).has_value());
  CHECK(store->blocks(b, 0) == 20);
  CHECK(store->pages() == 21);
  store->drop(a);
  for (int64_t block = 0; block < 20; ++block) CHECK(number_in(*store, b, block) == (block == 5 ? 1234 : block));
  CHECK(store->append_shared(b, 7, b).error().code == Code::kInvalidArgument);
  CHECK(store->append_shared(b, 0, a).error().code == Code::kInvalidArgument);
  store->drop(b);
  CHECK(store->pages() == 0);
}

TEST_CASE("pins of more pages than there are frames are an error that says so, and go on afterwards", "[storage]") {
  auto store = store_of(config_of(4), disk());
  const SequenceId s = store->create_sequence().value();
  append(*store, s, 0, 10);
  {
    std::vector<PagePin> pins;
    for (int64_t b = 0; b < 4; ++b) {
      auto pin = store->pin(s, 0, b);
      REQUIRE(pin.has_value());
      pins.push_back(std::move(pin).value());
    }
    const auto fifth = store->pin(s, 0, 4);
    REQUIRE_FALSE(fifth.has_value());
    CHECK(fifth.error().code == Code::kNoMemory);
    CHECK(store->append(s, 0).error().code == Code::kNoMemory);
    CHECK(store->blocks(s, 0) == 10);
  }
  CHECK(number_in(*store, s, 4) == 4);
}

TEST_CASE("sinks and the window stay in memory, and a part of a scan stays for its next turn", "[storage]") {
  auto store = store_of(config_of(32), disk());
  const SequenceId s = store->create_sequence().value();
  append(*store, s, 0, 64);
  const auto scan = [&] {
    for (int64_t b = 0; b < 64; ++b) REQUIRE(number_in(*store, s, b) == b);
  };
  for (int turn = 0; turn < 20; ++turn) scan();
  const uint64_t misses = store->stats().misses;
  for (int turn = 0; turn < 10; ++turn) scan();
  // "Least recently used" would miss all 64; half of them fit.
  CHECK((store->stats().misses - misses) / 10 < 48);
  const uint64_t before = store->stats().misses;
  CHECK(number_in(*store, s, 0) == 0);
  CHECK(number_in(*store, s, 63) == 63);
  CHECK(number_in(*store, s, 62) == 62);
  CHECK(store->stats().misses == before);
}

TEST_CASE("blocks that were read ahead are there when they are pinned", "[storage]") {
  auto store = store_of(config_of(16), disk());
  const SequenceId s = store->create_sequence().value();
  append(*store, s, 0, 100);
  const std::vector<int64_t> wanted = {30, 31, 32, 33};
  CHECK(store->prefetch(s, 0, wanted) == 4);
  const uint64_t misses = store->stats().misses;
  for (const int64_t b : wanted) CHECK(number_in(*store, s, b) == b);
  CHECK(store->stats().misses == misses);
  CHECK(store->stats().read_ahead == 4);
  std::vector<int64_t> all(100);
  for (int64_t b = 0; b < 100; ++b) all[static_cast<size_t>(b)] = b;
  CHECK(store->prefetch(s, 0, all) < 16);  // never more than frames can hold
  const std::vector<int64_t> beyond = {500};
  CHECK(store->prefetch(s, 0, beyond) == 0);
}

TEST_CASE("a full disk is an error when half of the frames wait for it, and is over when there is room", "[storage]") {
  FaultPlan full;
  full.per_thousand[static_cast<size_t>(Fault::kNoSpace)] = 1000;
  auto device = std::make_unique<FaultDevice>(disk(), full);
  FaultDevice& faults = *device;
  auto store = store_of(config_of(8), std::move(device));
  const SequenceId s = store->create_sequence().value();
  append(*store, s, 0, 4);  // memory is enough for these
  CHECK(store->flush().error().code == Code::kNoSpace);
  const auto fifth = store->append(s, 0);
  REQUIRE_FALSE(fifth.has_value());
  CHECK(fifth.error().code == Code::kNoSpace);
  for (int64_t b = 0; b < 4; ++b) CHECK(number_in(*store, s, b) == b);
  faults.heal();
  append(*store, s, 4, 30);
  CHECK(store->flush().has_value());
  for (int64_t b = 0; b < 34; ++b) CHECK(number_in(*store, s, b) == b);
}

TEST_CASE("a page that is damaged on the disk is an error that names it, and can be made again", "[storage]") {
  auto sim = std::make_unique<SimDevice>(SimConfig{.seed = 3, .capacity = 1 << 20});
  SimDevice& raw = *sim;
  auto store = store_of(config_of(4), std::move(sim));
  const SequenceId s = store->create_sequence().value();
  append(*store, s, 0, 30);
  REQUIRE(store->flush().has_value());
  for (std::byte& b : raw.bytes()) b ^= std::byte{1};
  const auto pin = store->pin(s, 0, 10);
  REQUIRE_FALSE(pin.has_value());
  CHECK(pin.error().code == Code::kIo);
  CHECK(pin.error().message.find("layer 0 block 10") != std::string::npos);
  CHECK(store->stats().read_again == 1);
  CHECK(store->stats().lost_reads == 1);
  store->truncate(s, 0, 10);
  append(*store, s, 10, 20);
  CHECK(number_in(*store, s, 10) == 10);
}

TEST_CASE("real files, both backends: random work gives the bytes that were written", "[storage]") {
  const test::TempDir dir;
  for (const IoChoice io : {IoChoice::kAuto, IoChoice::kThreads}) {
    auto device = open_scratch(dir.path(), {.io = io, .depth = 8});
    REQUIRE(device.has_value());
    PageStoreConfig config = config_of(12);
    config.reserve_pages = 64;
    auto store = store_of(config, std::move(device).value());
    const SequenceId a = store->create_sequence().value();
    append(*store, a, 0, 150);
    const SequenceId b = store->fork(a).value();
    store->truncate(b, 0, 70);
    append(*store, b, 70, 50);
    SimRandom random(9);
    for (int i = 0; i < 1000; ++i) {
      const auto block = static_cast<int64_t>(random.below(120));
      const int64_t ahead[] = {block + 1, block + 2, block + 3};
      if (i % 3 == 0) store->prefetch(i % 2 == 0 ? a : b, 0, ahead);
      REQUIRE(number_in(*store, i % 2 == 0 ? a : b, block) == block);
    }
    CHECK(store->stats().verdicts[0] > 100);
    CHECK(store->io_stats().errors == 0);
  }
  CHECK(random_session_id().value() != random_session_id().value());
}

TEST_CASE("after the first turn, reading, reading ahead and writing in place allocate nothing", "[storage]") {
  const test::TempDir dir;
  for (const IoChoice io : {IoChoice::kAuto, IoChoice::kThreads}) {
    auto device = open_scratch(dir.path(), {.io = io, .depth = 8});
    REQUIRE(device.has_value());
    auto store = store_of(config_of(16), std::move(device).value());
    const SequenceId s = store->create_sequence().value();
    append(*store, s, 0, 60);
    int64_t failures = 0;
    const auto turn = [&] {
      for (int64_t b = 0; b < 56; ++b) {
        const int64_t ahead[] = {b + 1, b + 2, b + 3};
        store->prefetch(s, 0, ahead);
        failures += store->pin(s, 0, b).has_value() ? 0 : 1;
      }
      failures += store->pin_for_writing(s, 0, 59).has_value() ? 0 : 1;
      store->seal(s, 0, 59);
    };
    turn();
    const int64_t before = testing::allocation_count();
    for (int i = 0; i < 5; ++i) turn();
    CHECK(testing::allocation_count() == before);
    CHECK(failures == 0);
  }
}

TEST_CASE("a disk that fills up for real is refused at the start, or is an error that leaves blocks readable",
          "[storage]") {
  const test::SmallDisk small("a disk that fills up for real is refused at the start", "1m");
  if (!small.mounted()) return;
  for (const IoChoice io : {IoChoice::kAuto, IoChoice::kThreads}) {
    PageStoreConfig config = config_of(16);
    config.reserve_pages = 1000;
    auto too_much = PageStore::create(config, open_scratch(small.path(), {.io = io}).value());
    REQUIRE_FALSE(too_much.has_value());
    CHECK(too_much.error().code == Code::kNoSpace);

    config.reserve_pages = 0;
    auto store = store_of(config, open_scratch(small.path(), {.io = io}).value());
    const SequenceId s = store->create_sequence().value();
    int64_t held = 0;
    Code refused = Code::kInternal;
    for (; held < 1000; ++held) {
      auto pin = store->append(s, 0);
      if (!pin) refused = pin.error().code;
      if (!pin) break;
      std::memcpy(pin.value().writable().data(), &held, sizeof(held));
      pin.value().release();
      store->seal(s, 0, held);
    }
    CHECK(refused == Code::kNoSpace);
    REQUIRE(held > 200);
    int64_t wrong = 0;
    for (int64_t b = 0; b < held; ++b) wrong += number_in(*store, s, b) == b ? 0 : 1;
    CHECK(wrong == 0);
    store->truncate(s, 0, held - 50);
    append(*store, s, held - 50, 40);  // there is room again
    CHECK(number_in(*store, s, held - 20) == held - 20);
  }
}

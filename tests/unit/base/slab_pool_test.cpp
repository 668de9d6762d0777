// Blocks that share pieces of memory.
#include "src/base/slab_pool.hpp"

#include <algorithm>
#include <catch2/catch.hpp>
#include <cstring>
#include <set>
#include <thread>
#include <vector>

#include "src/base/workspace.hpp"

using namespace lcrun;

namespace {

constexpr size_t kBlock = 49152;
constexpr size_t kOfPiece = SlabPool::kPieceBytes / kBlock;

}  // namespace

TEST_CASE("blocks of a pool lie apart, share pieces, and pieces go with their last block", "[slab]") {
  SlabPool pool;
  const uint64_t before = MemoryBudget::process().used();
  std::vector<std::byte*> blocks;
  for (size_t i = 0; i < 3 * kOfPiece; ++i) {
    blocks.push_back(pool.take(kBlock, Arena::kCache));
    REQUIRE(blocks.back() != nullptr);
    CHECK(reinterpret_cast<uintptr_t>(blocks.back()) % 64 == 0);
    std::memset(blocks.back(), static_cast<int>(i), kBlock);
  }
  CHECK(pool.pieces() == 3);
  CHECK(MemoryBudget::process().used() == before + 3 * SlabPool::kPieceBytes);
  for (size_t i = 0; i < blocks.size(); ++i) {
    CHECK(std::all_of(blocks[i], blocks[i] + kBlock, [&](std::byte b) { return b == static_cast<std::byte>(i); }));
  }
  // What is given back is used before new pieces are.
  for (size_t i = 0; i < blocks.size(); i += 2) pool.give(blocks[i], kBlock, Arena::kCache);
  CHECK(pool.pieces() == 3);
  std::set<std::byte*> again;
  for (size_t i = 0; i < blocks.size(); i += 2) again.insert(pool.take(kBlock, Arena::kCache));
  CHECK(pool.pieces() == 3);
  CHECK(again.size() == (blocks.size() + 1) / 2);
  for (size_t i = 1; i < blocks.size(); i += 2) {
    CHECK(again.count(blocks[i]) == 0);
    pool.give(blocks[i], kBlock, Arena::kCache);
  }
  for (std::byte* block : again) pool.give(block, kBlock, Arena::kCache);
  CHECK(pool.pieces() == 0);
  CHECK(MemoryBudget::process().used() == before);
}

TEST_CASE("sizes and arenas have pieces of their own", "[slab]") {
  SlabPool pool;
  std::byte* const a = pool.take(kBlock, Arena::kCache);
  std::byte* const b = pool.take(kBlock, Arena::kIndex);
  std::byte* const c = pool.take(2 * kBlock, Arena::kCache);
  CHECK(pool.pieces() == 3);
  pool.give(a, kBlock, Arena::kCache);
  pool.give(b, kBlock, Arena::kIndex);
  pool.give(c, 2 * kBlock, Arena::kCache);
  CHECK(pool.pieces() == 0);
}

TEST_CASE("where the cap has no room for a piece, a block comes alone and counts alone", "[slab]") {
  MemoryBudget& budget = MemoryBudget::process();
  const uint64_t cap = budget.cap();
  budget.set_cap(budget.used() + SlabPool::kPieceBytes / 2);
  {
    const uint64_t before = budget.used();
    auto buffer = AlignedBuffer::allocate(kBlock, kCacheLine, Arena::kCache);
    REQUIRE(buffer.has_value());
    CHECK(budget.used() == before + kBlock);
  }
  budget.set_cap(cap);
}

TEST_CASE("a block that was used before is zeros again", "[slab]") {
  auto keeps = AlignedBuffer::allocate(kBlock, kCacheLine, Arena::kCache);
  REQUIRE(keeps.has_value());
  for (int round = 0; round < 3; ++round) {
    auto buffer = AlignedBuffer::allocate(kBlock, kCacheLine, Arena::kCache);
    REQUIRE(buffer.has_value());
    const auto bytes = std::span(buffer->data(), buffer->size());
    CHECK(std::all_of(bytes.begin(), bytes.end(), [](std::byte b) { return b == std::byte{0}; }));
    std::memset(buffer->data(), 0xff, buffer->size());
  }
}

TEST_CASE("threads take and give blocks of one pool", "[slab]") {
  SlabPool pool;
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&pool, t] {
      std::vector<std::byte*> mine;
      for (int i = 0; i < 500; ++i) {
        mine.push_back(pool.take(kBlock, Arena::kCache));
        std::memset(mine.back(), t, 64);
        if (i % 3 == 0) {
          pool.give(mine.front(), kBlock, Arena::kCache);
          mine.erase(mine.begin());
        }
      }
      for (std::byte* block : mine) pool.give(block, kBlock, Arena::kCache);
    });
  }
  for (auto& thread : threads) thread.join();
  CHECK(pool.pieces() == 0);
}

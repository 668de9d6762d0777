// AlignedBuffer, small (from malloc) and large (mapped), and Workspace.
#include "src/base/workspace.hpp"

#include <catch2/catch.hpp>
#include <cstdint>
#include <utility>

using namespace lcrun;

TEST_CASE("buffers of any size are aligned, zero and writable to their end", "[base]") {
  constexpr size_t kLarge = size_t{2} << 20;
  for (const size_t size : {size_t{1}, size_t{100}, kLarge - 1, kLarge, kLarge + 1, 5 * kLarge + 12345}) {
    INFO(size);
    auto buffer = AlignedBuffer::allocate(size, 64);
    REQUIRE(buffer.has_value());
    REQUIRE(buffer->size() >= size);
    REQUIRE(reinterpret_cast<uintptr_t>(buffer->data()) % 64 == 0);
    bool zero = true;
    for (const uint8_t byte : buffer->as<uint8_t>()) zero = zero && byte == 0;
    REQUIRE(zero);
    for (uint8_t& byte : buffer->as<uint8_t>()) byte = 0xa5;
    const AlignedBuffer moved = std::move(*buffer);
    REQUIRE(static_cast<uint8_t>(moved.data()[moved.size() - 1]) == 0xa5);
  }
}

TEST_CASE("an empty buffer has no data and a huge one is refused", "[base]") {
  REQUIRE(AlignedBuffer::allocate(0)->data() == nullptr);
  for (const size_t size : {SIZE_MAX, SIZE_MAX - 4096, SIZE_MAX - (size_t{2} << 20), SIZE_MAX / 2}) {
    const auto buffer = AlignedBuffer::allocate(size);
    REQUIRE_FALSE(buffer.has_value());
    REQUIRE(buffer.error().code == Code::kNoMemory);
  }
}

TEST_CASE("a workspace hands out aligned pieces and starts again after reset", "[base]") {
  Workspace work;
  REQUIRE(work.reserve(Workspace::bytes_of<float>(3) + Workspace::bytes_of<int64_t>(100)).has_value());
  const auto floats = work.take<float>(3);
  const auto words = work.take<int64_t>(100);
  REQUIRE(reinterpret_cast<uintptr_t>(words.data()) % kCacheLine == 0);
  REQUIRE(reinterpret_cast<uintptr_t>(words.data()) >= reinterpret_cast<uintptr_t>(floats.data() + 3));
  work.reset();
  REQUIRE(work.take<float>(3).data() == floats.data());
}

// AlignedBuffer and Workspace: memory that hot loops use, planned before they start.
//
// Workspace is a bump allocator over one buffer: reserve() once for the worst case, then take() in each step and
// reset() at its end. take() never allocates; asking for more than was reserved is a programmer error.
// Every buffer counts in MemoryBudget::process(), under the arena it is for.
// Thread rule: one thread drives a Workspace.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <span>

#include "src/base/check.hpp"
#include "src/base/memory_budget.hpp"
#include "src/base/result.hpp"

namespace lcrun {

constexpr size_t kCacheLine = 64;

class AlignedBuffer {
 public:
  AlignedBuffer() = default;
  // Zero-filled memory aligned to `alignment` (a power of two); kNoMemory if there is none. From 2 MiB on it comes in
  // large pages where the system has them (a third more bytes a second when streamed), and takes up room page by page
  // as it is first written. Blocks of a cache share such pages (SlabPool).
  // kNoMemory too where it would pass the process's cap.
  static Result<AlignedBuffer> allocate(size_t size_bytes, size_t alignment = kCacheLine,
                                        Arena arena = Arena::kBuffers);
  // The same with contents undefined, for memory that is written at once.
  static Result<AlignedBuffer> allocate_unwritten(size_t size_bytes, size_t alignment = kCacheLine,
                                                  Arena arena = Arena::kBuffers);
  // Memory that belongs to something else, which must outlive it.
  static AlignedBuffer part_of(std::span<std::byte> memory);

  std::byte* data() { return data_.get(); }
  const std::byte* data() const { return data_.get(); }
  size_t size() const { return size_; }
  template <class T>
  std::span<T> as() {
    return {reinterpret_cast<T*>(data_.get()), size_ / sizeof(T)};
  }

 private:
  enum class From : uint8_t { kHeap, kMapping, kPool, kSomebody };
  struct Free {
    Free() : bytes(0), from(From::kSomebody), arena(Arena::kBuffers) {}
    Free(size_t held, From whence, Arena counted) : bytes(held), from(whence), arena(counted) {}
    size_t bytes;
    From from;
    Arena arena;
    void operator()(std::byte* p) const;
  };
  std::unique_ptr<std::byte, Free> data_;
  size_t size_ = 0;
};

class Workspace {
 public:
  // Makes at least `size_bytes` available; keeps a larger reservation. Requires nothing taken.
  Status reserve(size_t size_bytes);
  size_t capacity() const { return buffer_.size(); }
  void reset() { used_ = 0; }
  // What is taken after mark() is given back by release(mark): scopes nest.
  size_t mark() const { return used_; }
  void release(size_t mark) { used_ = mark; }

  // `count` elements, cache-line aligned, contents undefined; valid until reset().
  template <class T>
  std::span<T> take(int64_t count) {
    const size_t bytes = round_up(static_cast<size_t>(count) * sizeof(T));
    LCRUN_CHECK(used_ + bytes <= buffer_.size());
    auto* first = reinterpret_cast<T*>(buffer_.data() + used_);
    used_ += bytes;
    return {first, static_cast<size_t>(count)};
  }
  // What take<T>(count) uses up; add these to plan a reservation.
  template <class T>
  static size_t bytes_of(int64_t count) {
    return round_up(static_cast<size_t>(count) * sizeof(T));
  }

 private:
  static size_t round_up(size_t bytes) { return (bytes + kCacheLine - 1) / kCacheLine * kCacheLine; }
  AlignedBuffer buffer_;
  size_t used_ = 0;
};

}  // namespace lcrun

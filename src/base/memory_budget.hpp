// MemoryBudget: the one accountant. Every large arena reserves its bytes here before it takes them from the system.
//
// The cap is enforced when memory is reserved, never afterwards: a reservation that would pass it is refused with a
// message that says who holds what, and nothing has changed. Reservations give back what they hold when they end.
// process() is the one that AlignedBuffers (src/base/workspace.hpp) are taken from, whoever makes them: weights,
// cache, indexes, buffers of all models and sessions of the process. A cap is a property of the process, as that of a
// control group is.
// Thread rule: any thread.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>

#include "src/base/result.hpp"

namespace lcrun {

enum class Arena : uint8_t { kWeights, kCache, kIndex, kScratch, kBuffers, kOther };
constexpr uint32_t kArenas = 6;
const char* arena_name(Arena arena);

// The least of what the user asked for (0: nothing), and the memory.max and memory.high of the control groups.
uint64_t effective_memory_cap(uint64_t asked_bytes, const std::string& root = "");

class MemoryReservation;

class MemoryBudget {
 public:
  // A budget without a cap is MemoryBudget(UINT64_MAX).
  explicit MemoryBudget(uint64_t cap_bytes);
  // Never destroyed. Without a cap until it is given one.
  static MemoryBudget& process();
  uint64_t cap() const;
  // A cap below what is held refuses whatever comes, and takes nothing away.
  void set_cap(uint64_t cap_bytes);
  uint64_t used() const;
  uint64_t used(Arena arena) const;
  uint64_t peak() const;
  // kNoMemory when it would pass the cap. The reservation may outlive this object.
  Result<MemoryReservation> reserve(Arena arena, uint64_t bytes);
  // The same by hand: what was taken must be given back.
  Status take(Arena arena, uint64_t bytes) { return ledger_->take(arena, bytes); }
  void give(Arena arena, uint64_t bytes) { ledger_->give(arena, bytes); }

 private:
  friend class MemoryReservation;
  struct Ledger {
    Status take(Arena arena, uint64_t bytes);
    void give(Arena arena, uint64_t bytes);
    mutable std::mutex mutex;
    uint64_t cap = 0;  // the rest is guarded by mutex
    uint64_t used = 0;
    uint64_t peak = 0;
    std::array<uint64_t, kArenas> by_arena{};
  };
  std::shared_ptr<Ledger> ledger_;
};

class MemoryReservation {
 public:
  MemoryReservation() = default;
  MemoryReservation(MemoryReservation&& other) noexcept { swap(other); }
  MemoryReservation& operator=(MemoryReservation&& other) noexcept {
    MemoryReservation(std::move(other)).swap(*this);
    return *this;
  }
  ~MemoryReservation();
  uint64_t bytes() const { return bytes_; }
  // On error nothing has changed.
  Status resize(uint64_t bytes);

 private:
  friend class MemoryBudget;
  void swap(MemoryReservation& other) noexcept {
    std::swap(ledger_, other.ledger_);
    std::swap(arena_, other.arena_);
    std::swap(bytes_, other.bytes_);
  }
  std::shared_ptr<MemoryBudget::Ledger> ledger_;
  Arena arena_ = Arena::kOther;
  uint64_t bytes_ = 0;
};

}  // namespace lcrun

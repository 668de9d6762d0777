#include "src/base/memory_budget.hpp"

#include <algorithm>

#include "src/base/cgroup.hpp"
#include "src/base/format.hpp"

namespace lcrun {

const char* arena_name(Arena arena) {
  constexpr std::array<const char*, kArenas> kNames = {"weights", "cache", "index", "scratch", "buffers", "other"};
  return kNames[static_cast<size_t>(arena)];
}

uint64_t effective_memory_cap(uint64_t asked_bytes, const std::string& root) {
  const uint64_t group = cgroup_memory(root).limit;
  return asked_bytes == 0 ? group : std::min(asked_bytes, group);
}

MemoryBudget::MemoryBudget(uint64_t cap_bytes) : ledger_(std::make_shared<Ledger>()) { ledger_->cap = cap_bytes; }

MemoryBudget& MemoryBudget::process() {
  static auto* const budget = new MemoryBudget(UINT64_MAX);  // buffers that statics hold may end after everything else
  return *budget;
}

uint64_t MemoryBudget::cap() const {
  const std::lock_guard<std::mutex> lock(ledger_->mutex);
  return ledger_->cap;
}

void MemoryBudget::set_cap(uint64_t cap_bytes) {
  const std::lock_guard<std::mutex> lock(ledger_->mutex);
  ledger_->cap = cap_bytes;
}

uint64_t MemoryBudget::used() const {
  const std::lock_guard<std::mutex> lock(ledger_->mutex);
  return ledger_->used;
}

uint64_t MemoryBudget::used(Arena arena) const {
  const std::lock_guard<std::mutex> lock(ledger_->mutex);
  return ledger_->by_arena[static_cast<size_t>(arena)];
}

uint64_t MemoryBudget::peak() const {
  const std::lock_guard<std::mutex> lock(ledger_->mutex);
  return ledger_->peak;
}

Status MemoryBudget::Ledger::take(Arena arena, uint64_t bytes) {
  const std::lock_guard<std::mutex> lock(mutex);
  if (bytes > cap - std::min(used, cap)) {
    std::string held;
    for (uint32_t i = 0; i < kArenas; ++i) {
      if (by_arena[i] != 0) held += format(", {} {}", arena_name(static_cast<Arena>(i)), by_arena[i]);
    }
    return make_error(Code::kNoMemory, "memory cap of {} bytes: {} wants {} more bytes, {} are held{}", cap,
                      arena_name(arena), bytes, used, held);
  }
  used += bytes;
  peak = std::max(peak, used);
  by_arena[static_cast<size_t>(arena)] += bytes;
  return {};
}

void MemoryBudget::Ledger::give(Arena arena, uint64_t bytes) {
  const std::lock_guard<std::mutex> lock(mutex);
  used -= bytes;
  by_arena[static_cast<size_t>(arena)] -= bytes;
}

Result<MemoryReservation> MemoryBudget::reserve(Arena arena, uint64_t bytes) {
  LCRUN_TRY(ledger_->take(arena, bytes));
  MemoryReservation made;
  made.ledger_ = ledger_;
  made.arena_ = arena;
  made.bytes_ = bytes;
  return made;
}

MemoryReservation::~MemoryReservation() {
  if (ledger_) ledger_->give(arena_, bytes_);
}

Status MemoryReservation::resize(uint64_t bytes) {
  if (!ledger_) return make_error(Code::kInternal, "an empty reservation cannot grow");
  if (bytes > bytes_) LCRUN_TRY(ledger_->take(arena_, bytes - bytes_));
  if (bytes < bytes_) ledger_->give(arena_, bytes_ - bytes);
  bytes_ = bytes;
  return {};
}

}  // namespace lcrun

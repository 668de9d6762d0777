// CapMore: while it lives, the process may take so many bytes more than it holds (src/base/memory_budget.hpp).
#pragma once

#include <cstdint>

#include "src/base/memory_budget.hpp"

namespace lcrun::test {

class CapMore {
 public:
  explicit CapMore(uint64_t bytes) : before_(MemoryBudget::process().cap()) {
    MemoryBudget::process().set_cap(MemoryBudget::process().used() + bytes);
  }
  ~CapMore() { MemoryBudget::process().set_cap(before_); }
  CapMore(const CapMore&) = delete;
  CapMore& operator=(const CapMore&) = delete;

 private:
  uint64_t before_;
};

}  // namespace lcrun::test

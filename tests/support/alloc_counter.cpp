// The replacement of the global operator new: one translation unit, linked only where a test asks for it.
#include "tests/support/alloc_counter.hpp"

#include <atomic>
#include <cstdlib>
#include <new>

namespace {
std::atomic<int64_t> calls{0};
std::atomic<int64_t> until_failure{-1};

bool fails_now() { return until_failure.load(std::memory_order_relaxed) >= 0 && until_failure.fetch_sub(1) == 0; }

void* counted(std::size_t size) noexcept {
  calls.fetch_add(1, std::memory_order_relaxed);
  if (fails_now()) return nullptr;
  return std::malloc(size == 0 ? 1 : size);
}

void* counted_or_throw(std::size_t size) {
  void* memory = counted(size);
  if (memory == nullptr) throw std::bad_alloc();
  return memory;
}
}  // namespace

namespace lcrun::testing {
int64_t allocation_count() { return calls.load(); }
void fail_allocation(int64_t k) { until_failure = k; }
bool allocation_failed() { return until_failure.load() < 0; }
}  // namespace lcrun::testing

// Buffers are not counted, but can fail.
extern "C" void* aligned_alloc(std::size_t alignment, std::size_t size) {
  void* memory = nullptr;
  if (fails_now()) return nullptr;
  return posix_memalign(&memory, alignment, size) == 0 ? memory : nullptr;
}

// Every form whose memory a plain delete may have to free: AddressSanitizer brings those left out, and reports memory
// that crosses between the two.
void* operator new(std::size_t size) { return counted_or_throw(size); }
void* operator new[](std::size_t size) { return counted_or_throw(size); }
void* operator new(std::size_t size, const std::nothrow_t&) noexcept { return counted(size); }
void* operator new[](std::size_t size, const std::nothrow_t&) noexcept { return counted(size); }
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete[](void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }
void operator delete[](void* memory, std::size_t) noexcept { std::free(memory); }
void operator delete(void* memory, const std::nothrow_t&) noexcept { std::free(memory); }
void operator delete[](void* memory, const std::nothrow_t&) noexcept { std::free(memory); }

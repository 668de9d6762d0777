#include "src/base/large_pages.hpp"

#include <sys/mman.h>

#include <cstdint>

namespace lcrun {

std::byte* map_large(size_t size_bytes) {
  const size_t reach = size_bytes + kLargePage;
  void* mapped = reach < size_bytes ? MAP_FAILED
                                    : mmap(nullptr, reach, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (mapped == MAP_FAILED) return nullptr;
  auto* first = static_cast<std::byte*>(mapped);
  const size_t before = (kLargePage - reinterpret_cast<uintptr_t>(first) % kLargePage) % kLargePage;
  if (before > 0) munmap(first, before);
  munmap(first + before + size_bytes, kLargePage - before);
  madvise(first + before, size_bytes, MADV_HUGEPAGE);  // a hint: without it small pages serve
  return first + before;
}

}  // namespace lcrun

#include "src/base/workspace.hpp"

#include <sys/mman.h>

#include <cstdint>
#include <cstring>

#include "src/base/format.hpp"
#include "src/base/large_pages.hpp"
#include "src/base/slab_pool.hpp"

namespace lcrun {

void AlignedBuffer::Free::operator()(std::byte* p) const {
  if (from == From::kSomebody) return;
  if (from == From::kPool) return SlabPool::process().give(p, bytes, arena);
  if (from == From::kMapping) {
    munmap(p, bytes);
  } else {
    std::free(p);
  }
  MemoryBudget::process().give(arena, bytes);
}

Result<AlignedBuffer> AlignedBuffer::allocate(size_t size_bytes, size_t alignment, Arena arena) {
  LCRUN_ASSIGN(auto buffer, allocate_unwritten(size_bytes, alignment, arena));
  // What is mapped is fresh from the system.
  if (buffer.size_ != 0 && buffer.data_.get_deleter().from != From::kMapping)
    std::memset(buffer.data(), 0, buffer.size_);
  return buffer;
}

Result<AlignedBuffer> AlignedBuffer::allocate_unwritten(size_t size_bytes, size_t alignment, Arena arena) {
  AlignedBuffer buffer;
  constexpr size_t kPage = 65536;  // a whole number of small pages anywhere
  const bool large = size_bytes >= kLargePage && alignment <= kLargePage;
  const size_t unit = large && alignment < kPage ? kPage : alignment;
  const size_t rounded = (size_bytes + unit - 1) / unit * unit;
  if (rounded < size_bytes) return make_error(Code::kNoMemory, "cannot allocate {} bytes", size_bytes);
  if (rounded == 0) return buffer;
  if ((arena == Arena::kCache || arena == Arena::kIndex) && alignment <= kCacheLine && SlabPool::fits(rounded)) {
    if (std::byte* block = SlabPool::process().take(rounded, arena); block != nullptr) {
      buffer.data_ = {block, Free(rounded, From::kPool, arena)};
      buffer.size_ = rounded;
      return buffer;
    }
  }
  MemoryBudget& budget = MemoryBudget::process();
  LCRUN_TRY(budget.take(arena, rounded));
  auto* data = large ? map_large(rounded) : static_cast<std::byte*>(std::aligned_alloc(alignment, rounded));
  if (data == nullptr) {
    budget.give(arena, rounded);
    return make_error(Code::kNoMemory, "cannot allocate {} bytes", rounded);
  }
  buffer.data_ = {data, Free(rounded, large ? From::kMapping : From::kHeap, arena)};
  buffer.size_ = rounded;
  return buffer;
}

AlignedBuffer AlignedBuffer::part_of(std::span<std::byte> memory) {
  AlignedBuffer buffer;
  buffer.data_ = {memory.data(), Free()};
  buffer.size_ = memory.size();
  return buffer;
}

Status Workspace::reserve(size_t size_bytes) {
  LCRUN_CHECK(used_ == 0);
  if (size_bytes <= buffer_.size()) return {};
  LCRUN_ASSIGN(buffer_, AlignedBuffer::allocate(size_bytes));
  return {};
}

}  // namespace lcrun

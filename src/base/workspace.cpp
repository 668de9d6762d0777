#include "src/base/workspace.hpp"

#include <cstring>

#include "src/base/format.hpp"

namespace lcrun {

Result<AlignedBuffer> AlignedBuffer::allocate(size_t size_bytes, size_t alignment) {
  AlignedBuffer buffer;
  const size_t rounded = (size_bytes + alignment - 1) / alignment * alignment;
  if (rounded < size_bytes) return make_error(Code::kNoMemory, "cannot allocate {} bytes", size_bytes);
  if (rounded == 0) return buffer;
  auto* data = static_cast<std::byte*>(std::aligned_alloc(alignment, rounded));
  if (data == nullptr) return make_error(Code::kNoMemory, "cannot allocate {} bytes", rounded);
  std::memset(data, 0, rounded);
  buffer.data_.reset(data);
  buffer.size_ = rounded;
  return buffer;
}

Status Workspace::reserve(size_t size_bytes) {
  LCRUN_CHECK(used_ == 0);
  if (size_bytes <= buffer_.size()) return {};
  LCRUN_ASSIGN(buffer_, AlignedBuffer::allocate(size_bytes));
  return {};
}

}  // namespace lcrun

// Read-ahead of mapped files that nobody waits for: the system's threads do it, through a small io_uring.
// Thread rule: one driving thread.
#pragma once

#include <cstddef>
#include <memory>
#include <span>

namespace lcrun::storage {

class ReadAhead {
 public:
  virtual ~ReadAhead() = default;
  // A hint: this part of a mapping is needed soon.
  virtual void will_need(std::span<const std::byte> memory) = 0;
};

// Where io_uring is missing or forbidden madvise() does it, and the caller waits until the reads are under way.
std::unique_ptr<ReadAhead> make_read_ahead();

}  // namespace lcrun::storage

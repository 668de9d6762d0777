// The door: everything that storage writes to or reads from a disk goes through BlockDevice.
//
// It is asynchronous and raw: a request carries a ticket, a completion gives back what the system said of it, short
// counts and EAGAIN included. IoQueue (io_queue.hpp) is the one place that turns raw completions into "all bytes" or
// an error, so that faults put in front of any device are met by the code that meets them in earnest.
// Backends: uring and threads (file_device.hpp); for tests a simulator (sim_device.hpp) and a device that spoils
// another one's work (fault_device.hpp).
// Thread rule: one driving thread per device.
#pragma once

#include <sys/uio.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

#include "src/base/result.hpp"

namespace lcrun::storage {

enum class IoOp : uint8_t { kRead, kWrite, kSync };

// Memory of a request whose bytes lie one behind the other on the disk, and apart here.
using IoPart = iovec;
constexpr uint32_t kMostParts = 32;

// Offset, size and memory are multiples of alignment(). `data` stays the caller's and untouched until the completion
// comes; a write only reads it. Requests in flight together are done in any order.
struct IoRequest {
  IoOp op = IoOp::kRead;
  uint64_t offset = 0;
  std::byte* data = nullptr;
  uint32_t size = 0;
  uint64_t ticket = 0;
  std::span<const IoPart> parts{};  // instead of data, `size` bytes together; the caller's until the completion
};

// Calls visit(piece, bytes before it) for the memory of a request, in order, up to `end` bytes.
template <class Visit>
void visit_memory(const IoRequest& request, uint64_t end, const Visit& visit) {
  if (request.parts.empty()) return visit(std::span(request.data, static_cast<size_t>(end)), uint64_t{0});
  uint64_t at = 0;
  for (const IoPart& part : request.parts) {
    if (at >= end) return;
    const uint64_t size = std::min<uint64_t>(part.iov_len, end - at);
    visit(std::span(static_cast<std::byte*>(part.iov_base), static_cast<size_t>(size)), at);
    at += size;
  }
}

// `result` as system calls give it: bytes moved (maybe fewer than asked), 0 for a sync or at the end of the file, or
// a negative errno.
struct IoDone {
  uint64_t ticket = 0;
  int64_t result = 0;
};

class BlockDevice {
 public:
  // Waits for what is in flight: memory of requests is free afterwards.
  virtual ~BlockDevice() = default;
  virtual std::string name() const = 0;
  virtual uint32_t alignment() const = 0;  // a power of two, at least 512
  // What writes are best made of, a multiple of alignment(): a file system writes parts of its blocks slowly.
  virtual uint32_t block_bytes() const { return alignment(); }
  virtual uint32_t depth() const = 0;  // most requests in flight
  // Bypasses the page cache: a short read is then asked again as a whole.
  virtual bool direct() const = 0;

  // Makes [0, bytes) usable and has the space reserved; kNoSpace if the disk has not got it.
  virtual Status allocate(uint64_t bytes) = 0;
  // The contents of the range are not needed any more; what it reads as afterwards is undefined.
  virtual void discard(uint64_t offset, uint64_t bytes) = 0;
  // Memory that many requests will use: registered with the system where that is allowed, else nothing happens.
  virtual void use_memory(std::span<std::byte>) {}

  // Takes requests in order; returns how many (fewer when the queue is full) or a negative errno.
  virtual int submit(std::span<const IoRequest> requests) = 0;
  // Completions, at most out.size(); `wait` blocks until there is one, if anything is in flight. Returns how many,
  // or a negative errno.
  virtual int poll(std::span<IoDone> out, bool wait) = 0;

  // The clock of this device: real or simulated nanoseconds that never go back.
  virtual uint64_t now_ns() = 0;
};

}  // namespace lcrun::storage

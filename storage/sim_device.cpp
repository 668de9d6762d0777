#include "storage/sim_device.hpp"

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "src/base/format.hpp"

namespace lcrun::storage {

Status SimDevice::allocate(uint64_t bytes) {
  if (bytes > config_.capacity) {
    return make_error(Code::kNoSpace, "simulator: {} bytes wanted, {} there", bytes, config_.capacity);
  }
  if (bytes > seen_.size()) {
    seen_.resize(bytes);
    durable_.resize(bytes);
  }
  return {};
}

void SimDevice::discard(uint64_t offset, uint64_t bytes) {
  if (offset >= seen_.size()) return;
  const uint64_t size = std::min<uint64_t>(bytes, seen_.size() - offset);
  std::memset(seen_.data() + offset, 0xDD, size);
}

int SimDevice::submit(std::span<const IoRequest> requests) {
  int taken = 0;
  for (const IoRequest& request : requests) {
    if (pending_.size() >= config_.depth) break;
    pending_.push_back({request, clock_ + random_.below(config_.longest_delay + 1)});
    ++taken;
  }
  return taken == 0 && !requests.empty() ? -EBUSY : taken;
}

int64_t SimDevice::perform(const IoRequest& request) {
  if (request.op == IoOp::kSync) {
    durable_ = seen_;
    return 0;
  }
  if (request.offset % kSimSector != 0 || request.size % kSimSector != 0) return -EINVAL;
  if (request.offset + request.size > seen_.size()) return request.op == IoOp::kRead ? 0 : -ENOSPC;
  std::byte* place = seen_.data() + request.offset;
  visit_memory(request, request.size, [&](std::span<std::byte> piece, uint64_t at) {
    if (request.op == IoOp::kRead) std::memcpy(piece.data(), place + at, piece.size());
    if (request.op == IoOp::kWrite) std::memcpy(place + at, piece.data(), piece.size());
  });
  return request.size;
}

int SimDevice::poll(std::span<IoDone> out, bool wait) {
  int n = 0;
  do {
    ++clock_;
    // From a random place on, so that requests due together complete in any order.
    const size_t count = pending_.size();
    const size_t start = count == 0 ? 0 : random_.below(count);
    for (size_t i = 0; i < count && static_cast<size_t>(n) < out.size(); ++i) {
      Pending& pending = pending_[(start + i) % count];
      if (pending.due > clock_) continue;
      out[static_cast<size_t>(n++)] = {pending.request.ticket, pending.dead ? -EIO : perform(pending.request)};
      pending.due = UINT64_MAX;
    }
    std::erase_if(pending_, [](const Pending& p) { return p.due == UINT64_MAX; });
  } while (wait && n == 0 && !pending_.empty());
  return n;
}

void SimDevice::power_cut() {
  for (Pending& pending : pending_) {
    // A write under way has reached some of its sectors.
    if (pending.request.op == IoOp::kWrite && !pending.dead) {
      IoRequest part = pending.request;
      part.size = static_cast<uint32_t>(random_.below(part.size / kSimSector + 1)) * kSimSector;
      perform(part);
    }
    pending.dead = true;
  }
  for (uint64_t at = 0; at < seen_.size(); at += kSimSector) {
    const uint64_t size = std::min<uint64_t>(kSimSector, seen_.size() - at);
    if (random_.once_in(2)) std::memcpy(seen_.data() + at, durable_.data() + at, size);
  }
  durable_ = seen_;
}

}  // namespace lcrun::storage

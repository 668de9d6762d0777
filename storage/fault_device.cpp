#include "storage/fault_device.hpp"

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "src/base/check.hpp"
#include "src/base/format.hpp"

namespace lcrun::storage {
namespace {

constexpr std::array<const char*, kFaults> kNames = {
    "none",          "EIO read",      "EIO write",     "EIO sync",   "ENOSPC write", "ENOSPC allocate",
    "short read",    "short write",   "EAGAIN submit", "EAGAIN",     "EINTR",        "flip on read",
    "flip on write", "byte on write", "torn write",    "lost write", "zeroed write", "misplaced write",
    "misplaced read"};

bool can_befall(Fault fault, IoOp op) {
  switch (fault) {
    case Fault::kReadError:
    case Fault::kShortRead:
    case Fault::kFlipOnRead:
    case Fault::kMisplacedRead:
      return op == IoOp::kRead;
    case Fault::kSyncError:
      return op == IoOp::kSync;
    case Fault::kAgain:
    case Fault::kInterrupted:
      return true;
    case Fault::kNone:
    case Fault::kAllocateNoSpace:
    case Fault::kSubmitAgain:
      return false;  // drawn elsewhere
    default:
      return op == IoOp::kWrite;
  }
}

// The completion of a fault that needs no device, or 1.
int64_t result_without_device(Fault fault, uint32_t size) {
  switch (fault) {
    case Fault::kReadError:
    case Fault::kWriteError:
    case Fault::kSyncError:
      return -EIO;
    case Fault::kNoSpace:
      return -ENOSPC;
    case Fault::kAgain:
      return -EAGAIN;
    case Fault::kInterrupted:
      return -EINTR;
    case Fault::kLostWrite:
      return size;
    default:
      return 1;
  }
}

}  // namespace

const char* fault_name(Fault fault) { return kNames[static_cast<size_t>(fault)]; }

FaultDevice::FaultDevice(std::unique_ptr<BlockDevice> inner, const FaultPlan& plan)
    : inner_(std::move(inner)), plan_(plan), random_(plan.seed), slots_(inner_->depth()), raw_(inner_->depth()) {}

bool FaultDevice::befalls(Fault fault) {
  const uint32_t rate = plan_.per_thousand[static_cast<size_t>(fault)];
  bool hit = rate != 0 && random_.below(1000) < rate;
  if (plan_.nth_fault == fault) hit = hit || operations_++ == plan_.nth;
  injected_ += hit ? 1 : 0;
  return hit;
}

Fault FaultDevice::draw(IoOp op) {
  for (uint32_t i = 1; i < kFaults; ++i) {
    const auto fault = static_cast<Fault>(i);
    if (can_befall(fault, op) && befalls(fault)) return fault;
  }
  return Fault::kNone;
}

Status FaultDevice::allocate(uint64_t bytes) {
  if (befalls(Fault::kAllocateNoSpace)) return make_error(Code::kNoSpace, "no space for {} bytes (injected)", bytes);
  LCRUN_TRY(inner_->allocate(bytes));
  size_ = std::max(size_, bytes);
  return {};
}

bool FaultDevice::spoil(Slot& slot, IoRequest& request) {
  const uint32_t unit = alignment();
  slot.reported = request.size;
  if (request.op == IoOp::kWrite && slot.fault != Fault::kNone) {
    slot.copy.resize(request.size);
    visit_memory(request, request.size, [&](std::span<std::byte> piece, uint64_t at) {
      std::memcpy(slot.copy.data() + at, piece.data(), piece.size());
    });
    request.data = slot.copy.data();
    request.parts = {};
  }
  const int64_t result = result_without_device(slot.fault, request.size);
  if (result != 1) {
    ready_.push_back({request.ticket, result});
    return false;
  }
  if (slot.fault == Fault::kShortRead || slot.fault == Fault::kShortWrite) {
    slot.reported = static_cast<uint32_t>(1 + random_.below(request.size - 1));
  }
  if (slot.fault == Fault::kShortWrite || slot.fault == Fault::kTornWrite) {
    const uint64_t sectors =
        slot.fault == Fault::kTornWrite ? random_.below(request.size / unit) : slot.reported / unit;
    request.size = static_cast<uint32_t>(sectors) * unit;
    if (request.size == 0) {
      ready_.push_back({request.ticket, slot.reported});
      return false;
    }
  }
  if (slot.fault == Fault::kMisplacedWrite || slot.fault == Fault::kMisplacedRead) {
    request.offset = random_.below((size_ - request.size) / unit + 1) * unit;
  }
  const bool changed =
      slot.fault == Fault::kFlipOnWrite || slot.fault == Fault::kByteOnWrite || slot.fault == Fault::kZeroedWrite;
  if (changed) {
    const size_t at = random_.below(slot.copy.size());
    if (slot.fault == Fault::kFlipOnWrite) slot.copy[at] ^= static_cast<std::byte>(1U << random_.below(8));
    if (slot.fault == Fault::kByteOnWrite) slot.copy[at] ^= static_cast<std::byte>(1 + random_.below(255));
    if (slot.fault == Fault::kZeroedWrite) std::fill(slot.copy.begin(), slot.copy.end(), std::byte{0});
  }
  return true;
}

int FaultDevice::submit(std::span<const IoRequest> requests) {
  if (befalls(Fault::kSubmitAgain)) return -EAGAIN;
  int taken = 0;
  for (const IoRequest& asked : requests) {
    size_t index = 0;
    while (index < slots_.size() && slots_[index].used) ++index;
    if (index == slots_.size()) break;
    Slot& slot = slots_[index];
    slot.asked = asked;
    slot.fault = draw(asked.op);
    slot.used = true;
    IoRequest request = asked;
    request.ticket = index;
    if (spoil(slot, request)) {
      const int rc = inner_->submit({&request, 1});
      if (rc != 1) {
        slot.used = false;
        return taken > 0 || rc == 0 ? taken : rc;
      }
    }
    ++taken;
  }
  return taken == 0 && !requests.empty() ? -EBUSY : taken;
}

// The completion that the layers above see.
IoDone FaultDevice::reveal(const IoDone& done) {
  Slot& slot = slots_[done.ticket];
  slot.used = false;
  IoDone shown{slot.asked.ticket, done.result};
  if (done.result <= 0 || slot.asked.op == IoOp::kSync) return shown;
  shown.result = slot.reported;
  if (slot.fault == Fault::kShortRead) {
    visit_memory(slot.asked, slot.asked.size, [&](std::span<std::byte> piece, uint64_t at) {
      const uint64_t kept = std::min<uint64_t>(piece.size(), slot.reported - std::min<uint64_t>(slot.reported, at));
      std::fill(piece.begin() + static_cast<std::ptrdiff_t>(kept), piece.end(), std::byte{0xA5});
    });
  }
  if (slot.fault == Fault::kFlipOnRead) {
    const uint64_t which = random_.below(slot.asked.size);
    const auto bit = static_cast<std::byte>(1U << random_.below(8));
    visit_memory(slot.asked, slot.asked.size, [&](std::span<std::byte> piece, uint64_t at) {
      if (which >= at && which - at < piece.size()) piece[static_cast<size_t>(which - at)] ^= bit;
    });
  }
  return shown;
}

int FaultDevice::poll(std::span<IoDone> out, bool wait) {
  int n = 0;
  while (!ready_.empty() && static_cast<size_t>(n) < out.size()) {
    const IoDone done = ready_.back();
    ready_.pop_back();
    Slot& slot = slots_[done.ticket];
    slot.used = false;
    out[static_cast<size_t>(n++)] = {slot.asked.ticket, done.result};
  }
  const size_t room = std::min(raw_.size(), out.size() - static_cast<size_t>(n));
  const int got = inner_->poll(std::span(raw_).first(room), wait && n == 0);
  if (got < 0) return n > 0 ? n : got;
  for (int i = 0; i < got; ++i) out[static_cast<size_t>(n++)] = reveal(raw_[static_cast<size_t>(i)]);
  return n;
}

}  // namespace lcrun::storage

#include "storage/io_queue.hpp"

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "src/base/check.hpp"
#include "src/base/format.hpp"

namespace lcrun::storage {
namespace {

// Tries of one request, and refusals of the device in a row, before "again" is taken for an error. A kernel that says
// EAGAIN wants its queue drained, which each round does; a thousand rounds without progress is a fault.
constexpr uint32_t kMostTries = 64;
constexpr uint32_t kMostRefusals = 1000;

bool ask_again(int error) { return error == EAGAIN || error == EINTR || error == EBUSY; }

}  // namespace

Error io_error(const std::string& what, int error) {
  const Code code = error == ENOSPC || error == EDQUOT || error == EFBIG ? Code::kNoSpace
                    : error == ENOMEM                                    ? Code::kNoMemory
                                                                         : Code::kIo;
  return make_error(code, "{} failed: {}", what, error == ENODATA ? "end of file" : std::strerror(error));
}

IoQueue::IoQueue(BlockDevice& device) : device_(device), slots_(device.depth()) {
  const size_t n = slots_.size();
  for (size_t i = n; i-- > 0;) free_.push_back(static_cast<uint32_t>(i));
  waiting_.reserve(n);
  outcomes_.reserve(n);
  batch_.reserve(n);
  done_.resize(n);
}

IoQueue::~IoQueue() {
  IoOutcome ignored[16];
  while (in_flight_ > 0) poll(ignored, true);
}

void IoQueue::start(const IoRequest& request) {
  LCRUN_CHECK(has_room());
  const uint32_t slot = free_.back();
  free_.pop_back();
  slots_[slot] = Slot{request};
  waiting_.push_back(slot);
  ++in_flight_;
}

void IoQueue::finish(uint32_t slot, int error) {
  const IoRequest& request = slots_[slot].request;
  if (error != 0) ++stats_.errors;
  if (error == 0 && request.op == IoOp::kRead) stats_.bytes_read += request.size, ++stats_.reads;
  if (error == 0 && request.op == IoOp::kWrite) stats_.bytes_written += request.size, ++stats_.writes;
  outcomes_.push_back({request.ticket, error});
  free_.push_back(slot);
}

// Everything that the device has not taken fails.
void IoQueue::give_up(int error) {
  for (const uint32_t slot : waiting_) finish(slot, error);
  waiting_.clear();
}

void IoQueue::hand_over() {
  if (waiting_.empty()) return;
  if (broken_) return give_up(EIO);
  batch_.clear();
  for (const uint32_t index : waiting_) {
    const Slot& slot = slots_[index];
    IoRequest rest = slot.request;
    if (slot.done > 0) {
      rest.offset += slot.done;
      rest.data += slot.done;
      rest.size -= slot.done;
    }
    rest.ticket = index;
    batch_.push_back(rest);
  }
  const int taken = device_.submit(batch_);
  if (taken > 0) {
    refusals_ = 0;
    waiting_.erase(waiting_.begin(), waiting_.begin() + taken);
    return;
  }
  ++stats_.retries;
  const int error = taken < 0 ? -taken : EAGAIN;
  if (!ask_again(error) || ++refusals_ > kMostRefusals) give_up(error);
}

void IoQueue::settle(const IoDone& done) {
  const auto index = static_cast<uint32_t>(done.ticket);
  Slot& slot = slots_[index];
  const IoRequest& request = slot.request;
  if (done.result < 0) {
    const int error = static_cast<int>(-done.result);
    const bool second_chance = error == EIO && request.op == IoOp::kRead && !slot.read_again;
    if (second_chance) slot.read_again = true;
    if ((ask_again(error) && ++slot.attempts < kMostTries) || second_chance) {
      ++stats_.retries;
      waiting_.push_back(index);
      return;
    }
    return finish(index, error);
  }
  if (request.op == IoOp::kSync) return finish(index, 0);
  const uint64_t moved = static_cast<uint64_t>(done.result);
  if (slot.done + moved >= request.size) return finish(index, 0);
  if (moved == 0 && request.op == IoOp::kRead) return finish(index, ENODATA);
  if (++slot.attempts >= kMostTries) return finish(index, EIO);
  ++stats_.retries;
  // Only whole units count: the rest of a request must stay aligned.
  const uint64_t kept = (slot.done + moved) / device_.alignment() * device_.alignment();
  const bool from_the_start = (request.op == IoOp::kRead && device_.direct()) || !request.parts.empty();
  slot.done = from_the_start ? 0 : static_cast<uint32_t>(kept);
  waiting_.push_back(index);
}

size_t IoQueue::poll(std::span<IoOutcome> out, bool wait) {
  hand_over();
  while (in_flight_ > 0) {
    const bool on_device = in_flight_ > waiting_.size() + outcomes_.size();
    if (on_device) {
      const int n = device_.poll(done_, wait && outcomes_.empty() && waiting_.empty());
      if (n < 0 && !ask_again(-n)) {
        // The device cannot say any more what it has done: all that it holds has failed, and all that comes.
        broken_ = true;
        for (uint32_t slot = 0; slot < slots_.size(); ++slot) {
          const bool is_free = std::find(free_.begin(), free_.end(), slot) != free_.end();
          const bool is_waiting = std::find(waiting_.begin(), waiting_.end(), slot) != waiting_.end();
          if (!is_free && !is_waiting) finish(slot, -n);
        }
      }
      for (int i = 0; i < n; ++i) settle(done_[static_cast<size_t>(i)]);
    }
    hand_over();
    if (!wait || !outcomes_.empty()) break;
  }
  const size_t n = std::min(out.size(), outcomes_.size());
  std::copy_n(outcomes_.begin(), n, out.begin());
  outcomes_.erase(outcomes_.begin(), outcomes_.begin() + static_cast<std::ptrdiff_t>(n));
  in_flight_ -= static_cast<uint32_t>(n);
  return n;
}

}  // namespace lcrun::storage

// IoQueue: requests that are done wholly or fail, over a device whose completions may be short or say "again".
//
// Rules (docs/reliability.md): EAGAIN, EINTR and EBUSY are asked again, a bounded number of times; a short read past
// the page cache, and one of several parts, is asked again as a whole, any other short transfer is continued; EIO of a
// read is asked once more;
// a failed write or sync is final. Nothing is allocated after the constructor.
// Thread rule: the device's driving thread.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "storage/block_device.hpp"

namespace lcrun::storage {

// What became of a request: 0 or an errno (positive).
struct IoOutcome {
  uint64_t ticket = 0;
  int error = 0;
};

struct IoStats {
  uint64_t reads = 0, writes = 0, bytes_read = 0, bytes_written = 0;  // whole requests that went well
  uint64_t retries = 0;                                               // EAGAIN and its like, short counts
  uint64_t errors = 0;                                                // requests that failed
};

// kNoSpace for a full disk, kNoMemory, else kIo: "WHAT failed: REASON".
Error io_error(const std::string& what, int error);

class IoQueue {
 public:
  explicit IoQueue(BlockDevice& device);
  IoQueue(const IoQueue&) = delete;
  IoQueue& operator=(const IoQueue&) = delete;
  // Waits for what is in flight.
  ~IoQueue();

  uint32_t in_flight() const { return in_flight_; }
  bool has_room() const { return in_flight_ < slots_.size(); }
  size_t room() const { return slots_.size() - in_flight_; }
  // Requires has_room(). The outcome comes from poll(), also when the device refuses at once.
  void start(const IoRequest& request);
  // Hands over what was started and collects outcomes; `wait` until there is one, if anything is in flight.
  size_t poll(std::span<IoOutcome> out, bool wait);
  const IoStats& stats() const { return stats_; }

 private:
  struct Slot {
    IoRequest request;
    uint32_t done = 0;  // bytes moved so far
    uint32_t attempts = 0;
    bool read_again = false;
  };
  void finish(uint32_t slot, int error);
  void hand_over();
  void settle(const IoDone& done);
  void give_up(int error);

  BlockDevice& device_;
  std::vector<Slot> slots_;
  std::vector<uint32_t> free_, waiting_;  // waiting: started, not yet taken by the device
  std::vector<IoOutcome> outcomes_;
  std::vector<IoRequest> batch_;
  std::vector<IoDone> done_;
  uint32_t in_flight_ = 0;
  uint32_t refusals_ = 0;  // of the device, one after another
  bool broken_ = false;    // its poll() failed
  IoStats stats_;
};

}  // namespace lcrun::storage

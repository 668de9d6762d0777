// FaultDevice: any device, with faults drawn from a seed, or one fault at the n-th operation.
//
// Some faults are honest (an errno, a short count), some lie (a lost, torn or misplaced write that claims success, a
// flipped bit): the layers above must end with the right bytes or with an error in both cases.
// Tests and the storage_sim driver use it, no product code. Thread rule: one thread.
#pragma once

#include <array>
#include <memory>
#include <vector>

#include "storage/block_device.hpp"
#include "storage/sim_random.hpp"

namespace lcrun::storage {

enum class Fault : uint8_t {
  kNone = 0,
  kReadError,        // EIO
  kWriteError,       // EIO
  kSyncError,        // EIO
  kNoSpace,          // ENOSPC of a write
  kAllocateNoSpace,  // ENOSPC of allocate()
  kShortRead,
  kShortWrite,
  kSubmitAgain,     // submit() takes nothing: EAGAIN
  kAgain,           // EAGAIN in a completion
  kInterrupted,     // EINTR in a completion
  kFlipOnRead,      // one bit, this time only
  kFlipOnWrite,     // one bit, for good
  kByteOnWrite,     // one byte, for good
  kTornWrite,       // only the first sectors are written; says that all is well
  kLostWrite,       // nothing is written; says that all is well
  kZeroedWrite,     // zeros are written; says that all is well
  kMisplacedWrite,  // written somewhere else; says that all is well
  kMisplacedRead,   // read from somewhere else
};
constexpr uint32_t kFaults = 19;
const char* fault_name(Fault fault);

struct FaultPlan {
  uint64_t seed = 1;
  std::array<uint32_t, kFaults> per_thousand{};  // of the operations that the fault can befall
  Fault nth_fault = Fault::kNone;                // befalls operation number `nth` (from 0) that it can befall
  int64_t nth = -1;
};

class FaultDevice final : public BlockDevice {
 public:
  FaultDevice(std::unique_ptr<BlockDevice> inner, const FaultPlan& plan);

  std::string name() const override { return "faulty " + inner_->name(); }
  uint32_t alignment() const override { return inner_->alignment(); }
  uint32_t block_bytes() const override { return inner_->block_bytes(); }
  uint32_t depth() const override { return inner_->depth(); }
  bool direct() const override { return inner_->direct(); }
  Status allocate(uint64_t bytes) override;
  void discard(uint64_t offset, uint64_t bytes) override { inner_->discard(offset, bytes); }
  void use_memory(std::span<std::byte> memory) override { inner_->use_memory(memory); }
  int submit(std::span<const IoRequest> requests) override;
  int poll(std::span<IoDone> out, bool wait) override;
  uint64_t now_ns() override { return inner_->now_ns(); }

  // No more faults from here on (what is spoilt stays so).
  void heal() { plan_ = FaultPlan{}; }
  uint64_t injected() const { return injected_; }
  int64_t operations() const { return operations_; }  // that the n-th fault can befall

 private:
  struct Slot {
    IoRequest asked;
    Fault fault = Fault::kNone;
    bool used = false;
    uint32_t reported = 0;        // bytes that the completion claims
    std::vector<std::byte> copy;  // a write's own bytes, spoilt
  };
  Fault draw(IoOp op);
  bool befalls(Fault fault);
  // Makes the request that the inner device gets; false if it gets none (its completion is in ready_).
  bool spoil(Slot& slot, IoRequest& request);
  IoDone reveal(const IoDone& done);

  std::unique_ptr<BlockDevice> inner_;
  FaultPlan plan_;
  SimRandom random_;
  uint64_t size_ = 0;
  std::vector<Slot> slots_;
  std::vector<IoDone> ready_, raw_;
  uint64_t injected_ = 0;
  int64_t operations_ = 0;
};

}  // namespace lcrun::storage

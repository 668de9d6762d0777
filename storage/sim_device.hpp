// SimDevice: a disk in memory, driven by a seed: late and reordered completions, a virtual clock, power cuts.
//
// It keeps two copies: what a reader sees, and what is durable. A sync makes them equal; a power cut leaves each
// sector of 512 bytes that was not synced in one of the two states, at random: lost, torn and reordered writes.
// It refuses what O_DIRECT refuses (unaligned requests, ranges outside), and moves bytes only when a request
// completes, so that memory given back too early shows. Tests and the storage_sim driver use it, no product code.
// Thread rule: one thread.
#pragma once

#include <vector>

#include "storage/block_device.hpp"
#include "storage/sim_random.hpp"

namespace lcrun::storage {

constexpr uint32_t kSimSector = 512;

struct SimConfig {
  uint64_t seed = 1;
  uint64_t capacity = 64 * 1024;  // allocate() beyond it is kNoSpace
  uint32_t depth = 8;
  uint32_t longest_delay = 4;  // polls that a request may stay in flight
};

class SimDevice final : public BlockDevice {
 public:
  explicit SimDevice(const SimConfig& config) : config_(config), random_(config.seed) {}

  std::string name() const override { return "simulator"; }
  uint32_t alignment() const override { return kSimSector; }
  uint32_t depth() const override { return config_.depth; }
  bool direct() const override { return true; }
  Status allocate(uint64_t bytes) override;
  void discard(uint64_t offset, uint64_t bytes) override;
  int submit(std::span<const IoRequest> requests) override;
  int poll(std::span<IoDone> out, bool wait) override;
  uint64_t now_ns() override { return clock_ * 1000; }

  // Everything in flight fails with EIO at its next poll; what was not synced is there or not, sector by sector.
  void power_cut();
  // What is stored, for tests that spoil it themselves.
  std::span<std::byte> bytes() { return seen_; }

 private:
  struct Pending {
    IoRequest request;
    uint64_t due = 0;
    bool dead = false;
  };
  int64_t perform(const IoRequest& request);

  SimConfig config_;
  SimRandom random_;
  uint64_t clock_ = 0;
  std::vector<std::byte> seen_, durable_;
  std::vector<Pending> pending_;
};

}  // namespace lcrun::storage

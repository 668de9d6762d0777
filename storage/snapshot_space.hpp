// Free space of a snapshot file: what lies between the extents that a commit refers to.
//
// First fit; what fits nowhere goes to the end. Internal to storage. Thread rule: one thread.
#pragma once

#include <algorithm>
#include <cstdint>
#include <map>
#include <utility>
#include <vector>

#include "storage/snapshot_format.hpp"

namespace lcrun::storage {

class SnapshotSpace {
 public:
  SnapshotSpace() = default;
  // Everything in `used` (offset, bytes) is taken; it may overlap.
  explicit SnapshotSpace(std::vector<std::pair<uint64_t, uint64_t>> used) {
    std::sort(used.begin(), used.end());
    for (const auto& [offset, bytes] : used) {
      if (offset > end_) gaps_[end_] = offset - end_;
      end_ = std::max(end_, aligned(offset + bytes));
      file_end_ = std::max(file_end_, offset + bytes);
    }
  }

  uint64_t take(uint64_t wanted) {
    const uint64_t bytes = aligned(wanted);
    for (auto gap = gaps_.begin(); gap != gaps_.end(); ++gap) {
      if (gap->second < bytes) continue;
      const auto [offset, size] = *gap;
      gaps_.erase(gap);
      if (size > bytes) gaps_[offset + bytes] = size - bytes;
      return offset;
    }
    const uint64_t offset = end_;
    end_ += bytes;
    file_end_ = offset + wanted;
    return offset;
  }
  // Where the next extent would begin; and where the last one ends, which is as long as the file must be.
  uint64_t end() const { return end_; }
  uint64_t file_end() const { return file_end_; }

 private:
  static uint64_t aligned(uint64_t bytes) {
    return (bytes + kSnapshotAlignment - 1) / kSnapshotAlignment * kSnapshotAlignment;
  }
  std::map<uint64_t, uint64_t> gaps_;  // offset -> bytes
  uint64_t end_ = kSnapshotStart;
  uint64_t file_end_ = kSnapshotStart;
};

}  // namespace lcrun::storage

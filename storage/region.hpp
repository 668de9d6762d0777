// State of a sequence as typed regions: what a mixer keeps between tokens, as bytes.
//
// storage knows neither formats nor kernels: a region is rows or bytes that some mixer writes and reads. Saving,
// restoring, truncating and forking are written once here, for every mixer (docs/architecture.md, "state").
//   Append  blocks of 64 rows that grow with the sequence (keys and values of a layer that sees everything)
//   Ring    the same, but blocks that lie wholly before the last `capacity` rows are dropped (window layers)
//   Fixed   a fixed number of bytes, overwritten by each token (recurrent state, convolution history)
// Thread rule: one driving thread; readers may share const access while nobody writes.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "src/base/bytes.hpp"
#include "src/base/result.hpp"
#include "src/base/workspace.hpp"

namespace lcrun::storage {

constexpr int64_t kBlockTokens = 64;  // on disk: never change

enum class RegionKind : uint8_t { kAppend = 0, kRing = 1, kFixed = 2 };  // on disk: never renumber

struct RegionSpec {
  RegionKind kind = RegionKind::kAppend;
  std::string name;          // "kv", "conv", "ssm": part of the session file
  uint64_t block_bytes = 0;  // Append, Ring: bytes of one block of 64 rows. Fixed: bytes in all
  int64_t capacity = 0;      // Ring: rows that must stay readable
};

class Region {
 public:
  explicit Region(RegionSpec spec) : spec_(std::move(spec)) {}

  const RegionSpec& spec() const { return spec_; }
  int64_t rows() const { return rows_; }
  // First row that is still held (0 but for rings).
  int64_t first_row() const { return first_block_ * kBlockTokens; }

  // Append, Ring: makes room for rows [rows(), rows() + n): blocks are zero-filled when they are made. The rows
  // exist after commit(); a ring drops old blocks then. kNoMemory when the machine has no room.
  Status reserve_rows(int64_t n);
  void commit_rows(int64_t n);
  // Block b (row / 64) of a held or reserved row.
  std::byte* block(int64_t b) { return blocks_[static_cast<size_t>(b - first_block_)].data(); }
  const std::byte* block(int64_t b) const { return blocks_[static_cast<size_t>(b - first_block_)].data(); }
  // Fixed: the bytes (allocated zeroed by the first call of prepare_fixed).
  Status prepare_fixed();
  // Bytes taken for writing belong to no token until commit_rows(): a step that ends before it leaves a region that
  // can only be truncated to 0.
  std::span<std::byte> fixed() {
    uncommitted_ = true;
    return {fixed_.data(), spec_.block_bytes};
  }
  std::span<const std::byte> fixed() const { return {fixed_.data(), spec_.block_bytes}; }

  // Can the region go back to n rows? A ring can while every row that n needs is held; Fixed only to 0 or to where
  // it stands.
  bool can_truncate(int64_t n) const;
  // Requires can_truncate(n).
  void truncate(int64_t n);
  Status copy_from(const Region& other);
  uint64_t memory_bytes() const;

  void save(ByteWriter& out) const;
  // Replaces the contents; the spec must match the one saved (kBadSession otherwise).
  Status load(ByteReader& in);

 private:
  RegionSpec spec_;
  int64_t rows_ = 0;
  int64_t first_block_ = 0;
  std::vector<AlignedBuffer> blocks_;  // held blocks, from first_block_
  std::vector<AlignedBuffer> spare_;   // dropped blocks of a ring, used again
  AlignedBuffer fixed_;
  bool uncommitted_ = false;  // Fixed: written since the last commit
};

// Regions of one layer of one sequence, in the order in which its mixer declared them.
struct LayerState {
  std::vector<Region> regions;
};

// Everything a sequence keeps, layer by layer.
class SequenceState {
 public:
  static Result<SequenceState> create(const std::vector<std::vector<RegionSpec>>& layers);
  LayerState& layer(int64_t i) { return layers_[static_cast<size_t>(i)]; }
  const LayerState& layer(int64_t i) const { return layers_[static_cast<size_t>(i)]; }
  int64_t n_layers() const { return static_cast<int64_t>(layers_.size()); }
  // Tokens whose state is complete in every layer.
  int64_t tokens() const { return tokens_; }
  void set_tokens(int64_t n) { tokens_ = n; }

  bool can_truncate(int64_t n) const;
  void truncate(int64_t n);
  // Back to an empty sequence.
  void clear();
  Result<SequenceState> clone() const;
  uint64_t memory_bytes() const;
  void save(ByteWriter& out) const;
  Status load(ByteReader& in);

 private:
  std::vector<LayerState> layers_;
  int64_t tokens_ = 0;
};

}  // namespace lcrun::storage

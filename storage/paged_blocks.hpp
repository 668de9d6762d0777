// PagedBlocks: the blocks of an Append region that live in a PageStore instead of memory of their own.
//
// A step reserves the blocks that it writes and holds, wave by wave, those that it reads; release() ends both. While a
// wave is computed the store reads the next ones ahead, and after the last those of the next layer, so that the disk
// never waits for arithmetic that does not wait for it. Blocks that are full are sealed when they are released.
// A block that cannot be read leaves an error and lost_block(): the sequence can be truncated to it and read again.
// Thread rule: one driving thread; workers may read held blocks.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "src/base/result.hpp"
#include "storage/page_store.hpp"

namespace lcrun::storage {

// Blocks [first, end) of a region.
struct BlockRange {
  int64_t first = 0;
  int64_t end = 0;
};

// A sequence of a store, dropped with its last user.
class PagedSequence {
 public:
  static Result<std::shared_ptr<PagedSequence>> create(std::shared_ptr<PageStore> store);
  ~PagedSequence() { store_->drop(id_); }
  PagedSequence(const PagedSequence&) = delete;
  PagedSequence& operator=(const PagedSequence&) = delete;
  // Shares every page.
  Result<std::shared_ptr<PagedSequence>> fork() const;
  PageStore& store() const { return *store_; }
  const std::shared_ptr<PageStore>& shared_store() const { return store_; }
  SequenceId id() const { return id_; }

 private:
  PagedSequence(std::shared_ptr<PageStore> store, SequenceId id) : store_(std::move(store)), id_(id) {}
  std::shared_ptr<PageStore> store_;
  SequenceId id_ = 0;
};

class PagedBlocks {
 public:
  PagedBlocks(std::shared_ptr<PagedSequence> sequence, uint32_t layer, uint32_t n_layers);

  // The same blocks in a fork of the sequence.
  PagedBlocks of_fork(std::shared_ptr<PagedSequence> fork) const { return {std::move(fork), layer_, n_layers_}; }
  int64_t blocks() const { return sequence_->store().blocks(sequence_->id(), layer_); }

  // Blocks that a region of `rows` rows needs for n rows more, writable. What was reserved before and never committed
  // is gone.
  Status reserve(int64_t rows, int64_t n);
  // Makes ranges (ascending, apart) readable, besides what is reserved; what was held before is not. At most
  // wave_blocks() from the first to the last.
  Status hold(std::span<const BlockRange> ranges);
  // Will be held soon.
  void prefetch(std::span<const BlockRange> ranges);
  // The next layer, or the first one for the next token, will hold the same blocks.
  void prefetch_next_layer(std::span<const BlockRange> ranges);
  void release();
  int64_t wave_blocks() const { return wave_blocks_; }

  std::byte* at(int64_t b) const {
    return b >= first_written_ ? written_data_[static_cast<size_t>(b - first_written_)] : held_at(b);
  }
  // One block, besides all others, until the next call or release().
  Result<std::span<const std::byte>> read(int64_t b);
  // Blocks at the end that lie in a source of the store.
  Status append_stored(const StoredPages& run);
  // A new block at the end, writable until the next call or release().
  Result<std::span<std::byte>> append();
  void truncate(int64_t n_blocks);
  // Nobody reads them again: their frames and places are free.
  void forget(BlockRange blocks);
  // Shares the blocks that `other`, of the same layer, has beyond these.
  Status append_shared(const PagedBlocks& other);

  std::optional<int64_t> lost_block() const { return lost_; }

 private:
  Result<PagePin> pin(int64_t b);
  std::byte* held_at(int64_t b) const;
  void ask_ahead(uint32_t layer, std::span<const BlockRange> ranges);

  std::shared_ptr<PagedSequence> sequence_;
  uint32_t layer_ = 0;
  uint32_t n_layers_ = 0;
  int64_t wave_blocks_ = 0;
  static constexpr int64_t kNothingWritten = INT64_MAX;
  int64_t first_written_ = kNothingWritten;
  int64_t full_end_ = 0;  // reserved blocks below it will be full
  std::vector<PagePin> written_;
  std::vector<std::byte*> written_data_;
  struct HeldRange {
    int64_t first;
    int64_t slot;  // of its first block in held_data_
  };
  std::vector<PagePin> held_;
  std::vector<std::byte*> held_data_;
  std::vector<HeldRange> held_ranges_;  // ascending
  std::vector<int64_t> wanted_;
  PagePin single_;
  int64_t single_block_ = -1;  // appended and not yet sealed
  std::optional<int64_t> lost_;
};

}  // namespace lcrun::storage

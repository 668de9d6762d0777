#include "storage/paged_blocks.hpp"

#include <algorithm>

#include "src/base/check.hpp"
#include "storage/region.hpp"

namespace lcrun::storage {
namespace {

constexpr int64_t kLargestWave = 128;  // blocks held at once
constexpr int64_t kWaveUnit = 4;       // attention works in spans of so many

}  // namespace

Result<std::shared_ptr<PagedSequence>> PagedSequence::create(std::shared_ptr<PageStore> store) {
  LCRUN_ASSIGN(const SequenceId id, store->create_sequence());
  return std::shared_ptr<PagedSequence>(new PagedSequence(std::move(store), id));
}

Result<std::shared_ptr<PagedSequence>> PagedSequence::fork() const {
  LCRUN_ASSIGN(const SequenceId id, store_->fork(id_));
  return std::shared_ptr<PagedSequence>(new PagedSequence(store_, id));
}

PagedBlocks::PagedBlocks(std::shared_ptr<PagedSequence> sequence, uint32_t layer, uint32_t n_layers)
    : sequence_(std::move(sequence)), layer_(layer), n_layers_(n_layers) {
  // A wave, two more read ahead, and the open block of each layer must find room.
  const auto frames = static_cast<int64_t>(sequence_->store().frames());
  wave_blocks_ = std::clamp((frames - n_layers) / 4 / kWaveUnit * kWaveUnit, kWaveUnit, kLargestWave);
  held_.reserve(static_cast<size_t>(wave_blocks_));
  held_data_.reserve(static_cast<size_t>(wave_blocks_));
  held_ranges_.reserve(static_cast<size_t>(wave_blocks_));
  wanted_.reserve(static_cast<size_t>(2 * wave_blocks_));
}

Result<PagePin> PagedBlocks::pin(int64_t b) {
  auto made = sequence_->store().pin(sequence_->id(), layer_, b);
  // Out of frames is not the block's fault.
  if (!made.has_value() && made.error().code == Code::kIo) lost_ = b;
  return made;
}

Status PagedBlocks::reserve(int64_t rows, int64_t n) {
  release();
  PageStore& store = sequence_->store();
  const int64_t begin = rows / kBlockTokens;
  const int64_t end = (rows + n + kBlockTokens - 1) / kBlockTokens;
  truncate((rows + kBlockTokens - 1) / kBlockTokens);
  first_written_ = begin;
  full_end_ = (rows + n) / kBlockTokens;
  for (int64_t b = begin; b < end; ++b) {
    const bool is_new = b * kBlockTokens >= rows;
    auto made = is_new ? store.append(sequence_->id(), layer_) : store.pin_for_writing(sequence_->id(), layer_, b);
    if (!made.has_value()) {
      if (!is_new && made.error().code == Code::kIo) lost_ = b;
      return std::move(made).error();
    }
    written_data_.push_back(made->writable().data());
    written_.push_back(std::move(made).value());
  }
  return {};
}

Status PagedBlocks::hold(std::span<const BlockRange> ranges) {
  held_.clear();
  held_data_.clear();
  held_ranges_.clear();
  wanted_.clear();
  for (const BlockRange& range : ranges) {
    for (int64_t b = range.first; b < std::min(range.end, first_written_); ++b) wanted_.push_back(b);
  }
  sequence_->store().check_together(sequence_->id(), layer_, wanted_);
  for (const BlockRange& range : ranges) {
    if (range.first >= first_written_) break;
    held_ranges_.push_back({range.first, static_cast<int64_t>(held_.size())});
    for (int64_t b = range.first; b < std::min(range.end, first_written_); ++b) {
      LCRUN_CHECK(static_cast<int64_t>(held_.size()) < wave_blocks_);
      LCRUN_ASSIGN(auto made, pin(b));
      // Pins give what can only be read; written bytes come from reserve().
      held_data_.push_back(const_cast<std::byte*>(made.bytes().data()));
      held_.push_back(std::move(made));
    }
  }
  return {};
}

std::byte* PagedBlocks::held_at(int64_t b) const {
  auto range = std::upper_bound(held_ranges_.begin(), held_ranges_.end(), b,
                                [](int64_t wanted, const HeldRange& held) { return wanted < held.first; });
  LCRUN_DCHECK(range != held_ranges_.begin());
  --range;
  return held_data_[static_cast<size_t>(range->slot + b - range->first)];
}

void PagedBlocks::ask_ahead(uint32_t layer, std::span<const BlockRange> ranges) {
  PageStore& store = sequence_->store();
  if (store.all_in_memory()) return;
  const int64_t end = store.blocks(sequence_->id(), layer);
  wanted_.clear();
  // A whole wave without gaps: the next one will be wanted too. A disk ends requests in any order, and must not run
  // dry while what came together is computed.
  const bool is_dense = ranges.size() == 1 && ranges[0].end - ranges[0].first == wave_blocks_;
  const int64_t further = is_dense ? wave_blocks_ : 0;
  for (const BlockRange& range : ranges) {
    for (int64_t b = range.first; b < std::min(range.end + further, end) && wanted_.size() < wanted_.capacity(); ++b) {
      wanted_.push_back(b);
    }
  }
  store.prefetch(sequence_->id(), layer, wanted_);
}

void PagedBlocks::prefetch(std::span<const BlockRange> ranges) { ask_ahead(layer_, ranges); }

void PagedBlocks::prefetch_next_layer(std::span<const BlockRange> ranges) {
  ask_ahead((layer_ + 1) % n_layers_, ranges);
}

void PagedBlocks::release() {
  held_.clear();
  held_data_.clear();
  single_.release();
  PageStore& store = sequence_->store();
  if (single_block_ >= 0) store.seal(sequence_->id(), layer_, single_block_);
  single_block_ = -1;
  for (PagePin& pin : written_) pin.release();
  // What is full will not change; should its step fail, it goes with the next reserve().
  const auto written_end = first_written_ + static_cast<int64_t>(written_.size());
  for (int64_t b = first_written_; !written_.empty() && b < std::min(full_end_, written_end); ++b) {
    store.seal(sequence_->id(), layer_, b);
  }
  written_.clear();
  written_data_.clear();
  first_written_ = kNothingWritten;
}

Result<std::span<const std::byte>> PagedBlocks::read(int64_t b) {
  single_.release();
  LCRUN_ASSIGN(single_, pin(b));
  return single_.bytes();
}

Status PagedBlocks::append_stored(const StoredPages& run) {
  release();
  return sequence_->store().append_stored(sequence_->id(), layer_, run);
}

Result<std::span<std::byte>> PagedBlocks::append() {
  release();
  PageStore& store = sequence_->store();
  LCRUN_ASSIGN(single_, store.append(sequence_->id(), layer_));
  single_block_ = store.blocks(sequence_->id(), layer_) - 1;
  return single_.writable();
}

Status PagedBlocks::append_shared(const PagedBlocks& other) {
  return sequence_->store().append_shared(sequence_->id(), layer_, other.sequence_->id());
}

void PagedBlocks::truncate(int64_t n_blocks) {
  PageStore& store = sequence_->store();
  if (store.blocks(sequence_->id(), layer_) > n_blocks) store.truncate(sequence_->id(), layer_, n_blocks);
  if (lost_.has_value() && *lost_ >= n_blocks) lost_.reset();
}

void PagedBlocks::forget(BlockRange blocks) {
  release();
  for (int64_t b = blocks.first; b < blocks.end; ++b) sequence_->store().forget(sequence_->id(), layer_, b);
  if (lost_.has_value() && *lost_ >= blocks.first && *lost_ < blocks.end) lost_.reset();
}

}  // namespace lcrun::storage

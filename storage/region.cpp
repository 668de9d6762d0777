#include "storage/region.hpp"

#include <algorithm>
#include <atomic>
#include <cstring>

#include "src/base/check.hpp"
#include "src/base/format.hpp"

namespace lcrun::storage {
namespace {

int64_t blocks_for(int64_t rows) { return (rows + kBlockTokens - 1) / kBlockTokens; }

// Handles of blocks made room for ahead of use, so that decoding rarely grows a table.
constexpr size_t kHandlesAhead = 64;

// First block that the token after `rows` rows reads.
int64_t first_needed_block(const RegionSpec& spec, int64_t rows) {
  if (spec.kind != RegionKind::kRing) return 0;
  return std::max<int64_t>(0, rows - spec.window) / kBlockTokens;
}

// Of regions without blocks: does what they hold after one number of tokens serve after the other, fewer one?
bool in_one_chunk(const RegionSpec& spec, int64_t rows, int64_t fewer) {
  return rows == fewer || (spec.window > 0 && rows / spec.window == fewer / spec.window);
}

constexpr size_t kSlabBytes = size_t{32} << 20;  // of restored blocks

// A block that lives in memory it shares with others.
struct SlabBlock {
  std::shared_ptr<AlignedBuffer> slab;
  AlignedBuffer bytes;
};

// Whose memory the blocks are.
Arena arena_of(const RegionSpec& spec) { return spec.kind == RegionKind::kIndex ? Arena::kIndex : Arena::kCache; }

Result<std::shared_ptr<AlignedBuffer>> shared_buffer(uint64_t bytes) {
  LCRUN_ASSIGN(auto buffer, AlignedBuffer::allocate(bytes, kCacheLine, Arena::kCache));
  return std::make_shared<AlignedBuffer>(std::move(buffer));
}

// Nobody else holds it, and what others did with it is over.
bool is_own(const std::shared_ptr<AlignedBuffer>& block) {
  if (block.use_count() != 1) return false;
  std::atomic_thread_fence(std::memory_order_acquire);
  return true;
}

}  // namespace

int64_t complete_rows(const RegionSpec& spec, std::span<const int64_t> held, int64_t n) {
  // Runs of blocks, from the last to the first.
  for (size_t end = held.size(); end > 0;) {
    size_t first = end - 1;
    while (first > 0 && held[first - 1] + 1 == held[first]) --first;
    const int64_t rows = std::min(n, (held[end - 1] + 1) * kBlockTokens);
    if (rows > held[first] * kBlockTokens && first_needed_block(spec, rows) >= held[first]) return rows;
    end = first;
  }
  return 0;
}

Result<Region::Block> Region::new_block() {
  if (spare_.empty()) {
    if (handles_.empty()) {
      handles_.reserve(kHandlesAhead);
      while (handles_.size() < kHandlesAhead) handles_.push_back(std::make_shared<AlignedBuffer>());
    }
    LCRUN_ASSIGN(*handles_.back(), AlignedBuffer::allocate(spec_.block_bytes, kCacheLine, arena_of(spec_)));
    Block block = std::move(handles_.back());
    handles_.pop_back();
    return block;
  }
  Block block = std::move(spare_.back());
  spare_.pop_back();
  std::memset(block->data(), 0, block->size());
  return block;
}

void Region::drop(Block block) {
  if (is_own(block)) spare_.push_back(std::move(block));
}

Status Region::reserve_rows(int64_t n) {
  LCRUN_CHECK(spec_.has_blocks() && n >= 0);
  if (pages_) return pages_->reserve(rows_, n);
  const int64_t wanted = blocks_for(rows_ + n) - first_block_;
  if (static_cast<int64_t>(blocks_.capacity()) < wanted) {
    const auto room = 2 * static_cast<size_t>(wanted) + kHandlesAhead;
    blocks_.reserve(room);
    spare_.reserve(room);  // every block may be dropped
  }
  const auto first_written = static_cast<size_t>(rows_ / kBlockTokens - first_block_);
  if (first_written < blocks_.size() && !is_own(blocks_[first_written])) {
    LCRUN_ASSIGN(const Block copy, new_block());
    std::memcpy(copy->data(), blocks_[first_written]->data(), spec_.block_bytes);
    blocks_[first_written] = copy;
  }
  while (static_cast<int64_t>(blocks_.size()) < wanted) {
    LCRUN_ASSIGN(auto block, new_block());
    blocks_.push_back(std::move(block));
  }
  return {};
}

bool Region::commit_rows(int64_t n, int64_t mark_spacing) {
  rows_ += n;
  uncommitted_ = false;
  if (spec_.kind == RegionKind::kPending) return false;  // going back to a chunk's beginning needs nothing
  if (spec_.kind == RegionKind::kFixed) {
    // Without room for a copy there is one mark less.
    return mark_spacing > 0 && rows_ % mark_spacing == 0 && mark_fixed().has_value();
  }
  LCRUN_DCHECK(pages_ || blocks_for(rows_) - first_block_ <= static_cast<int64_t>(blocks_.size()));
  if (spec_.kind != RegionKind::kRing) return false;
  const int64_t keep_from = std::max<int64_t>(0, rows_ - spec_.window - kRingSlack) / kBlockTokens;
  const int64_t dropped = keep_from - first_block_;
  if (dropped <= 0) return false;
  const size_t kept = old_.size();
  for (int64_t i = 0; i < dropped; ++i) {
    auto& block = blocks_[static_cast<size_t>(i)];
    if (is_marked(first_block_ + i, mark_spacing)) {
      old_.push_back({first_block_ + i, std::move(block)});
    } else {
      drop(std::move(block));
    }
  }
  blocks_.erase(blocks_.begin(), blocks_.begin() + dropped);
  first_block_ = keep_from;
  return old_.size() > kept;
}

Status Region::prepare_fixed() {
  LCRUN_CHECK(!spec_.has_blocks());
  if (fixed_.size() >= spec_.block_bytes) return {};
  LCRUN_ASSIGN(fixed_, AlignedBuffer::allocate(spec_.block_bytes, kCacheLine, Arena::kCache));
  return {};
}

Status Region::mark_fixed() {
  if (fixed_.size() == 0 || (!fixed_marks_.empty() && fixed_marks_.back().rows == rows_)) return {};
  LCRUN_ASSIGN(const Block copy, shared_buffer(spec_.block_bytes));
  std::memcpy(copy->data(), fixed_.data(), spec_.block_bytes);
  fixed_marks_.push_back({rows_, copy});
  return {};
}

// Does the first mark after the block need it?
bool Region::is_marked(int64_t block, int64_t mark_spacing) const {
  if (mark_spacing <= 0) return false;
  const int64_t end = (block + 1) * kBlockTokens;
  const int64_t mark = (end + mark_spacing - 1) / mark_spacing * mark_spacing;
  return block >= first_needed_block(spec_, mark);
}

void Region::thin_marks(int64_t mark_spacing) {
  std::erase_if(old_, [&](const OldBlock& old) { return !is_marked(old.index, mark_spacing); });
  std::erase_if(fixed_marks_,
                [&](const FixedMark& mark) { return mark_spacing <= 0 || mark.rows % mark_spacing != 0; });
}

uint64_t Region::mark_bytes() const {
  uint64_t total = 0;
  for (const auto& old : old_) total += old.data->size();
  for (const auto& mark : fixed_marks_) total += mark.bytes->size();
  return total;
}

int64_t Region::truncation_point(int64_t n) const {
  if (spec_.kind == RegionKind::kIndex) return std::min(n, spec_.tokens_of(rows_) + kBlockTokens - 1);
  n = std::min(n, rows_);
  if (n <= 0) return 0;
  if (spec_.kind == RegionKind::kAppend) return n;
  if (!spec_.has_blocks()) {
    if (!uncommitted_ && in_one_chunk(spec_, rows_, n)) return n;
    if (spec_.kind == RegionKind::kPending) return n / spec_.window * spec_.window;
    int64_t best = in_one_chunk(spec_, n, 0) ? n : 0;
    for (const auto& mark : fixed_marks_) {
      if (mark.rows <= n) best = in_one_chunk(spec_, n, mark.rows) ? n : mark.rows;
    }
    return best;
  }
  const int64_t point = complete_rows(spec_, held_blocks(), n);
  if (point > 0 || spec_.window > 0) return point;
  // Without a window before it, the first token of a block reads nothing.
  return n / kBlockTokens * kBlockTokens;
}

// Sorts what is held for a region of that many rows: blocks that the next token may read, or slack before them, into
// the run, older ones behind it, later ones away.
void Region::arrange(int64_t rows) {
  std::vector<OldBlock> held = std::move(old_);
  old_.clear();
  for (size_t i = 0; i < blocks_.size(); ++i) {
    held.push_back({first_block_ + static_cast<int64_t>(i), std::move(blocks_[i])});
  }
  blocks_.clear();
  while (!held.empty() && held.back().index >= blocks_for(rows)) {
    drop(std::move(held.back().data));
    held.pop_back();
  }
  size_t first = held.size();
  const int64_t slack = spec_.kind != RegionKind::kRing ? 0 : std::max<int64_t>(0, rows - spec_.window - kRingSlack);
  while (first > 0 && held[first - 1].index >= slack / kBlockTokens &&
         held[first - 1].index + static_cast<int64_t>(held.size() - first) + 1 == blocks_for(rows)) {
    --first;
  }
  first_block_ = first < held.size() ? held[first].index : blocks_for(rows);
  for (size_t i = first; i < held.size(); ++i) blocks_.push_back(std::move(held[i].data));
  held.resize(first);
  old_ = std::move(held);
}

void Region::truncate_fixed(int64_t n, bool is_as_it_was) {
  std::erase_if(fixed_marks_, [&](const FixedMark& mark) { return mark.rows > n; });
  if (is_as_it_was) return;
  if (fixed_marks_.empty()) {
    if (fixed_.size() != 0) std::memset(fixed_.data(), 0, fixed_.size());
  } else {
    std::memcpy(fixed_.data(), fixed_marks_.back().bytes->data(), spec_.block_bytes);
  }
}

void Region::truncate(int64_t tokens) {
  LCRUN_CHECK(truncation_point(tokens) == tokens);
  const int64_t n = spec_.rows_of(tokens);
  if (pages_) {
    pages_->release();
    pages_->truncate(blocks_for(n));
  }
  if (n == rows_ && !uncommitted_) return;
  const bool is_as_it_was = !spec_.has_blocks() && !uncommitted_ && in_one_chunk(spec_, rows_, n);
  rows_ = n;
  uncommitted_ = false;
  if (!spec_.has_blocks()) return truncate_fixed(n, is_as_it_was);
  if (!pages_) arrange(n);
  // Cells past the end stay as they are: attention never reads a row that was not written again first.
}

std::optional<int64_t> Region::lost_row() const {
  if (!pages_ || !pages_->lost_block().has_value()) return std::nullopt;
  return *pages_->lost_block() * kBlockTokens;
}

Status Region::share(const Region& other, const std::shared_ptr<PagedSequence>& fork) {
  LCRUN_CHECK(spec_.block_bytes == other.spec_.block_bytes && spec_.kind == other.spec_.kind);
  Region copy(spec_);
  if (other.pages_) copy.use_pages(other.pages_->of_fork(fork));
  copy.rows_ = other.rows_;
  copy.first_block_ = other.first_block_;
  copy.uncommitted_ = other.uncommitted_;
  copy.blocks_ = other.blocks_;
  copy.old_ = other.old_;
  copy.fixed_marks_ = other.fixed_marks_;
  if (other.fixed_.size() != 0) {
    LCRUN_TRY(copy.prepare_fixed());
    std::memcpy(copy.fixed_.data(), other.fixed_.data(), spec_.block_bytes);
  }
  *this = std::move(copy);
  return {};
}

int64_t Region::joint_tokens() const {
  if (spec_.kind == RegionKind::kAppend) return kBlockTokens;
  return spec_.kind == RegionKind::kIndex ? kBlockTokens * spec_.window : 1;
}

Status Region::go_on_as(const Region& other) {
  LCRUN_CHECK(spec_.kind == other.spec_.kind && spec_.block_bytes == other.spec_.block_bytes && rows_ <= other.rows_);
  const int64_t from = rows_;
  if (spec_.kind == RegionKind::kRing || !spec_.has_blocks()) {
    LCRUN_TRY(share(other, nullptr));
    // Marks before belong to the other's past.
    std::erase_if(old_, [&](const OldBlock& old) { return old.index * kBlockTokens < from; });
    std::erase_if(fixed_marks_, [&](const FixedMark& mark) { return mark.rows < from; });
    return {};
  }
  LCRUN_CHECK(from % kBlockTokens == 0);
  if (pages_) {
    pages_->release();
    LCRUN_TRY(pages_->append_shared(*other.pages_));
  } else {
    blocks_.resize(static_cast<size_t>(blocks_for(from)));
    blocks_.insert(blocks_.end(), other.blocks_.begin() + blocks_for(from), other.blocks_.end());
  }
  rows_ = other.rows_;
  return {};
}

uint64_t Region::memory_bytes() const {
  uint64_t total = fixed_.size() + mark_bytes();
  for (const auto& block : blocks_) total += block != nullptr ? block->size() : 0;
  for (const auto& block : spare_) total += block->size();
  return total;
}

Status Region::repeat_block(int64_t b) {
  LCRUN_CHECK(rows_ % kBlockTokens == 0 && (b + 1) * kBlockTokens <= rows_);
  LCRUN_TRY(reserve_rows(kBlockTokens));
  LCRUN_ASSIGN(const auto from, read_block(b));
  std::memcpy(block(rows_ / kBlockTokens), from.data(), from.size());
  release();
  return {};
}

Status Region::repeat_rows(int64_t n) {
  const int64_t blocks = blocks_for(rows_);
  LCRUN_TRY(reserve_rows(n));
  for (int64_t b = std::max<int64_t>(blocks, 1); b < blocks_for(rows_ + n); ++b) {
    std::memcpy(block(b), block(0), spec_.block_bytes);
  }
  return {};
}

void Region::drop_tokens(int64_t first, int64_t end, int64_t known) {
  if (spec_.kind != RegionKind::kAppend && spec_.kind != RegionKind::kIndex) return;
  const int64_t first_block = std::max(blocks_for(spec_.rows_of(first)), spec_.rows_of(known) / kBlockTokens);
  const int64_t end_block = std::min(spec_.rows_of(end), rows_) / kBlockTokens;
  if (pages_) return pages_->forget({first_block, end_block});
  for (int64_t b = first_block; b < end_block; ++b) {
    if (blocks_[static_cast<size_t>(b)] != nullptr) drop(std::move(blocks_[static_cast<size_t>(b)]));
  }
}

std::vector<int64_t> Region::held_blocks() const {
  std::vector<int64_t> held;
  for (const auto& old : old_) held.push_back(old.index);
  for (int64_t b = first_block_; b < blocks_for(rows_); ++b) held.push_back(b);
  return held;
}

Result<std::span<const std::byte>> Region::read_block(int64_t b) {
  if (pages_) return pages_->read(b);
  if (b >= first_block_) return std::span<const std::byte>(block(b), spec_.block_bytes);
  const auto old = std::lower_bound(old_.begin(), old_.end(), b,
                                    [](const OldBlock& left, int64_t index) { return left.index < index; });
  LCRUN_CHECK(old != old_.end() && old->index == b);
  return std::span<const std::byte>(old->data->data(), spec_.block_bytes);
}

// Contents undefined: all of it is written.
Result<Region::Block> Region::block_to_restore() {
  const size_t stride = (spec_.block_bytes + kCacheLine - 1) / kCacheLine * kCacheLine;
  if (slab_ == nullptr || slab_used_ + stride > slab_->size()) {
    const auto at_most = static_cast<int64_t>(std::max<size_t>(1, kSlabBytes / stride));
    const int64_t count = std::clamp<int64_t>(blocks_to_come_, 1, at_most);
    const size_t bytes = static_cast<size_t>(count) * stride;
    LCRUN_ASSIGN(auto slab, AlignedBuffer::allocate_unwritten(bytes, kCacheLine, arena_of(spec_)));
    slab_ = std::make_shared<AlignedBuffer>(std::move(slab));
    slab_used_ = 0;
  }
  auto part = std::make_shared<SlabBlock>();
  part->slab = slab_;
  part->bytes = AlignedBuffer::part_of({slab_->data() + slab_used_, stride});
  slab_used_ += stride;
  --blocks_to_come_;
  AlignedBuffer* bytes = &part->bytes;
  return Block(std::move(part), bytes);
}

Result<std::span<std::byte>> Region::restore_block(int64_t b) {
  LCRUN_CHECK(spec_.has_blocks() && (old_.empty() || old_.back().index < b));
  if (pages_) {
    if (b == pages_->blocks()) return pages_->append();
    return make_error(Code::kBadSession, "region {}: found block {}, wanted block {}", spec_.name, b, pages_->blocks());
  }
  LCRUN_ASSIGN(auto made, block_to_restore());
  old_.push_back({b, std::move(made)});
  return std::span<std::byte>(old_.back().data->data(), spec_.block_bytes);
}

Status Region::restore_stored(int64_t b, const StoredPages& run) {
  LCRUN_CHECK(pages_.has_value());
  if (b == pages_->blocks()) return pages_->append_stored(run);
  return make_error(Code::kBadSession, "region {}: found block {}, wanted block {}", spec_.name, b, pages_->blocks());
}

Result<std::span<std::byte>> Region::restore_mark(int64_t rows) {
  LCRUN_CHECK(spec_.kind == RegionKind::kFixed && (fixed_marks_.empty() || fixed_marks_.back().rows < rows));
  LCRUN_ASSIGN(const Block copy, shared_buffer(spec_.block_bytes));
  fixed_marks_.push_back({rows, copy});
  return std::span<std::byte>(copy->data(), spec_.block_bytes);
}

Status Region::end_restore(int64_t tokens) {
  slab_.reset();
  const int64_t rows = spec_.rows_of(tokens);
  rows_ = rows;
  uncommitted_ = false;
  if (!spec_.has_blocks()) return {};
  if (pages_) pages_->release();
  if (!pages_) arrange(rows);
  const int64_t found = pages_ ? pages_->blocks() : static_cast<int64_t>(blocks_.size());
  const int64_t held = blocks_for(rows) - first_block_;
  if (first_block_ <= first_needed_block(spec_, rows) && held == found) return {};
  const Error error = make_error(
      Code::kBadSession, "region {}: the {} rows that the next token reads are not all there", spec_.name, rows);
  truncate(0);
  return error;
}

}  // namespace lcrun::storage

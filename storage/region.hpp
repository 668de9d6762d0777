// State of a sequence as typed regions: what a mixer keeps between tokens, as bytes.
//
// storage knows neither formats nor kernels: a region is rows or bytes that some mixer writes and reads. Saving,
// restoring, truncating and forking are written once here, for every mixer (docs/architecture.md, "state").
//   Append  blocks of 64 rows that grow with the sequence (keys and values of a layer that sees everything)
//   Ring    the same, but blocks that lie wholly before the window of the next token are dropped (window layers)
//   Fixed   a fixed number of bytes, overwritten by each token (recurrent state, convolution history), or by the last
//           token of each chunk
//   Pending bytes of the tokens of a chunk that is not full yet, which are summed up when it is, and then forgotten
//   Index   rows that sum up whole blocks of 64 tokens, made when a block is full; they grow with the sequence and are
//           never paged (what a selector looks at before it knows which pages to read)
// A sequence can go back to an earlier point if every region still has what the token after that point would read.
// Append and Index always have, until rows in their middle are dropped because the text outgrew its context; rings keep
// whole windows, and fixed regions copies, at marks that get sparser as they grow.
// Blocks that are full never change: forks share them, and saving again writes only what is new.
// Thread rule: one driving thread; readers may share const access while nobody writes.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "src/base/result.hpp"
#include "src/base/workspace.hpp"
#include "storage/paged_blocks.hpp"

namespace lcrun::storage {

constexpr int64_t kRingSlack = 64;  // rows that a ring holds beyond its window: a few tokens can always be taken back
constexpr int64_t kMarkSpacing = 512;  // tokens between marks, at first

// Most blocks that a ring holds between steps: its window, the block that is half out, and the one being filled.
constexpr int64_t ring_blocks(int64_t window) { return (window + kRingSlack) / kBlockTokens + 2; }

// On disk: never renumber.
enum class RegionKind : uint8_t { kAppend = 0, kRing = 1, kFixed = 2, kIndex = 3, kPending = 4 };

struct RegionSpec {
  RegionKind kind = RegionKind::kAppend;
  std::string name;          // "kv", "conv", "ssm": part of the session file
  uint64_t block_bytes = 0;  // Append, Ring, Index: bytes of one block of 64 rows. Fixed, Pending: bytes in all
  int64_t window = 0;        // Ring: the token at position p may read rows from p - window on, and its own block.
                             // Index: tokens that a row sums up, a divisor of 64.
                             // Pending: tokens of a chunk; those before stay as they are while one is added.
                             // Fixed: tokens of a chunk, if it changes only with the last one of each; else 0

  // Blocks of rows, and not one piece of bytes.
  bool has_blocks() const { return kind != RegionKind::kFixed && kind != RegionKind::kPending; }
  // Rows that a sequence of so many tokens has, and the tokens of which all rows are there.
  int64_t rows_of(int64_t tokens) const {
    return kind == RegionKind::kIndex ? tokens / kBlockTokens * (kBlockTokens / window) : tokens;
  }
  int64_t tokens_of(int64_t rows) const {
    return kind == RegionKind::kIndex ? rows / (kBlockTokens / window) * kBlockTokens : rows;
  }
};

// Most rows, up to n, of a region of blocks (all but Fixed) such that what the next token reads is in one run of the
// blocks that are held (ascending); 0 if there are none.
int64_t complete_rows(const RegionSpec& spec, std::span<const int64_t> held, int64_t n);

class Region {
 public:
  explicit Region(RegionSpec spec) : spec_(std::move(spec)) {}

  const RegionSpec& spec() const { return spec_; }
  int64_t rows() const { return rows_; }
  // First row that is held in one run up to rows() (0 but for rings).
  int64_t first_row() const { return first_block_ * kBlockTokens; }

  // Append, empty: blocks will be pages of a store instead of memory of their own.
  void use_pages(PagedBlocks pages) { pages_.emplace(std::move(pages)); }
  const std::optional<PagedBlocks>& pages() const { return pages_; }

  // Append, Ring, Index: makes room for rows [rows(), rows() + n): new blocks are zero-filled. Until release() the
  // blocks of those rows can be written. The rows exist after commit_rows(). kNoMemory, kNoSpace: no room.
  Status reserve_rows(int64_t n);
  // Makes blocks of committed rows readable besides those reserved, until the next hold() or release(). Ranges are
  // ascending and apart, at most wave_blocks() in all. Without pages everything is readable always. kIo: a page was
  // lost (lost_row()).
  Status hold(std::span<const BlockRange> ranges) { return pages_ ? pages_->hold(ranges) : Status(); }
  int64_t wave_blocks() const { return pages_ ? pages_->wave_blocks() : INT64_MAX; }
  void prefetch(std::span<const BlockRange> ranges) {
    if (pages_) pages_->prefetch(ranges);
  }
  void prefetch_next_layer(std::span<const BlockRange> ranges) {
    if (pages_) pages_->prefetch_next_layer(ranges);
  }
  void release() {
    if (pages_) pages_->release();
  }
  // First row of a block that could not be read back; truncating to it or further makes up for it.
  std::optional<int64_t> lost_row() const;
  // A ring drops old blocks then, but for those of marks every `mark_spacing` rows (0: no marks).
  // True if marks may take more memory than before.
  bool commit_rows(int64_t n, int64_t mark_spacing = 0);
  // Block b (row / 64) of a reserved row, or one that is held: workers may read it.
  std::byte* block(int64_t b) {
    return pages_ ? pages_->at(b) : blocks_[static_cast<size_t>(b - first_block_)]->data();
  }
  const std::byte* block(int64_t b) const { return const_cast<Region*>(this)->block(b); }
  // Fixed, Pending: the bytes (allocated zeroed by the first call of prepare_fixed).
  Status prepare_fixed();
  // Bytes taken for writing belong to no token until commit_rows(): a step that ends before it leaves a region that
  // can only go back to 0, to a mark, or to the beginning of a chunk (Pending).
  std::span<std::byte> fixed() {
    uncommitted_ = true;
    return {fixed_.data(), spec_.block_bytes};
  }
  std::span<const std::byte> fixed() const { return {fixed_.data(), spec_.block_bytes}; }

  // Append, Index: forgets the blocks that hold nothing but tokens [first, end); nobody reads them any more. Those
  // before `known` were dropped earlier.
  void drop_tokens(int64_t first, int64_t end, int64_t known);

  // Append, Ring: takes on a copy of a full block that is held, and commits it; rows() must be a multiple of 64.
  Status repeat_block(int64_t b);
  // Index: makes room for n rows more, copies of rows that are there or zeros; the caller commits them.
  Status repeat_rows(int64_t n);

  // Most tokens, up to n, that the region can go back to.
  int64_t truncation_point(int64_t n) const;
  // Requires truncation_point(tokens) == tokens.
  void truncate(int64_t tokens);
  // Keeps only marks that are multiples of the spacing (0: none).
  void thin_marks(int64_t mark_spacing);
  uint64_t mark_bytes() const;
  // Shares the blocks of `other`, which must have the same spec; pages through a fork of their sequence.
  Status share(const Region& other, const std::shared_ptr<PagedSequence>& fork);
  // Goes on as `other` does, which has the same spec and more rows: shares its further blocks (Append, Index; rows() is
  // whole blocks), or what it is at its end (Ring, Fixed), with marks from here on only.
  Status go_on_as(const Region& other);
  // rows() is whole blocks where the tokens are a multiple of this.
  int64_t joint_tokens() const;
  uint64_t memory_bytes() const;

  // Contents, block by block, for saving: indices of what is held (ascending; the last one may not be full), and
  // bytes that are valid until the next call. Fixed: marks besides fixed().
  std::vector<int64_t> held_blocks() const;
  Result<std::span<const std::byte>> read_block(int64_t b);
  struct FixedMark {
    int64_t rows = 0;
    std::shared_ptr<AlignedBuffer> bytes;
  };
  std::span<const FixedMark> fixed_marks() const { return fixed_marks_; }
  // Restoring: begin, each block or mark in ascending order filled through the pointer, end. kBadSession when what was
  // given is not all that the next token may read; the region is empty then. `n_blocks`: how many will come, if known;
  // they then share large pieces of memory, which the system hands out far faster.
  void begin_restore(int64_t n_blocks = 0) {
    truncate(0);
    blocks_to_come_ = n_blocks;
  }
  Result<std::span<std::byte>> restore_block(int64_t b);
  // With pages: the next blocks lie in a source of their store.
  Status restore_stored(int64_t b, const StoredPages& run);
  Result<std::span<std::byte>> restore_mark(int64_t rows);
  Status end_restore(int64_t tokens);

 private:
  using Block = std::shared_ptr<AlignedBuffer>;
  struct OldBlock {
    int64_t index = 0;
    Block data;
  };
  Result<Block> new_block();
  Result<Block> block_to_restore();
  void drop(Block block);
  bool is_marked(int64_t block, int64_t mark_spacing) const;
  void arrange(int64_t rows);
  void truncate_fixed(int64_t n, bool is_as_it_was);
  Status mark_fixed();

  RegionSpec spec_;
  int64_t rows_ = 0;
  int64_t first_block_ = 0;
  std::vector<Block> blocks_;            // one run, from first_block_; null where tokens were dropped
  std::optional<PagedBlocks> pages_;     // Append: then there are no blocks_
  std::vector<OldBlock> old_;            // Ring: blocks of marks before the run, ascending
  std::vector<Block> spare_;             // dropped blocks, used again
  std::shared_ptr<AlignedBuffer> slab_;  // restoring: memory of the blocks to come, from slab_used_ on
  size_t slab_used_ = 0;
  int64_t blocks_to_come_ = 0;
  std::vector<Block> handles_;  // empty blocks, so that decoding does not call operator new for each
  AlignedBuffer fixed_;
  std::vector<FixedMark> fixed_marks_;
  bool uncommitted_ = false;  // Fixed, Pending: written since the last commit
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

  // Blocks of Append regions become pages of the store, whose config lists append_bytes(). Requires an empty sequence.
  Status use_store(std::shared_ptr<PageStore> store);
  // Block bytes of the Append regions, in the order of their layers: the layers of a store.
  std::vector<uint64_t> append_bytes() const;
  // An empty sequence with the same regions, store and marks.
  Result<SequenceState> empty_copy() const;

  // Index regions, layer by layer; and empty ones of these specs in their place, behind the layer's others, whose rows
  // the caller makes before anything else is done with the sequence.
  using IndexSpecs = std::vector<std::vector<RegionSpec>>;
  IndexSpecs index_specs() const;
  void replace_index(const IndexSpecs& specs);

  // Ends a step: n more tokens are complete in every region.
  void commit(int64_t n);
  // Grows to n tokens (both multiples of 64) by copies of the blocks that are there: state of the right size and form
  // without computing it, for measurements. Fixed regions stay as they are.
  Status repeat(int64_t n);
  // Memory that marks may take; they are thinned out to fit. 0: no marks (the default).
  void keep_marks(uint64_t max_bytes);
  uint64_t mark_bytes() const;

  // Forgets tokens [first, end), whole blocks, of all regions that grow: what comes next does not read them. Only more
  // may be dropped later, from the same first one on. From here on the sequence goes back to where it is now, or to
  // `first` and before.
  void drop_tokens(int64_t first, int64_t end);
  bool has_dropped() const { return dropped_end_ > 0; }

  // Most tokens, up to n, that the sequence can go back to.
  int64_t truncation_point(int64_t n) const;
  bool can_truncate(int64_t n) const { return truncation_point(n) == n; }
  // Requires can_truncate(n).
  void truncate(int64_t n);
  // Back to an empty sequence.
  void clear();
  // Shares full blocks; what either one writes later is its own.
  Result<SequenceState> clone() const;
  // From tokens() on, a multiple of joint_tokens(), goes on as `other` does, a clone of the same sequence with more
  // tokens: for a change in the middle of a text that what follows does not depend on. On error the sequence is empty.
  Status go_on_as(const SequenceState& other);
  int64_t joint_tokens() const;
  uint64_t memory_bytes() const;
  // Tokens that have not changed since mark_saved(): blocks that lie wholly before have the same bytes as then.
  int64_t saved_tokens() const { return saved_tokens_; }
  void mark_saved() { saved_tokens_ = tokens_; }

  // Tokens from the beginning whose blocks are those of a file that never changes, as it was said at first; fewer when
  // some of them were taken back since.
  int64_t inherited_tokens() const { return inherited_tokens_; }
  void set_inherited(int64_t tokens) { inherited_tokens_ = tokens; }

  // First row of a page that could not be read back; truncating to it or further makes up for it.
  std::optional<int64_t> lost_row() const;
  // Null without pages.
  PageStore* store() const { return pages_ ? &pages_->store() : nullptr; }

  // Ends a restore of `tokens`, region by region (Region::end_restore, some with less than that): goes back to the
  // latest point that every region allows, and returns it. Those tokens count as saved.
  int64_t finish_restore(int64_t tokens);

 private:
  void thin_marks();

  std::vector<LayerState> layers_;
  std::shared_ptr<PagedSequence> pages_;
  int64_t tokens_ = 0;
  int64_t saved_tokens_ = 0;
  int64_t inherited_tokens_ = 0;
  int64_t dropped_first_ = 0;  // tokens [first, end) are gone
  int64_t dropped_end_ = 0;    // 0: none
  int64_t dropped_at_ = 0;     // tokens there were, when that was last so
  int64_t mark_spacing_ = 0;
  uint64_t max_mark_bytes_ = 0;
};

}  // namespace lcrun::storage

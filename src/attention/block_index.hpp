// BlockIndex: what a selector knows of a block of 64 keys without reading its pages.
//
// An index is rows of keys in miniature, made when a block is full and never changed: all 64 keys in 4 bits, means of
// 8 or 16 neighbours, one mean, or the bounds of each dimension. Keys enter turned back to their place in the block:
// rows of all blocks are alike whatever their position, and a query meets them all from the same near distance.
// Rows lie in the layout of cached keys (docs/formats.md), 64 together, so that the kernels that score keys score an
// index too; all keys in 4 bits lie in bit planes (key_planes.hpp).
// Thread rule: make_rows() writes rows of its block alone; scoring only reads.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

#include "src/attention/attention.hpp"
#include "src/attention/key_planes.hpp"
#include "src/attention/turn.hpp"
#include "src/base/workspace.hpp"
#include "storage/region.hpp"

namespace lcrun::attention {

enum class IndexReduce : uint8_t {
  kMean,    // of neighbouring keys
  kMiddle,  // the key in the middle of them (a probe, as in HiP, Lee et al., arXiv 2406.09827)
  kBounds,  // largest and smallest of each dimension (Quest, Tang et al., arXiv 2406.10774, section 3)
};

struct IndexKind {
  const char* name;
  int64_t row_tokens;  // that a row sums up; 1: every key
  IndexReduce reduce;
  DType dtype;  // Q8_0; Q4_0: bit planes
  const char* about;
};
std::span<const IndexKind> index_kinds();
const IndexKind* find_index_kind(std::string_view name);

// Place of a query in the frame of a block: 65 to 128 tokens after its keys (distances at which a head that looks for
// content was measured to find it).
constexpr int64_t kIndexQueryPlace = 128;

// Query rows as scoring wants them; views into scratch.
struct IndexQueries {
  int64_t n = 0;
  float* q = nullptr;        // [n, row_dim]
  int16_t* codes = nullptr;  // [n, row_dim], with the scales: for rows in 8 bits
  float* scales = nullptr;   // [n]
  PlaneTables tables{};      // for bit planes
};

// An index of one layer.
class BlockIndex {
 public:
  BlockIndex(const IndexKind& kind, const KvLayout& layout, Rotary rotary)
      : kind_(&kind), layout_(layout), rotary_(rotary) {}

  const IndexKind& kind() const { return *kind_; }
  int64_t rows_per_block() const { return storage::kBlockTokens / kind_->row_tokens; }
  // Elements of a row: those of a key, or twice as many with bounds.
  int64_t row_dim() const { return kind_->reduce == IndexReduce::kBounds ? 2 * layout_.k_dim : layout_.k_dim; }
  // The kind's type, or halves for heads that are not whole groups of 32.
  DType dtype() const { return row_dim() % 32 == 0 ? kind_->dtype : DType::kF16; }
  bool has_planes() const { return dtype() == DType::kQ4_0; }
  // One KV head's 64 rows.
  uint64_t part_bytes() const;
  storage::RegionSpec region() const;
  // Of the rows of so many tokens, of all KV heads.
  int64_t bytes_of(int64_t tokens) const {
    return tokens / storage::kBlockTokens * rows_per_block() * layout_.n_kv_heads * static_cast<int64_t>(part_bytes()) /
           storage::kBlockTokens;
  }
  Status check() const;

  // Rows of block `b` from its keys in a full block of the cache. The region has room for them.
  void make_rows(int64_t b, const std::byte* kv_block, storage::Region& index) const;
  // As floats, for tests and probes. rows [rows_per_block, row_dim]
  void read_rows(int64_t b, int64_t kv_head, const storage::Region& index, float* rows) const;

  // Room for n query rows.
  uint64_t queries_bytes(int64_t n) const;
  IndexQueries take_queries(int64_t n, Workspace& scratch) const;
  IndexQueries part_of(const IndexQueries& queries, int64_t first, int64_t n) const;
  // Fills `out` with out.n queries of a KV head, [n, k_dim], rotated for their position `pos`, which is that of all.
  void turn_queries(const float* q, int64_t pos, float scale, const IndexQueries& out) const;

  // Scratch of score(), in floats, for n query rows of each KV head.
  int64_t score_floats(int64_t n) const;
  // Best row of each block [first, end), for each of the queries; those of a KV head stand together, as many of each.
  // scores [queries.n, stride], from block `first` on
  void score(const IndexQueries& queries, const storage::Region& index, int64_t first, int64_t end, float* scores,
             int64_t stride, float* scratch) const;
  // The same of the blocks in a list, ascending, for `queries` of n_heads KV heads from first_head on: the same bits.
  // scores [queries.n, stride], in the order of the list
  void score_listed(const IndexQueries& queries, int64_t first_head, int64_t n_heads, const storage::Region& index,
                    std::span<const int32_t> listed, float* scores, int64_t stride, float* scratch) const;

 private:
  // Blocks that are scored, in a run or as a list has them.
  struct Blocks {
    int64_t first;
    int64_t n;
    const int32_t* listed;  // null: a run
    int64_t at(int64_t i) const { return listed != nullptr ? listed[i] : first + i; }
  };
  struct Heads {
    int64_t first;
    int64_t n;
  };
  void score_blocks(const IndexQueries& queries, const Heads& heads, const storage::Region& index, const Blocks& blocks,
                    float* scores, int64_t stride, float* scratch) const;
  void score_planes(const IndexQueries& queries, const Heads& heads, const storage::Region& index, const Blocks& blocks,
                    float* scores, int64_t stride) const;
  void score_rows(const IndexQueries& queries, int64_t kv_head, const storage::Region& index, const Blocks& blocks,
                  float* scores, int64_t stride, float* scratch) const;

  const IndexKind* kind_;
  KvLayout layout_;
  Rotary rotary_;
};

}  // namespace lcrun::attention

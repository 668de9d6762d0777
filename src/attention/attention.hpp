// Softmax attention over blocks of 64 cached tokens: encode, plan, execute, merge.
//
// A Plan is plain data: which segments of blocks a query tile reads. An executor turns segments into partials
// (o, m, l) and merges them in block order, so that pages in RAM, on SSD or on another device can meet. A query row
// gets the same bits whatever tile, prompt split or thread count it was computed with.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "src/attention/turn.hpp"
#include "src/base/result.hpp"
#include "src/base/tensor.hpp"
#include "src/base/workspace.hpp"
#include "storage/region.hpp"

namespace lcrun::attention {

// Geometry and formats of one layer's cache.
struct KvLayout {
  int64_t n_kv_heads = 0;
  int64_t k_dim = 0;  // per head
  int64_t v_dim = 0;
  DType k_type = DType::kF16;  // F32 F16 BF16 Q8_0 Q4_0; rows of Q4_0 are kept rotated (rotation.hpp)
  DType v_type = DType::kF16;

  // A cache with Q4_0 is sealed block by block: rows wait in an open block until their block is full, and keys are
  // then rounded less their mean. open_form() is the layout of open blocks: F16 in place of Q4_0.
  bool is_sealed() const { return k_type == DType::kQ4_0 || v_type == DType::kQ4_0; }
  KvLayout open_form() const;

  // Extent of one block: all KV heads one after another, each head's K then V.
  uint64_t head_bytes() const;
  uint64_t block_bytes() const { return head_bytes() * static_cast<uint64_t>(n_kv_heads); }
  // Of a region of such blocks, part of session files: rotated blocks must not be taken for others.
  const char* region_name() const;
  // kUnsupported (type) or kInvalidArgument (a head that is not a whole number of quant blocks).
  Status check() const;
};

// Encodes one token's keys and values into row `row` (0..63) of a block. Nothing is taken off Q4_0 keys: their
// shared key must be the zeros of a new block.  // k [n_kv_heads * k_dim], v likewise
void encode_kv(const KvLayout& layout, const float* k, const float* v, int64_t row, std::byte* block);
// The same into an open block of a sealed layout: rotated as the sealed block will be, but not rounded to 4 bits.
void encode_open(const KvLayout& layout, const float* k, const float* v, int64_t row, std::byte* open);
// Makes a block of an open one whose 64 rows are all written. `index` is its place in the sequence.
void seal_kv(const KvLayout& layout, int64_t index, const std::byte* open, std::byte* block);
// The inverse, for tests and probes. `index` is the block's place in the sequence.
void decode_kv(const KvLayout& layout, const std::byte* block, int64_t row, float* k, float* v, int64_t index = 1);

// Rows [first_row, end_row) of the cache, absolute positions. Dense and window layers read one segment, selectors
// choose several (plan.hpp).
struct Segment {
  int64_t first_row = 0;
  int64_t end_row = 0;
  int64_t shift = 0;  // positions later than their own at which the keys count as standing
};

struct AttnParams {
  KvLayout layout;
  int64_t n_heads = 0;
  float scale = 1.0F;            // of q k^T
  float soft_cap = 0.0F;         // 0 = none
  int64_t window = 0;            // 0 = all; else query p sees keys (p - window, p]
  const float* sinks = nullptr;  // [n_heads] extra logits without a value (gpt-oss), or null
  // Sealed layouts: where the open blocks of the batch are. A query reads its own block there, however much of it is
  // written, and earlier ones sealed: what it sees depends on its position alone. Null: all blocks are read sealed.
  const storage::Region* open = nullptr;
  Rotary rotary;  // of heads, for segments with a shift
};

// Rows a batch [pos0, pos0 + n) must be able to read.
Segment dense_segment(const AttnParams& params, int64_t pos0, int64_t n);

// Scratch that attend() needs for batches of up to n_queries.
uint64_t attend_scratch_bytes(const AttnParams& params, int64_t n_queries, int n_threads);

// Causal attention of queries at positions pos0.. over the region's rows (the batch's own rows are already
// encoded and reserved or committed). An error of the region when it cannot hold the rows; `o` is undefined then.
// q, o [n, n_heads * dim]
Status attend(const AttnParams& params, storage::Region& kv, int64_t pos0, MatView q, MatView o, Workspace& scratch,
              int n_threads);

}  // namespace lcrun::attention

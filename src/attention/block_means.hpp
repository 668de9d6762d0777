// BlockMeans: one mean key and one mean value of each full block of 64, as if a block were a token.
//
// What a query can know of blocks that it does not read (remainder.hpp). The mean key is a row of the index `mean`, in
// the frame in which an index sees a block (block_index.hpp); it is kept here besides, since other indexes have no such
// row, or no kernel that gives its score. Rows are made when a block is full, and never changed.
// A block of the region holds 64 such pairs: the K parts of all KV heads, then their V parts (docs/formats.md), values
// rotated where the cache's are. They take a 64th of what a q8_0 cache takes.
// Thread rule: make_rows() writes rows of its block alone; the others only read.
#pragma once

#include <cstdint>

#include "src/attention/block_index.hpp"

namespace lcrun::attention {

class BlockMeans {
 public:
  BlockMeans(const KvLayout& layout, Rotary rotary)
      : layout_(layout), keys_(*find_index_kind("mean"), layout, rotary) {}

  // The mean keys, as an index: turns queries into their frame.
  const BlockIndex& keys() const { return keys_; }
  DType key_type() const { return keys_.dtype(); }
  // 8 bits, or halves for heads that are not whole groups of 32.
  DType value_type() const { return layout_.v_dim % 32 == 0 ? DType::kQ8_0 : DType::kF16; }
  storage::RegionSpec region() const;
  // Of the blocks of so many tokens, of all KV heads.
  int64_t bytes_of(int64_t tokens) const;
  Status check() const { return KvLayout{1, layout_.k_dim, layout_.v_dim, key_type(), value_type()}.check(); }

  // The row of block `b` from a full block of the cache. The region has room for it.
  void make_rows(int64_t b, const std::byte* kv_block, storage::Region& means) const;
  // Parts of the blocks [64 group, 64 group + 64).
  const std::byte* key_part(int64_t group, int64_t kv_head, const storage::Region& means) const;
  const std::byte* value_part(int64_t group, int64_t kv_head, const storage::Region& means) const;
  // As floats, for tests. key [k_dim], value [v_dim]
  void read_row(int64_t b, int64_t kv_head, const storage::Region& means, float* key, float* value) const;

 private:
  // Of a KV head's values in a part of the cache.  // mean [v_dim]
  void mean_value(const std::byte* v_part, float* mean) const;

  KvLayout layout_;
  BlockIndex keys_;
};

}  // namespace lcrun::attention

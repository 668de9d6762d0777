// What one worker does for a tile of queries: fetch the queries, meet one block of keys after another, finish.
//
// A tile is some query heads of one KV head times some neighbouring queries. Keys and values of a block are converted
// once for all rows of the tile, or read as they lie where rows are few; a row's bits are the same either way, and do
// not depend on the rows beside it.
// Thread rule: workers share a TileWorker, and write their own scratch and their own rows of `o`.
#pragma once

#include <algorithm>
#include <cstdint>

#include "src/attention/attention.hpp"
#include "src/attention/partial.hpp"
#include "src/base/tensor.hpp"
#include "src/kernels/kernels.hpp"
#include "storage/region.hpp"

namespace lcrun::attention {

constexpr int64_t kSpanBlocks = 4;
constexpr int64_t kSpanRows = kSpanBlocks * kernels::kKvBlock;
constexpr int64_t kDirectRows = 8;        // up to this many rows read keys as they lie, without converting them first
constexpr int64_t kTileRows = 64;         // query heads times queries of a prefill tile
constexpr int64_t kSerialWork = 1 << 18;  // multiply-adds below which waking threads costs more than it saves

inline int64_t round_up(int64_t n, int64_t unit) { return (n + unit - 1) / unit * unit; }
inline int64_t ceil_div(int64_t n, int64_t unit) { return (n + unit - 1) / unit; }

struct Geometry {
  int64_t group;  // query heads per KV head
  int64_t o_stride;
  int64_t tile_tokens;  // queries of a prefill tile
  uint64_t head_bytes;
  uint64_t k_bytes;
  int64_t k_index;
  int64_t v_index;
  bool codes_q;     // keys are quantised: queries become codes
  bool has_shared;  // keys are cached less one that they share

  Geometry(const AttnParams& params, const KvLayout& layout);
};

// One worker's memory for tiles of up to `rows` rows.
struct TileScratch {
  std::byte* k = nullptr;    // a tile of keys, at most floats [k_dim, 64]
  std::byte* v = nullptr;    // of values, at most floats [64, o_stride]
  float* q = nullptr;        // [rows, k_dim]
  int16_t* codes = nullptr;  // [rows, k_dim]
  float* scales = nullptr;   // [rows]
  float* shared = nullptr;   // [k_dim padded to 64]
  float* s = nullptr;        // [rows, 64]
  int16_t* w = nullptr;      // [rows, 64]
  float* decay = nullptr;    // [rows]
  float* gain = nullptr;     // [rows]
  float* span = nullptr;     // memory of AttnPartial [rows]
  int32_t* lo = nullptr;     // [rows]
  int32_t* hi = nullptr;     // [rows]

  // Walks the layout; with `memory` null only counts. Returns the floats used.
  int64_t lay_out(float* memory, const Geometry& geometry, int64_t k_dim, int64_t rows);
};

// The first `sharing` keys of a part of Q4_0 keys were cached less one that they share: what it adds to the scores in
// tile.s. shared: k_dim padded to 64 floats of scratch.
void add_shared_scores(const kernels::AttnTile& tile, const std::byte* k_part, int64_t sharing, float* shared);

// Rows of `tile` meet a head's part of keys of type `k_index`: scores. Many rows want it as a tile, in `memory`.
void score_part(const kernels::AttnTile& tile, int64_t k_index, const std::byte* part, std::byte* memory);
// A part of values of type `v_index` by the weights that the softmax has left in `tile`; `memory` as above.
void add_values(const kernels::AttnTile& tile, int64_t v_index, const std::byte* part, int64_t v_dim,
                std::byte* memory);

class TileWorker {
 public:
  TileWorker(const AttnParams& params, const storage::Region& kv, int64_t pos0, MatView q, MatView o)
      : params_(params),
        kv_(kv),
        pos0_(pos0),
        q_(q),
        o_(o),
        geometry_(params, params.layout),
        open_geometry_(params, params.layout.open_form()) {}

  const Geometry& geometry() const { return geometry_; }
  // First cached row that the query at `pos` may see.
  int64_t floor_of(int64_t pos) const {
    return params_.window > 0 ? std::max<int64_t>(0, pos - params_.window + 1) : 0;
  }

  // Queries [first, first + count) of the batch into scratch: query by query, the heads of the group within; scaled,
  // and turned back by `shift` positions.
  void gather(int64_t kv_head, int64_t first, int64_t count, int64_t shift, const TileScratch& scratch) const;
  // Partials of all rows of the tile into `o`.
  void scatter(int64_t kv_head, int64_t first, int64_t count, const AttnPartial& total) const;
  // Gathered queries meet those of `rows` that they may see (causal, window). Rows before fetch_end are likely to be
  // read by this worker next.
  void visit(int64_t kv_head, int64_t first, int64_t count, Segment rows, const TileScratch& scratch,
             const AttnPartial& partial, int64_t fetch_end) const;

 private:
  // Queries [first + skipped, first + count) of a tile that begins at `first`, and a block of 64 keys.
  struct Visit {
    int64_t kv_head;
    int64_t first;
    int64_t skipped;
    int64_t count;
    int64_t block;
    Segment rows;
    int64_t fetch_end;
  };
  void visit_block(const Visit& visit, const TileScratch& scratch, const AttnPartial& partial) const;
  void visit_form(const Visit& visit, bool is_open, const TileScratch& scratch, const AttnPartial& partial) const;
  // This head's part of a block.
  const std::byte* head_part(int64_t block, int64_t kv_head, bool is_open) const {
    if (is_open) return params_.open->block(block) + static_cast<uint64_t>(kv_head) * open_geometry_.head_bytes;
    return kv_.block(block) + static_cast<uint64_t>(kv_head) * geometry_.head_bytes;
  }
  void compute(const kernels::AttnTile& tile, const std::byte* head, int64_t sharing, const Geometry& geometry,
               const TileScratch& scratch) const;

  const AttnParams& params_;
  const storage::Region& kv_;
  const int64_t pos0_;
  const MatView q_;
  const MatView o_;
  const Geometry geometry_;
  const Geometry open_geometry_;  // of a query's own block, where the layout is sealed
  const kernels::AttentionSlots& kernel_ = kernels::active().attention;
};

}  // namespace lcrun::attention

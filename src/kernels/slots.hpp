// The slots of a kernel table, grouped by the header that fills them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "src/kernels/matmul_layout.hpp"

namespace lcrun::kernels {

enum class Activation : uint8_t { kSilu, kGeluTanh, kGeluErf, kRelu, kReluSquared };

// matmul_impl.hpp. A slot multiplies some panels of prepared weights by some groups of activation rows.
struct PackedTile {
  const uint8_t* panels;  // the first panel
  int64_t panel_bytes;
  int64_t n_panels;
  int64_t n_steps;
  const Group* groups;  // full ones (kGroupRows rows) but for the last
  int64_t n_groups;
  float* y;           // of the first group's first row and the first panel's first output
  int64_t y_stride;   // floats between rows
  int64_t n_out;      // outputs; n_panels * 16 rounded down to what exists
  const float* bias;  // of the first output, or null
};
struct PlainTile {
  const uint8_t* panels;
  int64_t panel_bytes;
  int64_t n_panels;
  const float* x;  // [n_rows, cols]
  int64_t x_stride;
  int64_t n_rows;
  int64_t cols;
  float* y;
  int64_t y_stride;
  int64_t n_out;
  const float* bias;
};
struct MatmulSlots {
  void (*packed[kPackedKinds])(const PackedTile& tile);
  void (*plain[kPlainKinds])(const PlainTile& tile);
  // Quantises x[0..cols) as row `row` of the group, one scale for each `steps` steps; in the last step, inputs from
  // cols on are zeros.
  void (*quantize)(const float* x, int64_t cols, int64_t steps, int64_t row, const Group& group);
};

// elementwise_impl.hpp and scan_impl.hpp: see ops.hpp for the contracts
struct OpSlots {
  void (*rms_norm)(const float* x, const float* weight, int64_t n, float eps, float* y);
  void (*layer_norm)(const float* x, const float* weight, const float* bias, int64_t n, float eps, float* y);
  void (*glu)(Activation act, float* gate, const float* up, int64_t n);
  void (*activate)(Activation act, float* x, int64_t n);
  void (*rope)(float* x, int64_t n_heads, int64_t head_dim, int64_t n_rot, const float* cos_sin, bool neox);
  void (*add_scaled)(float* y, const float* x, float scale, int64_t n);
  void (*scale)(float* x, float scale, int64_t n);
  void (*soft_cap)(float* x, float cap, int64_t n);
  void (*softmax)(float* x, int64_t n);
  float (*dot)(const float* a, const float* b, int64_t n);
  float (*max_value)(const float* x, int64_t n);
  double (*sum_exp)(const float* x, float shift, int64_t n);  // of exp(x - shift)
  void (*delta_step)(float* state, const float* q, const float* k, const float* v, float g, float beta, bool delta,
                     int64_t dk, int64_t dv, float* o);
  void (*ssm_step)(float* state, const float* x, const float* b, const float* c, float dt, float a, float d,
                   int64_t head_dim, int64_t d_state, float* y);
  void (*conv_step)(float* history, const float* x, const float* weight, const float* bias, int64_t channels,
                    int64_t kernel, float* y);
};

// attention_impl.hpp and kv_impl.hpp. Blocks of 64 cached tokens of one KV head, in the layouts of docs/formats.md
// ("KV blocks"): K has lanes over tokens, V rows of tokens.
enum class KvType : uint8_t { kF32, kF16, kBF16, kQ8_0, kQ4_0 };
constexpr int64_t kKvTypes = 5;
constexpr int64_t kKvBlock = 64;  // tokens of a block
constexpr int64_t kMaxHeadDim = 1024;
constexpr int64_t kValuePad = 16;  // o rows and float V tiles are padded to a multiple of this

// Query rows that meet one block: row r sees keys [lo[r], hi[r]) of it, never none.
struct AttnTile {
  int64_t rows = 0;
  int64_t k_dim = 0;
  int64_t o_stride = 0;              // v_dim padded to kValuePad
  float soft_cap = 0.0F;             // 0 = none
  bool whole = false;                // every row sees all 64 keys; lo and hi are not read
  const float* q = nullptr;          // [rows, k_dim], scaled; read for float keys
  const int16_t* q_codes = nullptr;  // [rows, k_dim], read for quantised keys
  const float* q_scales = nullptr;   // [rows]
  float* s = nullptr;                // [rows, 64] scores, then weights
  int16_t* w = nullptr;              // [rows, 64] weights as codes, scratch of quantised values
  float* o = nullptr;                // [rows, o_stride]
  float* m = nullptr;                // [rows]
  float* l = nullptr;                // [rows]
  float* decay = nullptr;            // [rows] what softmax leaves for accumulate: o shrinks by this,
  float* gain = nullptr;             // [rows] and weights relative to the block's own maximum are worth this
  const int32_t* lo = nullptr;
  const int32_t* hi = nullptr;
  // Bytes from a part in the cache to the one that will be read after it: fetched ahead while this one is read.
  int64_t after_k = 0;
  int64_t after_v = 0;
};

// planes_impl.hpp. One KV head's 64 keys in bit planes (docs/formats.md, "Index planes").
constexpr int64_t kKeyPlanes = 4;
struct PlanePart {
  const uint16_t* mean;   // [dim] halves: what all keys are less
  const uint8_t* scales;  // [64], of keys, in units
  float unit;
  // [4, dim / 8, 64], the highest bits first: 4 dimensions in the low half of a byte, the next 4 in the high one
  const uint8_t* planes;

  PlanePart(const std::byte* part, int64_t dim)
      : mean(static_cast<const uint16_t*>(static_cast<const void*>(part))),
        scales(static_cast<const uint8_t*>(static_cast<const void*>(part + 2 * dim))),
        planes(scales + kKvBlock + kPad) {
    std::memcpy(&unit, scales + kKvBlock, sizeof(unit));
  }
  static constexpr int64_t kPad = 16;
  static constexpr int64_t bytes(int64_t dim) { return 2 * dim + kKvBlock + kPad + kKeyPlanes * dim * (kKvBlock / 8); }
};
// Query rows that meet such parts. The sums of the planes' look-ups less `centre`, times key scale and factor.
struct PlaneTile {
  int64_t rows = 0;
  int64_t dim = 0;                   // a multiple of 32
  const float* q = nullptr;          // [rows, dim], for the mean
  const uint8_t* tables = nullptr;   // [rows, dim / 4, 16]; sums over the dimensions stay below 2^16 / 15
  const int16_t* centres = nullptr;  // [rows]
  const float* factors = nullptr;    // [rows]
  int shift = 0;                     // sums less their centre keep within 16 bits after it
  int64_t after = 0;                 // bytes to a part that will be read soon
};

// A part is first read as it lies in the cache (few rows) or converted to a tile (many rows), with the same results.
struct AttentionSlots {
  // Puts one token's row [dim] into a K or V part of a block.
  void (*encode_k[kKvTypes])(const float* k, int64_t dim, int64_t row, std::byte* part);
  void (*encode_v[kKvTypes])(const float* v, int64_t dim, int64_t row, std::byte* part);
  // Queries as 16-bit codes, x ~ code * scale of the row; k_dim is a multiple of 32.
  void (*quantize_q)(const float* q, int64_t rows, int64_t k_dim, int16_t* codes, float* scales);
  // A part as a tile: floats K [dim, 64], V [64, dim padded to kValuePad] with zeros; quantised types as pairs of
  // 16-bit codes and scales (attention_pairs_impl.hpp). A tile is never larger than floats would be.
  void (*k_tile[kKvTypes])(const std::byte* part, int64_t dim, std::byte* tile);
  void (*v_tile[kKvTypes])(const std::byte* part, int64_t dim, std::byte* tile);
  // s = q k^T for all 64 keys.
  void (*scores[kKvTypes])(const AttnTile& tile, const std::byte* k_part);
  void (*scores_of_tile[kKvTypes])(const AttnTile& tile, const std::byte* k_tile);
  // s -> weights, with m, l, decay (and gain) brought up to date (online softmax); weights outside [lo, hi) become 0.
  // By type of the values: floats want exp(s - m), quantised ones weights relative to the block's own maximum.
  void (*softmax[kKvTypes])(const AttnTile& tile);
  // o = o decay + s v (gain) over the visible keys. Float types straight from the cache need v_dim == o_stride.
  void (*accumulate[kKvTypes])(const AttnTile& tile, const std::byte* v_part);
  void (*accumulate_tile[kKvTypes])(const AttnTile& tile, const std::byte* v_tile);
  // scores[row * stride] = that of the best of 64 keys in planes.
  void (*plane_scores)(const PlaneTile& tile, const std::byte* part, float* scores, int64_t stride);
};

struct Kernels {
  const char* name;
  MatmulSlots matmul;
  OpSlots ops;
  AttentionSlots attention;
};

}  // namespace lcrun::kernels

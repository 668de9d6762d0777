// The slots of a kernel table, grouped by the header that fills them.
#pragma once

#include <cstddef>
#include <cstdint>

namespace lcrun::kernels {

enum class Activation : uint8_t { kSilu, kGeluTanh, kGeluErf, kRelu, kReluSquared };

// matmul_impl.hpp
struct MatmulSlots {
  int placeholder = 0;
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

// attention_impl.hpp
struct AttentionSlots {
  int placeholder = 0;
};

struct Kernels {
  const char* name;
  MatmulSlots matmul;
  OpSlots ops;
  AttentionSlots attention;
};

}  // namespace lcrun::kernels

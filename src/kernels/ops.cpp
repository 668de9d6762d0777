// The public operations: each is one call through the active kernel table.
#include "src/kernels/ops.hpp"

#include <cmath>
#include <limits>

#include "src/kernels/kernels.hpp"

namespace lcrun::kernels {

void rms_norm(const float* x, const float* weight, int64_t n, float eps, float* y) {
  active().ops.rms_norm(x, weight, n, eps, y);
}
void layer_norm(const float* x, const float* weight, const float* bias, int64_t n, float eps, float* y) {
  active().ops.layer_norm(x, weight, bias, n, eps, y);
}
void glu(Activation act, float* gate, const float* up, int64_t n) { active().ops.glu(act, gate, up, n); }
void activate(Activation act, float* x, int64_t n) { active().ops.activate(act, x, n); }
void rope(float* x, int64_t n_heads, int64_t head_dim, int64_t n_rot, const float* cos_sin, bool neox) {
  active().ops.rope(x, n_heads, head_dim, n_rot, cos_sin, neox);
}
void add_scaled(float* y, const float* x, float scale, int64_t n) { active().ops.add_scaled(y, x, scale, n); }
void scale(float* x, float scale, int64_t n) { active().ops.scale(x, scale, n); }
void soft_cap(float* x, float cap, int64_t n) { active().ops.soft_cap(x, cap, n); }
void softmax(float* x, int64_t n) { active().ops.softmax(x, n); }
float dot(const float* a, const float* b, int64_t n) { return active().ops.dot(a, b, n); }
float max_value(const float* x, int64_t n) { return active().ops.max_value(x, n); }

double log_sum_exp(const float* x, int64_t n) {
  const Kernels& table = active();
  const float top = table.ops.max_value(x, n);
  if (top == -std::numeric_limits<float>::infinity()) return static_cast<double>(top);
  return static_cast<double>(top) + std::log(table.ops.sum_exp(x, top, n));
}

void delta_step(float* state, const float* q, const float* k, const float* v, float g, float beta, bool delta,
                int64_t dk, int64_t dv, float* o) {
  active().ops.delta_step(state, q, k, v, g, beta, delta, dk, dv, o);
}
void ssm_step(float* state, const float* x, const float* b, const float* c, float dt, float a, float d,
              int64_t head_dim, int64_t d_state, float* y) {
  active().ops.ssm_step(state, x, b, c, dt, a, d, head_dim, d_state, y);
}
void conv_step(float* history, const float* x, const float* weight, const float* bias, int64_t channels, int64_t kernel,
               float* y) {
  active().ops.conv_step(history, x, weight, bias, channels, kernel, y);
}

}  // namespace lcrun::kernels

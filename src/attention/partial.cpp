#include "src/attention/partial.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

namespace lcrun::attention {
namespace {
constexpr float kEmpty = -std::numeric_limits<float>::infinity();
}  // namespace

void init(const AttnPartial& partial) {
  std::fill_n(partial.o, partial.rows * partial.o_stride, 0.0F);
  std::fill_n(partial.m, partial.rows, kEmpty);
  std::fill_n(partial.l, partial.rows, 0.0F);
}

void merge(const AttnPartial& into, const AttnPartial& from) {
  for (int64_t row = 0; row < into.rows; ++row) {
    if (from.m[row] == kEmpty) continue;
    float* o = into.o + row * into.o_stride;
    const float* other = from.o + row * from.o_stride;
    if (into.m[row] == kEmpty) {
      std::copy_n(other, into.o_stride, o);
      into.m[row] = from.m[row];
      into.l[row] = from.l[row];
      continue;
    }
    const float m = std::max(into.m[row], from.m[row]);
    const float a = std::exp(into.m[row] - m);
    const float b = std::exp(from.m[row] - m);
    for (int64_t i = 0; i < into.o_stride; ++i) o[i] = o[i] * a + other[i] * b;
    into.l[row] = into.l[row] * a + from.l[row] * b;
    into.m[row] = m;
  }
}

void finish(const AttnPartial& partial, int64_t row, const float* sink, int64_t v_dim, float* out) {
  const float* o = partial.o + row * partial.o_stride;
  float weight = 1.0F;
  float total = partial.l[row];
  if (sink != nullptr && partial.m[row] != kEmpty) {
    const float m = std::max(partial.m[row], *sink);
    weight = std::exp(partial.m[row] - m);
    total = total * weight + std::exp(*sink - m);
  }
  const float factor = total > 0.0F ? weight / total : 0.0F;
  for (int64_t i = 0; i < v_dim; ++i) out[i] = o[i] * factor;
}

}  // namespace lcrun::attention

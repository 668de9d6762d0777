#include "src/attention/key_planes.hpp"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>

#include "quant/half.hpp"
#include "src/attention/rotation.hpp"
#include "src/base/check.hpp"

namespace lcrun::attention {
namespace {

using kernels::kKeyPlanes;
using kernels::kKvBlock;
using kernels::PlanePart;

constexpr float kLargest = 1e6F;
constexpr float kMeanPerStep = 2.38F;  // mean absolute element of a normal distribution over the quantiser's step
constexpr int kTop = (1 << kKeyPlanes) - 1;

// Largest entry of a table: 4 of them add up in a byte, and all of them, over all planes, in 16 bits.
int64_t largest_entry(int64_t dim) { return std::min<int64_t>(63, 65535 / kTop / (dim / 4)); }

// Plane `bit` of four codes that lie in 16 bits: bits 0, 4, 8, 12 gather in 12 to 15.
unsigned gather(unsigned codes, int bit) { return (((codes >> bit) & 0x1111U) * 0x1248U >> 12) & 15U; }

}  // namespace

void encode_planes(float* rows, int64_t dim, std::byte* part) {
  LCRUN_DCHECK(dim % 32 == 0 && dim <= kernels::kMaxHeadDim);
  for (int64_t i = 0; i < kKvBlock * dim; ++i) rows[i] = std::clamp(rows[i], -kLargest, kLargest);
  float mean[kernels::kMaxHeadDim] = {};
  for (int64_t i = 0; i < kKvBlock; ++i) {
    rotate(rows + i * dim, dim);
    for (int64_t d = 0; d < dim; ++d) mean[d] += rows[i * dim + d];
  }
  auto* halves = reinterpret_cast<uint16_t*>(part);
  for (int64_t d = 0; d < dim; ++d) {
    halves[d] = quant::f32_to_f16(std::clamp(mean[d] / float(kKvBlock), -6e4F, 6e4F));
    mean[d] = quant::f16_to_f32(halves[d]);
  }
  float scale[kKvBlock];
  float largest = 0.0F;
  for (int64_t i = 0; i < kKvBlock; ++i) {
    float sum = 0.0F;
    for (int64_t d = 0; d < dim; ++d) {
      rows[i * dim + d] -= mean[d];
      sum += std::abs(rows[i * dim + d]);
    }
    scale[i] = sum / (float(dim) * kMeanPerStep);
    largest = std::max(largest, scale[i]);
  }
  const float unit = largest / 255.0F;
  auto* bytes = reinterpret_cast<uint8_t*>(part + 2 * dim);
  std::memset(bytes + kKvBlock, 0, PlanePart::kPad);
  std::memcpy(bytes + kKvBlock, &unit, sizeof(unit));
  uint8_t* planes = bytes + kKvBlock + PlanePart::kPad;
  std::memset(planes, 0, static_cast<size_t>(kKeyPlanes * dim * kKvBlock / 8));
  for (int64_t i = 0; i < kKvBlock; ++i) {
    const float steps = unit > 0.0F ? std::ceil(scale[i] / unit) : 0.0F;  // never 0 for a key that is not
    bytes[i] = static_cast<uint8_t>(std::min(steps, 255.0F));
    const float inverse = steps > 0.0F ? 1.0F / (std::min(steps, 255.0F) * unit) : 0.0F;
    const float* row = rows + i * dim;
    for (int64_t group = 0; group < dim / 4; ++group) {
      unsigned codes = 0;
      for (int64_t j = 0; j < 4; ++j) {
        const float at = std::clamp(row[4 * group + j] * inverse + 8.0F, 0.0F, float(kTop));
        codes |= static_cast<unsigned>(at) << (4 * j);
      }
      for (int p = 0; p < kKeyPlanes; ++p) {
        uint8_t& to = planes[(p * (dim / 8) + group / 2) * kKvBlock + i];
        to = static_cast<uint8_t>(to | gather(codes, kKeyPlanes - 1 - p) << (group % 2 * 4));
      }
    }
  }
}

void decode_planes(const std::byte* data, int64_t dim, float* rows) {
  const PlanePart part(data, dim);
  for (int64_t i = 0; i < kKvBlock; ++i) {
    float* row = rows + i * dim;
    for (int64_t d = 0; d < dim; ++d) {
      int code = 0;
      for (int64_t p = 0; p < kKeyPlanes; ++p) {
        const uint8_t byte = part.planes[(p * (dim / 8) + d / 8) * kKvBlock + i];
        code = code * 2 + (byte >> (d % 8) & 1);
      }
      row[d] = (static_cast<float>(code) - 0.5F * kTop) * static_cast<float>(part.scales[i]) * part.unit +
               quant::f16_to_f32(part.mean[d]);
    }
    rotate(row, dim);
  }
}

int plane_shift(int64_t dim) {
  const int64_t most = largest_entry(dim) * (dim / 4) * kTop / 2 + 1;
  int shift = 0;
  while (most << (shift + 1) <= 32767) ++shift;
  return shift;
}

void make_plane_tables(const float* q, int64_t n, int64_t dim, const PlaneTables& out) {
  // A score comes as its sum, shifted, times the key's scale in units, less 15 + 7 - 7 bits (the kernel's product).
  const float worth = 256.0F / static_cast<float>(int64_t{1} << plane_shift(dim));
  for (int64_t row = 0; row < n; ++row) {
    const float* x = q + row * dim;
    float range = 0.0F, total = 0.0F;  // sums of absolute elements: the largest of 4 dimensions, and of all
    for (int64_t g = 0; g < dim; g += 4) {
      const float sum = std::abs(x[g]) + std::abs(x[g + 1]) + std::abs(x[g + 2]) + std::abs(x[g + 3]);
      range = std::max(range, sum);
      total += sum;
    }
    if (!(range > 0.0F && std::isfinite(total))) {
      std::memset(out.tables + row * dim * 4, 0, static_cast<size_t>(dim) * 4);
      out.centres[row] = 0;
      out.factors[row] = 0.0F;
      continue;
    }
    const auto most = static_cast<float>(largest_entry(dim));
    const float step = range / most;
    const float inverse = 1.0F / step;
    for (int64_t g = 0; g < dim; g += 4) {
      uint8_t* table = out.tables + row * dim * 4 + g * 4;
      float sums[16];
      sums[0] = 0.5F;  // for rounding
      for (int64_t j = 0; j < 4; ++j) sums[0] -= std::min(x[g + j] * inverse, 0.0F);
      for (int64_t j = 0; j < 4; ++j) {
        for (int64_t m = 0; m < (1 << j); ++m) sums[(1 << j) + m] = sums[m] + x[g + j] * inverse;
      }
      for (int64_t m = 0; m < 16; ++m) table[m] = static_cast<uint8_t>(std::clamp(sums[m], 0.0F, most));
    }
    out.centres[row] = static_cast<int16_t>(std::lround(std::min(0.5F * kTop * total * inverse, 32767.0F)));
    out.factors[row] = step * worth;
  }
}

}  // namespace lcrun::attention

// Compiled once per instruction set: see kernels.hpp.
#include "src/kernels/elementwise_impl.hpp"
#include "src/kernels/scan_impl.hpp"
#include "src/kernels/slots.hpp"

namespace lcrun::kernels {
namespace LCRUN_TARGET {
namespace {

constexpr MatmulSlots kMatmul{};
constexpr OpSlots kOps{rms_norm, layer_norm, glu,       activate,   rope,     add_scaled, scale,    soft_cap,
                       softmax,  dot,        max_value, sum_exp,    delta_step, ssm_step,   conv_step};
constexpr AttentionSlots kAttention{};

}  // namespace

#define LCRUN_STRING_INNER(x) #x
#define LCRUN_STRING(x) LCRUN_STRING_INNER(x)
extern const Kernels table;
const Kernels table{LCRUN_STRING(LCRUN_TARGET), kMatmul, kOps, kAttention};

}  // namespace LCRUN_TARGET
}  // namespace lcrun::kernels

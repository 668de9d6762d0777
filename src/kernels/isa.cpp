// Compiled once per instruction set: see kernels.hpp.
#include "src/kernels/slots.hpp"

namespace lcrun::kernels {
namespace LCRUN_TARGET {
namespace {

constexpr MatmulSlots kMatmul{};
constexpr OpSlots kOps{};
constexpr AttentionSlots kAttention{};

}  // namespace

#define LCRUN_STRING_INNER(x) #x
#define LCRUN_STRING(x) LCRUN_STRING_INNER(x)
extern const Kernels table;
const Kernels table{LCRUN_STRING(LCRUN_TARGET), kMatmul, kOps, kAttention};

}  // namespace LCRUN_TARGET
}  // namespace lcrun::kernels

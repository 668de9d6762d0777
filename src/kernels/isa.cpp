// Compiled once per instruction set: see kernels.hpp.
#include "src/kernels/attention_impl.hpp"
#include "src/kernels/elementwise_impl.hpp"
#include "src/kernels/matmul_impl.hpp"
#if defined(__AMX_INT8__)
#include "src/kernels/matmul_amx_impl.hpp"
#include "src/kernels/matmul_tiles_impl.hpp"
#endif
#include "src/kernels/scan_impl.hpp"
#include "src/kernels/slots.hpp"

namespace lcrun::kernels {
namespace LCRUN_TARGET {
namespace {

#if defined(__AMX_INT8__)
constexpr MatmulSlots kMatmul = make_matmul_slots<MatmulBackend, AmxTiles>();
#else
constexpr MatmulSlots kMatmul = make_matmul_slots<MatmulBackend, NoTiles>();
#endif
constexpr OpSlots kOps{rms_norm, layer_norm, glu,       activate, rope,       add_scaled, scale,    soft_cap,
                       softmax,  dot,        max_value, sum_exp,  delta_step, ssm_step,   conv_step};
constexpr AttentionSlots kAttention{
    {encode_k_f32, encode_k_f16, encode_k_bf16, encode_k_q8_0, encode_k_q4_0},
    {encode_v_f32, encode_v_f16, encode_v_bf16, encode_v_q8_0, encode_v_q4_0},
    {keys_to_f32<KeysF32>, keys_to_f32<KeysF16>, keys_to_f32<KeysBF16>, keys_to_f32<KeysQ8>, keys_to_f32<KeysQ4>},
    {values_to_f32<ValuesF32>, values_to_f32<ValuesF16>, values_to_f32<ValuesBF16>, values_to_f32<ValuesQ8>,
     values_to_f32<ValuesQ4>},
    {scores<KeysF32>, scores<KeysF16>, scores<KeysBF16>, scores<KeysQ8>, scores<KeysQ4>},
    softmax_block,
    {accumulate<ValuesF32>, accumulate<ValuesF16>, accumulate<ValuesBF16>, accumulate<ValuesQ8>, accumulate<ValuesQ4>}};

}  // namespace

#define LCRUN_STRING_INNER(x) #x
#define LCRUN_STRING(x) LCRUN_STRING_INNER(x)
extern const Kernels table;
const Kernels table{LCRUN_STRING(LCRUN_TARGET), kMatmul, kOps, kAttention};

}  // namespace LCRUN_TARGET
}  // namespace lcrun::kernels

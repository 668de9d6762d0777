// Compiled once per instruction set: see kernels.hpp.
#include "src/kernels/attention_impl.hpp"
#include "src/kernels/attention_pairs_impl.hpp"
#include "src/kernels/elementwise_impl.hpp"
#include "src/kernels/matmul_impl.hpp"
#if defined(__AMX_INT8__)
#include "src/kernels/matmul_amx_impl.hpp"
#include "src/kernels/matmul_tiles_impl.hpp"
#elif defined(__AVX512VNNI__) || defined(__AVXVNNI__)
#include "src/kernels/matmul_wide_impl.hpp"
#endif
#include "src/kernels/planes_impl.hpp"
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
    quantize_q,
    {keys_to_f32<KeysF32>, keys_to_f32<KeysF16>, keys_to_f32<KeysBF16>, key_pairs_tile<KeyPairsQ8>,
     key_pairs_tile<KeyPairsQ4>},
    {values_to_f32<ValuesF32>, values_to_f32<ValuesF16>, values_to_f32<ValuesBF16>, value_pairs_tile<ValuePairsQ8>,
     value_pairs_tile<ValuePairsQ4>},
    {scores<KeysF32>, scores<KeysF16>, scores<KeysBF16>, pair_scores<KeyPairsQ8>, pair_scores<KeyPairsQ4>},
    {scores<KeysF32>, scores<KeysF32>, scores<KeysF32>, pair_scores<KeyPairsTile>, pair_scores<KeyPairsTile>},
    {softmax_block<false>, softmax_block<false>, softmax_block<false>, softmax_block<true>, softmax_block<true>},
    {accumulate<ValuesF32>, accumulate<ValuesF16>, accumulate<ValuesBF16>, pair_accumulate<ValuePairsQ8>,
     pair_accumulate<ValuePairsQ4>},
    {accumulate<ValuesF32>, accumulate<ValuesF32>, accumulate<ValuesF32>, pair_accumulate<ValuePairsTile>,
     pair_accumulate<ValuePairsTile>},
    plane_scores};

}  // namespace

#define LCRUN_STRING_INNER(x) #x
#define LCRUN_STRING(x) LCRUN_STRING_INNER(x)
extern const Kernels table;
const Kernels table{LCRUN_STRING(LCRUN_TARGET), kMatmul, kOps, kAttention};

}  // namespace LCRUN_TARGET
}  // namespace lcrun::kernels

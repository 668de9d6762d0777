// Compiled once per backend: see emulated_amx.hpp.
#include "tests/support/emulated_amx.hpp"

#include "src/kernels/matmul_impl.hpp"
#include "src/kernels/matmul_tiles_impl.hpp"
#include "tests/support/emulated_tiles.hpp"

namespace lcrun::kernels {
namespace LCRUN_TARGET {

const test::EmulatedAmx emulated{"emulated amx", make_matmul_slots<MatmulBackend, EmulatedTiles>(),
                                 EmulatedTiles::misused, EmulatedTiles::multiplications};

}  // namespace LCRUN_TARGET
}  // namespace lcrun::kernels

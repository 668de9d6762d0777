// The kernel table: one per instruction set, chosen once for the process.
//
// isa.cpp is compiled once per instruction set (meson.build lists them) with that set's flags and
// -DLCRUN_TARGET=<name>; everything in it lives in namespace lcrun::kernels::<name>::(anonymous) and only the table
// has external linkage, so that no AVX-512 copy of a shared inline function can reach an older processor
// (scripts/check_isa_symbols.py). Kernel headers (*_impl.hpp) include <cstdint>, <cstddef>, <cstring>, <cmath>,
// xsimd and intrinsics only. A slot handles a whole row panel, row or block: never one quant block a call.
// Bits: -ffp-contract=off; fused multiply-adds are written out, so that a result never depends on how the compiler
// inlined a loop.
#pragma once

#include <span>

#include "src/kernels/slots.hpp"

namespace lcrun::kernels {

// The table in use (ops.hpp: set_isa, active_isa).
const Kernels& active();
// Tables built in and runnable here, slowest first.
std::span<const Kernels* const> available();

// Uses a table that is none of those (tests); it must outlive its use.
void set_table(const Kernels& table);

}  // namespace lcrun::kernels

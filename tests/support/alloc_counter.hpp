// Counts calls of operator new in a test executable that links alloc_counter.cpp.
//
// Thread rule: counts all threads.
#pragma once

#include <cstdint>

namespace lcrun::testing {

// Calls so far.
int64_t allocation_count();

}  // namespace lcrun::testing

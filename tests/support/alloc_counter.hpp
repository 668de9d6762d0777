// Counts calls of operator new, and fails one of them if asked, in a test executable that links alloc_counter.cpp.
//
// Thread rule: counts all threads.
#pragma once

#include <cstdint>

namespace lcrun::testing {

// Calls so far.
int64_t allocation_count();
// The call after k more fails, aligned_alloc included; -1: none does.
void fail_allocation(int64_t k);
// Has it?
bool allocation_failed();

}  // namespace lcrun::testing

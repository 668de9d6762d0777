// Memory that the system is asked to back with large pages.
#pragma once

#include <cstddef>

namespace lcrun {

constexpr size_t kLargePage = size_t{2} << 20;

// Fresh zero pages that start at a large page, a whole number of small ones; null if there are none. For munmap().
std::byte* map_large(size_t size_bytes);

}  // namespace lcrun

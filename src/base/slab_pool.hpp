// SlabPool: blocks of some tens of kilobytes, cut from pieces of 2 MiB that the system can back with large pages.
//
// A cache that is read as a whole for each token is read faster from large pages (docs/speed.md), and blocks come and
// go one by one. Blocks of one size and arena share pieces; a piece goes back to the system with its last block. Pieces
// count in MemoryBudget::process() as a whole.
// Thread rule: any thread, at any time.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <mutex>
#include <unordered_map>
#include <utility>
#include <vector>

#include "src/base/large_pages.hpp"
#include "src/base/memory_budget.hpp"

namespace lcrun {

class SlabPool {
 public:
  static constexpr size_t kPieceBytes = kLargePage;
  // The pool of the process, which is never destroyed: blocks may outlive everything else.
  static SlabPool& process();

  // Are blocks of this size worth a piece?
  static bool fits(size_t bytes) { return bytes >= kLeastBytes && bytes <= kMostBytes && bytes % kUnit == 0; }
  // Contents undefined, aligned to 64. Null where there is no memory for a piece, or the cap does not allow one.
  std::byte* take(size_t bytes, Arena arena);
  void give(std::byte* block, size_t bytes, Arena arena);
  size_t pieces() const;

 private:
  static constexpr size_t kUnit = 64;
  static constexpr size_t kLeastBytes = size_t{16} << 10;
  static constexpr size_t kMostBytes = size_t{512} << 10;

  struct Piece {
    size_t in_use = 0;
    size_t cut = 0;                  // bytes of it that have been blocks
    std::vector<std::byte*> free{};  // blocks that were given back
  };
  using Kind = std::pair<size_t, Arena>;

  mutable std::mutex mutex_;
  std::unordered_map<std::byte*, Piece> pieces_;       // by their first byte
  std::map<Kind, std::vector<std::byte*>> with_room_;  // pieces of which blocks can be had
};

}  // namespace lcrun

#include "src/base/slab_pool.hpp"

#include <sys/mman.h>

#include <algorithm>

namespace lcrun {

SlabPool& SlabPool::process() {
  static SlabPool* const pool = new SlabPool;
  return *pool;
}

std::byte* SlabPool::take(size_t bytes, Arena arena) {
  const std::lock_guard lock(mutex_);
  std::vector<std::byte*>& room = with_room_[{bytes, arena}];
  if (room.empty()) {
    if (!MemoryBudget::process().take(arena, kPieceBytes).has_value()) return nullptr;
    std::byte* const first = map_large(kPieceBytes);
    if (first == nullptr) {
      MemoryBudget::process().give(arena, kPieceBytes);
      return nullptr;
    }
    pieces_.emplace(first, Piece{});
    room.push_back(first);
  }
  std::byte* const first = room.back();
  Piece& piece = pieces_.at(first);
  std::byte* block = nullptr;
  if (!piece.free.empty()) {
    block = piece.free.back();
    piece.free.pop_back();
  } else {
    block = first + piece.cut;
    piece.cut += bytes;
  }
  ++piece.in_use;
  if (piece.free.empty() && piece.cut + bytes > kPieceBytes) room.pop_back();
  return block;
}

void SlabPool::give(std::byte* block, size_t bytes, Arena arena) {
  const std::lock_guard lock(mutex_);
  // Pieces begin at multiples of their size.
  std::byte* const first = block - reinterpret_cast<uintptr_t>(block) % kPieceBytes;
  Piece& piece = pieces_.at(first);
  std::vector<std::byte*>& room = with_room_[{bytes, arena}];
  const bool was_full = piece.free.empty() && piece.cut + bytes > kPieceBytes;
  if (--piece.in_use > 0) {
    piece.free.push_back(block);
    if (was_full) room.push_back(first);
    return;
  }
  if (!was_full) room.erase(std::find(room.begin(), room.end(), first));
  pieces_.erase(first);
  munmap(first, kPieceBytes);
  MemoryBudget::process().give(arena, kPieceBytes);
}

size_t SlabPool::pieces() const {
  const std::lock_guard lock(mutex_);
  return pieces_.size();
}

}  // namespace lcrun

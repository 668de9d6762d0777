// Pair merging, common to byte-pair encoding and SentencePiece's BPE: neighbouring symbols join, the best pair
// first, among equals the leftmost, until no pair joins. O(n log n) in the symbols: a linked list and a heap.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

namespace lcrun::text {

struct MergeSymbol {
  uint32_t begin = 0;  // bytes, within the word
  uint32_t size = 0;   // bytes; 0 = merged into the symbol before it
  uint32_t previous = 0;
  uint32_t next = 0;
  int32_t id = -1;  // of the word's alphabet; -1 = none
};
inline constexpr uint32_t kNoSymbol = UINT32_MAX;

// What a pair becomes: the lower the rank, the sooner. id < 0: the pair does not join.
struct Joined {
  uint32_t rank = 0;
  int32_t id = -1;
};

class Merger {
 public:
  // Reused from word to word, so that short words cost no allocation.
  std::vector<MergeSymbol> symbols;

  void clear() { symbols.clear(); }
  void push(uint32_t begin, uint32_t size, int32_t id) {
    const auto at = static_cast<uint32_t>(symbols.size());
    if (at > 0) symbols.back().next = at;
    symbols.push_back({begin, size, at == 0 ? kNoSymbol : at - 1, kNoSymbol, id});
  }

  // join(left, right) -> Joined. Afterwards symbols of size > 0, in order, are the result.
  template <class Join>
  void run(const Join& join) {
    heap_.clear();
    for (uint32_t left = 0; left + 1 < symbols.size(); ++left) consider(left, left + 1, join);
    std::make_heap(heap_.begin(), heap_.end(), later);
    while (!heap_.empty()) {
      std::pop_heap(heap_.begin(), heap_.end(), later);
      const Candidate best = heap_.back();
      heap_.pop_back();
      const auto at = static_cast<uint32_t>(best.order);  // low half: the left symbol
      MergeSymbol& left = symbols[at];
      if (left.size == 0 || left.next == kNoSymbol) continue;
      MergeSymbol& right = symbols[left.next];
      // Sizes of symbols only grow, so an equal sum means an unchanged pair.
      if (left.size + right.size != best.size) continue;
      left.size = best.size;
      left.id = best.id;
      right.size = 0;
      left.next = right.next;
      if (left.next != kNoSymbol) symbols[left.next].previous = at;
      const uint32_t previous = left.previous;
      const uint32_t next = left.next;
      if (previous != kNoSymbol && consider(previous, at, join)) std::push_heap(heap_.begin(), heap_.end(), later);
      if (next != kNoSymbol && consider(at, next, join)) std::push_heap(heap_.begin(), heap_.end(), later);
    }
  }

 private:
  struct Candidate {
    uint64_t order;  // rank, then position of the left symbol
    uint32_t size;   // bytes of both
    int32_t id;
  };
  static bool later(const Candidate& a, const Candidate& b) { return a.order > b.order; }

  template <class Join>
  bool consider(uint32_t left, uint32_t right, const Join& join) {
    const Joined joined = join(symbols[left], symbols[right]);
    if (joined.id < 0) return false;
    heap_.push_back({uint64_t{joined.rank} << 32 | left, symbols[left].size + symbols[right].size, joined.id});
    return true;
  }

  std::vector<Candidate> heap_;
};

}  // namespace lcrun::text

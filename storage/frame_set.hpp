// FrameSet: which frames are free. Pages that come from the disk together are put into frames next to each other where
// that can be had: one piece of memory is read far faster than many (docs/speed.md).
//
// Thread rule: the store's driving thread.
#pragma once

#include <bit>
#include <cstdint>
#include <vector>

namespace lcrun::storage {

class FrameSet {
 public:
  static constexpr uint32_t kNone = UINT32_MAX;

  // All of n frames free.
  explicit FrameSet(uint32_t n = 0) : words_((n + 63) / 64, ~uint64_t{0}), size_(n), free_(n) {
    if (n % 64 != 0) words_.back() = (uint64_t{1} << n % 64) - 1;
  }
  uint32_t count() const { return free_; }
  bool is_free(uint32_t frame) const { return (words_[frame / 64] >> frame % 64 & 1) != 0; }

  // The first one; requires count() > 0.
  uint32_t take() {
    while (words_[first_word_] == 0) ++first_word_;
    const auto frame = first_word_ * 64 + static_cast<uint32_t>(std::countr_zero(words_[first_word_]));
    mark_taken(frame);
    return frame;
  }
  // The first of n next to each other; kNone if there are none.
  uint32_t take_run(uint32_t n) {
    uint32_t found = 0;
    for (uint32_t frame = first_word_ * 64; frame < size_ && free_ >= n; ++frame) {
      if (found == 0 && frame % 64 == 0 && words_[frame / 64] == 0) {
        frame += 63;
        continue;
      }
      found = is_free(frame) ? found + 1 : 0;
      if (found < n) continue;
      for (uint32_t i = 0; i < n; ++i) mark_taken(frame - i);
      return frame + 1 - n;
    }
    return kNone;
  }
  void give(uint32_t frame) {
    words_[frame / 64] |= uint64_t{1} << frame % 64;
    if (frame / 64 < first_word_) first_word_ = frame / 64;
    ++free_;
  }

 private:
  void mark_taken(uint32_t frame) {
    words_[frame / 64] &= ~(uint64_t{1} << frame % 64);
    --free_;
  }

  std::vector<uint64_t> words_;
  uint32_t size_ = 0;
  uint32_t free_ = 0;
  uint32_t first_word_ = 0;  // no free frame lies in a word before it
};

}  // namespace lcrun::storage

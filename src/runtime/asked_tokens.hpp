// Which tokens of a session were asked (questions and answers, which choose what they read) and which were read as
// text: what a page holds depends on it, so it is kept with the tokens.
// Thread rule: that of the session.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

namespace lcrun::runtime {

class AskedTokens {
 public:
  struct Span {
    int64_t begin;
    int64_t end;
    bool operator==(const Span&) const = default;
  };

  // [begin, end) is asked; what was said of `begin` and after it before is forgotten.
  void set(int64_t begin, int64_t end);
  // The spans of `others` within [begin, end), behind what there is. Requires that to end at `begin` or before it.
  void append(std::span<const Span> others, int64_t begin, int64_t end);
  void cut(int64_t end);  // forgets what is at `end` and behind it
  void clear() { spans_.clear(); }

  bool contains(int64_t pos) const { return begin_of(pos).has_value(); }
  // First of the asked tokens without a gap up to `pos`; nothing if that one is not asked.
  std::optional<int64_t> begin_of(int64_t pos) const;
  // How many tokens from `pos` on, at most n, are alike.
  int64_t alike(int64_t pos, int64_t n) const;
  std::span<const Span> spans() const { return spans_; }

 private:
  std::vector<Span> spans_;  // ascending and apart
};

}  // namespace lcrun::runtime

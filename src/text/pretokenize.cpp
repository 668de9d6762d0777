// The scanner that interprets alternatives. Linear because each of its loops either consumes what it reads or asks
// for a run of white space or digits, whose end is remembered until the scan has passed it.
#include "src/text/pretokenize.hpp"

#include <algorithm>

namespace lcrun::text {

namespace {

struct Char {
  uint32_t value = 0;
  CharClass bits = 0;
  uint32_t size = 0;  // 0: past the end
};

class Scanner {
 public:
  explicit Scanner(std::string_view text) : text_(text) {}

  // End of the first alternative that matches at `at`; `at` itself when none does.
  size_t match(Stage stage, size_t at) {
    const Char first = char_at(at);
    for (const Alternative& alternative : stage) {
      const size_t end = match_one(alternative, at, first);
      if (end != at) return end;
    }
    return at;
  }

  size_t next(size_t at) const { return at + decode_code_point(text_, at).size; }

 private:
  // A maximal run of white space, seen from some position in it.
  struct SpaceRun {
    size_t begin = 0;
    size_t end = 0;
    size_t last = 0;              // start of its last code point
    size_t after_line_break = 0;  // end of its last CR or LF; 0 = has none
    size_t count = 0;             // code points in [begin, end)
  };
  struct DigitRun {
    size_t next = 0;
    size_t count = 0;  // left from `next` on
  };

  Char char_at(size_t at) const {
    if (at >= text_.size()) return {};
    const auto byte = static_cast<unsigned char>(text_[at]);
    if (byte < 0x80) return {byte, char_class(byte), 1};
    const CodePoint cp = decode_code_point(text_, at);
    return {cp.value, char_class(cp.value), cp.size};
  }

  static bool belongs(const CharSet& set, const Char& c) { return c.size != 0 && set.contains(c.value, c.bits); }

  size_t match_one(const Alternative& a, size_t at, const Char& first) {
    switch (a.op) {
      case Op::kRun:
        return match_run(a, at, first);
      case Op::kContraction:
        return skip_contraction(at, false);
      case Op::kContractionAnyCase:
        return skip_contraction(at, true);
      case Op::kCased:
        return match_cased(a, at, first);
      case Op::kSpacedLetters:
        return match_spaced_letters(a, at, first);
      case Op::kDigitGroups:
        return match_digit_group(a, at, first);
      default:
        return (first.bits & kSpace) != 0 ? match_spaces(a.op, at) : at;
    }
  }

  size_t match_run(const Alternative& a, size_t at, const Char& first) const {
    if (belongs(a.lead, first)) {
      const size_t start = at + first.size;
      const size_t end = run_with_tail(a, start);
      if (end != start) return end;
    }
    if (a.lead_required || !belongs(a.body, first)) return at;
    return run_with_tail(a, at);
  }

  size_t run_with_tail(const Alternative& a, size_t at) const {
    uint32_t count = 0;
    size_t end = at;
    while (count < a.max_count) {
      const Char c = char_at(end);
      if (!belongs(a.body, c)) break;
      end += c.size;
      ++count;
    }
    if (count < a.min_count) return at;
    for (uint32_t tail = 0; a.tail != 0 && tail < a.tail_max; ++tail) {
      const Char c = char_at(end);
      if ((c.bits & a.tail) == 0) break;
      end += c.size;
    }
    return end;
  }

  size_t skip_contraction(size_t at, bool any_case) const {
    const auto letter = [&](size_t i) -> char {
      if (i >= text_.size()) return '\0';
      const char c = text_[i];
      return any_case && c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
    };
    if (letter(at) != '\'') return at;
    const char one = letter(at + 1);
    if (one == 's' || one == 't' || one == 'm' || one == 'd') return at + 2;
    const char two = letter(at + 2);
    const bool pair = (one == 'r' && two == 'e') || (one == 'v' && two == 'e') || (one == 'l' && two == 'l');
    return pair ? at + 3 : at;
  }

  size_t match_cased(const Alternative& a, size_t at, const Char& first) const {
    const size_t led = belongs(a.lead, first) ? at + first.size : at;
    size_t end = at;
    for (const bool lower_required : {true, false}) {
      for (const size_t start : {led, at}) {
        const size_t found = lower_required ? uppers_then_lowers(a, start) : uppers_maybe_lowers(a, start);
        if (found == start) continue;
        end = found;
        break;
      }
      if (end != at) break;
    }
    return end != at && a.suffix ? skip_contraction(end, true) : end;
  }

  size_t skip_set(const CharSet& set, size_t at) const {
    for (Char c = char_at(at); belongs(set, c); c = char_at(at)) at += c.size;
    return at;
  }

  // upper*body+: when nothing of `body` follows the uppers, the last upper that is also of `body` is given back.
  size_t uppers_then_lowers(const Alternative& a, size_t at) const {
    size_t after_both = at;
    size_t end = at;
    Char c = char_at(end);
    while (belongs(a.upper, c)) {
      end += c.size;
      if (belongs(a.body, c)) after_both = end;
      c = char_at(end);
    }
    return belongs(a.body, c) ? skip_set(a.body, end) : after_both;
  }

  size_t uppers_maybe_lowers(const Alternative& a, size_t at) const {
    const size_t end = skip_set(a.upper, at);
    return end == at ? at : skip_set(a.body, end);
  }

  size_t match_spaced_letters(const Alternative& a, size_t at, const Char& first) const {
    const CharSet letters{kLetter};
    const CharSet marks{kMark};
    size_t start = at;
    if (belongs(a.lead, first) && belongs(letters, char_at(at + first.size))) start += first.size;
    size_t end = start;
    while (true) {
      Char c = char_at(end);
      size_t letter = end;
      if (end != start && (c.bits & kBlank) != 0) {
        letter += c.size;
        c = char_at(letter);
      }
      if (!belongs(letters, c)) break;
      end = skip_set(marks, letter + c.size);
    }
    return end == start ? at : end;
  }

  size_t match_digit_group(const Alternative& a, size_t at, const Char& first) {
    if (!belongs(a.body, first)) return at;
    if (digits_.next != at || digits_.count == 0) {
      digits_ = {at, 0};
      for (size_t end = at; belongs(a.body, char_at(end)); end = next(end)) ++digits_.count;
    }
    const size_t group = digits_.count % 3 != 0 ? digits_.count % 3 : 3;
    size_t end = at;
    for (size_t i = 0; i < group; ++i) end = next(end);
    digits_ = {end, digits_.count - group};
    return end;
  }

  // `at` is white space.
  const SpaceRun& space_run(size_t at) {
    if (at >= spaces_.begin && at < spaces_.end) {
      for (; spaces_.begin < at; spaces_.begin = next(spaces_.begin)) --spaces_.count;
      return spaces_;
    }
    spaces_ = {at, at, at, 0, 0};
    for (Char c = char_at(at); (c.bits & kSpace) != 0; c = char_at(spaces_.end)) {
      spaces_.last = spaces_.end;
      spaces_.end += c.size;
      ++spaces_.count;
      if ((c.bits & kNewline) != 0) spaces_.after_line_break = spaces_.end;
    }
    return spaces_;
  }

  size_t match_spaces(Op op, size_t at) {
    const SpaceRun& run = space_run(at);
    const bool ends_text = run.end == text_.size();
    switch (op) {
      case Op::kLineBreaks:
        return std::max(at, run.after_line_break);
      case Op::kSpacesBeforeText:
        return ends_text ? run.end : run.last;
      case Op::kSpacesAtEnd:
        return ends_text ? run.end : at;
      case Op::kSpaceCascade: {
        const size_t followed_by_no_text = ends_text ? run.count : run.count - 1;
        size_t take = 512;
        while (take > 1 && take > followed_by_no_text) take /= 2;
        size_t end = at;
        for (size_t i = 0; i < take; ++i) end = next(end);
        return end;
      }
      default:
        return at;
    }
  }

  std::string_view text_;
  SpaceRun spaces_;
  DigitRun digits_;
};

class Splitter {
 public:
  Splitter(std::span<const Stage> stages, const std::function<void(std::string_view)>& sink)
      : stages_(stages), sink_(sink) {}

  // Recursion over stages (at most six), never over the text.
  void split(std::string_view text, size_t stage) const {
    if (stage == stages_.size()) {
      for (; text.size() > kMaxPieceBytes; text.remove_prefix(kMaxPieceBytes)) {
        sink_(text.substr(0, kMaxPieceBytes));
      }
      sink_(text);
      return;
    }
    Scanner scanner(text);
    size_t unmatched = 0;
    size_t at = 0;
    while (at < text.size()) {
      const size_t end = scanner.match(stages_[stage], at);
      if (end == at) {
        at = scanner.next(at);
        continue;
      }
      if (unmatched < at) split(text.substr(unmatched, at - unmatched), stage + 1);
      split(text.substr(at, end - at), stage + 1);
      unmatched = at = end;
    }
    if (unmatched < text.size()) split(text.substr(unmatched), stage + 1);
  }

 private:
  std::span<const Stage> stages_;
  const std::function<void(std::string_view)>& sink_;
};

}  // namespace

bool CharSet::in_ranges(CodeRanges ranges, uint32_t value) {
  const auto after = std::upper_bound(ranges.begin(), ranges.end(), value,
                                      [](uint32_t v, const CodeRange& range) { return v < range.first; });
  return after != ranges.begin() && value <= (after - 1)->last;
}

void pre_tokenize(std::string_view text, std::span<const Stage> stages,
                  const std::function<void(std::string_view)>& sink) {
  if (!text.empty()) Splitter(stages, sink).split(text, 0);
}

}  // namespace lcrun::text

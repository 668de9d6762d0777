// Integers and numbers between bounds, as GBNF: split by sign, by number of digits, then digit by digit.
#include <algorithm>

#include "src/text/grammar_rules.hpp"
#include "src/text/json_schema.hpp"

namespace lcrun::text::grammar {
namespace {

constexpr int64_t kMost = 999'999'999'999'999'999;  // 18 digits
constexpr const char* kFraction = " (\".\" [0-9]{1,15})?";

std::string digit_class(char first, char last) {
  if (first == last) return format("\"{}\"", first);
  return format("[{}-{}]", first, last);
}

std::string any_digits(size_t count) {
  if (count == 0) return "";
  return count == 1 ? " [0-9]" : format(" [0-9]{{}}", count);
}

void add(std::string& alternatives, const std::string& one) {
  if (!alternatives.empty()) alternatives += " | ";
  alternatives += one;
}

// low and high have equally many digits and low <= high.
std::string same_length(const std::string& low, const std::string& high) {
  if (low.empty()) return "";
  const std::string low_rest = low.substr(1);
  const std::string high_rest = high.substr(1);
  if (low[0] == high[0]) {
    const std::string rest = same_length(low_rest, high_rest);
    return rest.empty() ? digit_class(low[0], low[0]) : format("{} ({})", digit_class(low[0], low[0]), rest);
  }
  const std::string zeros(low_rest.size(), '0');
  const std::string nines(low_rest.size(), '9');
  std::string out;
  char first = low[0];
  char last = high[0];
  if (low_rest != zeros) {
    add(out, format("{} ({})", digit_class(first, first), same_length(low_rest, nines)));
    ++first;
  }
  const bool ends_early = high_rest != nines;
  if (ends_early) --last;
  if (first <= last) add(out, digit_class(first, last) + any_digits(low_rest.size()));
  if (ends_early) add(out, format("{} ({})", digit_class(high[0], high[0]), same_length(zeros, high_rest)));
  return out;
}

// 0 <= low <= high.
std::string natural_range(int64_t low, int64_t high) {
  std::string out;
  while (true) {
    const std::string low_digits = std::to_string(low);
    const std::string high_digits = std::to_string(high);
    if (low_digits.size() == high_digits.size()) {
      add(out, same_length(low_digits, high_digits));
      return out;
    }
    const std::string nines(low_digits.size(), '9');
    add(out, same_length(low_digits, nines));
    low = std::stoll(nines) + 1;
  }
}

// Magnitudes from low to high with any fraction between them; 0 <= low <= high.
std::string fraction_range(int64_t low, int64_t high) {
  std::string out;
  if (low < high) add(out, format("({}){}", natural_range(low, high - 1), kFraction));
  add(out, format("({})", natural_range(high, high)));
  return out;
}

template <class Range>
std::string signed_range(int64_t low, int64_t high, Range range) {
  if (low > high) fail("JSON schema: the minimum {} is above the maximum {}", low, high);
  std::string out;
  if (low < 0) {
    const int64_t nearest = high < 0 ? -high : (range == natural_range ? 1 : 0);
    add(out, format("\"-\" ({})", range(nearest, -low)));
  }
  if (high >= 0) add(out, format("({})", range(std::max<int64_t>(low, 0), high)));
  return out;
}

int64_t bounded(std::optional<int64_t> value, int64_t fallback) {
  if (!value.has_value()) return fallback;
  if (*value < -kMost || *value > kMost) fail("JSON schema: the bound {} has more than 18 digits", *value);
  return *value;
}

}  // namespace

std::string integer_range(std::optional<int64_t> least, std::optional<int64_t> most) {
  return signed_range(bounded(least, -kMost), bounded(most, kMost), natural_range);
}

std::string number_range(std::optional<int64_t> least, std::optional<int64_t> most) {
  return signed_range(bounded(least, -kMost), bounded(most, kMost), fraction_range);
}

std::string literal(std::string_view text) {
  static constexpr char kHex[] = "0123456789ABCDEF";
  std::string out = "\"";
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (c == '"' || c == '\\') {
      out += '\\';
      out += c;
    } else if (byte < 0x20 || byte == 0x7F) {
      out += "\\x";
      out += kHex[byte >> 4];
      out += kHex[byte & 15];
    } else {
      out += c;
    }
  }
  return out + '"';
}

}  // namespace lcrun::text::grammar

#include "src/runtime/option_values.hpp"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <limits>
#include <numeric>
#include <span>

#include "src/base/format.hpp"

namespace lcrun::runtime {
namespace {

struct Unit {
  std::string_view name;
  double factor;
};

constexpr Unit kTokenUnits[] = {{"", 1},    {"k", 1e3}, {"K", 1e3},     {"m", 1e6},       {"M", 1e6},
                                {"g", 1e9}, {"G", 1e9}, {"Ki", 1024.0}, {"Mi", 1048576.0}};
constexpr Unit kByteUnits[] = {{"", 1},         {"B", 1},        {"K", 0x1p10},   {"M", 0x1p20},   {"G", 0x1p30},
                               {"T", 0x1p40},   {"k", 0x1p10},   {"m", 0x1p20},   {"g", 0x1p30},   {"t", 0x1p40},
                               {"KiB", 0x1p10}, {"MiB", 0x1p20}, {"GiB", 0x1p30}, {"TiB", 0x1p40}, {"Ki", 0x1p10},
                               {"Mi", 0x1p20},  {"Gi", 0x1p30},  {"Ti", 0x1p40},  {"kB", 1e3},     {"KB", 1e3},
                               {"MB", 1e6},     {"GB", 1e9},     {"TB", 1e12}};

Error bad_value(std::string_view text, std::string_view wanted) {
  return make_error(Code::kInvalidArgument, "found \"{}\", wanted {}", text, wanted);
}

// A decimal number (digits, perhaps a point) and a unit; negative whole numbers without a unit pass too.
Result<int64_t> parse_scaled(std::string_view text, std::span<const Unit> units, std::string_view wanted) {
  int64_t whole = 0;
  const auto [end, status] = std::from_chars(text.data(), text.data() + text.size(), whole);
  if (status == std::errc() && end == text.data() + text.size()) return whole;
  const size_t split = text.find_first_not_of("0123456789.");
  const std::string_view digits = text.substr(0, split);
  const std::string_view unit_name = split == std::string_view::npos ? "" : text.substr(split);
  double number = 0;
  const auto parsed = std::from_chars(digits.data(), digits.data() + digits.size(), number);
  if (digits.empty() || parsed.ec != std::errc() || parsed.ptr != digits.data() + digits.size()) {
    return bad_value(text, wanted);
  }
  for (const Unit& unit : units) {
    if (unit.name != unit_name || unit_name.empty()) continue;
    const double value = number * unit.factor;
    if (value >= 9.2e18 || value != std::floor(value)) return bad_value(text, wanted);
    return static_cast<int64_t>(value);
  }
  return bad_value(text, wanted);
}

}  // namespace

Result<int64_t> parse_integer(std::string_view text) {
  int64_t value = 0;
  const auto [end, status] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (status != std::errc() || end != text.data() + text.size()) return bad_value(text, "a whole number");
  return value;
}

Result<int64_t> parse_tokens(std::string_view text) {
  return parse_scaled(text, kTokenUnits, "a number of tokens such as 4096, 64k or 1M");
}

Result<std::vector<int64_t>> parse_tokens_list(std::string_view text) {
  std::vector<int64_t> values;
  for (size_t begin = 0; begin <= text.size();) {
    const size_t comma = std::min(text.find(',', begin), text.size());
    LCRUN_ASSIGN(const int64_t value, parse_tokens(text.substr(begin, comma - begin)));
    values.push_back(value);
    begin = comma + 1;
  }
  return values;
}

Result<int64_t> parse_bytes(std::string_view text) {
  return parse_scaled(text, kByteUnits, "a size such as 4096, 512MiB or 4GiB");
}

Result<double> parse_real(std::string_view text) {
  double value = 0;
  const auto [end, status] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (status != std::errc() || end != text.data() + text.size() || !std::isfinite(value)) {
    return bad_value(text, "a number");
  }
  return value;
}

std::string bytes_text(uint64_t bytes) {
  static constexpr const char* kNames[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
  double value = static_cast<double>(bytes);
  size_t unit = 0;
  while (value >= 1024 && unit + 1 < std::size(kNames)) {
    value /= 1024;
    ++unit;
  }
  char text[32];
  std::snprintf(text, sizeof(text), unit == 0 ? "%.0f %s" : "%.2f %s", value, kNames[unit]);
  return text;
}

std::string choices_text(std::string_view choices) {
  std::string text;
  for (const char c : choices) {
    if (c == '|')
      text += ", ";
    else
      text += c;
  }
  return text;
}

bool is_choice(std::string_view value, std::string_view choices) {
  for (size_t begin = 0; begin <= choices.size();) {
    const size_t bar = std::min(choices.find('|', begin), choices.size());
    if (choices.substr(begin, bar - begin) == value) return true;
    begin = bar + 1;
  }
  return false;
}

size_t edit_distance(std::string_view a, std::string_view b) {
  // Optimal string alignment: a swap of neighbours, the commonest slip of the fingers, counts once.
  std::vector<size_t> before(b.size() + 1);
  std::vector<size_t> last(b.size() + 1);
  std::vector<size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), size_t{0});
  for (size_t i = 1; i <= a.size(); ++i) {
    before.swap(last);
    last.swap(row);
    row[0] = i;
    for (size_t j = 1; j <= b.size(); ++j) {
      row[j] = std::min({last[j] + 1, row[j - 1] + 1, last[j - 1] + (a[i - 1] == b[j - 1] ? 0 : 1)});
      const bool swapped = i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1];
      if (swapped) row[j] = std::min(row[j], before[j - 2] + 1);
    }
  }
  return row[b.size()];
}

}  // namespace lcrun::runtime

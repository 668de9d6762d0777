// Arithmetic, membership, slicing and % formatting, with Python's rules (floor division, signs of %, int or float).
#include <algorithm>
#include <cmath>
#include <cstdio>

#include "src/text/jinja_interpreter.hpp"

namespace lcrun::text::jinja {
namespace {

bool is_whole(const Value& value) { return value.is<int64_t>() || value.is<bool>(); }
int64_t whole(const Value& value) { return value.is<bool>() ? int64_t{*value.as<bool>()} : *value.as<int64_t>(); }
double real(const Value& value) { return is_whole(value) ? static_cast<double>(whole(value)) : *value.as<double>(); }

[[noreturn]] void overflow() { fail("an integer does not fit 64 bits"); }

int64_t int_power(int64_t base, int64_t exponent) {
  int64_t out = 1;
  while (exponent > 0) {
    if ((exponent & 1) != 0 && __builtin_mul_overflow(out, base, &out)) overflow();
    exponent >>= 1;
    if (exponent > 0 && __builtin_mul_overflow(base, base, &base)) overflow();
  }
  return out;
}

Value int_arithmetic(std::string_view op, int64_t a, int64_t b) {
  int64_t out = 0;
  bool bad = false;
  if (op == "+") bad = __builtin_add_overflow(a, b, &out);
  if (op == "-") bad = __builtin_sub_overflow(a, b, &out);
  if (op == "*") bad = __builtin_mul_overflow(a, b, &out);
  if (op == "**") {
    if (b < 0) return std::pow(static_cast<double>(a), static_cast<double>(b));
    out = int_power(a, b);
  }
  if (op == "/" || op == "//" || op == "%") {
    if (b == 0) fail("division by zero");
    if (op == "/") return static_cast<double>(a) / static_cast<double>(b);
    if (b == -1) {  // INT64_MIN / -1 overflows
      if (op == "%") return int64_t{0};
      bad = __builtin_sub_overflow(int64_t{0}, a, &out);
    } else {
      const int64_t quotient = a / b - ((a % b != 0 && (a % b < 0) != (b < 0)) ? 1 : 0);
      out = op == "//" ? quotient : a - quotient * b;
    }
  }
  if (bad) overflow();
  return out;
}

Value real_arithmetic(std::string_view op, double a, double b) {
  if (op == "+") return a + b;
  if (op == "-") return a - b;
  if (op == "*") return a * b;
  if (op == "**") return std::pow(a, b);
  if (b == 0) fail("division by zero");
  if (op == "/") return a / b;
  if (op == "//") return std::floor(a / b);
  const double rest = std::fmod(a, b);
  return rest != 0 && (rest < 0) != (b < 0) ? rest + b : rest;
}

Value repeat(Interpreter& interpreter, const Value& sequence, int64_t count) {
  if (sequence.is_string()) {
    const Text& text = sequence.text();
    Text out;
    for (int64_t i = 0; i < count && !text.empty(); ++i) {
      interpreter.charge(1);
      out.append(text);
      if (out.size() > kMaxOutputBytes) break;
    }
    return interpreter.built(std::move(out));
  }
  const List& list = **sequence.as<ListPtr>();
  std::vector<Value> items;
  for (int64_t i = 0; i < count && !list.items.empty(); ++i) {
    interpreter.charge(1 + list.items.size());
    items.insert(items.end(), list.items.begin(), list.items.end());
  }
  return make_list(std::move(items), list.is_tuple);
}

// One conversion of a % pattern ("%5.2f" style: flags and width for numbers only).
Text convert(const std::string& spec, char kind, const Value& value) {
  if (kind == 's' || kind == 'r') {
    if (spec != "%") fail("'{}{}' is not supported", spec, kind);
    if (kind == 's') return to_text(value);
    Text out;
    append_repr(value, out);
    return out;
  }
  if (spec.size() > 8) fail("the format '{}{}' is too long", spec, kind);
  if (!value.is_number()) fail("'%{}' needs a number, not '{}'", kind, type_name(value));
  char buffer[512];
  int size = 0;
  if (kind == 'd' || kind == 'i' || kind == 'x') {
    const int64_t number = is_whole(value) ? whole(value) : static_cast<int64_t>(std::clamp(real(value), -9e18, 9e18));
    const std::string pattern = spec + "ll" + kind;
    size = std::snprintf(buffer, sizeof(buffer), pattern.c_str(), static_cast<long long>(number));  // NOLINT
  } else if (kind == 'f' || kind == 'e' || kind == 'g') {
    size = std::snprintf(buffer, sizeof(buffer), (spec + kind).c_str(), real(value));  // NOLINT
  } else {
    fail("the format '%{}' is not supported", kind);
  }
  if (size < 0 || static_cast<size_t>(size) >= sizeof(buffer)) fail("the format '{}{}' is too wide", spec, kind);
  return Text(std::string_view(buffer, static_cast<size_t>(size)), true);
}

}  // namespace

Value percent_format(Interpreter& interpreter, const Text& pattern, const std::vector<Value>& values) {
  const std::string& bytes = pattern.bytes();
  Text out;
  size_t used = 0;
  for (size_t i = 0; i < bytes.size();) {
    const size_t percent = std::min(bytes.find('%', i), bytes.size());
    out.append(pattern, i, percent - i);
    if (percent == bytes.size()) break;
    size_t end = percent + 1;
    while (end < bytes.size() && std::string_view("0123456789.+- ").find(bytes[end]) != std::string_view::npos) ++end;
    if (end == bytes.size()) fail("the format ends within a conversion");
    if (bytes[end] == '%') {
      out.append("%", true);
    } else {
      if (used == values.size()) fail("not enough arguments for the format");
      out.append(convert(bytes.substr(percent, end - percent), bytes[end], values[used++]));
    }
    i = end + 1;
  }
  if (used != values.size()) fail("not all arguments were used by the format");
  return interpreter.built(std::move(out));
}

Value arithmetic(Interpreter& interpreter, std::string_view op, const Value& a, const Value& b) {
  if (a.is_number() && b.is_number()) {
    if (is_whole(a) && is_whole(b)) return int_arithmetic(op, whole(a), whole(b));
    return real_arithmetic(op, real(a), real(b));
  }
  if (op == "+" && a.is_string() && b.is_string()) {
    Text out = a.text();
    out.append(b.text());
    return interpreter.built(std::move(out));
  }
  const auto* left = a.as<ListPtr>();
  const auto* right = b.as<ListPtr>();
  if (op == "+" && left != nullptr && right != nullptr && (*left)->is_tuple == (*right)->is_tuple) {
    std::vector<Value> items = (*left)->items;
    items.insert(items.end(), (*right)->items.begin(), (*right)->items.end());
    return interpreter.built(std::move(items), (*left)->is_tuple);
  }
  if (op == "*" && (a.is_string() || left != nullptr) && is_whole(b)) return repeat(interpreter, a, whole(b));
  if (op == "*" && (b.is_string() || right != nullptr) && is_whole(a)) return repeat(interpreter, b, whole(a));
  if (op == "%" && a.is_string()) {
    const bool many = right != nullptr && (*right)->is_tuple;
    return percent_format(interpreter, a.text(), many ? (*right)->items : std::vector<Value>{b});
  }
  for (const Value* side : {&a, &b}) {
    const auto* undefined = side->as<Undefined>();
    if (undefined != nullptr) fail("'{}' is undefined", undefined->name == nullptr ? "value" : *undefined->name);
  }
  fail("'{}' {} '{}' is not possible", type_name(a), op, type_name(b));
}

bool contains(const Value& haystack, const Value& needle) {
  if (haystack.is_string()) {
    if (!needle.is_string()) fail("'in' a string needs a string, not '{}'", type_name(needle));
    return haystack.text().bytes().find(needle.text().bytes()) != std::string::npos;
  }
  if (const auto* dict = haystack.as<DictPtr>()) return (*dict)->find(needle) != nullptr;
  if (const auto* list = haystack.as<ListPtr>()) {
    return std::any_of((*list)->items.begin(), (*list)->items.end(),
                       [&](const Value& item) { return equal(item, needle); });
  }
  if (haystack.is_undefined()) return false;
  fail("'in' needs a sequence, not '{}'", type_name(haystack));
}

std::vector<size_t> slice_positions(size_t size, const Value& start, const Value& stop, const Value& step) {
  const auto count = static_cast<int64_t>(size);
  const auto number = [](const Value& value, int64_t fallback) {
    if (value.is_none()) return fallback;
    if (!value.is<int64_t>()) fail("slice bounds must be integers, not '{}'", type_name(value));
    return std::clamp(*value.as<int64_t>(), -(int64_t{1} << 60), int64_t{1} << 60);
  };
  const int64_t stride = number(step, 1);
  if (stride == 0) fail("the slice step cannot be zero");
  const int64_t low = stride > 0 ? 0 : -1;
  const int64_t high = stride > 0 ? count : count - 1;
  const auto bound = [&](const Value& value, int64_t fallback) {
    int64_t position = number(value, fallback);
    if (!value.is_none() && position < 0) position += count;
    return std::clamp(position, low, high);
  };
  const int64_t first = bound(start, stride > 0 ? low : high);
  const int64_t last = bound(stop, stride > 0 ? high : low);
  std::vector<size_t> positions;
  for (int64_t i = first; stride > 0 ? i < last : i > last; i += stride) positions.push_back(static_cast<size_t>(i));
  return positions;
}

}  // namespace lcrun::text::jinja

#include "ggufish/metadata.hpp"

#include <algorithm>
#include <cfloat>
#include <cmath>
#include <cstring>
#include <limits>
#include <new>
#include <numeric>

#include "ggufish/layout.hpp"
#include "ggufish/printable.hpp"
#include "src/base/bytes.hpp"
#include "src/base/format.hpp"

namespace lcrun::ggufish {
namespace {

constexpr size_t kShownBytes = 96;      // of a value in entries()
constexpr uint64_t kShownElements = 6;  // of an array in entries()

template <class T>
T load(const std::byte* at) {
  T value;
  std::memcpy(&value, at, sizeof(T));
  return value;
}

// A scalar integer or bool as int64; false when it does not fit (u64 only).
bool load_int(ValueType type, const std::byte* at, int64_t& out) {
  switch (type) {
    case ValueType::kU8:
    case ValueType::kBool:
      out = load<uint8_t>(at);
      return true;
    case ValueType::kI8:
      out = load<int8_t>(at);
      return true;
    case ValueType::kU16:
      out = load<uint16_t>(at);
      return true;
    case ValueType::kI16:
      out = load<int16_t>(at);
      return true;
    case ValueType::kU32:
      out = load<uint32_t>(at);
      return true;
    case ValueType::kI32:
      out = load<int32_t>(at);
      return true;
    case ValueType::kI64:
      out = load<int64_t>(at);
      return true;
    case ValueType::kU64: {
      const uint64_t value = load<uint64_t>(at);
      out = static_cast<int64_t>(value);
      return value <= static_cast<uint64_t>(std::numeric_limits<int64_t>::max());
    }
    default:
      return false;
  }
}

double load_float(ValueType type, const std::byte* at) {
  return type == ValueType::kF32 ? static_cast<double>(load<float>(at)) : load<double>(at);
}

std::string_view as_text(std::span<const std::byte> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

std::string kind_of(const KeyValue& value) {
  if (value.type != ValueType::kArray) return value_type_name(value.type);
  return format("array of {} {}", value.count, value_type_name(value.element_type));
}

std::string scalar_text(ValueType type, const std::byte* at) {
  if (type == ValueType::kBool) return load<uint8_t>(at) != 0 ? "true" : "false";
  if (is_float(type)) return format("{}", load_float(type, at));
  if (type == ValueType::kU64) return format("{}", load<uint64_t>(at));
  int64_t value = 0;
  load_int(type, at, value);
  return format("{}", value);
}

// The element at the front of `rest` for people, and `rest` moved past it; empty when the bytes ran out.
std::string next_element_text(ValueType type, std::span<const std::byte>& rest) {
  uint64_t size = scalar_bytes(type);
  std::string text;
  if (type == ValueType::kString) {
    if (rest.size() < sizeof(uint64_t)) return {};
    size = load<uint64_t>(rest.data());
    rest = rest.subspan(sizeof(uint64_t));
    if (size > rest.size()) return {};
    text = quoted(as_text(rest.first(static_cast<size_t>(size))), 24);
  } else {
    if (size > rest.size()) return {};
    text = scalar_text(type, rest.data());
  }
  rest = rest.subspan(static_cast<size_t>(size));
  return text;
}

std::string value_text(const KeyValue& value) {
  if (value.type == ValueType::kString) return quoted(as_text(value.payload), kShownBytes);
  if (value.type != ValueType::kArray) return scalar_text(value.type, value.payload.data());
  std::string text = format("[{}]", value.count);
  std::span<const std::byte> rest = value.payload;
  for (uint64_t i = 0; i < std::min(value.count, kShownElements); ++i) {
    text += i == 0 ? " " : ", ";
    text += next_element_text(value.element_type, rest);
  }
  return value.count > kShownElements ? text + ", ..." : text;
}

std::vector<std::string_view> keys_of(const std::vector<KeyValue>& values) {
  std::vector<std::string_view> keys;
  keys.reserve(values.size());
  for (const KeyValue& value : values) keys.push_back(value.key);
  return keys;
}

// Conversions allocate by the size of the file, which may be more than the machine has.
template <class T, class Fill>
Result<std::vector<T>> build_array(const KeyValue& value, const Fill& fill) {
  try {
    std::vector<T> out;
    out.reserve(static_cast<size_t>(value.count));
    LCRUN_TRY(fill(out));
    return out;
  } catch (const std::bad_alloc&) {
    return make_error(Code::kNoMemory, "{}: no memory for {} elements", printable(value.key, 80), value.count);
  }
}

}  // namespace

NameIndex::NameIndex(std::vector<std::string_view> names) : names_(std::move(names)), order_(names_.size()) {
  std::iota(order_.begin(), order_.end(), 0U);
  std::sort(order_.begin(), order_.end(), [this](uint32_t a, uint32_t b) {
    const int order = names_[a].compare(names_[b]);
    return order != 0 ? order < 0 : a < b;
  });
}

int64_t NameIndex::find(std::string_view name) const {
  const auto at = std::lower_bound(order_.begin(), order_.end(), name,
                                   [this](uint32_t i, std::string_view wanted) { return names_[i] < wanted; });
  return at != order_.end() && names_[*at] == name ? static_cast<int64_t>(*at) : -1;
}

int64_t NameIndex::find_duplicate() const {
  const auto at = std::adjacent_find(order_.begin(), order_.end(),
                                     [this](uint32_t a, uint32_t b) { return names_[a] == names_[b]; });
  return at == order_.end() ? -1 : static_cast<int64_t>(*(at + 1));
}

MetadataTable::MetadataTable(const std::string& file, std::vector<KeyValue> values)
    : file_(printable(file, kShownPath)), values_(std::move(values)), index_(keys_of(values_)) {}

const KeyValue* MetadataTable::find(std::string_view key) const {
  const int64_t at = index_.find(key);
  return at < 0 ? nullptr : &values_[static_cast<size_t>(at)];
}

const KeyValue* MetadataTable::find_duplicate() const {
  const int64_t at = index_.find_duplicate();
  return at < 0 ? nullptr : &values_[static_cast<size_t>(at)];
}

bool MetadataTable::has(std::string_view key) const { return find(key) != nullptr; }

bool MetadataTable::is_array(std::string_view key) const {
  const KeyValue* value = find(key);
  return value != nullptr && value->type == ValueType::kArray;
}

std::span<const std::byte> MetadataTable::encoded(std::string_view key) const {
  const KeyValue* value = find(key);
  return value == nullptr ? std::span<const std::byte>() : value->encoded;
}

Error MetadataTable::fail(std::string_view key, std::string_view found, std::string_view wanted) const {
  const KeyValue* value = find(key);
  const std::string place = value == nullptr ? file_ : format("{}: offset {}", file_, value->offset);
  return make_error(Code::kBadModel, "{}: {}: found {}, wanted {}", place, printable(key, 80), found, wanted);
}

Error MetadataTable::wrong_type(const KeyValue& value, std::string_view wanted) const {
  return fail(value.key, kind_of(value), wanted);
}

Result<const KeyValue*> MetadataTable::require(std::string_view key, std::string_view wanted) const {
  const KeyValue* value = find(key);
  if (value == nullptr) return fail(key, "nothing", wanted);
  return value;
}

Result<const KeyValue*> MetadataTable::require_array(std::string_view key, std::string_view wanted) const {
  LCRUN_ASSIGN(const KeyValue* value, require(key, wanted));
  if (value->type != ValueType::kArray) return wrong_type(*value, wanted);
  return value;
}

Result<int64_t> MetadataTable::get_int(std::string_view key) const {
  LCRUN_ASSIGN(const KeyValue* value, require(key, "an integer"));
  if (!is_integer(value->type)) return wrong_type(*value, "an integer");
  int64_t number = 0;
  if (!load_int(value->type, value->payload.data(), number)) {
    return fail(key, scalar_text(value->type, value->payload.data()), "an integer below 2^63");
  }
  return number;
}

Result<double> MetadataTable::get_float(std::string_view key) const {
  LCRUN_ASSIGN(const KeyValue* value, require(key, "a number"));
  if (is_float(value->type)) return load_float(value->type, value->payload.data());
  LCRUN_ASSIGN(const int64_t number, [&]() -> Result<int64_t> {
    if (!is_integer(value->type)) return wrong_type(*value, "a number");
    return get_int(key);
  }());
  return static_cast<double>(number);
}

Result<bool> MetadataTable::get_bool(std::string_view key) const {
  LCRUN_ASSIGN(const KeyValue* value, require(key, "a bool"));
  const bool one_byte = scalar_bytes(value->type) == 1;
  if (!one_byte) return wrong_type(*value, "a bool");
  const auto byte = load<uint8_t>(value->payload.data());
  if (byte > 1) return fail(key, scalar_text(value->type, value->payload.data()), "0 or 1");
  return byte == 1;
}

Result<std::string_view> MetadataTable::get_string(std::string_view key) const {
  LCRUN_ASSIGN(const KeyValue* value, require(key, "a string"));
  if (value->type != ValueType::kString) return wrong_type(*value, "a string");
  return as_text(value->payload);
}

Result<std::vector<int64_t>> MetadataTable::get_ints(std::string_view key) const {
  constexpr std::string_view kWanted = "an array of integers or bools";
  LCRUN_ASSIGN(const KeyValue* value, require_array(key, kWanted));
  const ValueType type = value->element_type;
  if (!is_integer(type) && type != ValueType::kBool) return wrong_type(*value, kWanted);
  return build_array<int64_t>(*value, [&](std::vector<int64_t>& out) -> Status {
    const std::byte* at = value->payload.data();
    for (uint64_t i = 0; i < value->count; ++i, at += scalar_bytes(type)) {
      int64_t number = 0;
      if (!load_int(type, at, number)) {
        return fail(key, format("{} at [{}]", scalar_text(type, at), i), "integers below 2^63");
      }
      out.push_back(number);
    }
    return {};
  });
}

Result<std::vector<float>> MetadataTable::get_floats(std::string_view key) const {
  constexpr std::string_view kWanted = "an array of f32 or f64";
  LCRUN_ASSIGN(const KeyValue* value, require_array(key, kWanted));
  const ValueType type = value->element_type;
  if (!is_float(type)) return wrong_type(*value, kWanted);
  return build_array<float>(*value, [&](std::vector<float>& out) -> Status {
    const std::byte* at = value->payload.data();
    for (uint64_t i = 0; i < value->count; ++i, at += scalar_bytes(type)) {
      const double number = load_float(type, at);
      if (std::isfinite(number) && std::abs(number) > static_cast<double>(FLT_MAX)) {
        return fail(key, format("{} at [{}]", number, i), "values that fit f32");
      }
      out.push_back(static_cast<float>(number));
    }
    return {};
  });
}

Result<std::vector<std::string_view>> MetadataTable::get_strings(std::string_view key) const {
  constexpr std::string_view kWanted = "an array of strings";
  LCRUN_ASSIGN(const KeyValue* value, require_array(key, kWanted));
  if (value->element_type != ValueType::kString) return wrong_type(*value, kWanted);
  return build_array<std::string_view>(*value, [&](std::vector<std::string_view>& out) -> Status {
    // Bounds are checked again: the bytes may lie in a mapping whose file someone rewrites.
    ByteReader in(value->payload, file_, Code::kBadModel);
    for (uint64_t i = 0; i < value->count; ++i) {
      LCRUN_ASSIGN(const uint64_t length, in.read<uint64_t>(key));
      LCRUN_ASSIGN(const auto bytes, in.read_bytes(key, length));
      out.push_back(as_text(bytes));
    }
    return {};
  });
}

std::vector<Metadata::Entry> MetadataTable::entries() const {
  std::vector<Entry> entries;
  entries.reserve(values_.size());
  for (const KeyValue& value : values_) {
    entries.push_back({value.key, value.type, value.element_type, value.count, value_text(value)});
  }
  return entries;
}

}  // namespace lcrun::ggufish

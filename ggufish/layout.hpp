// The constants of GGUF and the limits that we put on a file. docs/formats.md tells the same as prose.
//
//   file    = magic "GGUF" | u32 version | u64 n_tensors | u64 n_kv | n_kv x pair | n_tensors x info | pad |
//   data pair    = string key | u32 value type | value value   = scalar | string | u32 element type, u64
//   count, count x (scalar | string) string  = u64 length | bytes info    = string name | u32 n_dims | n_dims
//   x u64 ne | u32 type | u64 offset from the start of data
// All numbers are little endian. `pad` reaches the next multiple of the alignment; so does the gap between
// tensors.
#pragma once

#include <cstdint>
#include <string_view>

#include "ggufish/model_file.hpp"

namespace lcrun::ggufish {

// On disk: never renumber.
inline constexpr std::string_view kMagic = "GGUF";
inline constexpr uint32_t kOldestVersion = 2;  // version 1 had 32-bit lengths
inline constexpr uint32_t kNewestVersion = 3;
inline constexpr uint64_t kHeaderBytes = 24;

inline constexpr std::string_view kKeyAlignment = "general.alignment";
inline constexpr std::string_view kKeyArchitecture = "general.architecture";
inline constexpr std::string_view kKeySplitNo = "split.no";
inline constexpr std::string_view kKeySplitCount = "split.count";
inline constexpr std::string_view kKeySplitTensors = "split.tensors.count";

// Limits. The format itself has none for most of these; every file in use stays far below them.
inline constexpr uint64_t kMaxKeys = uint64_t{1} << 20;
inline constexpr uint64_t kMaxTensors = uint64_t{1} << 20;
inline constexpr uint64_t kMaxKeyBytes = 65535;
inline constexpr uint64_t kMaxNameBytes = 63;
inline constexpr uint64_t kMaxLength = uint64_t{1} << 30;  // bytes of a string, elements of an array
inline constexpr uint32_t kMaxDims = 4;
inline constexpr uint32_t kDefaultAlignment = 32;
inline constexpr uint32_t kMinAlignment = 8;  // the specification's; also what makes every element type aligned
inline constexpr uint32_t kMaxAlignment = uint32_t{1} << 20;
inline constexpr int64_t kMaxParts = 99999;  // of a split set: five digits in the name

// The least that a key or a tensor takes in the file, which bounds their number by the bytes that remain.
inline constexpr uint64_t kMinPairBytes = 8 + 1 + 4 + 1;
inline constexpr uint64_t kMinInfoBytes = 8 + 1 + 4 + 8 + 4 + 8;

constexpr bool is_value_type(uint32_t id) { return id <= static_cast<uint32_t>(ValueType::kF64); }

// Bytes of a scalar; 0 for strings and arrays, whose size depends on the value.
constexpr uint64_t scalar_bytes(ValueType type) {
  switch (type) {
    case ValueType::kU8:
    case ValueType::kI8:
    case ValueType::kBool:
      return 1;
    case ValueType::kU16:
    case ValueType::kI16:
      return 2;
    case ValueType::kU32:
    case ValueType::kI32:
    case ValueType::kF32:
      return 4;
    case ValueType::kU64:
    case ValueType::kI64:
    case ValueType::kF64:
      return 8;
    case ValueType::kString:
    case ValueType::kArray:
      return 0;
  }
  return 0;
}

constexpr const char* value_type_name(ValueType type) {
  switch (type) {
    case ValueType::kU8:
      return "u8";
    case ValueType::kI8:
      return "i8";
    case ValueType::kU16:
      return "u16";
    case ValueType::kI16:
      return "i16";
    case ValueType::kU32:
      return "u32";
    case ValueType::kI32:
      return "i32";
    case ValueType::kF32:
      return "f32";
    case ValueType::kBool:
      return "bool";
    case ValueType::kString:
      return "string";
    case ValueType::kArray:
      return "array";
    case ValueType::kU64:
      return "u64";
    case ValueType::kI64:
      return "i64";
    case ValueType::kF64:
      return "f64";
  }
  return "unknown";
}

// Does any GGUF integer type, bools left out, have this id?
constexpr bool is_integer(ValueType type) {
  return type != ValueType::kF32 && type != ValueType::kF64 && type != ValueType::kBool && scalar_bytes(type) != 0;
}
constexpr bool is_float(ValueType type) { return type == ValueType::kF32 || type == ValueType::kF64; }

constexpr uint64_t pad_up(uint64_t value, uint64_t alignment) {
  return (value + alignment - 1) / alignment * alignment;
}

}  // namespace lcrun::ggufish

#include "ggufish/split_set.hpp"

#include <cstdio>

#include "ggufish/layout.hpp"
#include "ggufish/printable.hpp"
#include "src/base/format.hpp"

namespace lcrun::ggufish {
namespace {

constexpr size_t kDigits = 5;
constexpr std::string_view kBetween = "-of-";
constexpr size_t kTagBytes = 1 + kDigits + kBetween.size() + kDigits;  // "-00001-of-00003"

// Five decimal digits at the start of `text`, or -1.
int64_t five_digits(std::string_view text) {
  int64_t value = 0;
  for (size_t i = 0; i < kDigits; ++i) {
    if (text[i] < '0' || text[i] > '9') return -1;
    value = value * 10 + (text[i] - '0');
  }
  return value;
}

std::string part_label(int64_t no, int64_t count) { return format("part {} of {}", no + 1, count); }

Result<SplitKeys> read_keys(const MetadataTable& meta) {
  SplitKeys keys;
  LCRUN_ASSIGN(keys.count, meta.get_int(kKeySplitCount));
  if (keys.count < 1 || keys.count > kMaxParts) {
    return meta.fail(kKeySplitCount, format("{}", keys.count), format("1 to {}", kMaxParts));
  }
  LCRUN_ASSIGN(keys.no, meta.get_int(kKeySplitNo));
  if (keys.no < 0 || keys.no >= keys.count) {
    return meta.fail(kKeySplitNo, format("{}", keys.no), format("0 to {}", keys.count - 1));
  }
  LCRUN_ASSIGN(keys.tensors, meta.get_int(kKeySplitTensors));
  return keys;
}

}  // namespace

std::string SplitName::path_of(int64_t part_number) const {
  char tag[32];
  std::snprintf(tag, sizeof(tag), "-%05d-of-%05d", static_cast<int>(part_number), static_cast<int>(count));
  return prefix + tag + suffix;
}

std::optional<SplitName> parse_split_name(const std::string& path) {
  const size_t slash = path.find_last_of('/');
  const size_t base = slash == std::string::npos ? 0 : slash + 1;
  // The extension, if there is one, follows the tag.
  const size_t dot = path.find_last_of('.');
  const size_t end = dot == std::string::npos || dot < base ? path.size() : dot;
  if (end < base + kTagBytes) return std::nullopt;
  const std::string_view tag = std::string_view(path).substr(end - kTagBytes, kTagBytes);
  if (tag[0] != '-' || tag.substr(1 + kDigits, kBetween.size()) != kBetween) return std::nullopt;
  SplitName name;
  name.number = five_digits(tag.substr(1));
  name.count = five_digits(tag.substr(1 + kDigits + kBetween.size()));
  if (name.number < 1 || name.count < name.number) return std::nullopt;
  name.prefix = path.substr(0, end - kTagBytes);
  name.suffix = path.substr(end);
  return name;
}

Result<std::optional<SplitKeys>> read_split_keys(const MetadataTable& meta) {
  if (!meta.has(kKeySplitCount) && !meta.has(kKeySplitNo)) return std::optional<SplitKeys>();
  LCRUN_ASSIGN(const SplitKeys keys, read_keys(meta));
  if (keys.count == 1) return std::optional<SplitKeys>();
  return std::optional<SplitKeys>(keys);
}

Result<SplitName> name_split_set(const std::string& path, const MetadataTable& meta, const SplitKeys& keys) {
  const std::optional<SplitName> name = parse_split_name(path);
  if (keys.no != 0) {
    const std::string first = name.has_value() ? name->path_of(1) : "the file that ends in -00001-of-...";
    return meta.fail(kKeySplitNo, part_label(keys.no, keys.count), format("the first part: open {}", first));
  }
  SplitName wanted;
  wanted.count = keys.count;
  if (!name.has_value()) {
    return meta.fail(kKeySplitCount, format("a set of {} files in a file not named like one", keys.count),
                     format("a name that ends in {}.gguf", wanted.path_of(1)));
  }
  if (name->count != keys.count) {
    return meta.fail(kKeySplitCount, format("{}", keys.count), format("{}, as the file name says", name->count));
  }
  if (name->number != 1) {
    return meta.fail(kKeySplitNo, part_label(keys.no, keys.count),
                     format("{}, as the file name says", part_label(name->number - 1, name->count)));
  }
  return *name;
}

Status check_split_part(const MetadataTable& first, const SplitKeys& keys, const MetadataTable& meta, int64_t no) {
  LCRUN_ASSIGN(const SplitKeys found, read_keys(meta));
  if (found.count != keys.count) {
    return meta.fail(kKeySplitCount, format("{}", found.count), format("{}, as in the first part", keys.count));
  }
  if (found.no != no) {
    return meta.fail(kKeySplitNo, part_label(found.no, found.count), part_label(no, keys.count));
  }
  if (found.tensors != keys.tensors) {
    return meta.fail(kKeySplitTensors, format("{}", found.tensors), format("{}, as in the first part", keys.tensors));
  }
  if (!meta.has(kKeyArchitecture)) return {};
  LCRUN_ASSIGN(const auto theirs, meta.get_string(kKeyArchitecture));
  LCRUN_ASSIGN(const auto ours, first.get_string(kKeyArchitecture));
  if (theirs != ours) {
    return meta.fail(kKeyArchitecture, quoted(theirs), format("{}, as in the first part", quoted(ours)));
  }
  return {};
}

}  // namespace lcrun::ggufish

// Split sets: one model in several files, NAME-00001-of-00003.gguf and so on. docs/formats.md has the rules.
//
// Paths are made from the path that the user gave, never from what a file says.
// Thread rule: pure functions.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "ggufish/metadata.hpp"
#include "ggufish/reader.hpp"
#include "src/base/result.hpp"

namespace lcrun::ggufish {

// PREFIX-00002-of-00003SUFFIX taken apart.
struct SplitName {
  std::string prefix;
  int64_t number = 0;  // 1-based
  int64_t count = 0;
  std::string suffix;

  std::string path_of(int64_t part_number) const;
};

// Nothing when the file is not named like a part.
std::optional<SplitName> parse_split_name(const std::string& path);

// What the keys of a part say.
struct SplitKeys {
  int64_t no = 0;  // 0-based
  int64_t count = 1;
  int64_t tensors = 0;  // of the whole set
};

// Nothing for a file that is complete by itself (no split keys, or a set of one).
Result<std::optional<SplitKeys>> read_split_keys(const MetadataTable& meta);

// The name of a set, once its first part was found to be one; errors when `path` is another part or misnamed.
Result<SplitName> name_split_set(const std::string& path, const MetadataTable& meta, const SplitKeys& keys);

// Is `meta` part `no` of the set that `first` begins?
Status check_split_part(const MetadataTable& first, const SplitKeys& keys, const MetadataTable& meta, int64_t no);

}  // namespace lcrun::ggufish

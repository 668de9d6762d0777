// What saving and restoring share: superblocks and sections of an open file. Internal to storage.
//
// Thread rule: that of the File.
#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <vector>

#include "src/base/file.hpp"
#include "src/base/result.hpp"
#include "storage/snapshot_format.hpp"

namespace lcrun::storage {

// Whole superblocks, the newest first; when there is none, the error of the first one.
Result<std::vector<Superblock>> read_superblocks(File& file);

// The bytes of a section; kBadSession when they are not what the superblock says.
Result<std::vector<std::byte>> read_section(File& file, const Superblock& superblock, uint32_t section);

// The file that `ref` of the file at `from` names; kBadSession when it is not the very commit.
struct ParentFile {
  std::shared_ptr<File> file;
  Superblock superblock;
};
Result<ParentFile> open_parent(FileSystem& fs, const std::string& from, const ParentRef& ref);
// How the file at `from` names the one at `path`, and back.
std::string parent_name(const std::string& from, const std::string& path);
std::string parent_path(const std::string& from, const std::string& name);

inline bool same_spec(const RegionSpec& a, const RegionSpec& b) {
  return a.kind == b.kind && a.name == b.name && a.block_bytes == b.block_bytes && a.window == b.window;
}
bool same_regions(const SnapshotTables& tables, const SequenceState& state);

}  // namespace lcrun::storage

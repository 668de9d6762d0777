// What saving and restoring share: superblocks and sections of an open file. Internal to storage.
//
// Thread rule: that of the File.
#pragma once

#include <cstddef>
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

inline bool same_spec(const RegionSpec& a, const RegionSpec& b) {
  return a.kind == b.kind && a.name == b.name && a.block_bytes == b.block_bytes && a.window == b.window;
}
bool same_regions(const SnapshotTables& tables, const SequenceState& state);

}  // namespace lcrun::storage

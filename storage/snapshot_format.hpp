// The bytes of a snapshot: a sequence on disk, as superblocks, sections and tables of pages (docs/formats.md).
//
// Pure functions between structures and bytes; who writes what when is snapshot.hpp. Two superblocks alternate: the
// newer whole one wins. A commit never writes over what the two commits before it refer to, so the one that lost its
// race against a crash leaves the other whole.
// Invariant of what decode gives: every offset is aligned, every extent lies inside file_bytes, pages of a region
// ascend, and all pages together are no larger than the file: memory for them is paid for by the file.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "src/base/result.hpp"
#include "src/base/sha256.hpp"
#include "storage/page_format.hpp"
#include "storage/region.hpp"

namespace lcrun::storage {

constexpr char kMagic[] = "LCRUNSES";  // on disk: never change
constexpr size_t kMagicBytes = 8;
constexpr uint32_t kSnapshotFormat = 2;        // on disk: a change of anything below is a new number
constexpr uint64_t kSuperblockBytes = 4096;    // on disk
constexpr uint32_t kSnapshotAlignment = 4096;  // on disk: of sections and pages
constexpr uint64_t kSnapshotStart = 2 * kSuperblockBytes;
constexpr uint64_t kCurrentState = ~uint64_t{0};  // on disk: the place of a fixed state as it is now
using Digest = std::array<uint8_t, 16>;

Digest digest_of(std::span<const std::byte> bytes);  // XXH3-128, big endian as xxHash prints it
std::string hex_text(std::span<const uint8_t> bytes);

// Bytes that have a checksum of their own. What is in the first three is the business of whoever saves.
enum SectionKind : uint32_t { kIdentitySection = 0, kTokensSection = 1, kExtraSection = 2, kTablesSection = 3 };
constexpr uint32_t kSections = 4;
const char* section_name(uint32_t section);

struct Section {
  uint64_t offset = 0;
  uint64_t bytes = 0;
  Digest digest{};
};

struct Superblock {
  SessionId id{};
  uint64_t sequence = 0;    // of the commit, from 1
  bool sealed = false;      // complete: never written again
  bool has_parent = false;  // its tables begin with a ParentRef
  uint64_t tokens = 0;      // of the state
  uint64_t file_bytes = 0;  // end of what this commit refers to
  std::array<Section, kSections> sections{};
};

using SuperblockBytes = std::array<std::byte, kSuperblockBytes>;
SuperblockBytes encode_superblock(const Superblock& superblock);
// kBadSession with field, found and wanted. `name` and `offset` are for the message.
Result<Superblock> decode_superblock(std::span<const std::byte> bytes, const std::string& name, uint64_t offset);

// Pages of blocks first, first + 1, ..: extents one behind the other, written by commit `generation`. Of a fixed
// region: one page, `first` is the rows of the mark, or kCurrentState.
struct PageRun {
  uint64_t first = 0;
  uint64_t count = 0;
  uint64_t offset = 0;
  uint64_t generation = 0;
};

// The sealed file whose first pages a snapshot shares instead of holding them itself. It has no parent of its own.
struct ParentRef {
  SessionId id{};
  uint64_t sequence = 0;    // of the commit
  uint64_t file_bytes = 0;  // its superblock's
  uint64_t tokens = 0;      // that are shared; whole blocks
  Sha256Digest chain{};     // over those tokens and all that their state depends on (prefix_chain())
  std::string path;         // beside the file that refers to it, if it is a bare name
};

// Key of whole blocks of tokens: a chain, block by block, that begins with `origin`, what the bytes of their pages
// depend on besides.
Sha256Digest prefix_chain(const Sha256Digest& origin, std::span<const std::byte> tokens, uint64_t block_bytes);

struct RegionTable {
  RegionSpec spec;
  std::vector<PageRun> runs;
  std::vector<PageRun> inherited = {};  // in the parent's file; of blocks before those of runs

  uint64_t extent() const { return extent_bytes(spec.block_bytes, kSnapshotAlignment); }
};

// [layer][region]
using SnapshotTables = std::vector<std::vector<RegionTable>>;
// `parent`: null if there is none.
std::vector<std::byte> encode_tables(const SnapshotTables& tables, const ParentRef* parent = nullptr);
// Gives `parent` where the superblock says that there is one.
Result<SnapshotTables> decode_tables(std::span<const std::byte> bytes, const std::string& name,
                                     const Superblock& superblock, std::optional<ParentRef>& parent);

}  // namespace lcrun::storage

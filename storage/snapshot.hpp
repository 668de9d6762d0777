// Snapshots: a sequence kept on disk, saved bit by bit and restored whole or as far as it is whole.
//
// A file that is new is written beside its name and renamed. Saving to it again writes only pages that changed, the
// tables and a superblock, into space that the last two commits do not refer to: after any failure the file restores to
// the old state or to the new one. Restoring builds a fresh state and checks every page on the way; a damaged page
// costs what comes after it, never more. Memory beside the state: a few MiB, the tables and the three opaque sections.
// What model, tokens and note are is known above (src/runtime/session_file.hpp): here they are bytes with checksums.
// Thread rule: one driving thread a call; pages are sealed and checked on n_threads.
#pragma once

#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "src/base/file.hpp"
#include "src/base/result.hpp"
#include "storage/region.hpp"
#include "storage/snapshot_format.hpp"

namespace lcrun::storage {

// What a save waits for (docs/reliability.md says what each keeps in which kind of crash).
enum class SyncMode : uint8_t {
  kNone,     // nothing: the system writes when it likes
  kBarrier,  // data is on the disk before the superblock, or the name, that refers to it
  kFull,     // and the superblock and the directory before the call returns
};

// Which commit of which file. Sequence 0: none.
struct SnapshotStamp {
  SessionId id{};
  uint64_t sequence = 0;
  bool operator==(const SnapshotStamp&) const = default;
};

// Pages that a state shares with a sealed file, as its tables have them.
struct Parent {
  ParentRef ref;          // `path` as this process opens it
  SnapshotTables tables;  // only runs count
};

struct SaveRequest {
  SequenceState& state;                 // only read, but what lies on a disk moves
  std::span<const std::byte> identity;  // the three sections that are opaque here
  std::span<const std::byte> tokens;
  std::span<const std::byte> extra;
  SyncMode sync = SyncMode::kBarrier;
  bool seal = false;  // the last commit that the file takes
  int n_threads = 1;
  // The first ref.tokens tokens of the state have the pages of that file, if it is still there: they are not written.
  const Parent* parent = nullptr;
  bool without_state = false;  // no pages and no tables: what the opaque sections hold is all that is kept
  SnapshotStamp last;          // the commit at `path` that state.saved_tokens() speaks of, if there is one
};

struct SaveReport {
  SnapshotStamp stamp;
  uint64_t pages = 0;  // written
  uint64_t bytes = 0;  // written, all in all
  bool whole = false;  // a new file, not an addition
};

// kBadSession: the file at `path` is sealed. Any other error: what the system said; the file is as it was, or (when
// only the last sync failed) as it should be.
Result<SaveReport> save_snapshot(FileSystem& fs, const std::string& path, const SaveRequest& request);

// A file whose superblock, identity and tokens are whole.
struct Snapshot {
  std::string path;
  std::shared_ptr<File> file;
  Superblock superblock;
  std::vector<std::byte> identity;
  std::vector<std::byte> tokens;
  std::vector<std::byte> extra;       // empty when it is damaged
  SnapshotTables tables;              // empty when they are damaged, or saved without_state
  bool has_state = true;              // saved with it
  std::optional<ParentRef> parent;    // `path` as this process opens it
  std::shared_ptr<File> parent_file;  // null: it is not there, or another file; parent_missing says which
  std::string parent_missing;
  std::vector<std::byte> parent_identity, parent_tokens;  // its sections
  std::vector<std::string> damage;                        // what is not whole, in words

  SnapshotStamp stamp() const { return {superblock.id, superblock.sequence}; }
  uint64_t pages() const;
  uint64_t live_bytes() const;    // of what this commit refers to in its file, superblocks included
  uint64_t shared_bytes() const;  // and in its parent's
  uint64_t block_bytes() const;   // of pages of blocks that grow: those that can stay in the file
};

// kBadSession: missing, or nothing of it can be trusted. kIo and others: the system refused.
Result<Snapshot> open_snapshot(FileSystem& fs, const std::string& path);

// Removes what savers to this name that were killed have left beside it; what somebody still writes stays.
void remove_leftovers(FileSystem& fs, const std::string& path);

// Does the file begin like a snapshot, whole or not? (What `rm` may remove.)
Result<bool> looks_like_snapshot(FileSystem& fs, const std::string& path);

// Fills a fresh state of the same regions; returns its tokens: snapshot.superblock.tokens, or as many as what is whole
// allows, with a line more in snapshot.damage. kBadSession: other regions. kNoMemory.
// `in_place`: sources of the state's store that are the file, sealed, and its parent. Paged blocks stay there, unread:
// damage to them shows when they are first needed. kBadSession: the parent is missing.
struct InPlace {
  std::optional<SourceId> own, parent;
};
Result<int64_t> restore_snapshot(Snapshot& snapshot, SequenceState& state, int n_threads, const InPlace& in_place = {});

// The parent of what is saved next from a state that this snapshot was restored to; nothing when there is none: it is
// neither sealed nor has a parent. Key and tokens are up to whoever saves.
std::optional<Parent> parent_of(const Snapshot& snapshot);

// Reads and checks every page; returns how many are damaged, and adds them (the first few) to snapshot.damage.
Result<uint64_t> verify_snapshot(Snapshot& snapshot, int n_threads);

}  // namespace lcrun::storage

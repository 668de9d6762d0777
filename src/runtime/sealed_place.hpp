// Where the blocks of a sealed session are when it is restored: in the file, which never changes, instead of in memory.
//
// Restoring then reads tokens, tables and marks, whatever the length; a block is read, and checked, when it is needed.
// Mapped, its memory is the system's and shared by all processes that answer from the file; read, it takes frames under
// the cap of the cache. New blocks go where they always go.
// Blocks that a session shares with a sealed one stay in that one's file alike, whether its own can change or not.
// Thread rule: that of the session.
#pragma once

#include <optional>

#include "src/runtime/session_file.hpp"
#include "storage/region.hpp"
#include "storage/snapshot.hpp"

namespace lcrun::runtime {

struct SealedPlace {
  storage::SequenceState state;  // empty
  storage::InPlace sources;      // of the state's store: the file, its parent
};

// Nothing: the pages are to be copied, because neither file is sealed, or what it takes is not to be had.
std::optional<SealedPlace> place_sealed(const storage::Snapshot& snapshot, const LoadRequest& request);

}  // namespace lcrun::runtime

// Paging: a cache that is larger than its memory, on a disk beside it.
//
// Gives a sequence a page store with as many frames as the memory cap leaves, over a scratch file without a name.
// Everything is reserved here, before the run: memory from the budget, disk space for the tokens that will be needed.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "src/base/result.hpp"
#include "storage/file_device.hpp"
#include "storage/region.hpp"

namespace lcrun::runtime {

// How the blocks of a sealed session are had.
enum class SealedForm : uint8_t {
  kAuto,    // mapped, if they fit in the memory the cache may have, else read
  kMapped,  // the file is mapped: shared by processes, read on first touch
  kRead,    // read past the page cache, as they are needed, into the cache's own memory
  kCopied,  // all of them are read and checked when the session is restored
};

struct PagingOptions {
  std::string directory;  // of the scratch file; "": no paging
  storage::DeviceOptions device;
  SealedForm sealed = SealedForm::kAuto;
  bool for_sealed = false;     // frames hold pages of session files as they are: a little larger, and read faster
  int n_threads = 1;           // that check pages
  int64_t blocks_at_once = 4;  // of a layer, that a step must be able to hold
  uint64_t spare_bytes = 0;    // of memory that forks of the state want beside the frames, as far as it goes
  int64_t reserve_tokens = 0;  // disk space that must be there before the run, as far as they do not fit in memory
  // Instead of a scratch file in `directory`, and of the file of a sealed session (tests). May be empty.
  std::function<Result<std::unique_ptr<storage::BlockDevice>>()> open_device;
  std::function<Result<std::unique_ptr<storage::BlockDevice>>(const std::string& path)> open_sealed;

  bool is_allowed() const { return !directory.empty() || open_device; }
};

struct PagingPlan {
  uint64_t page_bytes = 0;     // of a frame: the largest page
  uint64_t frames = 0;         // pages in memory
  uint64_t frames_wanted = 0;  // fewest that a step needs
  uint64_t reserve_pages = 0;
  uint64_t pages = 0;  // of n_ctx tokens

  bool is_enough() const { return frames > 0 && frames >= frames_wanted; }
};

// For a sequence of up to n_ctx tokens, read `batch` at once, within memory_bytes (page records included).
// append_bytes: block bytes of the regions that are paged, layer by layer; frames == 0 when there are none.
PagingPlan plan_paging(const std::vector<uint64_t>& append_bytes, uint64_t memory_bytes, int64_t n_ctx, int64_t batch,
                       const PagingOptions& options);

// Moves the empty sequence's Append regions onto pages. kNoMemory: fewer frames than a step needs. kNoSpace, kIo: the
// disk. The sequence is as before on error.
Status page_sequence(storage::SequenceState& state, const PagingPlan& plan, const PagingOptions& options);

}  // namespace lcrun::runtime

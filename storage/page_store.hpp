// PageStore: blocks of cache in a fixed number of memory frames, the rest on a disk; the lower half of the KV store.
//
// A table per (sequence, layer) says which page holds which block. Pages are shared by reference between sequences
// (fork) and copied when one of them writes. A page is open while it is filled; sealed, it is written to its extent
// behind the computation, after which its frame may be taken for another. What comes back from the disk is checked
// against the checksum of what was written, which stays in memory: a pin gives the right bytes or an error, never
// anything else. Pages that lie one behind the other move together.
// Pages can also lie in a source: a sealed file, which is only read (page_source.cpp). Each carries its own seal
// (page_format.hpp), looked at when it is first needed. They come into frames, or are given where a mapping has them.
// Errors leave tables and contents as they were; a page that cannot be read can be made again: truncate to it and
// append what the tokens say. A failed write keeps its page in memory; when half of the frames hold such pages, new
// blocks are refused, so that what is there can still be read.
// Thread rule: one driving thread; other threads may read the bytes of pins that it holds.
#pragma once

#include <array>
#include <memory>
#include <span>
#include <vector>

#include "src/base/file.hpp"
#include "src/base/memory_budget.hpp"
#include "src/base/workspace.hpp"
#include "storage/frame_lists.hpp"
#include "storage/frame_set.hpp"
#include "storage/io_queue.hpp"
#include "storage/page_format.hpp"
#include "storage/read_ahead.hpp"

namespace lcrun::storage {

using SequenceId = uint32_t;
using SourceId = uint32_t;

struct PageStoreConfig {
  std::vector<uint64_t> page_bytes;             // payload of a block, layer by layer
  uint64_t frames = 64;                         // pages in memory
  uint64_t frame_bytes = 0;                     // of one, if more than a page needs: extents of sources then come whole
  uint64_t reserve_pages = 0;                   // disk space had at once; more is asked for as it is needed
  int64_t sink_blocks = 1;                      // first blocks of a layer, and
  int64_t window_blocks = 16;                   // last ones, stay in memory while others can leave
  uint64_t write_when_free_below = UINT64_MAX;  // frames; while more are free, nothing is written behind
  int n_threads = 1;                            // that check pages
};

// A file of pages that are sealed and never change: read through a device, or where they lie in a mapping.
struct PageSource {
  SessionId session{};  // that the seals are bound to
  std::unique_ptr<BlockDevice> device;
  std::shared_ptr<Mapping> mapping;
  bool fits_in_memory = true;  // of a mapping: what was read once is likely to stay
};

// Pages of blocks one after another, in extents of a source one behind the other.
struct StoredPages {
  SourceId source = 0;
  uint32_t layer = 0;  // layer, head_group and generation as in the seals
  uint32_t head_group = 0;
  uint64_t count = 0;
  uint64_t offset = 0;
  uint64_t extent = 0;  // bytes; of all runs of a layer
  uint64_t generation = 0;
};

struct PageStoreStats {
  uint64_t hits = 0;    // pins that found their page in memory, read ahead or not
  uint64_t misses = 0;  // pins that waited for the disk
  uint64_t read_ahead = 0;
  uint64_t evicted = 0;
  uint64_t read_again = 0;  // after a wrong verdict
  uint64_t lost_reads = 0;  // pins that failed
  uint64_t failed_writes = 0;
  uint64_t retired_extents = 0;  // places of the disk that failed a write
  std::array<uint64_t, kVerdicts> verdicts{};
};

// Reads and writes of both kinds of devices together.
IoStats operator+(const IoStats& a, const IoStats& b);

// 16 bytes from the system.
Result<SessionId> random_session_id();

class PageStore;

// Keeps a page in memory. Bytes are valid while the pin lives; the store must outlive its pins.
class PagePin {
 public:
  PagePin() = default;
  PagePin(PagePin&& other) noexcept { swap(other); }
  PagePin& operator=(PagePin&& other) noexcept {
    PagePin(std::move(other)).swap(*this);
    return *this;
  }
  ~PagePin() { release(); }
  void release();
  bool has_value() const { return store_ != nullptr; }
  std::span<const std::byte> bytes() const { return bytes_; }
  // Requires a pin made for writing.
  std::span<std::byte> writable();

 private:
  friend class PageStore;
  PagePin(PageStore* store, PageNumber page, std::span<std::byte> bytes, bool writes)
      : store_(store), page_(page), bytes_(bytes), writes_(writes) {}
  void swap(PagePin& other) noexcept {
    std::swap(store_, other.store_);
    std::swap(page_, other.page_);
    std::swap(bytes_, other.bytes_);
    std::swap(writes_, other.writes_);
  }
  PageStore* store_ = nullptr;
  PageNumber page_ = kNoPage;
  std::span<std::byte> bytes_;
  bool writes_ = false;
};

class PageStore {
 public:
  // Frames and page records count in the process's budget (kNoMemory); space comes from the device (kNoSpace).
  static Result<std::unique_ptr<PageStore>> create(const PageStoreConfig& config, std::unique_ptr<BlockDevice> device);
  ~PageStore();

  Result<SequenceId> create_sequence();
  // The new sequence shares every page. kInvalidArgument while one of them is pinned for writing.
  Result<SequenceId> fork(SequenceId sequence);
  void drop(SequenceId sequence);
  // Shares the blocks that `from` has beyond those of `sequence`. kInvalidArgument while one is pinned for writing.
  Status append_shared(SequenceId sequence, uint32_t layer, SequenceId from);

  int64_t blocks(SequenceId sequence, uint32_t layer) const;
  // A new block at the end, zero-filled, open, pinned for writing.
  Result<PagePin> append(SequenceId sequence, uint32_t layer);
  Result<PagePin> pin(SequenceId sequence, uint32_t layer, int64_t block);
  // A page of its own, open again: shared ones, and those of sources, are copied.
  Result<PagePin> pin_for_writing(SequenceId sequence, uint32_t layer, int64_t block);
  // The block is full: it may be written once no pin writes to it.
  void seal(SequenceId sequence, uint32_t layer, int64_t block);
  // Blocks from n_blocks on are gone.
  void truncate(SequenceId sequence, uint32_t layer, int64_t n_blocks);
  // One block is gone; those behind it keep their numbers.
  void forget(SequenceId sequence, uint32_t layer, int64_t block);

  // kUnsupported: the device reads in units that do not suit the frames.
  Result<SourceId> add_source(PageSource source);
  // Blocks at the end that lie in a source; nothing is read. On error there are none of them.
  Status append_stored(SequenceId sequence, uint32_t layer, const StoredPages& run);
  // Waits for those of the blocks that are being read ahead, and checks, on all threads, those that came or lie in a
  // mapping and were not looked at so far. What is damaged is left to its pin, which reads it again or is an error.
  void check_together(SequenceId sequence, uint32_t layer, std::span<const int64_t> blocks);
  // kBadSession: a mapped source was cut short under its readers; what they saw since is not to be trusted.
  Status sources_status() const;

  // Blocks that will be pinned soon, soonest first: they are read as the queue has room, also while a pin waits for
  // another. Returns how many, from the first on, are in memory or will be; the rest would take too many frames.
  size_t prefetch(SequenceId sequence, uint32_t layer, std::span<const int64_t> blocks);
  // Moves reads and writes forward without waiting.
  void poll();
  // Writes every sealed page and waits; the error of the first that failed.
  Status flush();

  // Waits for what is in flight; the device is the caller's then, until the next call.
  void drain();

  const PageStoreStats& stats() const { return stats_; }
  IoStats io_stats() const;
  BlockDevice& device() { return *scratch_.device; }
  std::string device_name() const { return scratch_.device->name(); }
  uint64_t frames() const { return config_.frames; }
  uint64_t free_frames() const { return free_frames_.count(); }
  uint64_t pages() const { return live_pages_; }
  // Of frames in use, and of what is on the disk.
  uint64_t memory_bytes() const { return (config_.frames - free_frames_.count()) * frame_size_; }
  uint64_t disk_bytes() const { return extents_in_use() * extent_size_; }
  bool all_in_memory() const { return live_pages_ == config_.frames - free_frames_.count(); }
  uint64_t extents_in_use() const {
    return next_extent_ - unused_extents_ - free_extents_.size() - stats_.retired_extents;
  }

 private:
  friend class PagePin;
  enum class Io : uint8_t { kNone, kReading, kWriting };
  struct Page {
    uint64_t block = 0;
    uint64_t extent = kNoExtent;  // number of the place on the scratch disk; of a source: the offset
    PageCheck check{};            // of what the extent holds; of a source: the generation first
    uint32_t layer = 0;
    uint32_t source = 0;      // 0: the scratch disk
    uint32_t references = 0;  // tables that name it
    uint32_t pins = 0, writers = 0;
    uint32_t frame = kNoFrame;
    int failure = 0;  // of the last read: a Verdict, or 1000 + errno
    Io io = Io::kNone;
    bool dirty = false, open = false, hot = false, ahead = false, asked_again = false, wanted = false;
    bool checked = false;  // what a frame or a mapping has is what was written
  };
  // Pages on their way together.
  struct Group {
    uint32_t index = 0;
    uint32_t count = 0;  // of pages
    uint32_t n_parts = 0;
    uint32_t channel = 0;
    uint64_t bytes = 0;
    std::array<PageNumber, kMostParts / 2> pages{};
    std::array<IoPart, kMostParts> parts{};
    AlignedBuffer tails;  // what lies behind payloads of a source
  };
  struct Channel {
    std::unique_ptr<BlockDevice> device;
    std::unique_ptr<IoQueue> queue;  // after device: its end waits for it
    bool knows_memory = false;
  };
  struct Source {
    SessionId session{};
    std::shared_ptr<Mapping> mapping;
    Channel channel;
    bool fits_in_memory = true;
    uint64_t pages = 0;  // 0: the next source may take this place
    struct Region {
      uint32_t layer = 0, head_group = 0;
      uint64_t extent = 0;
    };
    std::vector<Region> regions;  // by layer of the store
  };
  using Table = std::vector<PageNumber>;
  struct Sequence {
    bool live = false;
    std::vector<Table> layers;
  };
  static constexpr uint64_t kNoExtent = UINT64_MAX;
  static constexpr uint32_t kNoFrame = UINT32_MAX;
  static constexpr size_t kMostSources = 1024;
  static constexpr size_t kCheckedAtOnce = 128;

  PageStore(const PageStoreConfig& config, std::unique_ptr<BlockDevice> device);

  // page_store.cpp
  Result<PageNumber> new_page(uint32_t layer, uint64_t block);
  void drop_reference(PageNumber number);
  void free_if_unused(PageNumber number);
  void unpin(PageNumber number, bool writes);
  PagePin make_pin(PageNumber number, bool writes);
  std::span<std::byte> payload(const Page& page);
  std::span<std::byte> frame_of(const Page& page);
  void forget_disk();
  void leave_place(Page& page);
  Table* table(SequenceId sequence, uint32_t layer);
  const Table* table(SequenceId sequence, uint32_t layer) const;
  Result<PageNumber> find(SequenceId sequence, uint32_t layer, int64_t block) const;

  // page_io.cpp
  Result<uint32_t> take_frame();
  Result<uint32_t> take_frame_for_new();
  bool evict_one(bool read_ahead_too);
  void evict(PageNumber victim);
  uint32_t take_run(uint32_t n);
  void give_frame_back(Page& page);
  Error no_frame() const;
  PageNumber pick_victim(PageList list);
  bool is_kept(const Page& page) const;
  Status load(PageNumber number);
  Channel& channel(uint32_t source) { return source == 0 ? scratch_ : sources_[source].channel; }
  std::vector<uint32_t>& free_groups(uint32_t source) { return free_groups_[source == 0 ? 0 : 1]; }
  bool has_room(uint32_t source) { return !free_groups(source).empty() && channel(source).queue->has_room(); }
  Group& begin_group(uint32_t source);
  void add_to_group(Group& group, PageNumber number);
  bool goes_on(const Group& group, const Page& page) const;
  uint64_t place_bytes(const Page& page) const;
  void start(Group& group, IoOp op);
  void add_read(Group& group, PageNumber number, uint32_t frame);
  uint64_t bytes_in_frame(const Page& page) const;
  void start_retries();
  static bool is_still_wanted(const Page& page) { return page.wanted && page.frame == kNoFrame && page.references > 0; }
  uint32_t neighbours_wanted();
  Status place_for_write(PageNumber number);
  bool start_write();
  // Leaves the last `may_wait` sealed pages, so that neighbours can be written together.
  void write_behind(uint64_t may_wait);
  void read_wanted();
  void queue_last_resort();
  // True if anything came back; `wait` for something.
  bool advance(bool wait);
  bool collect(Channel& from, bool wait);
  bool in_flight() const { return free_groups_[0].size() + free_groups_[1].size() < groups_.size(); }
  Verdict check(const Group& group, uint32_t index) const;
  Verdict check_frame(const Page& page, std::span<const std::byte> tail) const;
  void accept(PageNumber number);
  void finish_group_read(const Group& group, uint32_t index, int error);
  void finish_read(PageNumber number, int error, Verdict verdict);
  void finish_write(PageNumber number, int error);
  void settle(PageNumber number);
  Result<uint64_t> take_extent(uint32_t layer);
  Status grow_disk();
  Error read_error(const Page& page) const;

  // page_source.cpp
  bool is_mapped(const Page& page) const { return page.source != 0 && sources_[page.source].mapping != nullptr; }
  std::span<const std::byte> mapped_extent(const Page& page) const;
  PageIdentity identity_of(const Page& page) const;
  Verdict check_in_place(const Page& page) const;
  bool is_unchecked(const Page& page) const;
  Status check_one(PageNumber number);
  Status own_copy(PageNumber number);
  // False: none of the blocks is of a mapping.
  bool advise(SequenceId sequence, uint32_t layer, std::span<const int64_t> blocks);
  Status make_groups(uint32_t count, bool with_tails);

  PageStoreConfig config_;
  uint64_t extent_size_ = 0;  // of the largest page; every place on the scratch disk has room for it
  uint64_t frame_size_ = 0;   // at least that
  MemoryReservation table_reservation_;
  AlignedBuffer memory_;
  std::unique_ptr<Group> ahead_ = std::make_unique<Group>();  // of neighbours_wanted()
  std::vector<std::unique_ptr<Group>> groups_;                // one for each request that may be under way
  std::array<std::vector<uint32_t>, 2> free_groups_;          // of the scratch disk; of sources, with room for tails
  Channel scratch_;                        // after memory_ and groups_: the end of its queue waits for both
  std::vector<Source> sources_{1};         // the first is never used
  std::unique_ptr<ReadAhead> read_ahead_;  // of those that are mapped
  FrameSet free_frames_;
  std::vector<PageNumber> page_in_frame_;
  std::vector<Page> pages_;
  std::vector<PageNumber> free_pages_;
  std::vector<uint64_t> free_extents_;
  std::vector<Sequence> sequences_;
  std::vector<int64_t> newest_length_;  // blocks of the sequence that a layer grew last
  FrameLists lists_;
  std::vector<PageNumber> retries_;    // to be read once more, each by itself
  std::vector<PageNumber> unchecked_;  // of check_together()
  std::vector<uint8_t> verdicts_;
  std::vector<PageNumber> wanted_;  // a ring: read ahead, not started
  size_t wanted_first_ = 0, wanted_count_ = 0;
  // Extents set aside for a layer.
  struct Run {
    uint64_t next = 0, end = 0;
  };
  std::vector<Run> runs_;
  uint64_t next_extent_ = 0, reserved_extents_ = 0;
  uint64_t unused_extents_ = 0;  // of runs
  uint64_t live_pages_ = 0;
  uint64_t extents_of_blocks_ = 1;     // a multiple of it is a whole number of the file system's blocks
  uint64_t group_pages_ = 1;           // of a request, at most
  uint64_t kept_run_ = 1;              // pages that stay together: what one request brings
  uint64_t scanned_ = 0;               // runs of pages read for one use so far
  uint64_t scanned_run_ = UINT64_MAX;  // the last of them
  uint32_t reading_ = 0;               // pages under way
  uint32_t writing_ = 0;               // requests under way
  Status write_status_;                // of the last write that failed
  PageStoreStats stats_;
};

}  // namespace lcrun::storage

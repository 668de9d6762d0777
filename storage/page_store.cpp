#include "storage/page_store.hpp"

#include <sys/random.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <new>

#include "src/base/check.hpp"
#include "src/base/format.hpp"

namespace lcrun::storage {
namespace {

constexpr size_t kFrameAlignment = 4096;
constexpr uint64_t kGroupBytes = 256 << 10;  // of one request, but for a single page
constexpr uint64_t kKeptRun = 32;            // pages of a scan that stay, or not, together
constexpr size_t kPagesAtOnce = 1024;        // page records are made, and reserved from the budget, in steps of this

}  // namespace

Result<SessionId> random_session_id() {
  SessionId id;
  if (getrandom(id.data(), id.size(), 0) != static_cast<ssize_t>(id.size())) {
    return io_error("random numbers from the system", errno);
  }
  return id;
}

void PagePin::release() {
  if (store_ != nullptr) store_->unpin(page_, writes_);
  store_ = nullptr;
  bytes_ = {};
}

std::span<std::byte> PagePin::writable() {
  LCRUN_CHECK(writes_);
  return bytes_;
}

IoStats operator+(const IoStats& a, const IoStats& b) {
  return {a.reads + b.reads,     a.writes + b.writes, a.bytes_read + b.bytes_read, a.bytes_written + b.bytes_written,
          a.retries + b.retries, a.errors + b.errors};
}

PageStore::PageStore(const PageStoreConfig& config, std::unique_ptr<BlockDevice> device) : config_(config) {
  scratch_.device = std::move(device);
}

Result<std::unique_ptr<PageStore>> PageStore::create(const PageStoreConfig& config,
                                                     std::unique_ptr<BlockDevice> device) {
  const auto largest = std::max_element(config.page_bytes.begin(), config.page_bytes.end());
  if (largest == config.page_bytes.end() || *largest == 0 || *largest > (uint64_t{1} << 30) || config.frames < 2 ||
      config.frames > UINT32_MAX / 2) {
    return make_error(Code::kInvalidArgument,
                      "page store: found {} layers and {} frames, wanted layers and >= 2 frames",
                      config.page_bytes.size(), config.frames);
  }
  try {
    std::unique_ptr<PageStore> store(new PageStore(config, std::move(device)));
    PageStore& s = *store;
    const uint64_t unit = s.scratch_.device->alignment();
    s.extent_size_ = (*largest + unit - 1) / unit * unit;
    s.frame_size_ = std::max(s.extent_size_, (config.frame_bytes + unit - 1) / unit * unit);
    const uint64_t block = s.scratch_.device->block_bytes();
    while (s.extents_of_blocks_ < kMostParts / 2 && s.extents_of_blocks_ * s.extent_size_ % block != 0) {
      ++s.extents_of_blocks_;
    }
    s.group_pages_ = std::clamp<uint64_t>(kGroupBytes / s.extent_size_, 1, kMostParts / 2);
    s.kept_run_ = std::clamp<uint64_t>(config.frames / 32, 1, kKeptRun);
    LCRUN_ASSIGN(s.table_reservation_, MemoryBudget::process().reserve(Arena::kIndex, 0));
    LCRUN_ASSIGN(s.memory_, AlignedBuffer::allocate(config.frames * s.frame_size_, kFrameAlignment, Arena::kCache));
    if (config.reserve_pages > 0) {
      LCRUN_TRY(s.scratch_.device->allocate(config.reserve_pages * s.extent_size_));
      s.reserved_extents_ = config.reserve_pages;
    }
    s.scratch_.queue = std::make_unique<IoQueue>(*s.scratch_.device);
    LCRUN_TRY(s.make_groups(s.scratch_.device->depth(), false));
    s.retries_.reserve(config.frames);
    s.unchecked_.reserve(kCheckedAtOnce);
    s.verdicts_.resize(kCheckedAtOnce);
    s.free_frames_ = FrameSet(static_cast<uint32_t>(config.frames));
    s.page_in_frame_.assign(config.frames, kNoPage);
    s.wanted_.assign(config.frames / 2, kNoPage);
    s.runs_.assign(config.page_bytes.size(), Run{});
    s.newest_length_.assign(config.page_bytes.size(), 0);
    return store;
  } catch (const std::bad_alloc&) {
    return make_error(Code::kNoMemory, "page store: no memory for {} frames", config.frames);
  }
}

PageStore::~PageStore() = default;

Result<SequenceId> PageStore::create_sequence() {
  size_t id = 0;
  while (id < sequences_.size() && sequences_[id].live) ++id;
  try {
    if (id == sequences_.size()) sequences_.emplace_back();
    sequences_[id].layers.assign(config_.page_bytes.size(), {});
  } catch (const std::bad_alloc&) {
    return make_error(Code::kNoMemory, "page store: no memory for a sequence");
  }
  sequences_[id].live = true;
  return static_cast<SequenceId>(id);
}

Result<SequenceId> PageStore::fork(SequenceId sequence) {
  if (sequence >= sequences_.size() || !sequences_[sequence].live) {
    return make_error(Code::kInvalidArgument, "page store: no sequence {}", sequence);
  }
  for (const Table& layer : sequences_[sequence].layers) {
    for (const PageNumber number : layer) {
      if (number != kNoPage && pages_[number].writers > 0) {
        return make_error(Code::kInvalidArgument, "page store: sequence {} is being written", sequence);
      }
    }
  }
  LCRUN_ASSIGN(const SequenceId copy, create_sequence());
  try {
    sequences_[copy].layers = sequences_[sequence].layers;
  } catch (const std::bad_alloc&) {
    sequences_[copy] = Sequence{};
    return make_error(Code::kNoMemory, "page store: no memory for a fork");
  }
  for (const Table& layer : sequences_[copy].layers) {
    for (const PageNumber number : layer) {
      if (number != kNoPage) ++pages_[number].references;
    }
  }
  return copy;
}

Status PageStore::append_shared(SequenceId sequence, uint32_t layer, SequenceId from) {
  Table* to = table(sequence, layer);
  const Table* pages = table(from, layer);
  if (to == nullptr || pages == nullptr) {
    return make_error(Code::kInvalidArgument, "page store: no layer {} of sequences {} and {}", layer, sequence, from);
  }
  for (size_t b = to->size(); b < pages->size(); ++b) {
    if (pages_[(*pages)[b]].writers > 0) {
      return make_error(Code::kInvalidArgument, "page store: sequence {} is being written", from);
    }
  }
  try {
    to->reserve(pages->size());
  } catch (const std::bad_alloc&) {
    return make_error(Code::kNoMemory, "page store: no memory for {} shared pages", pages->size());
  }
  for (size_t b = to->size(); b < pages->size(); ++b) {
    to->push_back((*pages)[b]);
    ++pages_[to->back()].references;
  }
  newest_length_[layer] = static_cast<int64_t>(to->size());
  return {};
}

void PageStore::drop(SequenceId sequence) {
  LCRUN_CHECK(sequence < sequences_.size() && sequences_[sequence].live);
  for (uint32_t layer = 0; layer < config_.page_bytes.size(); ++layer) truncate(sequence, layer, 0);
  sequences_[sequence] = Sequence{};
}

PageStore::Table* PageStore::table(SequenceId sequence, uint32_t layer) {
  const bool there = sequence < sequences_.size() && sequences_[sequence].live && layer < config_.page_bytes.size();
  return there ? &sequences_[sequence].layers[layer] : nullptr;
}

const PageStore::Table* PageStore::table(SequenceId sequence, uint32_t layer) const {
  return const_cast<PageStore*>(this)->table(sequence, layer);
}

int64_t PageStore::blocks(SequenceId sequence, uint32_t layer) const {
  const Table* pages = table(sequence, layer);
  return pages == nullptr ? 0 : static_cast<int64_t>(pages->size());
}

Result<PageNumber> PageStore::find(SequenceId sequence, uint32_t layer, int64_t block) const {
  const Table* pages = table(sequence, layer);
  if (pages == nullptr || block < 0 || static_cast<size_t>(block) >= pages->size()) {
    return make_error(Code::kInvalidArgument, "page store: sequence {} layer {} has {} blocks, block {} wanted",
                      sequence, layer, blocks(sequence, layer), block);
  }
  if ((*pages)[static_cast<size_t>(block)] == kNoPage) {
    return make_error(Code::kInvalidArgument, "page store: block {} of layer {} was dropped", block, layer);
  }
  return (*pages)[static_cast<size_t>(block)];
}

std::span<std::byte> PageStore::frame_of(const Page& page) {
  return {memory_.data() + uint64_t{page.frame} * frame_size_, static_cast<size_t>(frame_size_)};
}

std::span<std::byte> PageStore::payload(const Page& page) {
  const auto size = static_cast<size_t>(config_.page_bytes[page.layer]);
  if (page.frame != kNoFrame) return frame_of(page).first(size);
  // Of a mapping: nobody gets it for writing.
  return {const_cast<std::byte*>(mapped_extent(page).data()), size};
}

Result<PageNumber> PageStore::new_page(uint32_t layer, uint64_t block) {
  if (free_pages_.empty()) {
    const size_t have = pages_.size(), wanted = have + kPagesAtOnce;
    constexpr size_t kRecord = sizeof(Page) + sizeof(PageLink) + 2 * sizeof(PageNumber) + sizeof(uint64_t);
    LCRUN_TRY(table_reservation_.resize(wanted * kRecord));
    try {
      free_pages_.reserve(wanted);
      free_extents_.reserve(wanted);  // freeing never allocates
      pages_.resize(wanted);
      lists_.grow(wanted);
    } catch (const std::bad_alloc&) {
      return make_error(Code::kNoMemory, "page store: no memory for {} page records", wanted);
    }
    for (size_t i = wanted; i-- > have;) free_pages_.push_back(static_cast<PageNumber>(i));
  }
  const PageNumber number = free_pages_.back();
  free_pages_.pop_back();
  pages_[number] = Page{};
  pages_[number].layer = layer;
  pages_[number].block = block;
  pages_[number].references = 1;
  ++live_pages_;
  return number;
}

void PageStore::drop_reference(PageNumber number) {
  Page& page = pages_[number];
  if (--page.references > 0) return;
  lists_.remove(number);
  free_if_unused(number);
}

void PageStore::free_if_unused(PageNumber number) {
  Page& page = pages_[number];
  if (page.references > 0 || page.pins > 0 || page.io != Io::kNone) return;
  give_frame_back(page);
  leave_place(page);
  page = Page{};
  free_pages_.push_back(number);
  if (--live_pages_ == 0) forget_disk();
}

void PageStore::leave_place(Page& page) {
  if (page.source != 0) {
    --sources_[page.source].pages;
  } else if (page.extent != kNoExtent) {
    free_extents_.push_back(page.extent);
  }
  page.source = 0;
  page.extent = kNoExtent;
}

// Nothing is stored: the disk gets back what was not asked for at the beginning.
void PageStore::forget_disk() {
  if (stats_.retired_extents > 0) return;
  next_extent_ = unused_extents_ = 0;
  free_extents_.clear();
  std::fill(runs_.begin(), runs_.end(), Run{});
  if (reserved_extents_ <= config_.reserve_pages) return;
  const uint64_t keep = config_.reserve_pages * extent_size_;
  scratch_.device->discard(keep, reserved_extents_ * extent_size_ - keep);
  reserved_extents_ = config_.reserve_pages;
}

PagePin PageStore::make_pin(PageNumber number, bool writes) {
  Page& page = pages_[number];
  if (!page.dirty) lists_.remove(number);  // a dirty page is not in a list that frames are taken from
  ++page.pins;
  page.writers += writes ? 1 : 0;
  return PagePin(this, number, payload(page), writes);
}

void PageStore::unpin(PageNumber number, bool writes) {
  Page& page = pages_[number];
  --page.pins;
  page.writers -= writes ? 1 : 0;
  settle(number);
  free_if_unused(number);
}

Result<PagePin> PageStore::append(SequenceId sequence, uint32_t layer) {
  Table* pages = table(sequence, layer);
  if (pages == nullptr) return make_error(Code::kInvalidArgument, "page store: no layer {}:{}", sequence, layer);
  try {
    if (pages->size() == pages->capacity()) pages->reserve(2 * pages->size() + 64);
  } catch (const std::bad_alloc&) {
    return make_error(Code::kNoMemory, "page store: no memory for a table");
  }
  LCRUN_ASSIGN(const PageNumber number, new_page(layer, pages->size()));
  auto frame = take_frame_for_new();
  if (!frame) {
    drop_reference(number);
    return std::move(frame).error();
  }
  Page& page = pages_[number];
  page.frame = frame.value();
  page_in_frame_[page.frame] = number;
  page.dirty = page.open = page.checked = true;
  const auto bytes = payload(page);
  std::memset(bytes.data(), 0, bytes.size());
  pages->push_back(number);
  newest_length_[layer] = static_cast<int64_t>(pages->size());
  return make_pin(number, true);
}

Result<PagePin> PageStore::pin(SequenceId sequence, uint32_t layer, int64_t block) {
  LCRUN_ASSIGN(const PageNumber number, find(sequence, layer, block));
  Page& page = pages_[number];
  if (is_mapped(page)) {
    LCRUN_TRY(check_one(number));
    ++stats_.hits;
    return make_pin(number, false);
  }
  if (page.frame != kNoFrame) {
    ++stats_.hits;
    if (!page.ahead) page.hot = true;
  } else {
    ++stats_.misses;
  }
  LCRUN_TRY(load(number));
  pages_[number].ahead = false;
  return make_pin(number, false);
}

Result<PagePin> PageStore::pin_for_writing(SequenceId sequence, uint32_t layer, int64_t block) {
  LCRUN_ASSIGN(PageNumber number, find(sequence, layer, block));
  LCRUN_TRY(is_mapped(pages_[number]) ? check_one(number) : load(number));
  if (pages_[number].references > 1) {
    const PagePin source = make_pin(number, false);
    LCRUN_ASSIGN(const PageNumber copy, new_page(layer, static_cast<uint64_t>(block)));
    auto frame = take_frame_for_new();
    if (!frame) {
      drop_reference(copy);
      return std::move(frame).error();
    }
    pages_[copy].frame = frame.value();
    page_in_frame_[frame.value()] = copy;
    pages_[copy].dirty = pages_[copy].checked = true;
    std::memcpy(payload(pages_[copy]).data(), source.bytes().data(), source.bytes().size());
    (*table(sequence, layer))[static_cast<size_t>(block)] = copy;
    drop_reference(number);
    number = copy;
  } else if (pages_[number].source != 0) {
    LCRUN_TRY(own_copy(number));
  }
  // What is being written to the disk must not change under it.
  while (pages_[number].io == Io::kWriting) advance(true);
  Page& page = pages_[number];
  lists_.remove(number);
  page.dirty = page.open = true;
  page.ahead = false;
  return make_pin(number, true);
}

void PageStore::seal(SequenceId sequence, uint32_t layer, int64_t block) {
  const auto number = find(sequence, layer, block);
  LCRUN_CHECK(number.has_value());
  pages_[number.value()].open = false;
  settle(number.value());
  poll();
}

void PageStore::truncate(SequenceId sequence, uint32_t layer, int64_t n_blocks) {
  Table* pages = table(sequence, layer);
  LCRUN_CHECK(pages != nullptr && n_blocks >= 0);
  while (static_cast<int64_t>(pages->size()) > n_blocks) {
    const PageNumber number = pages->back();
    pages->pop_back();
    if (number != kNoPage) drop_reference(number);
  }
  newest_length_[layer] = static_cast<int64_t>(pages->size());
}

void PageStore::forget(SequenceId sequence, uint32_t layer, int64_t block) {
  const auto number = find(sequence, layer, block);
  if (!number.has_value()) return;
  (*table(sequence, layer))[static_cast<size_t>(block)] = kNoPage;
  drop_reference(*number);
}

}  // namespace lcrun::storage

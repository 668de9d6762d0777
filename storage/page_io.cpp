// PageStore's traffic: which frame is taken for what, reads ahead, writes behind, and what each completion means.
//
// A page has at most one request in flight, whose ticket is its number. Frames of pages under way are in no list, so
// nothing takes them; a page that nobody names any more is freed when its request comes back.
#include <algorithm>
#include <cerrno>

#include "src/base/check.hpp"
#include "src/base/format.hpp"
#include "storage/page_store.hpp"

namespace lcrun::storage {
namespace {

constexpr uint64_t kKeepOneIn = 16;       // pages of a scan that stay for its next turn
constexpr int kMostKeptPassed = 32;       // pages that should stay are passed over, so many in one search
constexpr uint64_t kExtentsAtOnce = 256;  // the file grows by so many
constexpr uint64_t kExtentsOfRun = 32;    // taken for a layer at once
constexpr size_t kReadsAtOnce = 32;
constexpr size_t kOutcomesAtOnce = 4;  // pages checked before the queue is filled up again
constexpr int kErrnoBase = 1000;       // Page::failure

}  // namespace

PageIdentity PageStore::identity_of(const Page& page) const {
  PageIdentity identity;
  identity.session = config_.session;
  identity.layer = page.layer;
  identity.block = page.block;
  identity.generation = page.generation;
  return identity;
}

// Transfers are whole blocks of the file system (frames are as large): parts of blocks are written slowly, and
// neighbours with gaps between them are not read together.
uint32_t PageStore::whole_blocks(uint64_t bytes) const {
  const uint64_t unit = device_->block_bytes();
  return static_cast<uint32_t>((bytes + unit - 1) / unit * unit);
}

Error PageStore::read_error(const Page& page) const {
  const std::string what = format("cache page of layer {} block {}: read", page.layer, page.block);
  if (page.failure >= kErrnoBase) return io_error(what, page.failure - kErrnoBase);
  return make_error(Code::kIo, "{} twice and found {}", what, verdict_name(static_cast<Verdict>(page.failure)));
}

Error PageStore::no_frame() const {
  if (lists_.count(PageList::kFailed) > 0) {
    return make_error(write_status_.error().code, "{}; {} pages of cache wait for the disk",
                      write_status_.error().message, lists_.count(PageList::kFailed));
  }
  return make_error(Code::kNoMemory, "cache: all {} frames of {} bytes are in use at once", config_.frames,
                    extent_size_);
}

bool PageStore::is_kept(const Page& page) const {
  const auto block = static_cast<int64_t>(page.block);
  return block < config_.sink_blocks || block >= newest_length_[page.layer] - config_.window_blocks;
}

PageNumber PageStore::pick_victim(PageList list) {
  for (int passed = 0; passed < kMostKeptPassed; ++passed) {
    const PageNumber number = lists_.front(list);
    if (number == kNoPage || !is_kept(pages_[number])) return number;
    lists_.push_back(PageList::kHot, number);
  }
  return lists_.front(list);
}

void PageStore::give_frame_back(Page& page) {
  if (page.frame == kNoFrame) return;
  page_in_frame_[page.frame] = kNoPage;
  free_frames_.push_back(page.frame);
  page.frame = kNoFrame;
}

bool PageStore::evict_one(bool read_ahead_too) {
  PageNumber victim = pick_victim(PageList::kCold);
  if (victim == kNoPage) victim = pick_victim(PageList::kHot);
  if (victim == kNoPage && read_ahead_too) victim = lists_.front(PageList::kAhead);
  if (victim == kNoPage) return false;
  lists_.remove(victim);
  Page& page = pages_[victim];
  LCRUN_DCHECK(page.pins == 0 && page.io == Io::kNone && !page.dirty);
  page.hot = page.ahead = false;
  give_frame_back(page);
  ++stats_.evicted;
  return true;
}

// When nothing else gives a frame: what failed is tried once more, and blocks that are not full yet are written too.
void PageStore::queue_last_resort() {
  while (lists_.count(PageList::kFailed) > 0) {
    lists_.push_back(PageList::kDirty, lists_.front(PageList::kFailed));
  }
  for (const PageNumber number : page_in_frame_) {
    if (number == kNoPage) continue;
    const Page& page = pages_[number];
    const bool idle = page.pins == 0 && page.io == Io::kNone && page.references > 0;
    if (idle && page.dirty && page.open) lists_.push_back(PageList::kDirty, number);
  }
}

Result<uint32_t> PageStore::take_frame() {
  for (bool last_resort = false;;) {
    if (!free_frames_.empty()) {
      const uint32_t frame = free_frames_.back();
      free_frames_.pop_back();
      return frame;
    }
    if (evict_one(false)) continue;
    write_behind();
    if (queue_->in_flight() > 0) {
      advance(true);
      continue;
    }
    if (evict_one(true)) continue;
    if (last_resort) return no_frame();
    last_resort = true;
    queue_last_resort();
  }
}

// Pages that the disk does not take may fill half of the frames; the other half goes on serving reads.
Result<uint32_t> PageStore::take_frame_for_new() {
  const uint64_t most = config_.frames / 2;
  if (lists_.count(PageList::kFailed) >= most && !flush() && lists_.count(PageList::kFailed) >= most) return no_frame();
  return take_frame();
}

Status PageStore::grow_disk() {
  if (next_extent_ < reserved_extents_) return {};
  // A disk that is nearly full may still have room for one.
  const Status grown = device_->allocate((reserved_extents_ + kExtentsAtOnce) * extent_size_);
  if (!grown.has_value()) LCRUN_TRY(device_->allocate((reserved_extents_ + 1) * extent_size_));
  reserved_extents_ += grown.has_value() ? kExtentsAtOnce : 1;
  return {};
}

// Extents of a layer lie next to each other, some at a time: dense decoding reads them in this order.
Result<uint64_t> PageStore::take_extent(uint32_t layer) {
  if (!free_extents_.empty()) {
    const uint64_t extent = free_extents_.back();
    free_extents_.pop_back();
    return extent;
  }
  auto run = runs_.begin() + layer;
  if (run->next == run->end) {
    const Status grown = grow_disk();
    if (grown.has_value()) {
      run->next = next_extent_;
      next_extent_ = std::min(next_extent_ + kExtentsOfRun, reserved_extents_);
      run->end = next_extent_;
      unused_extents_ += run->end - run->next;
    } else {
      // What other layers have set aside is the last room there is.
      run = std::find_if(runs_.begin(), runs_.end(), [](const Run& other) { return other.next != other.end; });
      if (run == runs_.end()) return Error(grown.error());
    }
  }
  --unused_extents_;
  return run->next++;
}

Status PageStore::load(PageNumber number) {
  bool started = false;
  for (;;) {
    const Page& page = pages_[number];
    if (page.io == Io::kReading) {
      started = true;
      read_wanted();
      advance(true);
      continue;
    }
    if (page.frame != kNoFrame) return {};
    if (started) {
      ++stats_.lost_reads;
      return read_error(page);
    }
    LCRUN_ASSIGN(const uint32_t frame, take_frame());
    while (!queue_->has_room()) advance(true);
    start_read(number, frame);
    started = true;
  }
}

void PageStore::start_read(PageNumber number, uint32_t frame) {
  Page& page = pages_[number];
  page.frame = frame;
  page.wanted = false;
  page_in_frame_[frame] = number;
  page.io = Io::kReading;
  ++reading_;
  const auto extent = extent_of(page);
  queue_->start({IoOp::kRead, page.extent * extent_size_, extent.data(), whole_blocks(extent.size()), number});
}

void PageStore::start_write(PageNumber number) {
  Page& page = pages_[number];
  if (page.extent == kNoExtent) {
    auto extent = take_extent(page.layer);
    if (!extent) {
      write_status_ = std::move(extent).error();
      ++stats_.failed_writes;
      return lists_.push_back(PageList::kFailed, number);
    }
    page.extent = extent.value();
  }
  lists_.remove(number);
  page.generation = ++generation_;
  page.io = Io::kWriting;
  ++writing_;
  const auto extent = extent_of(page);
  seal_page(extent, config_.page_bytes[page.layer], identity_of(page));
  queue_->start({IoOp::kWrite, page.extent * extent_size_, extent.data(), whole_blocks(extent.size()), number});
}

void PageStore::write_behind() {
  const uint32_t most = std::max(1U, device_->depth() / 2);  // reads, which somebody waits for, find room
  while (writing_ < most && queue_->has_room()) {
    const PageNumber number = lists_.front(PageList::kDirty);
    if (number == kNoPage) return;
    start_write(number);  // or the page waits in another list
  }
}

bool PageStore::advance(bool wait) {
  IoOutcome outcomes[kOutcomesAtOnce];
  const size_t n = queue_->poll(outcomes, wait);
  for (size_t i = 0; i < n; ++i) {
    const auto number = static_cast<PageNumber>(outcomes[i].ticket);
    if (pages_[number].io == Io::kReading) {
      finish_read(number, outcomes[i].error);
    } else {
      finish_write(number, outcomes[i].error);
    }
  }
  return n > 0;
}

void PageStore::finish_read(PageNumber number, int error) {
  Page& page = pages_[number];
  page.io = Io::kNone;
  --reading_;
  if (page.references == 0) return free_if_unused(number);
  Verdict verdict = Verdict::kOk;
  if (error == 0) {
    verdict = check_page(extent_of(page), config_.page_bytes[page.layer], identity_of(page));
    ++stats_.verdicts[static_cast<size_t>(verdict)];
    if (verdict == Verdict::kOk) {
      page.asked_again = false;
      return settle(number);
    }
  }
  page.failure = error != 0 ? kErrnoBase + error : static_cast<int>(verdict);
  page.asked_again = !page.asked_again;
  if (page.asked_again) {
    // The way from the disk may be at fault, not what lies there.
    ++stats_.read_again;
    return start_read(number, page.frame);
  }
  page.ahead = false;
  give_frame_back(page);
}

void PageStore::finish_write(PageNumber number, int error) {
  Page& page = pages_[number];
  page.io = Io::kNone;
  --writing_;
  if (error != 0) {
    ++stats_.failed_writes;
    write_status_ = io_error("writing cache to the disk", error);
    const bool bad_place = write_status_.error().code != Code::kNoSpace;
    if (bad_place) ++stats_.retired_extents;
    if (!bad_place) free_extents_.push_back(page.extent);
    page.extent = kNoExtent;
    if (page.references > 0) lists_.push_back(PageList::kFailed, number);
    return free_if_unused(number);
  }
  page.dirty = false;
  if (page.references > 0 && page.pins == 0) lists_.push_back(PageList::kCold, number);
  free_if_unused(number);
}

// Puts a page that nothing happens to into the list where it belongs.
void PageStore::settle(PageNumber number) {
  Page& page = pages_[number];
  if (page.frame == kNoFrame || page.io != Io::kNone || page.references == 0) return;
  if (page.dirty) {
    if (!page.open && page.writers == 0 && lists_.list_of(number) == PageList::kNone) {
      lists_.push_back(PageList::kDirty, number);
    }
    return;
  }
  if (page.pins > 0) return lists_.remove(number);
  if (page.ahead) return lists_.push_back(PageList::kAhead, number);
  if (!page.hot && ++scanned_ % kKeepOneIn == 0) page.hot = true;
  if (!page.hot) return lists_.push_front(PageList::kCold, number);
  lists_.push_back(PageList::kHot, number);
  if (lists_.count(PageList::kHot) > config_.frames - config_.frames / 8) {
    const PageNumber oldest = lists_.front(PageList::kHot);
    pages_[oldest].hot = false;
    lists_.push_back(PageList::kCold, oldest);
  }
}

size_t PageStore::prefetch(SequenceId sequence, uint32_t layer, std::span<const int64_t> blocks) {
  size_t accepted = 0;
  for (const int64_t block : blocks) {
    const auto number = find(sequence, layer, block);
    if (!number) break;
    Page& page = pages_[number.value()];
    if (page.frame == kNoFrame && !page.wanted) {
      const bool crowded = lists_.count(PageList::kAhead) + reading_ + wanted_count_ >= config_.frames / 2;
      if (crowded) break;
      page.wanted = true;
      wanted_[(wanted_first_ + wanted_count_++) % wanted_.size()] = number.value();
    }
    ++accepted;
  }
  poll();
  return accepted;
}

// Starts what is to be read ahead, as far as there is room in the queue and a frame that nobody will miss.
void PageStore::read_wanted() {
  // Several at once, and the queue kept half full: the system makes one request of neighbours that come together.
  const size_t at_once = std::min<size_t>({wanted_count_, kReadsAtOnce, device_->depth() / 4});
  if (queue_->room() < at_once && queue_->in_flight() > device_->depth() / 2) return;
  while (wanted_count_ > 0 && queue_->has_room()) {
    const PageNumber number = wanted_[wanted_first_];
    Page& page = pages_[number];
    const bool still_wanted = page.wanted && page.frame == kNoFrame && page.references > 0;  // else read or gone
    if (still_wanted && free_frames_.empty() && !evict_one(false)) return;
    wanted_first_ = (wanted_first_ + 1) % wanted_.size();
    --wanted_count_;
    if (!still_wanted) continue;
    const uint32_t frame = free_frames_.back();
    free_frames_.pop_back();
    page.ahead = true;
    ++stats_.read_ahead;
    start_read(number, frame);
  }
}

void PageStore::poll() {
  advance(false);
  if (free_frames_.size() < config_.write_when_free_below) write_behind();
  read_wanted();
  if (queue_->in_flight() > 0) advance(false);
}

void PageStore::drain() {
  while (queue_->in_flight() > 0) advance(true);
}

Status PageStore::flush() {
  while (lists_.count(PageList::kFailed) > 0) {
    lists_.push_back(PageList::kDirty, lists_.front(PageList::kFailed));
  }
  while (lists_.count(PageList::kDirty) > 0 || writing_ > 0) {
    write_behind();
    if (queue_->in_flight() > 0) advance(true);
  }
  if (lists_.count(PageList::kFailed) > 0) return Error(write_status_.error());
  return {};
}

}  // namespace lcrun::storage

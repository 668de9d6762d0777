// PageStore's traffic: which frame is taken for what, reads ahead, writes behind, and what each completion means.
//
// Pages whose places adjoin move in one request, a group; its ticket is the group's number. A page is in at most one.
// Frames of pages under way are in no list, so nothing takes them; a page that nobody names any more is freed when its
// request comes back. What a group could not read is read again page by page.
#include <algorithm>
#include <cerrno>

#include "src/base/check.hpp"
#include "src/base/format.hpp"
#include "storage/page_store.hpp"

namespace lcrun::storage {
namespace {

constexpr uint64_t kKeepOneIn = 16;       // runs of a scan that stay for its next turn
constexpr uint64_t kDirtyAtLeast = 16;    // pages that wait to be written together, while frames are free
constexpr int kMostKeptPassed = 32;       // pages that should stay are passed over, so many in one search
constexpr uint64_t kExtentsAtOnce = 256;  // the file grows by so many
constexpr uint64_t kExtentsOfRun = 32;    // taken for a layer at once
constexpr int kStretchesTried = 16;       // of frames, in search of room for a group
constexpr size_t kOutcomesAtOnce = 2;     // groups checked before the queue is filled up again
constexpr int kErrnoBase = 1000;          // Page::failure

}  // namespace

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
                    frame_size_);
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
  free_frames_.give(page.frame);
  page.frame = kNoFrame;
  page.checked = false;
}

bool PageStore::evict_one(bool read_ahead_too) {
  PageNumber victim = pick_victim(PageList::kCold);
  if (victim == kNoPage) victim = pick_victim(PageList::kHot);
  if (victim == kNoPage && read_ahead_too) victim = lists_.front(PageList::kAhead);
  if (victim == kNoPage) return false;
  evict(victim);
  return true;
}

void PageStore::evict(PageNumber victim) {
  lists_.remove(victim);
  Page& page = pages_[victim];
  LCRUN_DCHECK(page.pins == 0 && page.io == Io::kNone && !page.dirty);
  page.hot = page.ahead = false;
  give_frame_back(page);
  ++stats_.evicted;
}

// Frames next to each other for a group of n: free ones, or a stretch around a page that may leave.
uint32_t PageStore::take_run(uint32_t n) {
  const uint32_t found = free_frames_.take_run(n);
  if (found != FrameSet::kNone) return found;
  const auto may_leave = [&](uint32_t frame) {
    const PageNumber number = page_in_frame_[frame];
    if (number == kNoPage) return free_frames_.is_free(frame);
    const PageList list = lists_.list_of(number);
    return (list == PageList::kCold || list == PageList::kHot) && !is_kept(pages_[number]);
  };
  const auto stretch = static_cast<uint32_t>(group_pages_);
  for (const PageList list : {PageList::kCold, PageList::kHot}) {
    PageNumber number = lists_.front(list);
    for (int tries = 0; number != kNoPage && tries < kStretchesTried; ++tries, number = lists_.after(number)) {
      const uint32_t first = pages_[number].frame / stretch * stretch;
      if (first + stretch > config_.frames) continue;
      uint32_t frame = first;
      while (frame < first + stretch && may_leave(frame)) ++frame;
      if (frame < first + stretch) continue;
      for (frame = first; frame < first + stretch; ++frame) {
        if (page_in_frame_[frame] != kNoPage) evict(page_in_frame_[frame]);
      }
      return free_frames_.take_run(n);
    }
  }
  return FrameSet::kNone;
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
    if (free_frames_.count() > 0) return free_frames_.take();
    if (evict_one(false)) continue;
    write_behind(0);
    if (in_flight() || !retries_.empty()) {
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
  const Status grown = scratch_.device->allocate((reserved_extents_ + kExtentsAtOnce) * extent_size_);
  if (!grown.has_value()) LCRUN_TRY(scratch_.device->allocate((reserved_extents_ + 1) * extent_size_));
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

// Bytes of a page's place, and so the distance to its neighbour's.
uint64_t PageStore::place_bytes(const Page& page) const {
  return page.source == 0 ? extent_size_ : sources_[page.source].regions[page.layer].extent;
}

// Requires has_room().
PageStore::Group& PageStore::begin_group(uint32_t source) {
  auto& list = free_groups(source);
  Group& group = *groups_[list.back()];
  list.pop_back();
  group.count = group.n_parts = 0;
  group.bytes = 0;
  group.channel = source;
  return group;
}

// Does the page lie behind those of the group, and is there room for it?
bool PageStore::goes_on(const Group& group, const Page& page) const {
  if (group.count == 0) return true;
  const Page& last = pages_[group.pages[group.count - 1]];
  const uint64_t next = last.source == 0 ? last.extent + 1 : last.extent + place_bytes(last);
  return page.source == last.source && page.extent == next && (page.source == 0 || page.layer == last.layer) &&
         group.count < group_pages_;
}

// Of a page that lies in a source: its whole extent, or, where frames are smaller, the payload in whole units; the tail
// is then read beside it.
uint64_t PageStore::bytes_in_frame(const Page& page) const {
  if (page.source == 0) return extent_size_;
  const uint64_t whole = place_bytes(page);
  if (whole <= frame_size_) return whole;
  const uint64_t unit = sources_[page.source].channel.device->alignment();
  return (config_.page_bytes[page.layer] + unit - 1) / unit * unit;
}

// The page has a frame.
void PageStore::add_to_group(Group& group, PageNumber number) {
  const Page& page = pages_[number];
  const auto add_part = [&group](std::byte* memory, size_t size) {
    IoPart* last = group.n_parts > 0 ? &group.parts[group.n_parts - 1] : nullptr;
    if (last != nullptr && static_cast<std::byte*>(last->iov_base) + last->iov_len == memory) {
      last->iov_len += size;
    } else if (size > 0) {
      group.parts[group.n_parts++] = {memory, size};
    }
  };
  const uint64_t here = bytes_in_frame(page);
  const size_t tail = static_cast<size_t>(place_bytes(page) - here);
  add_part(frame_of(page).data(), static_cast<size_t>(here));
  if (tail > 0) add_part(group.tails.data() + group.count * tail, tail);
  group.pages[group.count++] = number;
  group.bytes += place_bytes(page);
}

void PageStore::start(Group& group, IoOp op) {
  const Page& first = pages_[group.pages[0]];
  Channel& to = channel(group.channel);
  if (!to.knows_memory) to.device->use_memory({memory_.data(), memory_.size()});
  to.knows_memory = true;
  IoRequest request;
  request.op = op;
  request.offset = first.source == 0 ? first.extent * extent_size_ : first.extent;
  request.size = static_cast<uint32_t>(group.bytes);
  request.ticket = group.index;
  if (group.n_parts == 1) {
    request.data = static_cast<std::byte*>(group.parts[0].iov_base);
  } else {
    request.parts = std::span(group.parts).first(group.n_parts);
  }
  to.queue->start(request);
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
    if (page.frame != kNoFrame && page.checked) return {};
    if (page.frame != kNoFrame) {
      accept(number);
      started = true;
      continue;
    }
    if (started) {
      ++stats_.lost_reads;
      return read_error(page);
    }
    LCRUN_ASSIGN(const uint32_t frame, take_frame());
    while (!has_room(page.source)) advance(true);
    Group& group = begin_group(page.source);
    add_read(group, number, frame);
    start(group, IoOp::kRead);
    started = true;
  }
}

void PageStore::add_read(Group& group, PageNumber number, uint32_t frame) {
  Page& page = pages_[number];
  page.frame = frame;
  page.wanted = false;
  page_in_frame_[frame] = number;
  page.io = Io::kReading;
  ++reading_;
  add_to_group(group, number);
}

void PageStore::start_retries() {
  while (!retries_.empty() && has_room(pages_[retries_.back()].source)) {
    const PageNumber number = retries_.back();
    retries_.pop_back();
    Group& group = begin_group(pages_[number].source);
    add_to_group(group, number);
    start(group, IoOp::kRead);
  }
}

// A page that finds no place waits in the list of those that failed.
Status PageStore::place_for_write(PageNumber number) {
  Page& page = pages_[number];
  if (page.extent != kNoExtent) return {};
  auto extent = take_extent(page.layer);
  if (extent.has_value()) {
    page.extent = extent.value();
    return {};
  }
  write_status_ = std::move(extent).error();
  ++stats_.failed_writes;
  lists_.push_back(PageList::kFailed, number);
  return Error(write_status_.error());
}

// Writes the sealed pages that have waited longest, as far as they go into one request; false if there are none.
bool PageStore::start_write() {
  Group* group = nullptr;
  for (;;) {
    const PageNumber number = lists_.front(PageList::kDirty);
    if (number == kNoPage) break;
    if (!place_for_write(number).has_value()) continue;
    Page& page = pages_[number];
    if (group == nullptr) group = &begin_group(0);
    // Ends where a block of the file system does: parts of blocks are written slowly.
    if (!goes_on(*group, page) || (group->count > 0 && page.extent % extents_of_blocks_ == 0)) break;
    lists_.remove(number);
    page.io = Io::kWriting;
    page.check = page_check(payload(page));
    add_to_group(*group, number);
  }
  if (group == nullptr) return false;
  ++writing_;
  start(*group, IoOp::kWrite);
  return true;
}

void PageStore::write_behind(uint64_t may_wait) {
  const uint32_t most = std::max(1U, scratch_.device->depth() / 2);  // reads, which somebody waits for, find room
  while (writing_ < most && has_room(0) && lists_.count(PageList::kDirty) > may_wait && start_write()) {
  }
}

bool PageStore::advance(bool wait) {
  start_retries();
  bool any = collect(scratch_, false);
  for (Source& source : sources_) any = collect(source.channel, false) || any;
  if (!any && wait) {
    any = collect(scratch_, true);
    for (size_t i = 1; i < sources_.size() && !any; ++i) any = collect(sources_[i].channel, true);
  }
  start_retries();
  return any;
}

bool PageStore::collect(Channel& from, bool wait) {
  if (from.queue == nullptr || from.queue->in_flight() == 0) return false;
  IoOutcome outcomes[kOutcomesAtOnce];
  const size_t n = from.queue->poll(outcomes, wait);
  for (size_t i = 0; i < n; ++i) {
    const Group& group = *groups_[static_cast<size_t>(outcomes[i].ticket)];
    const bool reads = pages_[group.pages[0]].io == Io::kReading;
    if (!reads) --writing_;
    for (uint32_t p = 0; p < group.count; ++p) {
      if (reads) {
        finish_group_read(group, p, outcomes[i].error);
      } else {
        finish_write(group.pages[p], outcomes[i].error);
      }
    }
    free_groups(group.channel).push_back(group.index);
  }
  return n > 0;
}

void PageStore::finish_group_read(const Group& group, uint32_t index, int error) {
  const PageNumber number = group.pages[index];
  Page& page = pages_[number];
  if (error != 0 || page.references == 0) return finish_read(number, error, Verdict::kOk);
  // What nobody waits for is looked at when it is: together with others, on all threads.
  const bool is_whole = place_bytes(page) == bytes_in_frame(page);
  if (!page.ahead || page.asked_again || !is_whole) return finish_read(number, 0, check(group, index));
  page.io = Io::kNone;
  --reading_;
  settle(number);
}

Verdict PageStore::check(const Group& group, uint32_t index) const {
  const Page& page = pages_[group.pages[index]];
  const auto tail = static_cast<size_t>(place_bytes(page) - bytes_in_frame(page));
  return check_frame(page, {group.tails.data() + index * tail, tail});
}

// What was read into the page's frame, and behind it if its place is larger.
Verdict PageStore::check_frame(const Page& page, std::span<const std::byte> tail) const {
  const std::byte* frame = memory_.data() + uint64_t{page.frame} * frame_size_;
  const std::span<const std::byte> payload(frame, static_cast<size_t>(config_.page_bytes[page.layer]));
  if (page.source == 0) return check_page(payload, page.check);
  const std::byte* end = tail.empty() ? frame + bytes_in_frame(page) : tail.data() + tail.size();
  return check_page(payload, {end - kSealBytes, kSealBytes}, identity_of(page));
}

// The page has a frame and nothing is under way: looks at it, if nobody has, and asks for it again if it is damaged.
void PageStore::accept(PageNumber number) {
  Page& page = pages_[number];
  if (page.checked) return;
  lists_.remove(number);
  page.io = Io::kReading;
  ++reading_;
  finish_read(number, 0, check_frame(page, {}));
}

void PageStore::finish_read(PageNumber number, int error, Verdict verdict) {
  Page& page = pages_[number];
  page.io = Io::kNone;
  --reading_;
  if (page.references == 0) return free_if_unused(number);
  if (error == 0) {
    ++stats_.verdicts[static_cast<size_t>(verdict)];
    if (verdict == Verdict::kOk) {
      page.asked_again = false;
      page.checked = true;
      return settle(number);
    }
  }
  page.failure = error != 0 ? kErrnoBase + error : static_cast<int>(verdict);
  page.asked_again = !page.asked_again;
  if (page.asked_again) {
    // The way from the disk may be at fault, not what lies there; or a neighbour.
    ++stats_.read_again;
    ++reading_;
    page.io = Io::kReading;
    retries_.push_back(number);
    return;
  }
  page.ahead = false;
  give_frame_back(page);
}

void PageStore::finish_write(PageNumber number, int error) {
  Page& page = pages_[number];
  page.io = Io::kNone;
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
  const uint64_t run = page.layer + config_.page_bytes.size() * (page.block / kept_run_);
  if (run != scanned_run_) ++scanned_;
  scanned_run_ = run;
  if (!page.hot && scanned_ % kKeepOneIn == 0) page.hot = true;
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
  const bool mapped = advise(sequence, layer, blocks);
  for (const int64_t block : blocks) {
    const auto number = find(sequence, layer, block);
    if (!number) break;
    Page& page = pages_[number.value()];
    const bool is_in_place = mapped && is_mapped(page);
    if (page.frame == kNoFrame && !page.wanted && !is_in_place) {
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

// How many of the pages that are to be read ahead next go into one request.
uint32_t PageStore::neighbours_wanted() {
  Group& group = *ahead_;
  group.count = 0;
  group.bytes = 0;
  for (size_t i = 0; i < wanted_count_; ++i) {
    const PageNumber number = wanted_[(wanted_first_ + i) % wanted_.size()];
    const Page& page = pages_[number];
    if (!is_still_wanted(page) || !goes_on(group, page)) break;
    group.pages[group.count++] = number;
    group.bytes += place_bytes(page);
  }
  return group.count;
}

// Starts what is to be read ahead, as far as there is room in the queue and frames that nobody will miss.
void PageStore::read_wanted() {
  while (wanted_count_ > 0) {
    const Page& first = pages_[wanted_[wanted_first_]];
    const auto drop_first = [this] {
      wanted_first_ = (wanted_first_ + 1) % wanted_.size();
      --wanted_count_;
    };
    if (!is_still_wanted(first)) {
      drop_first();
      continue;
    }
    if (!has_room(first.source)) return;
    const uint32_t wanted = neighbours_wanted();
    const uint32_t run = take_run(wanted);
    while (run == FrameSet::kNone && free_frames_.count() < wanted && evict_one(false)) {
    }
    // A few frames now would make a small request: more will come with what is under way.
    const uint32_t n = run != FrameSet::kNone ? wanted : std::min(wanted, free_frames_.count());
    if (n == 0 || (n < wanted && reading_ > 0)) return;
    Group& group = begin_group(first.source);
    for (uint32_t i = 0; i < n; ++i) {
      const PageNumber number = wanted_[wanted_first_];
      drop_first();
      pages_[number].ahead = true;
      ++stats_.read_ahead;
      add_read(group, number, run == FrameSet::kNone ? free_frames_.take() : run + i);
    }
    start(group, IoOp::kRead);
  }
}

void PageStore::poll() {
  advance(false);
  if (free_frames_.count() < config_.write_when_free_below) {
    write_behind(std::min(kDirtyAtLeast, config_.frames / 8));
  }
  read_wanted();
  if (in_flight()) advance(false);
}

void PageStore::drain() {
  while (in_flight() || !retries_.empty()) advance(true);
}

IoStats PageStore::io_stats() const {
  IoStats all = scratch_.queue->stats();
  for (const Source& source : sources_) {
    if (source.channel.queue != nullptr) all = all + source.channel.queue->stats();
  }
  return all;
}

Status PageStore::flush() {
  while (lists_.count(PageList::kFailed) > 0) {
    lists_.push_back(PageList::kDirty, lists_.front(PageList::kFailed));
  }
  while (lists_.count(PageList::kDirty) > 0 || writing_ > 0) {
    write_behind(0);
    if (in_flight()) advance(true);
  }
  if (lists_.count(PageList::kFailed) > 0) return Error(write_status_.error());
  return {};
}

}  // namespace lcrun::storage

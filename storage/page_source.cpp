// Pages that lie in a file which never changes: where they are, and what they are checked against.
//
// A source is read through a device of its own, past the page cache, into frames; or it is mapped, shared by all
// processes that map it, and pages are used where they lie. Its pages carry seals: a page is checked when it comes, or
// when it is first touched. One that fails is lost, and can be made again in a place of this store's own.
#include <algorithm>
#include <cstring>
#include <new>

#include "src/base/check.hpp"
#include "src/base/format.hpp"
#include "src/base/parallel.hpp"
#include "storage/page_store.hpp"

namespace lcrun::storage {
namespace {

constexpr uint32_t kSourceDepth = 64;      // requests of a source under way, each of many pages
constexpr size_t kTailBytes = 4096 + 512;  // behind a payload, at most

}  // namespace

Status PageStore::make_groups(uint32_t count, bool with_tails) {
  for (uint32_t i = 0; i < count; ++i) {
    auto group = std::make_unique<Group>();
    group->index = static_cast<uint32_t>(groups_.size());
    if (with_tails) {
      LCRUN_ASSIGN(group->tails, AlignedBuffer::allocate_unwritten(group->pages.size() * kTailBytes, 4096));
    }
    for (auto& list : free_groups_) list.reserve(groups_.size() + 1);
    free_groups_[with_tails ? 1 : 0].push_back(group->index);
    groups_.push_back(std::move(group));
  }
  return {};
}

Result<SourceId> PageStore::add_source(PageSource source) {
  LCRUN_CHECK((source.device != nullptr) != (source.mapping != nullptr));
  if (source.device != nullptr) {
    const uint64_t unit = source.device->alignment();
    for (const uint64_t bytes : config_.page_bytes) {
      if ((bytes + unit - 1) / unit * unit > frame_size_) {
        return make_error(Code::kUnsupported, "cache: frames of {} bytes, a source read in units of {}", frame_size_,
                          unit);
      }
    }
  }
  try {
    size_t id = 1;
    while (id < sources_.size() && sources_[id].pages > 0) ++id;
    if (id == kMostSources) return make_error(Code::kInvalidArgument, "cache: pages of {} files at once", id - 1);
    if (id == sources_.size()) sources_.emplace_back();
    Source made;
    made.session = source.session;
    made.fits_in_memory = source.fits_in_memory;
    made.regions.resize(config_.page_bytes.size());
    made.mapping = std::move(source.mapping);
    if (read_ahead_ == nullptr) read_ahead_ = make_read_ahead();
    if (source.device != nullptr) {
      made.channel.device = std::move(source.device);
      made.channel.queue = std::make_unique<IoQueue>(*made.channel.device);
      const bool has_groups = std::any_of(groups_.begin(), groups_.end(), [](auto& g) { return g->tails.size() > 0; });
      // From here on neither reading nor checking allocates.
      if (!has_groups) LCRUN_TRY(make_groups(std::min(kSourceDepth, made.channel.device->depth()), true));
    }
    sources_[id] = std::move(made);
    return static_cast<SourceId>(id);
  } catch (const std::bad_alloc&) {
    return make_error(Code::kNoMemory, "cache: no memory for a source of pages");
  }
}

Status PageStore::append_stored(SequenceId sequence, uint32_t layer, const StoredPages& run) {
  Table* pages = table(sequence, layer);
  const bool is_there =
      pages != nullptr && run.source > 0 && run.source < sources_.size() && sources_[run.source].regions.size() > layer;
  if (!is_there)
    return make_error(Code::kInvalidArgument, "cache: no layer {}:{} of source {}", sequence, layer, run.source);
  Source& source = sources_[run.source];
  const uint64_t payload_bytes = config_.page_bytes[layer];
  const uint64_t unit = source.mapping != nullptr ? kBlockTokens : source.channel.device->alignment();
  const bool lies_inside =
      source.mapping == nullptr ||
      (run.extent <= source.mapping->bytes().size() && run.count <= source.mapping->bytes().size() / run.extent &&
       run.offset <= source.mapping->bytes().size() - run.count * run.extent);
  if (run.extent < payload_bytes + kSealBytes || run.extent % unit != 0 || run.offset % unit != 0 ||
      run.extent - payload_bytes > kTailBytes - 512 || !lies_inside) {
    return make_error(Code::kBadSession, "cache: found {} pages of {} bytes at {}, wanted pages of a payload of {}",
                      run.count, run.extent, run.offset, payload_bytes);
  }
  source.regions[layer] = {run.layer, run.head_group, run.extent};
  const auto before = static_cast<int64_t>(pages->size());
  try {
    pages->reserve(pages->size() + run.count);
  } catch (const std::exception&) {
    return make_error(Code::kNoMemory, "cache: no memory for a table of {} pages", run.count);
  }
  for (uint64_t i = 0; i < run.count; ++i) {
    auto made = new_page(layer, pages->size());
    if (!made.has_value()) {
      truncate(sequence, layer, before);
      return std::move(made).error();
    }
    Page& page = pages_[made.value()];
    page.source = run.source;
    page.extent = run.offset + i * run.extent;
    page.check[0] = run.generation;
    ++source.pages;
    pages->push_back(made.value());
  }
  newest_length_[layer] = static_cast<int64_t>(pages->size());
  return {};
}

std::span<const std::byte> PageStore::mapped_extent(const Page& page) const {
  const Source& source = sources_[page.source];
  return source.mapping->bytes().subspan(static_cast<size_t>(page.extent),
                                         static_cast<size_t>(source.regions[page.layer].extent));
}

PageIdentity PageStore::identity_of(const Page& page) const {
  const Source& source = sources_[page.source];
  const Source::Region& region = source.regions[page.layer];
  return {source.session, region.layer, region.head_group, page.block, page.check[0]};
}

Verdict PageStore::check_in_place(const Page& page) const {
  return check_page(mapped_extent(page), config_.page_bytes[page.layer], identity_of(page));
}

Status PageStore::check_one(PageNumber number) {
  Page& page = pages_[number];
  if (page.checked) return {};
  if (page.frame != kNoFrame) return load(number);
  const Verdict verdict = check_in_place(page);
  ++stats_.verdicts[static_cast<size_t>(verdict)];
  page.checked = verdict == Verdict::kOk;
  if (page.checked) return {};
  page.failure = static_cast<int>(verdict);
  ++stats_.lost_reads;
  return read_error(page);
}

bool PageStore::is_unchecked(const Page& page) const {
  return !page.checked && page.io == Io::kNone && (page.frame != kNoFrame ? !page.dirty : is_mapped(page));
}

void PageStore::check_together(SequenceId sequence, uint32_t layer, std::span<const int64_t> blocks) {
  unchecked_.clear();
  for (const int64_t block : blocks) {
    const auto number = find(sequence, layer, block);
    if (!number.has_value()) continue;
    const PageNumber page = number.value();
    while (pages_[page].io == Io::kReading) {
      read_wanted();
      advance(true);
    }
    if (is_unchecked(pages_[page]) && unchecked_.size() < kCheckedAtOnce) unchecked_.push_back(page);
  }
  if (unchecked_.size() < 2) return;
  parallel_for(config_.n_threads, static_cast<int64_t>(unchecked_.size()), [&](int64_t i, int) {
    const auto at = static_cast<size_t>(i);
    const Page& page = pages_[unchecked_[at]];
    verdicts_[at] = static_cast<uint8_t>(page.frame != kNoFrame ? check_frame(page, {}) : check_in_place(page));
  });
  for (size_t i = 0; i < unchecked_.size(); ++i) {
    if (verdicts_[i] != 0) continue;
    ++stats_.verdicts[0];
    pages_[unchecked_[i]].checked = true;
  }
}

// A page of a source that nobody shares becomes one of this store's own.
Status PageStore::own_copy(PageNumber number) {
  if (is_mapped(pages_[number])) {
    LCRUN_ASSIGN(const uint32_t frame, take_frame_for_new());
    Page& page = pages_[number];
    const auto bytes = payload(page);
    page.frame = frame;
    page_in_frame_[frame] = number;
    std::memcpy(frame_of(page).data(), bytes.data(), bytes.size());
  }
  leave_place(pages_[number]);
  return {};
}

// The system reads ahead what a mapping will be asked for.
bool PageStore::advise(SequenceId sequence, uint32_t layer, std::span<const int64_t> blocks) {
  uint64_t first = 0, end = 0;
  uint32_t source = 0;
  bool any = false;
  const auto tell = [&] {
    if (end > first) read_ahead_->will_need(sources_[source].mapping->bytes().subspan(first, end - first));
    first = end = 0;
  };
  for (const int64_t block : blocks) {
    const auto number = find(sequence, layer, block);
    if (!number.has_value()) break;
    const Page& page = pages_[number.value()];
    if (!is_mapped(page)) continue;
    any = true;
    if (page.checked && sources_[page.source].fits_in_memory) continue;
    const uint64_t extent = sources_[page.source].regions[page.layer].extent;
    if (page.source != source || page.extent != end) tell();
    if (end == 0) first = page.extent;
    source = page.source;
    end = page.extent + extent;
  }
  tell();
  return any;
}

Status PageStore::sources_status() const {
  for (const Source& source : sources_) {
    if (source.mapping == nullptr || source.pages == 0) continue;
    const Status found = source.mapping->status();
    if (!found.has_value()) return Error{Code::kBadSession, found.error().message};
  }
  return {};
}

}  // namespace lcrun::storage

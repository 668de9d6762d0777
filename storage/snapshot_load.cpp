// Restoring a snapshot: metadata first, then pages in waves, straight into the blocks, checked on all threads.
//
// A page that fails is read once more by itself; one that stays damaged takes its block out of the region, and the
// sequence goes back to the latest point for which every region still has what the next token reads.
#include <algorithm>
#include <cstring>
#include <optional>

#include "src/base/check.hpp"
#include "src/base/format.hpp"
#include "src/base/no_memory.hpp"
#include "src/base/parallel.hpp"
#include "src/base/workspace.hpp"
#include "storage/snapshot.hpp"
#include "storage/snapshot_parts.hpp"

namespace lcrun::storage {
namespace {

constexpr size_t kGroupPages = 32;                     // of one request
constexpr uint64_t kGroupBytes = uint64_t{1} << 20;    // and no more than this, but for a single page
constexpr uint64_t kStagingBytes = uint64_t{4} << 20;  // of blocks that are pages of a store
constexpr uint64_t kWaveBytes = uint64_t{64} << 20;    // read between two meetings of the threads
constexpr size_t kNamedDamage = 4;                     // damaged pages that are named one by one

// A page on its way to where its payload belongs.
struct PageJob {
  File* file = nullptr;
  PageIdentity identity;
  uint64_t offset = 0;
  uint64_t extent = 0;
  std::span<std::byte> payload;
  Verdict verdict = Verdict::kOk;
};

// A run of a region: its own, or inherited.
struct RunRef {
  const PageRun* run;
  bool inherited;
};

std::vector<RunRef> runs_of(const RegionTable& table) {
  std::vector<RunRef> runs;
  for (const PageRun& run : table.inherited) runs.push_back({&run, true});
  for (const PageRun& run : table.runs) runs.push_back({&run, false});
  return runs;
}

PageJob job_of(const Snapshot& snapshot, const RegionTable& table, uint32_t layer, uint32_t region, const RunRef& ref,
               uint64_t page) {
  const PageRun& run = *ref.run;
  PageJob job;
  job.file = ref.inherited ? snapshot.parent_file.get() : snapshot.file.get();
  job.identity = {ref.inherited ? snapshot.parent->id : snapshot.superblock.id, layer, region, run.first + page,
                  run.generation};
  job.extent = table.extent();
  job.offset = run.offset + page * job.extent;
  return job;
}

// Pages are read in groups that lie one behind the other: payloads into place, what lies between them into scratch.
class PageReader {
 public:
  explicit PageReader(int n_threads) : n_threads_(std::max(1, n_threads)) {}

  Status run(std::span<PageJob> jobs) {
    if (jobs.empty()) return {};
    uint64_t tail = kSealBytes;
    for (const PageJob& job : jobs) tail = std::max(tail, job.extent - job.payload.size());
    const size_t wanted = static_cast<size_t>(n_threads_) * kGroupPages * static_cast<size_t>(tail);
    if (scratch_.size() < wanted) {
      LCRUN_ASSIGN(scratch_, AlignedBuffer::allocate(wanted));
    }
    std::vector<std::span<PageJob>> groups;
    for (size_t at = 0; at < jobs.size();) {
      const size_t count = group_size(jobs.subspan(at));
      groups.push_back(jobs.subspan(at, count));
      at += count;
    }
    parallel_for(n_threads_, static_cast<int64_t>(groups.size()), [&](int64_t i, int thread) {
      read_group(groups[static_cast<size_t>(i)], scratch_.data() + static_cast<size_t>(thread) * kGroupPages * tail,
                 static_cast<size_t>(tail));
    });
    return {};
  }

 private:
  static size_t group_size(std::span<const PageJob> jobs) {
    size_t count = 1;
    uint64_t bytes = jobs[0].extent;
    while (count < jobs.size() && count < kGroupPages && bytes + jobs[count].extent <= kGroupBytes &&
           jobs[count].file == jobs[0].file && jobs[count].offset == jobs[count - 1].offset + jobs[count - 1].extent) {
      bytes += jobs[count++].extent;
    }
    return count;
  }

  void read_group(std::span<PageJob> group, std::byte* scratch, size_t tail) {
    std::span<std::byte> parts[2 * kGroupPages];
    for (size_t i = 0; i < group.size(); ++i) {
      parts[2 * i] = group[i].payload;
      parts[2 * i + 1] = {scratch + i * tail, static_cast<size_t>(group[i].extent - group[i].payload.size())};
    }
    File& file = *group[0].file;
    const bool read = file.read_scattered(group[0].offset, std::span(parts).first(2 * group.size())).has_value();
    for (size_t i = 0; i < group.size(); ++i) {
      PageJob& job = group[i];
      const auto rest = parts[2 * i + 1];
      if (read) job.verdict = check_page(job.payload, rest.last(kSealBytes), job.identity);
      if (read && job.verdict == Verdict::kOk) continue;
      // Once more: the way from the disk may be at fault, or a neighbour.
      job.verdict = Verdict::kTorn;  // also the name of what cannot be read
      if (!file.read_scattered(job.offset, std::span(parts).subspan(2 * i, 2)).has_value()) continue;
      job.verdict = check_page(job.payload, rest.last(kSealBytes), job.identity);
    }
  }

  int n_threads_;
  AlignedBuffer scratch_;
};

std::string page_text(uint32_t layer, const RegionSpec& spec, uint64_t place) {
  if (place == kCurrentState) return format("layer {}, {}, present state", layer, spec.name);
  return format("layer {}, {}, {} {}", layer, spec.name, spec.has_blocks() ? "block" : "mark", place);
}

// Where a region is rebuilt, and which of its pages are known to be damaged.
struct RegionRestore {
  uint32_t layer = 0;
  uint32_t index = 0;
  const RegionTable* table = nullptr;
  std::vector<uint64_t> damaged;  // places, ascending
  bool is_done = false;
};

class Restore {
 public:
  Restore(Snapshot& snapshot, SequenceState& state, int n_threads, const InPlace& in_place)
      : snapshot_(snapshot), state_(state), in_place_(in_place), reader_(n_threads) {}

  Result<int64_t> run() {
    for (size_t i = 0; i < snapshot_.tables.size(); ++i) {
      for (size_t r = 0; r < snapshot_.tables[i].size(); ++r) {
        regions_.push_back({static_cast<uint32_t>(i), static_cast<uint32_t>(r), &snapshot_.tables[i][r], {}, false});
        const RegionTable& table = *regions_.back().table;
        for (const RunRef& ref : runs_of(table)) {
          if (source_of(regions_.back(), ref).has_value()) continue;
          File& file = ref.inherited ? *snapshot_.parent_file : *snapshot_.file;
          file.will_need(ref.run->offset, ref.run->count * table.extent());
        }
      }
    }
    // Damage shows after a region was filled: it is then emptied and filled again without those pages. Each turn
    // knows more of them, so this ends.
    while (std::any_of(regions_.begin(), regions_.end(), [](const auto& item) { return !item.is_done; })) {
      for (auto& item : regions_) {
        if (item.is_done) continue;
        LCRUN_TRY(fill(item));
      }
      LCRUN_TRY(read_wave());
      finish_regions();
    }
    for (const auto& item : regions_) LCRUN_TRY(end_region(item));
    name_damage();
    return state_.finish_restore(static_cast<int64_t>(snapshot_.superblock.tokens));
  }

 private:
  Region& region_of(const RegionRestore& item) { return state_.layer(item.layer).regions[item.index]; }

  // Makes blocks and the jobs that fill them.
  Status fill(RegionRestore& item) {
    if (region_of(item).pages()) return fill_pages(item);
    Region& region = region_of(item);
    region = Region(region.spec());
    if (!region.spec().has_blocks()) LCRUN_TRY(region.prepare_fixed());
    uint64_t n_blocks = 0;
    const auto runs = runs_of(*item.table);
    for (const RunRef& ref : runs) n_blocks += ref.run->count;
    region.begin_restore(static_cast<int64_t>(n_blocks));
    for (const RunRef& ref : runs) {
      for (uint64_t page = 0; page < ref.run->count; ++page) {
        PageJob job = job_of(snapshot_, *item.table, item.layer, item.index, ref, page);
        if (std::binary_search(item.damaged.begin(), item.damaged.end(), job.identity.block)) continue;
        LCRUN_ASSIGN(job.payload, place_of(region, job.identity.block));
        jobs_.push_back(job);
        wave_bytes_ += job.extent;
        if (wave_bytes_ >= kWaveBytes) LCRUN_TRY(read_wave());
      }
    }
    return {};
  }

  // Where the pages of a run stay, if they do.
  std::optional<SourceId> source_of(const RegionRestore& item, const RunRef& ref) {
    if (!region_of(item).pages().has_value()) return {};
    return ref.inherited ? in_place_.parent : in_place_.own;
  }

  // Blocks that are pages of a store stay in a file that never changes, or are at hand one at a time: they are read
  // beside it, and end at the first damage.
  Status fill_pages(RegionRestore& item) {
    LCRUN_TRY(read_wave());
    Region& region = region_of(item);
    region.begin_restore();
    const uint64_t block_bytes = item.table->spec.block_bytes;
    const size_t at_once = std::max<size_t>(1, static_cast<size_t>(kStagingBytes / block_bytes));
    LCRUN_ASSIGN(auto staging, AlignedBuffer::allocate_unwritten(at_once * static_cast<size_t>(block_bytes)));
    for (const RunRef& ref : runs_of(*item.table)) {
      const PageRun& run = *ref.run;
      if (!item.damaged.empty()) break;
      if (const auto source = source_of(item, ref)) {
        const StoredPages pages{*source,    item.layer,           item.index,    run.count,
                                run.offset, item.table->extent(), run.generation};
        LCRUN_TRY(region.restore_stored(static_cast<int64_t>(run.first), pages));
        continue;
      }
      for (uint64_t page = 0; page < run.count && item.damaged.empty(); ++page) {
        jobs_.push_back(job_of(snapshot_, *item.table, item.layer, item.index, ref, page));
        jobs_.back().payload = {staging.data() + (jobs_.size() - 1) * block_bytes, static_cast<size_t>(block_bytes)};
        if (jobs_.size() == at_once || page + 1 == run.count) LCRUN_TRY(copy_pages(item, region));
      }
    }
    return {};
  }

  Status copy_pages(RegionRestore& item, Region& region) {
    LCRUN_TRY(reader_.run(jobs_));
    for (const PageJob& job : jobs_) {
      if (job.verdict != Verdict::kOk) {
        item.damaged.push_back(job.identity.block);
        break;
      }
      LCRUN_ASSIGN(const auto block, region.restore_block(static_cast<int64_t>(job.identity.block)));
      std::memcpy(block.data(), job.payload.data(), job.payload.size());
    }
    jobs_.clear();
    return {};
  }

  static Result<std::span<std::byte>> place_of(Region& region, uint64_t place) {
    if (region.spec().has_blocks()) return region.restore_block(static_cast<int64_t>(place));
    if (place == kCurrentState) return region.fixed();
    return region.restore_mark(static_cast<int64_t>(place));
  }

  Status read_wave() {
    LCRUN_TRY(reader_.run(jobs_));
    for (const PageJob& job : jobs_) {
      if (job.verdict == Verdict::kOk) continue;
      const auto item = std::find_if(regions_.begin(), regions_.end(), [&](const RegionRestore& other) {
        return other.layer == job.identity.layer && other.index == job.identity.head_group;
      });
      item->damaged.push_back(job.identity.block);
      found_.push_back(&*item);
    }
    jobs_.clear();
    wave_bytes_ = 0;
    return {};
  }

  // Those in which this turn found nothing more are done.
  void finish_regions() {
    for (auto& item : regions_) item.is_done = std::find(found_.begin(), found_.end(), &item) == found_.end();
    for (auto* item : found_) std::sort(item->damaged.begin(), item->damaged.end());
    found_.clear();
  }

  // As many rows as the pages that are whole hold: up to the last point that has what the next token reads.
  Status end_region(const RegionRestore& item) {
    Region& region = region_of(item);
    const auto tokens = static_cast<int64_t>(snapshot_.superblock.tokens);
    if (item.damaged.empty()) return region.end_restore(tokens);
    if (!region.spec().has_blocks()) {
      if (item.damaged.back() != kCurrentState) return region.end_restore(tokens);
      const int64_t chunk = region.spec().window;
      if (region.spec().kind == RegionKind::kPending) return region.end_restore(tokens / chunk * chunk);
      const auto marks = region.fixed_marks();
      const int64_t rows = marks.empty() ? 0 : marks.back().rows;
      const auto bytes = region.fixed();
      if (marks.empty()) {
        std::memset(bytes.data(), 0, bytes.size());
      } else {
        std::memcpy(bytes.data(), marks.back().bytes->data(), bytes.size());
      }
      return region.end_restore(rows);
    }
    const RegionSpec& spec = region.spec();
    const int64_t rows = region.pages() ? std::min(tokens, region.pages()->blocks() * kBlockTokens)
                                        : spec.tokens_of(whole_rows(item, spec.rows_of(tokens)));
    if (rows == 0 && !region.pages()) region = Region(region.spec());
    return rows == 0 && !region.pages() ? Status() : region.end_restore(rows);
  }

  void name_damage() {
    size_t count = 0;
    for (const auto& item : regions_) {
      for (const uint64_t place : item.damaged) {
        if (count++ < kNamedDamage) snapshot_.damage.push_back(page_text(item.layer, item.table->spec, place));
      }
    }
    if (count > kNamedDamage) snapshot_.damage.push_back(format("and {} pages more", count - kNamedDamage));
  }

  // Blocks or rings: the most rows, up to `tokens`, whose window lies in a run of whole blocks.
  static int64_t whole_rows(const RegionRestore& item, int64_t tokens) {
    std::vector<int64_t> held;
    for (const RunRef& ref : runs_of(*item.table)) {
      for (uint64_t block = ref.run->first; block < ref.run->first + ref.run->count; ++block) {
        if (!std::binary_search(item.damaged.begin(), item.damaged.end(), block)) {
          held.push_back(static_cast<int64_t>(block));
        }
      }
    }
    return complete_rows(item.table->spec, held, tokens);
  }

  Snapshot& snapshot_;
  SequenceState& state_;
  InPlace in_place_;
  PageReader reader_;
  std::vector<RegionRestore> regions_;
  std::vector<PageJob> jobs_;
  std::vector<RegionRestore*> found_;
  uint64_t wave_bytes_ = 0;
};

// Checks pages without keeping them.
class Verification {
 public:
  Verification(Snapshot& snapshot, int n_threads) : snapshot_(snapshot), reader_(n_threads) {}

  Result<uint64_t> run() {
    snapshot_.file->will_need(0, snapshot_.superblock.file_bytes);
    for (size_t i = 0; i < snapshot_.tables.size(); ++i) {
      for (size_t r = 0; r < snapshot_.tables[i].size(); ++r) {
        const RegionTable& table = snapshot_.tables[i][r];
        for (const RunRef& ref : runs_of(table)) {
          LCRUN_TRY(add(ref, table, static_cast<uint32_t>(i), static_cast<uint32_t>(r)));
        }
        // A wave never holds pages of two regions, whose payloads differ in size.
        LCRUN_TRY(check_wave(table.spec));
      }
    }
    if (damaged_ > kNamedDamage) snapshot_.damage.push_back(format("and {} pages more", damaged_ - kNamedDamage));
    return damaged_;
  }

 private:
  Status add(const RunRef& ref, const RegionTable& table, uint32_t layer, uint32_t region) {
    const size_t at_once = std::max<size_t>(1, static_cast<size_t>(kStagingBytes / table.extent()));
    const size_t wanted = at_once * table.spec.block_bytes;
    if (payloads_.size() < wanted) {
      LCRUN_ASSIGN(payloads_, AlignedBuffer::allocate(wanted));
    }
    for (uint64_t page = 0; page < ref.run->count; ++page) {
      PageJob job = job_of(snapshot_, table, layer, region, ref, page);
      job.payload = {payloads_.data() + jobs_.size() * table.spec.block_bytes,
                     static_cast<size_t>(table.spec.block_bytes)};
      jobs_.push_back(job);
      if (jobs_.size() == at_once) LCRUN_TRY(check_wave(table.spec));
    }
    return {};
  }

  Status check_wave(const RegionSpec& spec) {
    LCRUN_TRY(reader_.run(jobs_));
    for (const PageJob& job : jobs_) {
      if (job.verdict == Verdict::kOk) continue;
      if (damaged_++ < kNamedDamage) {
        snapshot_.damage.push_back(page_text(job.identity.layer, spec, job.identity.block) + ": " +
                                   verdict_name(job.verdict));
      }
    }
    jobs_.clear();
    return {};
  }

  Snapshot& snapshot_;
  PageReader reader_;
  AlignedBuffer payloads_;
  std::vector<PageJob> jobs_;
  uint64_t damaged_ = 0;
};

Error missing_or(const Error& error) {
  return {error.code == Code::kNotFound ? Code::kBadSession : error.code, error.message};
}

// What `superblock` refers to, or why its identity or tokens cannot be had.
Result<Snapshot> open_commit(const std::shared_ptr<File>& file, const std::string& path, const Superblock& superblock) {
  Snapshot snapshot;
  snapshot.path = path;
  snapshot.file = file;
  snapshot.superblock = superblock;
  LCRUN_ASSIGN(snapshot.identity, read_section(*file, superblock, kIdentitySection));
  LCRUN_ASSIGN(snapshot.tokens, read_section(*file, superblock, kTokensSection));
  auto extra = read_section(*file, superblock, kExtraSection);
  if (extra.has_value()) {
    snapshot.extra = std::move(*extra);
  } else {
    snapshot.damage.emplace_back("logits and note");
  }
  const auto tables = read_section(*file, superblock, kTablesSection);
  if (!tables.has_value()) {
    snapshot.damage.emplace_back("tables of pages");
    return snapshot;
  }
  // Whole, so what is wrong in there was written so.
  LCRUN_ASSIGN(snapshot.tables, decode_tables(*tables, path, superblock, snapshot.parent));
  snapshot.has_state = !snapshot.tables.empty();
  return snapshot;
}

}  // namespace

Result<std::vector<Superblock>> read_superblocks(File& file) {
  LCRUN_ASSIGN(const uint64_t size, file.size());
  std::vector<Superblock> found;
  std::optional<Error> first_error;
  for (uint64_t slot = 0; slot < 2; ++slot) {
    const uint64_t offset = slot * kSuperblockBytes;
    SuperblockBytes bytes{};
    const uint64_t there = std::min(kSuperblockBytes, size - std::min(size, offset));
    const auto view = std::span(bytes).first(static_cast<size_t>(there));
    if (!view.empty()) LCRUN_TRY(file.read_at(offset, view));
    auto superblock = decode_superblock(view, file.path(), offset);
    if (superblock.has_value()) {
      found.push_back(*superblock);
    } else if (!first_error.has_value()) {
      first_error = superblock.error();
    }
  }
  if (found.empty()) return *first_error;
  if (found.size() == 2 && found[1].sequence > found[0].sequence) std::swap(found[0], found[1]);
  return found;
}

Result<std::vector<std::byte>> read_section(File& file, const Superblock& superblock, uint32_t index) {
  const Section& section = superblock.sections[index];
  LCRUN_ASSIGN(const uint64_t size, file.size());
  if (section.bytes > size || section.offset > size - section.bytes) {
    return make_error(Code::kBadSession, "{}: {}: found a file of {} bytes, wanted {} bytes at {}", file.path(),
                      section_name(index), size, section.bytes, section.offset);
  }
  std::vector<std::byte> bytes(static_cast<size_t>(section.bytes));
  LCRUN_TRY(file.read_at(section.offset, bytes));
  const Digest found = digest_of(bytes);
  if (found == section.digest) return bytes;
  return make_error(Code::kBadSession, "{}: offset {}: checksum of {}: found {}, wanted {}", file.path(),
                    section.offset, section_name(index), hex_text(found), hex_text(section.digest));
}

bool same_regions(const SnapshotTables& tables, const SequenceState& state) {
  if (static_cast<int64_t>(tables.size()) != state.n_layers()) return false;
  for (size_t i = 0; i < tables.size(); ++i) {
    const auto& regions = state.layer(static_cast<int64_t>(i)).regions;
    if (regions.size() != tables[i].size()) return false;
    for (size_t r = 0; r < regions.size(); ++r) {
      if (!same_spec(regions[r].spec(), tables[i][r].spec)) return false;
    }
  }
  return true;
}

uint64_t Snapshot::pages() const {
  uint64_t count = 0;
  for (const auto& layer : tables) {
    for (const auto& table : layer) {
      for (const RunRef& ref : runs_of(table)) count += ref.run->count;
    }
  }
  return count;
}

uint64_t Snapshot::shared_bytes() const {
  uint64_t bytes = 0;
  for (const auto& layer : tables) {
    for (const auto& table : layer) {
      for (const PageRun& run : table.inherited) bytes += run.count * table.extent();
    }
  }
  return bytes;
}

uint64_t Snapshot::live_bytes() const {
  uint64_t bytes = kSnapshotStart;
  for (const Section& section : superblock.sections) bytes += section.bytes;
  for (const auto& layer : tables) {
    for (const auto& table : layer) {
      for (const PageRun& run : table.runs) bytes += run.count * table.extent();
    }
  }
  return bytes;
}

uint64_t Snapshot::block_bytes() const {
  uint64_t bytes = 0;
  for (const auto& layer : tables) {
    for (const auto& table : layer) {
      if (table.spec.kind != RegionKind::kAppend) continue;
      for (const RunRef& ref : runs_of(table)) bytes += ref.run->count * table.extent();
    }
  }
  return bytes;
}

static Status read_parent(FileSystem& fs, Snapshot& snapshot) {
  LCRUN_ASSIGN(const ParentFile found, open_parent(fs, snapshot.path, *snapshot.parent));
  LCRUN_ASSIGN(snapshot.parent_identity, read_section(*found.file, found.superblock, kIdentitySection));
  LCRUN_ASSIGN(snapshot.parent_tokens, read_section(*found.file, found.superblock, kTokensSection));
  snapshot.parent_file = found.file;
  return {};
}

static void find_parent(FileSystem& fs, Snapshot& snapshot) {
  const Status found = read_parent(fs, snapshot);
  if (!found.has_value()) snapshot.parent_missing = found.error().message;
  snapshot.parent->path = parent_path(snapshot.path, snapshot.parent->path);
}

// Every page that is asked for has a file.
static Status check_parent(const Snapshot& snapshot) {
  if (!snapshot.parent.has_value() || snapshot.parent_file != nullptr) return {};
  return make_error(Code::kBadSession, "{}: the session that it shares {} tokens with is missing: {}", snapshot.path,
                    snapshot.parent->tokens, snapshot.parent_missing);
}

static Result<Snapshot> open_newest(FileSystem& fs, const std::string& path) {
  auto opened = fs.open(path, OpenMode::kRead);
  if (!opened.has_value()) return missing_or(opened.error());
  const std::shared_ptr<File> file = std::move(*opened);
  // Keeps savers of other processes from reusing space while this one reads; without it, checks would tell.
  static_cast<void>(file->try_lock(false));
  LCRUN_ASSIGN(const auto superblocks, read_superblocks(*file));
  std::optional<Result<Snapshot>> best;
  for (const Superblock& superblock : superblocks) {
    auto snapshot = open_commit(file, path, superblock);
    const bool is_whole = snapshot.has_value() && snapshot->damage.empty();
    if (!best.has_value() || (is_whole || (snapshot.has_value() && !best->has_value()))) best = std::move(snapshot);
    if (is_whole) break;
  }
  if (best->has_value() && (*best)->parent.has_value()) find_parent(fs, **best);
  return std::move(*best);
}

Result<Snapshot> open_snapshot(FileSystem& fs, const std::string& path) {
  return or_no_memory([&] { return open_newest(fs, path); });
}

Result<bool> looks_like_snapshot(FileSystem& fs, const std::string& path) {
  auto opened = fs.open(path, OpenMode::kRead);
  if (!opened.has_value()) return missing_or(opened.error());
  LCRUN_ASSIGN(const uint64_t size, (*opened)->size());
  std::array<std::byte, kMagicBytes> magic{};
  for (uint64_t offset = 0; offset < kSnapshotStart && offset + kMagicBytes <= size; offset += kSuperblockBytes) {
    LCRUN_TRY((*opened)->read_at(offset, magic));
    if (std::memcmp(magic.data(), kMagic, kMagicBytes) == 0) return true;
  }
  return false;
}

Result<int64_t> restore_snapshot(Snapshot& snapshot, SequenceState& state, int n_threads, const InPlace& in_place) {
  if (snapshot.tables.empty() && (!snapshot.damage.empty() || !snapshot.has_state)) return 0;
  LCRUN_TRY(check_parent(snapshot));
  if (!same_regions(snapshot.tables, state)) {
    return make_error(Code::kBadSession,
                      "{}: tables: found regions of other layers or sizes, wanted those of the model", snapshot.path);
  }
  auto restored = or_no_memory([&] { return Restore(snapshot, state, n_threads, in_place).run(); });
  if (restored.has_value() || restored.error().code != Code::kBadSession) return restored;
  return make_error(Code::kBadSession, "{}: {}", snapshot.path, restored.error().message);
}

Result<uint64_t> verify_snapshot(Snapshot& snapshot, int n_threads) {
  LCRUN_TRY(check_parent(snapshot));
  return Verification(snapshot, n_threads).run();
}

}  // namespace lcrun::storage

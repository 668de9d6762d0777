// Saving a snapshot: what is planned first is written afterwards, and the superblock comes last.
//
// A plan says for every page whether the last commit has it already or where it goes; the tables follow from it, so
// their size is known before anything is written. Nothing that one of the last two commits refers to is written over:
// until the next sync the disk may know only the older one.
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <optional>

#include "src/base/format.hpp"
#include "src/base/no_memory.hpp"
#include "src/base/parallel.hpp"
#include "src/base/workspace.hpp"
#include "storage/page_store.hpp"
#include "storage/snapshot.hpp"
#include "storage/snapshot_parts.hpp"
#include "storage/snapshot_space.hpp"

namespace lcrun::storage {
namespace {

constexpr uint64_t kStagingBytes = uint64_t{4} << 20;
// A file with more dead space than live bytes and this is written anew.
constexpr uint64_t kMaxDeadBytes = uint64_t{64} << 20;
constexpr char kTemporary[] = ".tmp.";  // then the number of the process

// Collects neighbouring pages, seals them on all threads and writes them at once.
class PageWriter {
 public:
  static Result<PageWriter> create(File& file, uint64_t largest_extent, int n_threads) {
    PageWriter writer(file, n_threads);
    LCRUN_ASSIGN(writer.staging_, AlignedBuffer::allocate(std::max(kStagingBytes, largest_extent), kSnapshotAlignment));
    return writer;
  }

  Status add(const PageIdentity& identity, uint64_t offset, uint64_t extent, std::span<const std::byte> payload) {
    if (offset != offset_ + used_ || used_ + extent > staging_.size()) LCRUN_TRY(flush());
    if (used_ == 0) offset_ = offset;
    std::memcpy(staging_.data() + used_, payload.data(), payload.size());
    staged_.push_back({identity, used_, extent, payload.size()});
    used_ += extent;
    return {};
  }

  Status flush() {
    if (used_ == 0) return {};
    parallel_for(n_threads_, static_cast<int64_t>(staged_.size()), [&](int64_t i, int) {
      const Staged& page = staged_[static_cast<size_t>(i)];
      seal_page({staging_.data() + page.at, page.extent}, page.payload, page.identity);
    });
    LCRUN_TRY(file_->write_at(offset_, {staging_.data(), used_}));
    pages_ += staged_.size();
    bytes_ += used_;
    used_ = 0;
    staged_.clear();
    return {};
  }

  uint64_t pages() const { return pages_; }
  uint64_t bytes() const { return bytes_; }

 private:
  struct Staged {
    PageIdentity identity;
    uint64_t at;
    uint64_t extent;
    uint64_t payload;
  };
  PageWriter(File& file, int n_threads) : file_(&file), n_threads_(n_threads) {}

  File* file_;
  int n_threads_;
  AlignedBuffer staging_;
  std::vector<Staged> staged_;
  uint64_t offset_ = 0;
  uint64_t used_ = 0;
  uint64_t pages_ = 0;
  uint64_t bytes_ = 0;
};

// Blocks of a region, or its marks and present state, in the order of the table.
std::vector<uint64_t> places_of(const Region& region) {
  std::vector<uint64_t> places;
  if (!region.spec().has_blocks()) {
    for (const auto& mark : region.fixed_marks()) places.push_back(static_cast<uint64_t>(mark.rows));
    places.push_back(kCurrentState);
  } else {
    for (const int64_t block : region.held_blocks()) places.push_back(static_cast<uint64_t>(block));
  }
  return places;
}

Result<std::span<const std::byte>> read_place(Region& region, uint64_t place) {
  if (region.spec().has_blocks()) return region.read_block(static_cast<int64_t>(place));
  if (place == kCurrentState) return std::as_const(region).fixed();
  for (const auto& mark : region.fixed_marks()) {
    if (static_cast<uint64_t>(mark.rows) == place) {
      return std::span<const std::byte>(mark.bytes->data(), region.spec().block_bytes);
    }
  }
  return make_error(Code::kInternal, "region {}: no mark at {}", region.spec().name, place);
}

// Has the page of `place` not changed since `saved` tokens were saved?
bool is_unchanged(const RegionSpec& spec, uint64_t place, int64_t saved) {
  if (!spec.has_blocks()) return place != kCurrentState && place <= static_cast<uint64_t>(saved);
  return (place + 1) * kBlockTokens <= static_cast<uint64_t>(spec.rows_of(saved));
}

// Is the page of `place` the parent's? Blocks of shared tokens never change.
bool is_shared(const RegionSpec& spec, uint64_t place, int64_t shared_tokens) {
  const bool may_be = spec.kind == RegionKind::kAppend || spec.kind == RegionKind::kIndex;
  return may_be && (place + 1) * kBlockTokens <= static_cast<uint64_t>(spec.rows_of(shared_tokens));
}

// The page of `place` in a table, as a run of one.
std::optional<PageRun> find_page(const RegionTable& table, uint64_t place) {
  auto run = std::upper_bound(table.runs.begin(), table.runs.end(), place,
                              [](uint64_t wanted, const PageRun& item) { return wanted < item.first; });
  if (run == table.runs.begin()) return {};
  --run;
  if (place - run->first >= run->count) return {};
  return PageRun{place, 1, run->offset + (place - run->first) * table.extent(), run->generation};
}

// Adds a page to some runs, to the last one if it goes on there. Pages to be written have offset 0 so far.
void add_page(const RegionTable& table, const PageRun& page, std::vector<PageRun>& runs) {
  if (!runs.empty() && table.spec.has_blocks()) {
    PageRun& last = runs.back();
    const uint64_t next_offset = last.offset == 0 ? 0 : last.offset + last.count * table.extent();
    if (last.first + last.count == page.first && last.generation == page.generation && next_offset == page.offset) {
      ++last.count;
      return;
    }
  }
  runs.push_back(page);
}

using Extents = std::vector<std::pair<uint64_t, uint64_t>>;

void add_extents(const Superblock& superblock, const SnapshotTables& tables, Extents& out) {
  for (const Section& section : superblock.sections) out.emplace_back(section.offset, section.bytes);
  for (const auto& layer : tables) {
    for (const auto& table : layer) {
      for (const PageRun& run : table.runs) out.emplace_back(run.offset, run.count * table.extent());
    }
  }
}

// One commit in the making.
struct Commit {
  Superblock superblock;
  SnapshotTables tables;
  std::optional<ParentRef> parent;
  std::vector<std::byte> table_bytes;
  uint64_t dead_bytes = 0;

  std::vector<std::byte> encoded() const { return encode_tables(tables, parent.has_value() ? &*parent : nullptr); }
};

// Bytes of the sections, in their order.
std::array<std::span<const std::byte>, kSections> sections_of(const SaveRequest& request, const Commit& commit) {
  return {request.identity, request.tokens, request.extra, commit.table_bytes};
}

// The parent's pages of a region; null if it has no such region.
const RegionTable* parent_table(const Parent& parent, size_t layer, size_t region, const RegionSpec& spec) {
  if (layer >= parent.tables.size() || region >= parent.tables[layer].size()) return nullptr;
  const RegionTable& table = parent.tables[layer][region];
  return same_spec(table.spec, spec) ? &table : nullptr;
}

// Where the pages of a region are, or are to be written (offset 0). `last`: what the file holds already; may be null.
RegionTable plan_region(const SaveRequest& request, const Region& region, const RegionTable* parent,
                        const RegionTable* last, uint64_t sequence) {
  RegionTable table{region.spec(), {}};
  for (const uint64_t place : places_of(region)) {
    const bool is_inherited =
        parent != nullptr && is_shared(table.spec, place, static_cast<int64_t>(request.parent->ref.tokens));
    const auto page = is_inherited ? find_page(*parent, place) : std::optional<PageRun>();
    if (page.has_value()) {
      add_page(table, *page, table.inherited);
      continue;
    }
    parent = nullptr;  // inherited pages come first
    std::optional<PageRun> known;
    if (last != nullptr && is_unchanged(table.spec, place, request.state.saved_tokens())) {
      known = find_page(*last, place);
    }
    add_page(table, known.value_or(PageRun{place, 1, 0, sequence}), table.runs);
  }
  return table;
}

// `last`: what the file holds already; null for a new file.
// `older`: extents of the commit before, which may be the one that is on the disk.
Commit plan_commit(const SaveRequest& request, const SessionId& id, const Superblock* last,
                   const SnapshotTables* last_tables, Extents older) {
  Commit commit;
  Superblock& superblock = commit.superblock;
  superblock.id = id;
  superblock.sequence = last != nullptr ? last->sequence + 1 : 1;
  superblock.sealed = request.seal;
  superblock.tokens = static_cast<uint64_t>(request.state.tokens());
  if (request.parent != nullptr && !request.without_state) commit.parent = request.parent->ref;
  superblock.has_parent = commit.parent.has_value();
  Extents used = std::move(older);
  if (last != nullptr) add_extents(*last, *last_tables, used);
  for (int64_t i = 0; i < request.state.n_layers() && !request.without_state; ++i) {
    const auto at = static_cast<size_t>(i);
    std::vector<RegionTable> layer;
    for (const Region& region : request.state.layer(i).regions) {
      const RegionTable* parent =
          commit.parent.has_value() ? parent_table(*request.parent, at, layer.size(), region.spec()) : nullptr;
      const RegionTable* held = last != nullptr ? &(*last_tables)[at][layer.size()] : nullptr;
      layer.push_back(plan_region(request, region, parent, held, superblock.sequence));
    }
    commit.tables.push_back(std::move(layer));
  }
  // Sections come first: in a new file they lie before the pages, so that a file that is cut keeps them.
  SnapshotSpace space(std::move(used));
  commit.table_bytes = commit.encoded();  // of the right size; offsets follow
  const auto contents = sections_of(request, commit);
  uint64_t live = kSnapshotStart;
  for (uint32_t i = 0; i < kSections; ++i) {
    superblock.sections[i].bytes = contents[i].size();
    superblock.sections[i].offset = space.take(contents[i].size());
    live += contents[i].size();
  }
  for (auto& layer : commit.tables) {
    for (auto& table : layer) {
      for (PageRun& run : table.runs) {
        if (run.offset == 0) run.offset = space.take(run.count * table.extent());
        live += run.count * table.extent();
      }
    }
  }
  commit.table_bytes = commit.encoded();
  const auto final_contents = sections_of(request, commit);
  for (uint32_t i = 0; i < kSections; ++i) superblock.sections[i].digest = digest_of(final_contents[i]);
  superblock.file_bytes = space.file_end();
  commit.dead_bytes = space.end() - std::min(space.end(), live);
  return commit;
}

Status write_pages(File& file, const SaveRequest& request, const Commit& commit, SaveReport& report) {
  uint64_t largest = 0;
  for (const auto& layer : commit.tables) {
    for (const auto& table : layer) largest = std::max(largest, table.extent());
  }
  LCRUN_ASSIGN(auto writer, PageWriter::create(file, largest, request.n_threads));
  PageIdentity identity;
  identity.session = commit.superblock.id;
  identity.generation = commit.superblock.sequence;
  for (size_t i = 0; i < commit.tables.size(); ++i) {
    identity.layer = static_cast<uint32_t>(i);
    for (size_t r = 0; r < commit.tables[i].size(); ++r) {
      identity.head_group = static_cast<uint32_t>(r);
      const RegionTable& table = commit.tables[i][r];
      Region& region = request.state.layer(static_cast<int64_t>(i)).regions[r];
      for (const PageRun& run : table.runs) {
        if (run.generation != identity.generation) continue;
        for (uint64_t page = 0; page < run.count; ++page) {
          identity.block = run.first + page;
          LCRUN_ASSIGN(const auto payload, read_place(region, identity.block));
          LCRUN_TRY(writer.add(identity, run.offset + page * table.extent(), table.extent(), payload));
        }
      }
    }
  }
  LCRUN_TRY(writer.flush());
  report.pages = writer.pages();
  report.bytes = writer.bytes();
  return {};
}

// Everything but the superblock.
Status write_contents(File& file, const SaveRequest& request, const Commit& commit, SaveReport& report) {
  LCRUN_TRY(write_pages(file, request, commit, report));
  const auto contents = sections_of(request, commit);
  for (uint32_t i = 0; i < kSections; ++i) {
    if (contents[i].empty()) continue;
    LCRUN_TRY(file.write_at(commit.superblock.sections[i].offset, contents[i]));
    report.bytes += contents[i].size();
  }
  report.stamp = {commit.superblock.id, commit.superblock.sequence};
  return {};
}

Error sealed_error(const std::string& path) {
  return make_error(Code::kBadSession, "{}: found a sealed session, which is never changed; save to another file",
                    path);
}

// An addition to the file of the last commit; nothing when there is no such file (any more), or it is better written
// anew.
Result<std::optional<SaveReport>> add_to_file(FileSystem& fs, const std::string& path, const SaveRequest& request) {
  auto opened = fs.open(path, OpenMode::kModify);
  if (!opened.has_value()) return std::optional<SaveReport>();
  File& file = **opened;
  // Somebody reads it, or saves to it: a new file under the same name disturbs nobody.
  if (!file.try_lock(true)) return std::optional<SaveReport>();
  const auto found = read_superblocks(file);
  if (!found.has_value()) return std::optional<SaveReport>();
  const Superblock& last = found->front();
  if (SnapshotStamp{last.id, last.sequence} != request.last) return std::optional<SaveReport>();
  if (last.sealed) return sealed_error(path);
  const auto bytes = read_section(file, last, kTablesSection);
  if (!bytes.has_value()) return std::optional<SaveReport>();
  std::optional<ParentRef> parent;
  const auto tables = decode_tables(*bytes, path, last, parent);
  if (!tables.has_value() || !same_regions(*tables, request.state)) return std::optional<SaveReport>();

  Extents older;
  if (found->size() == 2) {
    // The last superblock may not have reached the disk yet: what the one before refers to is kept for one more commit.
    const auto older_bytes = read_section(file, found->back(), kTablesSection);
    if (!older_bytes.has_value()) return std::optional<SaveReport>();
    const auto older_tables = decode_tables(*older_bytes, path, found->back(), parent);
    if (!older_tables.has_value()) return std::optional<SaveReport>();
    add_extents(found->back(), *older_tables, older);
  }
  const Commit commit = plan_commit(request, last.id, &last, &*tables, std::move(older));
  if (commit.dead_bytes > commit.superblock.file_bytes / 2 + kMaxDeadBytes) return std::optional<SaveReport>();
  SaveReport report;
  const Status written = write_contents(file, request, commit, report);
  if (!written.has_value()) {
    // A full disk gets back what it gave for this commit.
    file.cut(std::max(last.file_bytes, found->back().file_bytes));
    return Error(written.error());
  }
  if (request.sync != SyncMode::kNone) LCRUN_TRY(file.sync());
  const SuperblockBytes superblock = encode_superblock(commit.superblock);
  const uint64_t slot = commit.superblock.sequence % 2;
  LCRUN_TRY(file.write_at(slot * kSuperblockBytes, superblock));
  if (request.sync == SyncMode::kFull) LCRUN_TRY(file.sync());
  if (request.seal) {
    // No commit will come that needs the other one.
    LCRUN_TRY(file.write_at((1 - slot) * kSuperblockBytes, superblock));
    if (request.sync == SyncMode::kFull) LCRUN_TRY(file.sync());
  }
  report.bytes += kSuperblockBytes;
  return std::optional<SaveReport>(report);
}

Status check_not_sealed(FileSystem& fs, const std::string& path) {
  auto opened = fs.open(path, OpenMode::kRead);
  if (!opened.has_value()) return {};
  const auto found = read_superblocks(**opened);
  if (found.has_value() && found->front().sealed) return sealed_error(path);
  return {};
}

Result<SaveReport> write_new_file(FileSystem& fs, const std::string& temporary, const SaveRequest& request) {
  LCRUN_ASSIGN(const SessionId id, random_session_id());
  const Commit commit = plan_commit(request, id, nullptr, nullptr, {});
  SaveReport report;
  report.whole = true;
  LCRUN_ASSIGN(auto file, fs.open(temporary, OpenMode::kReplace));
  static_cast<void>(file->try_lock(true));  // tells others that it is no leftover
  LCRUN_TRY(write_contents(*file, request, commit, report));
  // Both are the same: either may be damaged.
  const SuperblockBytes superblock = encode_superblock(commit.superblock);
  for (uint64_t slot = 0; slot < 2; ++slot) LCRUN_TRY(file->write_at(slot * kSuperblockBytes, superblock));
  if (request.sync != SyncMode::kNone) LCRUN_TRY(file->sync());
  report.bytes += kSnapshotStart;
  return report;
}

// Pages are shared with a parent that is there, and under the name by which this file will look for it.
std::optional<Parent> usable_parent(FileSystem& fs, const std::string& path, const SaveRequest& request) {
  if (request.parent == nullptr || request.parent->ref.tokens == 0) return {};
  Parent parent = *request.parent;
  parent.ref.path = parent_name(path, parent.ref.path);
  if (parent_path(path, parent.ref.path) == path || !open_parent(fs, path, parent.ref).has_value()) return {};
  return parent;
}

Result<SaveReport> save(FileSystem& fs, const std::string& path, const SaveRequest& wanted) {
  SaveRequest request = wanted;
  const std::optional<Parent> parent = usable_parent(fs, path, wanted);
  request.parent = parent.has_value() ? &*parent : nullptr;
  if (request.last.sequence != 0) {
    LCRUN_ASSIGN(const auto added, add_to_file(fs, path, request));
    if (added.has_value()) return *added;
  }
  LCRUN_TRY(check_not_sealed(fs, path));
  // Not by format(): a stream that runs out of memory gives part of a name, and says nothing.
  const std::string temporary = path + kTemporary + std::to_string(getpid());
  remove_leftovers(fs, path);
  auto report = or_no_memory([&] { return write_new_file(fs, temporary, request); });
  if (!report.has_value()) {
    static_cast<void>(fs.remove(temporary));
    return report;
  }
  const Status renamed = fs.rename(temporary, path);
  if (!renamed.has_value()) {
    static_cast<void>(fs.remove(temporary));
    return renamed.error();
  }
  if (request.sync == SyncMode::kFull) LCRUN_TRY(fs.sync_directory_of(path));
  return report;
}

}  // namespace

void remove_leftovers(FileSystem& fs, const std::string& path) {
  const std::string start = path + kTemporary;
  for (const std::string& name : fs.longer_names(start)) {
    const std::string number = name.substr(start.size());
    if (number.size() > 9 || number.find_first_not_of("0123456789") != std::string::npos) continue;
    // A process of that number may be another one by now, or one that this system does not show: the lock tells.
    const auto pid = static_cast<pid_t>(std::stol(number));
    const bool is_running = pid != getpid() && (kill(pid, 0) == 0 || errno != ESRCH);
    const auto opened = fs.open(name, OpenMode::kModify);
    if (opened.has_value() && !is_running && (*opened)->try_lock(true)) static_cast<void>(fs.remove(name));
  }
}

Result<SaveReport> save_snapshot(FileSystem& fs, const std::string& path, const SaveRequest& request) {
  return or_no_memory([&] { return save(fs, path, request); });
}

}  // namespace lcrun::storage

// Fuzz target: the sections of a session file -> a session of a tiny model.
//
//   input = u16 n  tokens[n bytes]  u16 n  extra[n bytes]  tables[what is left]
//
// Superblocks, identity and every checksum are made right here, and the pages that the tables speak of are sealed where
// they lie, so that the parsers and the restore behind the checksums are reached. Laws: no crash, no read outside the
// input, no memory that the file does not pay for; a refusal is kBadSession; what was accepted has one state row for
// each token and can go on.
#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <vector>

#include "src/base/check.hpp"
#include "src/runtime/session_file.hpp"
#include "storage/page_format.hpp"
#include "tests/support/memory_files.hpp"
#include "tests/support/tiny_model.hpp"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);

namespace {

using namespace lcrun;

constexpr uint64_t kPageSpace = 131072;  // for pages, behind the sections

// One layer with keys and values, another with a window: both kinds of blocks.
const model::Model& tiny() {
  static const std::shared_ptr<const model::Model> kModel = [] {
    testing::TinyOptions options;
    options.arch = "gemma2";
    options.n_layers = 2;
    options.n_kv_heads = 1;
    auto loaded = model::Model::load(testing::open_tiny(testing::tiny_recipe(options)), {});
    LCRUN_CHECK(loaded.has_value());
    return *loaded;
  }();
  return *kModel;
}

std::vector<std::byte> take(std::span<const std::byte>& input, bool counted) {
  size_t count = input.size();
  if (counted) {
    uint16_t wanted = 0;
    std::memcpy(&wanted, input.data(), std::min(sizeof(wanted), input.size()));
    input = input.subspan(std::min(sizeof(wanted), input.size()));
    count = std::min<size_t>(wanted, input.size());
  }
  std::vector<std::byte> part(input.begin(), input.begin() + static_cast<std::ptrdiff_t>(count));
  input = input.subspan(count);
  return part;
}

// Seals every page of the tables in place; they may overlap, then the later ones win.
void seal_pages(std::vector<std::byte>& file, const storage::Superblock& superblock,
                const std::vector<std::byte>& table_bytes) {
  std::optional<storage::ParentRef> parent;
  const auto tables = storage::decode_tables(table_bytes, "fuzz", superblock, parent);
  if (!tables.has_value()) return;
  for (size_t i = 0; i < tables->size(); ++i) {
    for (size_t r = 0; r < (*tables)[i].size(); ++r) {
      const storage::RegionTable& table = (*tables)[i][r];
      for (const storage::PageRun& run : table.runs) {
        for (uint64_t page = 0; page < run.count; ++page) {
          const storage::PageIdentity identity{superblock.id, static_cast<uint32_t>(i), static_cast<uint32_t>(r),
                                               run.first + page, run.generation};
          const auto extent = std::span(file).subspan(run.offset + page * table.extent(), table.extent());
          storage::seal_page(extent, table.spec.block_bytes, identity);
        }
      }
    }
  }
}

std::vector<std::byte> make_file(std::span<const std::byte> input) {
  const model::CacheOptions cache;
  std::array<std::vector<std::byte>, storage::kSections> sections;
  sections[storage::kIdentitySection] = runtime::encode_identity(runtime::identity_of(tiny(), cache, 512));
  sections[storage::kTokensSection] = take(input, true);
  sections[storage::kExtraSection] = take(input, true);
  sections[storage::kTablesSection] = take(input, false);
  storage::Superblock superblock;
  superblock.sequence = 3;
  superblock.has_parent = sections[storage::kExtraSection].size() % 2 == 1;
  superblock.tokens = sections[storage::kTokensSection].size() / sizeof(model::Token);
  uint64_t end = storage::kSnapshotStart;
  for (uint32_t i = 0; i < storage::kSections; ++i) {
    superblock.sections[i] = {end, sections[i].size(), storage::digest_of(sections[i])};
    end = (end + sections[i].size() + storage::kSnapshotAlignment - 1) / storage::kSnapshotAlignment *
          storage::kSnapshotAlignment;
  }
  superblock.file_bytes = end + kPageSpace;
  std::vector<std::byte> file(superblock.file_bytes);
  seal_pages(file, superblock, sections[storage::kTablesSection]);
  for (uint32_t i = 0; i < storage::kSections; ++i) {
    if (!sections[i].empty())
      std::memcpy(file.data() + superblock.sections[i].offset, sections[i].data(), sections[i].size());
  }
  const auto bytes = storage::encode_superblock(superblock);
  std::memcpy(file.data(), bytes.data(), bytes.size());
  return file;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  test::MemoryFiles files;
  files.put("fuzz", make_file({reinterpret_cast<const std::byte*>(data), size}));
  const model::CacheOptions cache;
  const auto empty = tiny().new_state(cache).value();
  auto loaded = runtime::load_session_file(
      files, "fuzz", {.model = tiny(), .cache = cache, .like = empty, .n_ctx = 512, .max_tokens = 512, .n_threads = 1});
  if (!loaded.has_value()) {
    LCRUN_CHECK(loaded.error().code == Code::kBadSession || loaded.error().code == Code::kNoMemory);
    LCRUN_CHECK(loaded.error().message.find("fuzz") == 0);
    return 0;
  }
  LCRUN_CHECK(loaded->state.tokens() <= static_cast<int64_t>(loaded->tokens.size()));
  LCRUN_CHECK(!loaded->damage.empty() || loaded->state.tokens() == static_cast<int64_t>(loaded->tokens.size()));
  LCRUN_CHECK(loaded->state.memory_bytes() <= size + 4 * kPageSpace);
  static model::Step step = std::move(tiny().plan({cache, 1, 1, 0, nullptr})).value();
  const model::Token next = 7;
  LCRUN_CHECK(tiny().forward({&next, 1}, loaded->state, step).has_value());
  return 0;
}

// Laws of a cache on pages: whatever lies on the disk, and whatever the disk does, a session says what it would say
// from memory, or ends with an error and can be used again.
#include "src/runtime/paging.hpp"

#include <catch2/catch.hpp>

#include "storage/fault_device.hpp"
#include "storage/sim_device.hpp"
#include "tests/support/temp_dir.hpp"
#include "tests/support/tiny_session.hpp"

using namespace lcrun;
using namespace lcrun::runtime;
using namespace lcrun::testing;

namespace {

// One architecture for each mixture of regions: blocks alone, blocks and rings, blocks and a fixed state.
const std::vector<std::string> kArchs = {"llama", "gemma2", "qwen3next"};
constexpr int64_t kContext = 1 << 20;

struct Disk {
  storage::FaultPlan faults;
  uint64_t capacity = uint64_t{64} << 20;
  storage::FaultDevice* device = nullptr;  // of the session opened last

  PagingOptions options() {
    PagingOptions paging;
    paging.open_device = [this]() -> Result<std::unique_ptr<storage::BlockDevice>> {
      storage::SimConfig config;
      config.capacity = capacity;
      auto made = std::make_unique<storage::FaultDevice>(std::make_unique<storage::SimDevice>(config), faults);
      device = made.get();
      return std::unique_ptr<storage::BlockDevice>(std::move(made));
    };
    return paging;
  }
};

// As few frames as a step can do with.
Session open_paged(const std::shared_ptr<const model::Model>& model, Disk& disk, DType type = DType::kF16,
                   int threads = 1) {
  SessionOptions options = tiny_session_options();
  options.n_ctx = kContext;
  options.n_threads = options.n_threads_batch = threads;
  options.cache = {type, type};
  options.paging = disk.options();
  for (options.max_state_bytes = 65536;; options.max_state_bytes += 16384) {
    auto session = Session::open(model, options);
    if (session.has_value()) {
      REQUIRE(session->page_store() != nullptr);
      return std::move(session).value();
    }
    REQUIRE(session.error().code == Code::kNoMemory);
  }
}

Session open_in_memory(const std::shared_ptr<const model::Model>& model, DType type = DType::kF16) {
  SessionOptions options = tiny_session_options();
  options.n_ctx = kContext;
  options.cache = {type, type};
  return open_tiny_session(model, options);
}

// Reads tokens in parts and says logits after each of them.
std::vector<std::vector<float>> run_parts(Session& session, const std::vector<Token>& tokens) {
  std::vector<std::vector<float>> all;
  for (const size_t n : {300, 301, 1400, 1401, 1402, 1800}) {
    all.push_back(sync_copy(session, {tokens.data(), n}));
  }
  for (size_t i = 1800; i < 1830; ++i) all.push_back(decode_copy(session, tokens[i]));
  // Another way from the middle, and back.
  auto other = tokens;
  other[450] = (other[450] + 1) % static_cast<Token>(kTinyVocab);
  all.push_back(sync_copy(session, {other.data(), 1300}));
  all.push_back(sync_copy(session, {tokens.data(), 1830}));
  return all;
}

}  // namespace

TEST_CASE("a cache on pages gives the bits of a cache in memory", "[runtime][paging]") {
  const auto tokens = random_tokens(1900, kTinyVocab, 3);
  for (const std::string& arch : kArchs) {
    const auto model = load_tiny(arch);
    for (const DType type : {DType::kF32, DType::kF16, DType::kBF16}) {
      CAPTURE(arch, static_cast<int>(type));
      auto memory = open_in_memory(model, type);
      const auto want = run_parts(memory, tokens);
      Disk disk;
      auto paged = open_paged(model, disk, type, 2);
      CHECK(run_parts(paged, tokens) == want);
      CHECK(paged.page_store()->io_stats().bytes_read > 0);
      CHECK(paged.recomputed_tokens() == 0);
    }
  }
}

TEST_CASE("sessions on pages continue from forks and as forks", "[runtime][paging]") {
  const auto tokens = random_tokens(1900, kTinyVocab, 3);
  for (const std::string& arch : kArchs) {
    CAPTURE(arch);
    const auto model = load_tiny(arch);
    auto memory = open_in_memory(model);
    const auto want = sync_copy(memory, tokens);
    const auto want_next = decode_copy(memory, 3);
    Disk disk;
    auto paged = open_paged(model, disk);
    sync_copy(paged, {tokens.data(), 512});
    const auto early = paged.fork();
    REQUIRE(early.has_value());
    sync_copy(paged, tokens);
    const auto late = paged.fork();
    REQUIRE(late.has_value());
    for (int i = 0; i < 2; ++i) {
      REQUIRE(paged.continue_from(*early, {tokens.data(), 512}).has_value());
      sync_copy(paged, {tokens.data(), 1024});
      REQUIRE(paged.continue_as(*late, std::span(tokens).subspan(1024)).has_value());
      CHECK(decode_copy(paged, 3) == want_next);
      REQUIRE(paged.continue_from(*early, {tokens.data(), 512}).has_value());
      CHECK(sync_copy(paged, tokens) == want);
    }
  }
}

TEST_CASE("what a disk loses is read again from the tokens", "[runtime][paging]") {
  using storage::Fault;
  const auto tokens = random_tokens(1900, kTinyVocab, 3);
  for (const std::string& arch : kArchs) {
    const auto model = load_tiny(arch);
    auto memory = open_in_memory(model);
    const auto want = run_parts(memory, tokens);
    for (const Fault fault : {Fault::kFlipOnWrite, Fault::kTornWrite, Fault::kLostWrite, Fault::kMisplacedWrite}) {
      CAPTURE(arch, storage::fault_name(fault));
      Disk disk;
      disk.faults.seed = 5;
      disk.faults.per_thousand[static_cast<size_t>(fault)] = 15;  // each takes up to sixteen pages
      auto paged = open_paged(model, disk);
      CHECK(run_parts(paged, tokens) == want);
      CHECK(disk.device->injected() > 0);
      CHECK(paged.recomputed_tokens() > 0);
    }
  }
}

TEST_CASE("whichever operation of the disk fails, the answer is right or there is an error", "[runtime][paging]") {
  using storage::Fault;
  const auto tokens = random_tokens(700, kTinyVocab, 3);
  const auto model = load_tiny("gemma2");
  auto memory = open_in_memory(model);
  const auto want = sync_copy(memory, tokens);
  int errors = 0;
  for (const Fault fault : {Fault::kReadError, Fault::kWriteError, Fault::kNoSpace, Fault::kShortRead, Fault::kAgain,
                            Fault::kFlipOnRead, Fault::kFlipOnWrite, Fault::kAllocateNoSpace}) {
    for (int64_t nth = 0;; nth += 1 + nth / 7) {
      Disk disk;
      disk.faults.nth_fault = fault;
      disk.faults.nth = nth;
      auto paged = open_paged(model, disk);
      const auto found = paged.sync(tokens);
      CAPTURE(storage::fault_name(fault), nth);
      if (found.has_value()) {
        CHECK(std::equal(want.begin(), want.end(), found->begin(), found->end()));
      } else {
        ++errors;
        CHECK((found.error().code == Code::kIo || found.error().code == Code::kNoSpace));
        disk.device->heal();
        CHECK(sync_copy(paged, tokens) == want);
      }
      if (disk.device->injected() == 0) break;
    }
  }
  CHECK(errors < 40);  // most are got round
}

TEST_CASE("a full disk ends a run with an error, and the session says the right thing when there is room again",
          "[runtime][paging]") {
  const auto tokens = random_tokens(1900, kTinyVocab, 3);
  const auto model = load_tiny("llama");
  auto memory = open_in_memory(model);
  Disk disk;
  disk.capacity = 96 * 1024;
  auto paged = open_paged(model, disk);
  const auto found = paged.sync(tokens);
  REQUIRE_FALSE(found.has_value());
  CHECK(found.error().code == Code::kNoSpace);
  const auto part = std::vector<Token>(tokens.begin(), tokens.begin() + 200);
  CHECK(sync_copy(paged, part) == sync_copy(memory, part));
}

TEST_CASE("less memory than a step needs, or no room for what was reserved, is refused before the run",
          "[runtime][paging]") {
  const auto model = load_tiny("llama");
  SessionOptions options = tiny_session_options();
  options.n_ctx = kContext;
  options.max_state_bytes = 4096;
  Disk disk;
  options.paging = disk.options();
  CHECK(Session::open(model, options).error().code == Code::kNoMemory);
  options.max_state_bytes = 512 * 1024;
  options.paging.reserve_tokens = 2000;
  disk.capacity = 64 * 1024;
  CHECK(Session::open(model, options).error().code == Code::kNoSpace);
  test::TempDir dir;
  options.paging = {};
  options.paging.directory = dir.path() + "/missing";
  CHECK_FALSE(Session::open(model, options).has_value());
}

TEST_CASE("a saved session is the same from pages and from memory", "[runtime][paging]") {
  const auto tokens = random_tokens(700, kTinyVocab, 3);
  test::TempDir dir;
  for (const std::string& arch : kArchs) {
    CAPTURE(arch);
    const auto model = load_tiny(arch);
    Disk disk, other;
    auto paged = open_paged(model, disk);
    sync_copy(paged, {tokens.data(), 650});
    const std::string path = dir.path() + "/" + arch;
    REQUIRE(paged.save(posix_file_system(), path).has_value());
    auto memory = open_in_memory(model);
    REQUIRE(memory.load(posix_file_system(), path).has_value());
    const auto want = sync_copy(memory, tokens);
    CHECK(memory.reused_tokens() == 650);
    auto again = open_paged(model, other);
    REQUIRE(again.load(posix_file_system(), path).has_value());
    CHECK(sync_copy(again, tokens) == want);
    CHECK(again.reused_tokens() == 650);
  }
}

TEST_CASE("a session whose disk loses pages is saved as if it had not", "[runtime][paging]") {
  using storage::Fault;
  const auto tokens = random_tokens(900, kTinyVocab, 3);
  test::TempDir dir;
  const std::string path = dir.path() + "/s";
  const auto model = load_tiny("llama");
  auto whole = open_in_memory(model);
  const auto want = sync_copy(whole, tokens);
  for (const Fault fault : {Fault::kFlipOnWrite, Fault::kLostWrite, Fault::kFlipOnRead}) {
    CAPTURE(storage::fault_name(fault));
    Disk disk;
    disk.faults.seed = 6;
    disk.faults.per_thousand[static_cast<size_t>(fault)] = 60;
    auto paged = open_paged(model, disk);
    sync_copy(paged, {tokens.data(), 850});
    const auto saved = paged.save(posix_file_system(), path);
    if (!saved.has_value()) {
      CHECK(saved.error().code == Code::kIo);
    } else {
      auto memory = open_in_memory(model);
      REQUIRE(memory.load(posix_file_system(), path).has_value());
      CHECK(memory.tokens().size() == 850);
      CHECK(sync_copy(memory, tokens) == want);
      CHECK(memory.reused_tokens() == 850);
    }
    CHECK(sync_copy(paged, tokens) == want);
  }
}

// Laws of sealed sessions whose pages stay in the file: they say what a session that was copied says, whatever is
// edited, forked or saved afterwards, and whatever the file turns out to hold.
#include "src/runtime/sealed_place.hpp"

#include <unistd.h>

#include <catch2/catch.hpp>
#include <fstream>

#include "src/base/mapping_guard.hpp"
#include "src/runtime/session.hpp"
#include "storage/fault_device.hpp"
#include "tests/support/temp_dir.hpp"
#include "tests/support/tiny_session.hpp"

using namespace lcrun;
using namespace lcrun::runtime;
using namespace lcrun::testing;

namespace {

struct Form {
  const char* name;
  SealedForm form;
  storage::IoChoice io;
  bool capped;  // the context does not fit in memory
};
const Form kForms[] = {{"mapped", SealedForm::kMapped, storage::IoChoice::kAuto, false},
                       {"read", SealedForm::kRead, storage::IoChoice::kAuto, false},
                       {"read by threads", SealedForm::kRead, storage::IoChoice::kThreads, false},
                       {"chosen", SealedForm::kAuto, storage::IoChoice::kAuto, false},
                       {"mapped, capped", SealedForm::kMapped, storage::IoChoice::kAuto, true},
                       {"chosen, capped", SealedForm::kAuto, storage::IoChoice::kAuto, true}};

class Sealed {
 public:
  Sealed(const std::string& arch, DType type, int64_t tokens, const std::string& policy = "dense") : model(load(arch)) {
    options = tiny_session_options();
    options.policy.attention = policy;
    options.n_ctx = policy == "dense" ? 4096 : 16384;  // what a step of a choice reads at once is not all of it
    options.cache = {type, type};
    auto session = open_tiny_session(model, options);
    sync_copy(session, random_tokens(tokens, kTinyVocab, 71));
    REQUIRE(session.save(posix_file_system(), path(), {.note = "n", .seal = true}).has_value());
  }
  static std::shared_ptr<const model::Model> load(const std::string& arch) {
    TinyOptions tiny;
    tiny.arch = arch;
    tiny.head_dim = 32;  // one block of q4_0 and q8_0
    return model::Model::load(open_tiny(tiny_recipe(tiny)), {}).value();
  }
  std::string path() const { return dir.path() + "/s"; }

  // Loaded, its pages where the form says.
  Session open(const Form& form, const PagingOptions& more = {}, const std::string& note = "n") {
    SessionOptions with = options;
    with.n_threads = with.n_threads_batch = 2;
    with.paging = more;
    with.paging.directory = dir.path();
    with.paging.device.io = form.io;
    with.paging.sealed = form.form;
    for (with.max_state_bytes = form.capped ? 65536 : 0;; with.max_state_bytes += 16384) {
      auto session = Session::open(model, with);
      if (!session.has_value()) {
        REQUIRE(session.error().code == Code::kNoMemory);
        continue;
      }
      REQUIRE((session->page_store() != nullptr) == form.capped);
      auto restored = session->load(posix_file_system(), path());
      REQUIRE(restored.has_value());
      CHECK(restored->damage.empty());
      CHECK(restored->note == note);
      return std::move(session).value();
    }
  }
  Session open_copied() {
    auto session = open_tiny_session(model, options);
    REQUIRE(session.load(posix_file_system(), path()).has_value());
    REQUIRE(session.page_store() == nullptr);
    return session;
  }

  test::TempDir dir;
  std::shared_ptr<const model::Model> model;
  SessionOptions options;
};

// All that a session can be asked to do after a restore.
std::vector<std::vector<float>> use(Session& session, const std::string& other_path) {
  std::vector<std::vector<float>> all;
  all.emplace_back(session.logits().begin(), session.logits().end());
  auto tokens = std::vector<Token>(session.tokens().begin(), session.tokens().end());
  for (Token token = 0; token < 70; ++token) all.push_back(decode_copy(session, token));
  const auto mark = session.mark().value();
  const auto question = random_tokens(150, kTinyVocab, 72);
  for (int turn = 0; turn < 2; ++turn) {
    auto asked = std::vector<Token>(session.tokens().begin(), session.tokens().end());
    asked.insert(asked.end(), question.begin() + turn * 10, question.end());
    all.push_back(sync_copy(session, asked));
    REQUIRE(session.rewind(mark).has_value());
  }
  for (const size_t at : {tokens.size() - 3, tokens.size() / 2, size_t{10}}) {
    auto edited = tokens;
    edited[at] = (edited[at] + 1) % static_cast<Token>(kTinyVocab);
    all.push_back(sync_copy(session, edited));
  }
  all.push_back(sync_copy(session, tokens));
  REQUIRE(session.save(posix_file_system(), other_path).has_value());
  return all;
}

uint64_t bytes_read(const Session& session) { return session.page_store()->io_stats().bytes_read; }

void spoil(const std::string& path, uint64_t offset) {
  std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
  file.seekg(static_cast<std::streamoff>(offset));
  const auto byte = static_cast<char>(file.get() ^ 1);
  file.seekp(static_cast<std::streamoff>(offset));
  file.put(byte);
}

}  // namespace

TEST_CASE("a sealed session in its file gives the bits of one that was copied", "[runtime][sealed]") {
  for (const std::string arch : {"llama", "gemma2", "qwen3next"}) {
    for (const DType type : {DType::kF16, DType::kQ8_0, DType::kQ4_0}) {
      const bool is_indexed = type == DType::kQ8_0;
      Sealed sealed(arch, type, 1000, is_indexed ? "select" : "dense");
      auto copied = sealed.open_copied();
      const auto want = use(copied, sealed.dir.path() + "/copied");
      for (const Form& form : kForms) {
        CAPTURE(arch, static_cast<int>(type), form.name);
        auto session = sealed.open(form);
        REQUIRE(session.page_store() != nullptr);
        CHECK(bytes_read(session) == 0);
        CHECK(session.page_store()->stats().verdicts[0] == 0);  // nothing has been looked at
        CHECK(use(session, sealed.dir.path() + "/other") == want);
        CHECK(session.recomputed_tokens() == 0);
        auto saved = open_tiny_session(sealed.model, sealed.options);
        REQUIRE(saved.load(posix_file_system(), sealed.dir.path() + "/other").has_value());
        auto again = open_tiny_session(sealed.model, sealed.options);
        REQUIRE(again.load(posix_file_system(), sealed.dir.path() + "/copied").has_value());
        CHECK(decode_copy(saved, 5) == decode_copy(again, 5));
      }
    }
  }
}

// As `encode` does it. A commit of few pages finds room for them in what older tables have left, and its own tables end
// the file; a file that is shorter than it says would count as cut, and be copied.
TEST_CASE("a sealed session that was saved on the way stays in its file", "[runtime][sealed]") {
  Sealed sealed("gemma2", DType::kF16, 100);
  auto writer = open_tiny_session(sealed.model, sealed.options);
  const auto text = random_tokens(1210, kTinyVocab, 71);
  const std::string path = sealed.dir.path() + "/grown";
  std::string note;
  for (const int64_t done : {300, 600, 900, 1200, 1210}) {
    sync_copy(writer, std::vector<Token>(text.begin(), text.begin() + done));
    note.assign(static_cast<size_t>(done) * 200, 'n');
    REQUIRE(writer.save(posix_file_system(), path, {.note = note, .seal = done == 1210}).has_value());
  }
  REQUIRE(rename(path.c_str(), sealed.path().c_str()) == 0);
  auto session = sealed.open(kForms[0], {}, note);
  CHECK(session.page_store() != nullptr);
  CHECK(decode_copy(session, 3) == decode_copy(writer, 3));
}

TEST_CASE("a damaged page of a sealed session is found when it is needed, and made again", "[runtime][sealed]") {
  for (const std::string arch : {"llama", "gemma2"}) {
    Sealed sealed(arch, DType::kF16, 1000);
    auto copied = sealed.open_copied();
    const auto want = use(copied, sealed.dir.path() + "/copied");
    const auto snapshot = storage::open_snapshot(posix_file_system(), sealed.path()).value();
    int spoilt = 0;
    for (const auto& layer : snapshot.tables) {
      for (const auto& table : layer) {
        if (table.spec.kind != storage::RegionKind::kAppend) continue;
        for (const uint64_t block : {uint64_t{3}, uint64_t{15}}) {  // the last one is partly filled
          spoil(sealed.path(), table.runs[0].offset + (block - table.runs[0].first) * table.extent() + 7);
          ++spoilt;
        }
      }
    }
    REQUIRE(spoilt > 0);
    for (const Form& form : kForms) {
      CAPTURE(arch, form.name);
      auto session = sealed.open(form);
      CHECK(use(session, sealed.dir.path() + "/other") == want);
      CHECK(session.recomputed_tokens() > 0);
    }
  }
}

TEST_CASE("whatever the disk does to a sealed session's pages, the answer is right or there is an error",
          "[runtime][sealed]") {
  using storage::Fault;
  Sealed sealed("llama", DType::kF16, 700);
  auto copied = sealed.open_copied();
  const auto prompt = random_tokens(760, kTinyVocab, 71);
  const auto want = sync_copy(copied, prompt);
  int mended = 0;
  for (const Fault fault : {Fault::kReadError, Fault::kShortRead, Fault::kAgain, Fault::kInterrupted,
                            Fault::kFlipOnRead, Fault::kMisplacedRead, Fault::kSubmitAgain}) {
    for (const uint32_t rate : {20U, 200U, 1000U}) {
      PagingOptions paging;
      paging.open_sealed = [&](const std::string& path) -> Result<std::unique_ptr<storage::BlockDevice>> {
        storage::FaultPlan plan;
        plan.seed = rate;
        plan.per_thousand[static_cast<size_t>(fault)] = rate;
        LCRUN_ASSIGN(auto device, storage::open_for_reading(path, {.depth = 8}));
        return std::unique_ptr<storage::BlockDevice>(std::make_unique<storage::FaultDevice>(std::move(device), plan));
      };
      CAPTURE(storage::fault_name(fault), rate);
      auto session = sealed.open(kForms[1], paging);
      const auto found = session.sync(prompt);
      if (found.has_value()) {
        mended += session.recomputed_tokens() > 0 ? 1 : 0;
        CHECK(std::equal(want.begin(), want.end(), found->begin(), found->end()));
      } else {
        CHECK(found.error().code == Code::kIo);
      }
    }
  }
  CHECK(mended > 0);
}

TEST_CASE("a sealed file that is cut is read at once, and what is missing is told", "[runtime][sealed]") {
  Sealed sealed("llama", DType::kF16, 700);
  std::ifstream whole(sealed.path(), std::ios::binary);
  std::vector<char> bytes{std::istreambuf_iterator<char>(whole), {}};
  bytes.resize(bytes.size() - 4096);
  std::ofstream(sealed.path(), std::ios::binary).write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
  auto options = sealed.options;
  options.paging.directory = sealed.dir.path();
  auto session = open_tiny_session(sealed.model, options);
  const auto restored = session.load(posix_file_system(), sealed.path());
  REQUIRE(restored.has_value());
  CHECK_FALSE(restored->damage.empty());
  CHECK(restored->tokens.size() == 700);
}

TEST_CASE("a sealed file that is cut while it is mapped gives the right answer or an error, and the session goes on",
          "[runtime][sealed]") {
  REQUIRE(install_mapping_guard().has_value());
  for (const bool touched : {false, true}) {
    Sealed sealed("llama", DType::kF16, 1000);
    auto copied = sealed.open_copied();
    auto session = sealed.open(kForms[0]);
    if (touched) REQUIRE(decode_copy(session, 3) == decode_copy(copied, 3));
    REQUIRE(truncate(sealed.path().c_str(), 4096) == 0);
    const auto found = session.decode(4);
    CHECK(found.has_value() == !touched);  // pages that are checked only now are found out, and made again
    if (found.has_value()) {
      const auto want = decode_copy(copied, 4);
      CHECK(std::equal(want.begin(), want.end(), found->begin(), found->end()));
    } else {
      CHECK(found.error().code == Code::kBadSession);
      CHECK(found.error().message.find("cut short") != std::string::npos);
      CHECK(session.tokens().empty());
    }
    const auto prompt = random_tokens(200, kTinyVocab, 74);
    auto fresh = open_tiny_session(sealed.model, sealed.options);
    CHECK(sync_copy(session, prompt) == sync_copy(fresh, prompt));
  }
}

TEST_CASE("sessions are loaded one after another into one store, and none outlives its use", "[runtime][sealed]") {
  Sealed sealed("llama", DType::kF16, 300);
  for (const Form& form : kForms) {
    CAPTURE(form.name);
    auto session = sealed.open(form);
    const auto want = decode_copy(session, 3);
    for (int i = 0; i < 20; ++i) {
      REQUIRE(session.load(posix_file_system(), sealed.path()).has_value());
      CHECK(decode_copy(session, 3) == want);
    }
    session.clear();
    CHECK(session.page_store()->pages() == 0);
  }
}

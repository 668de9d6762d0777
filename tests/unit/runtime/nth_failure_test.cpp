// Whatever allocation, file operation or operation of the disk fails while a model is loaded, a prompt read or a token
// decoded: an error, and what was there before can be used.
#include <algorithm>
#include <catch2/catch.hpp>
#include <vector>

#include "include/lcrun/lcrun.h"
#include "src/runtime/engine.hpp"
#include "storage/fault_device.hpp"
#include "storage/sim_device.hpp"
#include "tests/support/alloc_counter.hpp"
#include "tests/support/memory_files.hpp"
#include "tests/support/temp_dir.hpp"
#include "tests/support/tiny_session.hpp"

using namespace lcrun;
using namespace lcrun::testing;
using model::Token;

namespace {

std::vector<std::byte> tiny_file(const std::string& arch) {
  TinyOptions tiny;
  tiny.arch = arch;
  return encode_tiny(tiny_recipe(tiny)).value();
}

std::vector<float> logits_of(const lcrun_session* session) {
  const float* logits = lcrun_logits(session);
  return {logits, logits + kTinyVocab};
}

// Every next allocation fails, the first ones one by one.
int64_t next_failure(int64_t k) { return k + 1 + k / 40; }

}  // namespace

TEST_CASE("whichever allocation of loading a model fails, there is an error and the next try succeeds",
          "[runtime][nth]") {
  const test::TempDir dir;
  for (const std::string arch : {"llama", "mamba2"}) {
    const std::string path = dir.path() + "/" + arch;
    REQUIRE(write_file_atomically(posix_file_system(), path, tiny_file(arch)).has_value());
    int64_t errors = 0;
    for (int64_t k = 0;; k = next_failure(k)) {
      lcrun_model* model = nullptr;
      fail_allocation(k);
      const lcrun_status status = lcrun_model_load(path.c_str(), nullptr, &model);
      const bool failed = allocation_failed();
      fail_allocation(-1);
      CAPTURE(arch, k, lcrun_last_error());
      CHECK((status == LCRUN_OK || status == LCRUN_E_NO_MEMORY));
      CHECK((model != nullptr) == (status == LCRUN_OK));
      errors += status == LCRUN_OK ? 0 : 1;
      lcrun_model_free(model);
      if (!failed) break;
    }
    CHECK(errors > 50);
  }
}

TEST_CASE("whichever allocation of opening, reading or decoding fails, the session goes on as if it had not",
          "[runtime][nth]") {
  const test::TempDir dir;
  const auto prompt = random_tokens(150, kTinyVocab, 9);
  for (const std::string arch : {"llama", "gemma2", "qwen3next"}) {
    const std::string path = dir.path() + "/" + arch;
    REQUIRE(write_file_atomically(posix_file_system(), path, tiny_file(arch)).has_value());
    lcrun_model* model = nullptr;
    REQUIRE(lcrun_model_load(path.c_str(), nullptr, &model) == LCRUN_OK);
    lcrun_session_params params = LCRUN_SESSION_PARAMS_INIT;
    params.n_ctx = 512;
    params.n_threads = 1;
    std::vector<float> want;
    int64_t errors = 0;
    for (int64_t k = -1;; k = next_failure(k)) {
      CAPTURE(arch, k);
      lcrun_session* session = nullptr;
      std::vector<lcrun_token> all(prompt.begin(), prompt.end());
      all.reserve(300);
      fail_allocation(k);
      const auto attempt = [&](const auto& call, const auto& again) {
        const lcrun_status status = call();
        if (status == LCRUN_OK) return;
        CHECK(status == LCRUN_E_NO_MEMORY);
        ++errors;
        fail_allocation(-1);
        REQUIRE(again() == LCRUN_OK);
      };
      const auto open = [&] { return lcrun_session_open(model, &params, &session); };
      const auto read_part = [&] { return lcrun_prefill(session, prompt.data(), 100); };
      const auto read_all = [&] { return lcrun_prefill(session, all.data(), all.size()); };
      attempt(open, open);
      attempt(read_part, read_part);
      attempt(read_all, read_all);
      for (lcrun_token token = 0; token < 70; ++token) {
        all.push_back(token);
        // A state that has moved on may have to be read again from the start.
        attempt([&] { return lcrun_decode(session, token); }, read_all);
      }
      const bool failed = allocation_failed();
      fail_allocation(-1);
      if (k < 0) want = logits_of(session);
      CHECK(logits_of(session) == want);
      CHECK(lcrun_session_tokens(session) == 220);
      lcrun_session_close(session);
      if (k >= 0 && !failed) break;
    }
    CHECK(errors > 20);
    lcrun_model_free(model);
  }
}

TEST_CASE("whichever operation on the model's file fails, loading is an error that is no crash", "[runtime][nth]") {
  test::MemoryFiles files;
  files.put("m", tiny_file("llama"));
  runtime::EngineRequest request;
  request.path = "m";
  int64_t errors = 0;
  for (const auto mode : {ggufish::LoadMode::kRead, ggufish::LoadMode::kDirect}) {
    request.load_mode = mode;
    for (int64_t k = 0;; ++k) {
      files.fail_at(k);
      const auto engine = runtime::load_engine(request, files);
      const bool failed = files.operations() > k;
      files.fail_at(-1);
      CAPTURE(k);
      CHECK(engine.has_value() == !failed);
      if (!failed) break;
      ++errors;
      CHECK((engine.error().code == Code::kIo || engine.error().code == Code::kBadModel));
    }
  }
  CHECK(errors >= 4);
}

TEST_CASE(
    "whichever operation of the disk fails while tokens are decoded, they are the right ones or there is an error",
    "[runtime][nth]") {
  using storage::Fault;
  const auto prompt = random_tokens(700, kTinyVocab, 3);
  const auto model = load_tiny("gemma2");
  auto options = tiny_session_options();
  options.n_ctx = 1 << 20;
  auto memory = open_tiny_session(model, options);
  const auto want = [&] {
    sync_copy(memory, prompt);
    std::vector<std::vector<float>> all;
    for (Token token = 0; token < 66; ++token) all.push_back(decode_copy(memory, token));
    return all;
  }();
  for (const Fault fault : {Fault::kReadError, Fault::kWriteError, Fault::kNoSpace, Fault::kShortRead, Fault::kAgain,
                            Fault::kFlipOnRead, Fault::kMisplacedRead}) {
    int64_t first = 0, end = 1;
    for (int64_t nth = -1; nth < end; nth = nth < 0 ? first : nth + 1 + (end - first) / 12) {
      CAPTURE(storage::fault_name(fault), nth);
      storage::FaultDevice* device = nullptr;
      options.paging.open_device = [&]() -> Result<std::unique_ptr<storage::BlockDevice>> {
        storage::FaultPlan plan;
        plan.nth_fault = fault;
        plan.nth = nth < 0 ? int64_t{1} << 40 : nth;
        auto made = std::make_unique<storage::FaultDevice>(
            std::make_unique<storage::SimDevice>(storage::SimConfig{.capacity = uint64_t{64} << 20}), plan);
        device = made.get();
        return std::unique_ptr<storage::BlockDevice>(std::move(made));
      };
      options.max_state_bytes = 65536;
      auto opened = runtime::Session::open(model, options);
      while (!opened.has_value()) {
        REQUIRE(opened.error().code == Code::kNoMemory);
        options.max_state_bytes += 16384;
        opened = runtime::Session::open(model, options);
      }
      auto session = std::move(opened).value();
      REQUIRE(session.page_store() != nullptr);
      sync_copy(session, prompt);
      if (nth < 0) first = device->operations();
      for (Token token = 0; token < 66; ++token) {
        auto found = session.decode(token);
        if (!found.has_value()) {
          CHECK((found.error().code == Code::kIo || found.error().code == Code::kNoSpace));
          found = session.decode(token);
          REQUIRE(found.has_value());
        }
        CHECK(std::equal(found->begin(), found->end(), want[static_cast<size_t>(token)].begin()));
      }
      if (nth < 0) end = device->operations();
    }
  }
}

// The C API: two models and four sessions in one process, statuses instead of surprises.
#include <algorithm>
#include <catch2/catch.hpp>
#include <cstddef>
#include <cstring>
#include <string>
#include <thread>
#include <vector>

#include "include/lcrun/lcrun.h"
#include "src/base/file.hpp"
#include "tests/support/temp_dir.hpp"
#include "tests/support/tiny_model.hpp"

using namespace lcrun;
using namespace lcrun::testing;

namespace {

std::string write_tiny(const test::TempDir& dir, const std::string& arch) {
  TinyOptions options;
  options.arch = arch;
  const auto bytes = encode_tiny(tiny_recipe(options));
  REQUIRE(bytes.has_value());
  const std::string path = dir.path() + "/" + arch + ".gguf";
  REQUIRE(write_file_atomically(posix_file_system(), path, *bytes).has_value());
  return path;
}

lcrun_model* load(const std::string& path) {
  lcrun_model* model = nullptr;
  REQUIRE(lcrun_model_load(path.c_str(), nullptr, &model) == LCRUN_OK);
  return model;
}

lcrun_session* open(const lcrun_model* model) {
  lcrun_session_params params = LCRUN_SESSION_PARAMS_INIT;
  params.n_ctx = 256;
  params.n_threads = 1;
  lcrun_session* session = nullptr;
  REQUIRE(lcrun_session_open(model, &params, &session) == LCRUN_OK);
  return session;
}

// n greedy tokens after a prompt.
std::vector<lcrun_token> greedy(lcrun_session* session, const std::vector<lcrun_token>& prompt, int n) {
  lcrun_sample_params params = LCRUN_SAMPLE_PARAMS_INIT;
  params.temp = 0;
  std::vector<lcrun_token> made;
  if (lcrun_prefill(session, prompt.data(), prompt.size()) != LCRUN_OK) return made;
  for (int i = 0; i < n; ++i) {
    lcrun_token token = 0;
    if (lcrun_sample(session, &params, &token) != LCRUN_OK) return {};
    made.push_back(token);
    if (lcrun_decode(session, token) != LCRUN_OK) return {};
  }
  return made;
}

}  // namespace

TEST_CASE("sampling parameters of the C API reach the sampler, also those that an older program does not know",
          "[runtime][capi]") {
  const test::TempDir dir;
  lcrun_model* model = load(write_tiny(dir, "llama"));
  lcrun_session* session = open(model);
  const auto prompt = random_tokens(30, kTinyVocab, 1);
  REQUIRE(lcrun_prefill(session, prompt.data(), prompt.size()) == LCRUN_OK);
  lcrun_sample_params params = LCRUN_SAMPLE_PARAMS_INIT;
  params.temp = 0;
  lcrun_token best = 0;
  REQUIRE(lcrun_sample(session, &params, &best) == LCRUN_OK);
  REQUIRE(lcrun_decode(session, best) == LCRUN_OK);

  // A penalty beyond any logit keeps greedy sampling away from what was there.
  const float* logits = lcrun_logits(session);
  const auto likeliest = static_cast<lcrun_token>(std::max_element(logits, logits + kTinyVocab) - logits);
  REQUIRE(lcrun_decode(session, likeliest) == LCRUN_OK);
  for (float lcrun_sample_params::*penalty :
       {&lcrun_sample_params::presence_penalty, &lcrun_sample_params::frequency_penalty}) {
    lcrun_sample_params with = params;
    with.repeat_last_n = -1;
    with.*penalty = 100;
    lcrun_token token = 0;
    REQUIRE(lcrun_sample(session, &with, &token) == LCRUN_OK);
    CHECK(token != likeliest);
    CHECK(token != best);
    with.struct_size = offsetof(lcrun_sample_params, typical_p);  // the struct of the first release: no such field
    lcrun_token old = 0;
    lcrun_token plain = 0;
    REQUIRE(lcrun_sample(session, &with, &old) == LCRUN_OK);
    REQUIRE(lcrun_sample(session, &params, &plain) == LCRUN_OK);
    CHECK(old == plain);
  }
  params.typical_p = -1;
  CHECK(lcrun_sample(session, &params, &best) == LCRUN_E_INVALID_ARGUMENT);
  lcrun_session_close(session);
  lcrun_model_free(model);
}

TEST_CASE("two models and four sessions live side by side, also in threads", "[runtime][capi]") {
  const test::TempDir dir;
  lcrun_model* models[] = {load(write_tiny(dir, "llama")), load(write_tiny(dir, "gemma3"))};
  const std::vector<lcrun_token> prompts[] = {random_tokens(30, kTinyVocab, 1), random_tokens(40, kTinyVocab, 2)};
  std::vector<lcrun_token> wanted[4];
  for (size_t i = 0; i < 4; ++i) {
    lcrun_session* alone = open(models[i / 2]);
    wanted[i] = greedy(alone, prompts[i % 2], 20);
    CHECK(wanted[i].size() == 20);
    lcrun_session_close(alone);
  }
  lcrun_session* sessions[4];
  for (size_t i = 0; i < 4; ++i) sessions[i] = open(models[i / 2]);
  std::vector<lcrun_token> made[4];
  std::vector<std::thread> threads;
  for (size_t i = 0; i < 4; ++i) threads.emplace_back([&, i] { made[i] = greedy(sessions[i], prompts[i % 2], 20); });
  for (auto& thread : threads) thread.join();
  for (size_t i = 0; i < 4; ++i) CHECK(made[i] == wanted[i]);
  // Sessions outlive the handle of their model.
  for (lcrun_model* model : models) lcrun_model_free(model);
  CHECK(greedy(sessions[0], prompts[0], 20) == wanted[0]);
  for (lcrun_session* session : sessions) lcrun_session_close(session);
}

TEST_CASE("text goes to tokens and back, and small buffers are told what they lack", "[runtime][capi]") {
  const test::TempDir dir;
  lcrun_model* model = load(write_tiny(dir, "llama"));
  const char* text = "the cat and the hat";
  size_t count = 0;
  lcrun_token none[1];
  CHECK(lcrun_tokenize(model, text, std::strlen(text), 0, 0, none, 0, &count) == LCRUN_E_BUFFER_TOO_SMALL);
  REQUIRE(count > 0);
  std::vector<lcrun_token> tokens(count);
  REQUIRE(lcrun_tokenize(model, text, std::strlen(text), 0, 0, tokens.data(), count, &count) == LCRUN_OK);
  std::string back;
  for (const lcrun_token token : tokens) {
    char piece[64];
    size_t bytes = 0;
    REQUIRE(lcrun_token_piece(model, token, piece, sizeof(piece), &bytes) == LCRUN_OK);
    back.append(piece, bytes);
  }
  CHECK(back == text);
  CHECK(lcrun_model_vocab_size(model) == kTinyVocab);
  lcrun_model_free(model);
}

TEST_CASE("a saved session continues in another one", "[runtime][capi]") {
  const test::TempDir dir;
  lcrun_model* model = load(write_tiny(dir, "llama"));
  const auto prompt = random_tokens(50, kTinyVocab, 3);
  lcrun_session* first = open(model);
  REQUIRE(lcrun_prefill(first, prompt.data(), prompt.size()) == LCRUN_OK);
  const std::string path = dir.path() + "/session";
  REQUIRE(lcrun_session_save(first, path.c_str()) == LCRUN_OK);
  lcrun_session* second = open(model);
  REQUIRE(lcrun_session_restore(second, path.c_str()) == LCRUN_OK);
  CHECK(lcrun_session_tokens(second) == 50);
  CHECK(std::memcmp(lcrun_logits(first), lcrun_logits(second), kTinyVocab * sizeof(float)) == 0);
  CHECK(lcrun_session_restore(second, "/nonexistent") == LCRUN_E_BAD_SESSION);
  CHECK(lcrun_session_tokens(second) == 50);
  lcrun_session_close(first);
  lcrun_session_close(second);
  lcrun_model_free(model);
}

TEST_CASE("what is wrong comes back as a status with a reason", "[runtime][capi]") {
  lcrun_model* model = nullptr;
  CHECK(lcrun_model_load("/nonexistent.gguf", nullptr, &model) == LCRUN_E_BAD_MODEL);
  CHECK(model == nullptr);
  CHECK(std::string(lcrun_last_error()).find("/nonexistent.gguf") != std::string::npos);
  CHECK(lcrun_model_load(nullptr, nullptr, &model) == LCRUN_E_INVALID_ARGUMENT);

  const test::TempDir dir;
  const std::string path = write_tiny(dir, "llama");
  lcrun_model_params wrong = LCRUN_MODEL_PARAMS_INIT;
  wrong.struct_size = 0;
  CHECK(lcrun_model_load(path.c_str(), &wrong, &model) == LCRUN_E_INVALID_ARGUMENT);
  model = load(path);
  lcrun_session_params params = LCRUN_SESSION_PARAMS_INIT;
  params.cache_type_k = "q9";
  lcrun_session* session = nullptr;
  CHECK(lcrun_session_open(model, &params, &session) == LCRUN_E_INVALID_ARGUMENT);
  CHECK(session == nullptr);

  session = open(model);
  lcrun_token token = 0;
  CHECK(lcrun_sample(session, nullptr, &token) == LCRUN_E_INVALID_ARGUMENT);
  CHECK(lcrun_decode(session, 1 << 30) == LCRUN_E_INVALID_ARGUMENT);
  CHECK(lcrun_prefill(session, nullptr, 3) == LCRUN_E_INVALID_ARGUMENT);
  CHECK(lcrun_logits(session) == nullptr);
  lcrun_session_close(session);
  lcrun_model_free(model);
  lcrun_model_free(nullptr);
  lcrun_session_close(nullptr);
}

TEST_CASE("a caller with an older, shorter struct gets the defaults for the rest", "[runtime][capi]") {
  const test::TempDir dir;
  lcrun_model* model = load(write_tiny(dir, "llama"));
  lcrun_session_params params;
  std::memset(&params, 0xff, sizeof(params));  // what lies beyond the old struct must not be read
  params.struct_size = offsetof(lcrun_session_params, n_batch);
  params.n_ctx = 99;
  lcrun_session* session = nullptr;
  REQUIRE(lcrun_session_open(model, &params, &session) == LCRUN_OK);
  const auto tokens = random_tokens(100, kTinyVocab, 4);
  CHECK(lcrun_prefill(session, tokens.data(), 100) == LCRUN_E_INVALID_ARGUMENT);
  CHECK(lcrun_prefill(session, tokens.data(), 99) == LCRUN_OK);
  lcrun_session_close(session);
  lcrun_model_free(model);
}

TEST_CASE("progress callbacks cancel loading and reading", "[runtime][capi]") {
  const test::TempDir dir;
  const std::string path = write_tiny(dir, "llama");
  lcrun_model_params params = LCRUN_MODEL_PARAMS_INIT;
  params.progress = [](void*, int64_t, int64_t) -> int32_t { return 0; };
  lcrun_model* model = nullptr;
  CHECK(lcrun_model_load(path.c_str(), &params, &model) == LCRUN_E_CANCELLED);
  model = load(path);
  lcrun_session_params session_params = LCRUN_SESSION_PARAMS_INIT;
  session_params.n_ctx = 256;
  session_params.n_batch = 16;
  int calls = 0;
  session_params.progress_context = &calls;
  session_params.progress = [](void* context, int64_t, int64_t) -> int32_t {
    return ++*static_cast<int*>(context) == 3 ? 0 : 1;
  };
  lcrun_session* session = nullptr;
  REQUIRE(lcrun_session_open(model, &session_params, &session) == LCRUN_OK);
  const auto tokens = random_tokens(100, kTinyVocab, 5);
  CHECK(lcrun_prefill(session, tokens.data(), tokens.size()) == LCRUN_E_CANCELLED);
  CHECK(lcrun_session_tokens(session) == 48);
  CHECK(lcrun_prefill(session, tokens.data(), tokens.size()) == LCRUN_OK);
  lcrun_session_close(session);
  lcrun_model_free(model);
}

// llama.cpp's prompt cache, to compare restoring a session with.
//
//   peer_session save MODEL FILE N_TOKENS THREADS     reads N_TOKENS and writes its state file
//   peer_session load MODEL FILE N_CTX THREADS        one line of JSON: milliseconds to load the model, to make the
//                                                     context, to load the state, and to the first token in all
//
// f16 cache, flash attention. Not part of the project's build: it is compiled against the peer's headers and static
// libraries by bench/fetch_peers.py, and knows nothing of ours.
#include <llama.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <vector>

namespace {

using Clock = std::chrono::steady_clock;

double ms_since(Clock::time_point start) {
  return std::chrono::duration<double, std::milli>(Clock::now() - start).count();
}

[[noreturn]] void fail(const char* what) {
  std::fprintf(stderr, "peer_session: %s\n", what);
  std::exit(1);
}

void decode(llama_context* context, std::vector<llama_token>& tokens, size_t first, size_t count) {
  if (llama_decode(context, llama_batch_get_one(tokens.data() + first, static_cast<int32_t>(count))) != 0) {
    fail("decode failed");
  }
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 6) fail("usage: peer_session save|load MODEL FILE N THREADS");
  const bool saves = std::strcmp(argv[1], "save") == 0;
  const int n = std::atoi(argv[4]);
  llama_log_set([](ggml_log_level, const char*, void*) {}, nullptr);
  const auto start = Clock::now();
  llama_backend_init();
  llama_model* model = llama_model_load_from_file(argv[2], llama_model_default_params());
  if (model == nullptr) fail("no model");
  const double model_ms = ms_since(start);
  llama_context_params params = llama_context_default_params();
  params.n_ctx = static_cast<uint32_t>(saves ? n + 256 : n);
  params.n_batch = 512;
  params.n_threads = params.n_threads_batch = std::atoi(argv[5]);
  params.flash_attn_type = LLAMA_FLASH_ATTN_TYPE_ENABLED;
  llama_context* context = llama_init_from_model(model, params);
  if (context == nullptr) fail("no context");
  const double context_ms = ms_since(start);
  std::vector<llama_token> tokens;
  if (saves) {
    for (int i = 0; i < n; ++i) tokens.push_back((i * 7919 + 13) % 40000);
    for (int i = 0; i < n; i += 512)
      decode(context, tokens, static_cast<size_t>(i), static_cast<size_t>(std::min(512, n - i)));
    if (!llama_state_save_file(context, argv[3], tokens.data(), tokens.size())) fail("not saved");
    return 0;
  }
  tokens.resize(static_cast<size_t>(n) + 1);
  size_t count = 0;
  if (!llama_state_load_file(context, argv[3], tokens.data(), tokens.size(), &count)) fail("not loaded");
  const double state_ms = ms_since(start);
  // The prompt goes on with one token.
  tokens[count] = 5;
  decode(context, tokens, count, 1);
  if (llama_get_logits_ith(context, -1) == nullptr) fail("no logits");
  std::printf("{\"tokens\":%zu,\"model_ms\":%.1f,\"context_ms\":%.1f,\"state_ms\":%.1f,\"first_token_ms\":%.1f}\n",
              count, model_ms, context_ms - model_ms, state_ms - context_ms, ms_since(start));
  return 0;
}

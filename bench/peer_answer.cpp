// llama.cpp's answers to questions about a text, with its context shift where the text is longer than the context.
//
//   peer_answer MODEL N_CTX THREADS TYPE      TYPE of the cache: f16, q8_0; commands on standard input, a line each:
//     text ID ID ...        forgets all, and reads these tokens
//     ask N ID ID ...       reads these behind the text, writes the N likeliest tokens one after another, forgets both
//
// One line of JSON each: {"shifts":n,"ms":t} and {"tokens":[...],"first_ms":t,"ms":t}.
// Shifts are what llama.cpp's own tools do when a context is full: the first tokens stay (here 64), half of the others
// are dropped, and the positions of the rest move down. Flash attention. Not part of the project's build: it is
// compiled against the peer's headers and static libraries by bench/fetch_peers.py, and knows nothing of ours.
#include <llama.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <iostream>
#include <sstream>
#include <string>
#include <vector>

namespace {

using Clock = std::chrono::steady_clock;
constexpr int kBatch = 512;
constexpr int kKeep = 64;
constexpr int kRoom = 256;  // for a question and its answer

double ms_since(Clock::time_point start) {
  return std::chrono::duration<double, std::milli>(Clock::now() - start).count();
}

[[noreturn]] void fail(const char* what) {
  std::fprintf(stderr, "peer_answer: %s\n", what);
  std::exit(1);
}

class Reader {
 public:
  Reader(llama_context* context, int n_ctx) : context_(context), memory_(llama_get_memory(context)), n_ctx_(n_ctx) {}

  // Returns how often the context was shifted.
  int read(std::vector<llama_token> tokens) {
    llama_memory_clear(memory_, true);
    past_ = 0;
    int shifts = 0;
    for (size_t at = 0; at < tokens.size();) {
      const size_t count = std::min<size_t>(kBatch, tokens.size() - at);
      if (past_ + static_cast<int>(count) + kRoom > n_ctx_) {
        shift();
        ++shifts;
      }
      decode(tokens.data() + at, count);
      at += count;
    }
    return shifts;
  }

  void ask(int n, std::vector<llama_token> tokens) {
    const auto start = Clock::now();
    const int text = past_;
    if (tokens.empty() || past_ + static_cast<int>(tokens.size()) + n > n_ctx_) fail("no room for the question");
    decode(tokens.data(), tokens.size());
    const llama_vocab* vocab = llama_model_get_vocab(llama_get_model(context_));
    std::string made;
    double first_ms = 0;
    for (int i = 0; i < n; ++i) {
      const float* logits = llama_get_logits_ith(context_, -1);
      const float* end = logits + llama_vocab_n_tokens(vocab);
      auto best = static_cast<llama_token>(std::max_element(logits, end) - logits);
      if (i == 0) first_ms = ms_since(start);
      if (llama_vocab_is_eog(vocab, best)) break;
      made += (made.empty() ? "" : ",") + std::to_string(best);
      decode(&best, 1);
    }
    std::printf("{\"tokens\":[%s],\"first_ms\":%.1f,\"ms\":%.1f}\n", made.c_str(), first_ms, ms_since(start));
    if (!llama_memory_seq_rm(memory_, 0, text, -1)) fail("the question could not be forgotten");
    past_ = text;
  }

 private:
  void decode(llama_token* tokens, size_t count) {
    if (llama_decode(context_, llama_batch_get_one(tokens, static_cast<int32_t>(count))) != 0) fail("decode failed");
    past_ += static_cast<int>(count);
  }
  void shift() {
    if (!llama_memory_can_shift(memory_)) fail("this model's context cannot be shifted");
    const int dropped = (past_ - kKeep) / 2;
    if (!llama_memory_seq_rm(memory_, 0, kKeep, kKeep + dropped)) fail("nothing could be dropped");
    llama_memory_seq_add(memory_, 0, kKeep + dropped, past_, -dropped);
    past_ -= dropped;
  }

  llama_context* context_;
  llama_memory_t memory_;
  int n_ctx_;
  int past_ = 0;
};

}  // namespace

int main(int argc, char** argv) {
  if (argc < 5) fail("usage: peer_answer MODEL N_CTX THREADS f16|q8_0");
  llama_log_set([](ggml_log_level, const char*, void*) {}, nullptr);
  llama_backend_init();
  llama_model* model = llama_model_load_from_file(argv[1], llama_model_default_params());
  if (model == nullptr) fail("no model");
  llama_context_params params = llama_context_default_params();
  params.n_ctx = static_cast<uint32_t>(std::atoi(argv[2]));
  params.n_batch = kBatch;
  params.n_threads = params.n_threads_batch = std::atoi(argv[3]);
  params.flash_attn_type = LLAMA_FLASH_ATTN_TYPE_ENABLED;
  params.type_k = params.type_v = std::string(argv[4]) == "q8_0" ? GGML_TYPE_Q8_0 : GGML_TYPE_F16;
  params.swa_full = true;  // or a question could not be forgotten
  llama_context* context = llama_init_from_model(model, params);
  if (context == nullptr) fail("no context");
  Reader reader(context, std::atoi(argv[2]));
  for (std::string line; std::getline(std::cin, line);) {
    std::istringstream words(line);
    std::string command;
    int n = 0;
    words >> command;
    if (command == "ask") words >> n;
    std::vector<llama_token> tokens;
    for (llama_token token; words >> token;) tokens.push_back(token);
    if (command == "ask") {
      reader.ask(n, std::move(tokens));
    } else if (command == "text") {
      const auto start = Clock::now();
      const int shifts = reader.read(std::move(tokens));
      std::printf("{\"shifts\":%d,\"ms\":%.1f}\n", shifts, ms_since(start));
    } else {
      fail("wanted text or ask");
    }
    std::fflush(stdout);
  }
  return 0;
}

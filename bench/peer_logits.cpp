// llama.cpp's logits in the form of `lcrun score`, for bench/compare_logits.py.
//
//   peer_logits MODEL TOP THREADS BATCH [f16|q8_0] [0|1: flash attention] < TEXT
//
// One line a position: {"pos":0,"token":504,"lse":20.1,"top":[[id,logit],...]}. Not part of the project's build: it is
// compiled against the peer's headers and static libraries by bench/fetch_peers.py, and knows nothing of ours.
#include <llama.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <numeric>
#include <string>
#include <vector>

namespace {

struct Settings {
  const char* model;
  int top;
  int threads;
  int batch;
  ggml_type kv;
  llama_flash_attn_type flash;
};

[[noreturn]] void fail(const char* what) {
  std::fprintf(stderr, "peer_logits: %s\n", what);
  std::exit(1);
}

Settings settings_of(int argc, char** argv) {
  if (argc < 5) fail("usage: peer_logits MODEL TOP THREADS BATCH [f16|q8_0] [0|1] < TEXT");
  const bool is_q8 = argc > 5 && std::strcmp(argv[5], "q8_0") == 0;
  const bool flash = argc > 6 && std::strcmp(argv[6], "1") == 0;
  return {argv[1],
          std::atoi(argv[2]),
          std::max(1, std::atoi(argv[3])),
          std::max(1, std::atoi(argv[4])),
          is_q8 ? GGML_TYPE_Q8_0 : GGML_TYPE_F16,
          flash || is_q8 ? LLAMA_FLASH_ATTN_TYPE_ENABLED : LLAMA_FLASH_ATTN_TYPE_DISABLED};
}

std::string read_stdin() {
  std::string text;
  char part[65536];
  while (const size_t got = std::fread(part, 1, sizeof(part), stdin)) text.append(part, got);
  return text;
}

std::vector<llama_token> tokenize(const llama_vocab* vocab, const std::string& text) {
  const auto bytes = static_cast<int32_t>(text.size());
  std::vector<llama_token> tokens(text.size() + 8);
  const int32_t n =
      llama_tokenize(vocab, text.data(), bytes, tokens.data(), static_cast<int32_t>(tokens.size()), true, true);
  if (n < 0) fail("the text has more tokens than bytes");
  tokens.resize(static_cast<size_t>(n));
  return tokens;
}

void print_row(size_t pos, llama_token token, const float* logits, int n_vocab, int top) {
  std::vector<int> order(static_cast<size_t>(n_vocab));
  std::iota(order.begin(), order.end(), 0);
  const auto k = static_cast<std::ptrdiff_t>(std::min(top, n_vocab));
  std::partial_sort(order.begin(), order.begin() + k, order.end(),
                    [&](int a, int b) { return logits[a] != logits[b] ? logits[a] > logits[b] : a < b; });
  const double largest = *std::max_element(logits, logits + n_vocab);
  double sum = 0;
  for (int i = 0; i < n_vocab; ++i) sum += std::exp(static_cast<double>(logits[i]) - largest);
  std::printf("{\"pos\":%zu,\"token\":%d,\"lse\":%.6f,\"top\":[", pos, token, largest + std::log(sum));
  for (std::ptrdiff_t i = 0; i < k; ++i) {
    const int id = order[static_cast<size_t>(i)];
    std::printf("%s[%d,%.6f]", i > 0 ? "," : "", id, static_cast<double>(logits[id]));
  }
  std::printf("]}\n");
}

llama_context* open_context(llama_model* model, const Settings& s, size_t n_tokens) {
  llama_context_params params = llama_context_default_params();
  params.n_ctx = static_cast<uint32_t>(n_tokens);
  params.n_batch = params.n_ubatch = static_cast<uint32_t>(s.batch);
  params.n_threads = params.n_threads_batch = s.threads;
  params.flash_attn_type = s.flash;
  params.type_k = params.type_v = s.kv;
  llama_context* context = llama_init_from_model(model, params);
  if (context == nullptr) fail("no context");
  return context;
}

}  // namespace

int main(int argc, char** argv) {
  const Settings s = settings_of(argc, argv);
  llama_log_set([](ggml_log_level, const char*, void*) {}, nullptr);
  llama_backend_init();
  llama_model* model = llama_model_load_from_file(s.model, llama_model_default_params());
  if (model == nullptr) fail("cannot load the model");
  const llama_vocab* vocab = llama_model_get_vocab(model);
  const int n_vocab = llama_vocab_n_tokens(vocab);
  const std::vector<llama_token> tokens = tokenize(vocab, read_stdin());
  llama_context* context = open_context(model, s, tokens.size());
  for (size_t first = 0; first < tokens.size(); first += static_cast<size_t>(s.batch)) {
    const size_t n = std::min(static_cast<size_t>(s.batch), tokens.size() - first);
    llama_batch batch = llama_batch_init(static_cast<int32_t>(n), 0, 1);
    batch.n_tokens = static_cast<int32_t>(n);
    for (size_t i = 0; i < n; ++i) {
      batch.token[i] = tokens[first + i];
      batch.pos[i] = static_cast<llama_pos>(first + i);
      batch.n_seq_id[i] = 1;
      batch.seq_id[i][0] = 0;
      batch.logits[i] = 1;
    }
    if (llama_decode(context, batch) != 0) fail("llama_decode failed");
    for (size_t i = 0; i < n; ++i) {
      print_row(first + i, tokens[first + i], llama_get_logits_ith(context, static_cast<int32_t>(i)), n_vocab, s.top);
    }
    llama_batch_free(batch);
  }
  llama_free(context);
  llama_model_free(model);
  return 0;
}

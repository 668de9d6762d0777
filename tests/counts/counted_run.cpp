// The work that count_instructions.py counts: a batch of a prompt and decode steps of small random models.
//
//   counted_run make FOLDER     writes the models: most of the work, so it is done outside valgrind
//   counted_run run FOLDER      runs them
//
// Each case calls counted_run() exactly once and prints its name, in order: valgrind's callgrind is told to count that
// function alone and to write one dump after each call. One thread; the cache already holds kDepth tokens, so that
// attention has its share; everything that happens once (loading, planning, first allocations) lies outside.
#include <cstdio>
#include <fstream>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "ggufish/model_file.hpp"
#include "src/base/check.hpp"
#include "src/base/file.hpp"
#include "src/runtime/session.hpp"
#include "tests/support/tiny_model.hpp"

using namespace lcrun;

namespace {

constexpr int64_t kDepth = 192;
constexpr int64_t kBatch = 64;
constexpr int64_t kSteps = 4;

struct Case {
  const char* arch;
  DType weights;
  DType cache;
  const char* name;
};
// Between them: the block formats that real files are made of, windows, both cache types.
constexpr Case kCases[] = {{"llama", DType::kQ4_1, DType::kF16, "llama Q4_1 f16"},
                           {"llama", DType::kQ8_0, DType::kQ8_0, "llama Q8_0 q8_0"},
                           {"gemma3", DType::kQ4_K, DType::kF16, "gemma3 Q4_K f16"},
                           {"gemma3", DType::kQ6_K, DType::kQ8_0, "gemma3 Q6_K q8_0"}};

std::string path_of(const char* folder, const Case& item) { return std::string(folder) + "/" + item.name + ".gguf"; }

void write_model(const char* folder, const Case& item) {
  testing::TinyOptions options;
  options.arch = item.arch;
  options.matrix_type = item.weights;
  options.n_layers = 2;
  options.d_model = 256;
  options.n_heads = 4;
  options.n_kv_heads = 2;
  options.head_dim = 64;
  options.d_ff = 512;
  options.window = 64;
  const auto bytes = testing::encode_tiny(testing::tiny_recipe(options));
  LCRUN_CHECK(bytes.has_value());
  std::ofstream file(path_of(folder, item), std::ios::binary);
  file.write(reinterpret_cast<const char*>(bytes->data()), static_cast<std::streamsize>(bytes->size()));
  LCRUN_CHECK(file.good());
}

std::shared_ptr<const model::Model> load(const char* folder, const Case& item) {
  const auto file = ggufish::ModelFile::open(path_of(folder, item), ggufish::LoadMode::kMmap, posix_file_system());
  LCRUN_CHECK(file.has_value());
  const auto model = model::Model::load(*file, {});
  LCRUN_CHECK(model.has_value());
  return *model;
}

}  // namespace

// The name is known to count_instructions.py. All of `prompt` is one batch; then `steps` tokens, one at a time.
extern "C" [[gnu::noinline, gnu::visibility("default")]] void counted_run(runtime::Session& session,
                                                                          std::span<const model::Token> prompt,
                                                                          std::span<const model::Token> steps) {
  if (!prompt.empty()) LCRUN_CHECK(session.sync(prompt).has_value());
  for (const model::Token token : steps) LCRUN_CHECK(session.decode(token).has_value());
}

namespace {

void run(const char* folder, const Case& item, std::span<const model::Token> tokens) {
  runtime::SessionOptions options;
  options.cache = {item.cache, item.cache};
  options.n_ctx = 512;
  options.batch = kBatch;
  auto session = runtime::Session::open(load(folder, item), options);
  LCRUN_CHECK(session.has_value());
  LCRUN_CHECK(session->sync(tokens.first(kDepth)).has_value());
  counted_run(*session, tokens.first(kDepth + kBatch), {});
  std::printf("%s, prefill of %d\n", item.name, static_cast<int>(kBatch));
  LCRUN_CHECK(session->decode(tokens[kDepth + kBatch]).has_value());
  counted_run(*session, {}, tokens.last(kSteps));
  std::printf("%s, decode of %d\n", item.name, static_cast<int>(kSteps));
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 3) {
    std::fprintf(stderr, "counted_run make|run FOLDER\n");
    return 2;
  }
  const auto tokens = testing::random_tokens(kDepth + kBatch + 1 + kSteps, testing::kTinyVocab, 1);
  for (const Case& item : kCases) {
    std::string_view(argv[1]) == "make" ? write_model(argv[2], item) : run(argv[2], item, tokens);
  }
  return 0;
}

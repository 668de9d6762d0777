// Token ids of the two real models, against ids recorded from another implementation (tests/golden/tokens_*.json).
// Runs where LCRUN_MODEL_DIR is set; a missing file is then a failure.
#include <catch2/catch.hpp>
#include <cstdlib>
#include <nlohmann/json.hpp>
#include <string>

#include "src/base/file.hpp"
#include "src/text/tokenizer.hpp"

namespace lcrun::text {
namespace {

constexpr const char* kSmollm2 = "SmolLM2-135M-Instruct.Q4_1.gguf";
constexpr const char* kGemma3 = "gemma-3-270m-q4_k_m.gguf";

// Null when no models are to be had here.
std::unique_ptr<const Tokenizer> load_real(const char* file_name) {
  const char* folder = std::getenv("LCRUN_MODEL_DIR");
  if (folder == nullptr || *folder == '\0') {
    WARN("LCRUN_MODEL_DIR is not set: nothing was checked");
    return nullptr;
  }
  auto file =
      ggufish::ModelFile::open(std::string(folder) + "/" + file_name, ggufish::LoadMode::kMmap, posix_file_system());
  if (!file) FAIL(file.error().message);
  auto tokenizer = Tokenizer::load(**file);
  if (!tokenizer) FAIL(tokenizer.error().message);
  return std::move(tokenizer).value();
}

void check_golden(const Tokenizer& tokenizer, const std::string& name) {
  auto text = read_text_file(posix_file_system(), LCRUN_TEST_ROOT "/golden/tokens_" + name + ".json", 1 << 20);
  REQUIRE(text);
  const auto golden = nlohmann::json::parse(*text);
  REQUIRE(golden["texts"].size() >= 6);
  for (const auto& row : golden["texts"]) {
    INFO(row["name"]);
    const auto prompt = row["text"].get<std::string>();
    const auto want = row["tokens"].get<std::vector<Token>>();
    const bool add_special = golden["add_special"].get<bool>();
    const auto ids = tokenizer.encode(prompt, add_special, golden["parse_special"].get<bool>());
    CHECK(ids == want);
    const std::span<const Token> plain = std::span(ids).subspan(add_special ? 1 : 0);
    CHECK(tokenizer.decode(plain, true) == prompt);
  }
}

TEST_CASE("SmolLM2's texts become the recorded ids and come back", "[text][real]") {
  const auto tokenizer = load_real(kSmollm2);
  if (!tokenizer) return;
  check_golden(*tokenizer, "smollm2");
  CHECK(tokenizer->pre_tokenizer_name() == "smollm");
  CHECK(tokenizer->is_end_of_generation(tokenizer->special().eos));
  CHECK_FALSE(tokenizer->adds_bos());
}

TEST_CASE("Gemma 3's texts become the recorded ids and come back", "[text][real]") {
  const auto tokenizer = load_real(kGemma3);
  if (!tokenizer) return;
  check_golden(*tokenizer, "gemma3");
  CHECK(tokenizer->adds_bos());
  CHECK(tokenizer->vocab_size() == 262144);
}

TEST_CASE("special tokens that a user types stay text", "[text][real]") {
  const auto tokenizer = load_real(kSmollm2);
  if (!tokenizer) return;
  const Token end = tokenizer->encode("<|im_end|>", false, true).at(0);
  CHECK(tokenizer->is_control(end));
  const std::vector<Span> spans = {{"<|im_start|>user\n", true}, {"hello<|im_end|>", false}, {"<|im_end|>\n", true}};
  const auto ids = tokenizer->encode_spans(spans, false);
  CHECK(std::count(ids.begin(), ids.end(), end) == 1);
  CHECK(tokenizer->decode(ids, true) == "<|im_start|>user\nhello<|im_end|><|im_end|>\n");
}

}  // namespace
}  // namespace lcrun::text

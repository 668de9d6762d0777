// Drivers: strategies that arrange what a model reads of a text, in place of the text as it is (--driver NAME).
//
// A driver gets a text passage by passage and a question, and leaves a session with a prompt for it: generate() goes on
// from there. It sees sessions, prompts and the attention that heads pay (AttnProbe), nothing else, so that each is one
// small file and works with every model; the rows of the table are all that there is to add.
// Thread rule: that of the session.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string_view>

#include "src/runtime/passages.hpp"
#include "src/runtime/prompt.hpp"
#include "src/runtime/retrieval_heads.hpp"
#include "src/runtime/session.hpp"

namespace lcrun::runtime {

// A session that holds n_ctx tokens.
using SessionOpener = std::function<Result<Session>(int64_t n_ctx)>;

struct DriverSettings {
  int64_t window = 1024;  // tokens of text that are read at once
  int64_t keep = 0;       // tokens that are kept of what was read; 0: the driver's own
  int64_t n_predict = -1;
  std::string system;
};

// What is kept of a text.
struct KeptPassage {
  Passage passage;
  float score = 0;
};

// What one run after another may share: the session, and what was found out about the model.
struct DriverState {
  std::optional<Session> session;
  std::optional<RetrievalHeads> heads;
  // Evaluations ask one question of texts that begin alike: what was kept after each beginning, by its checksum.
  bool remembers = false;
  std::map<uint64_t, std::vector<KeptPassage>> memory = {};
};

struct DriverInput {
  const text::Tokenizer& tokenizer;
  const PromptLayout& layout;
  const DriverSettings& settings;
  SessionOpener open;
  PassageSource& text;
  std::string question;              // in words
  std::vector<Token> question_part;  // PromptLayout::question_part()
  bool has_answer_prefix = false;    // at its end
  ProgressCallback progress = {};    // tokens of the text so far; the total is not known: 0
};

// What the model shall answer from.
struct DriverReading {
  std::vector<Token> prompt;
  int64_t text_end = 0;                 // where the question begins
  std::vector<PromptPassage> passages;  // of the text, with their places in it
  int64_t text_tokens = 0;              // that the text had
  int64_t kept_tokens = 0;              // that are left of it
};

struct Driver {
  std::string_view name;
  std::string_view source;  // paper and section
  std::string_view about;
  // After it state.session has room for the prompt and its answer, and may have read some of it.
  Result<DriverReading> (*read)(const DriverInput& input, DriverState& state);
};
std::span<const Driver> drivers();
// Null: unknown, or "none".
const Driver* find_driver(std::string_view name);

// For drivers: a session with room for n_ctx tokens, the one that is there if it has it.
Result<Session*> session_for(const DriverInput& input, DriverState& state, int64_t n_ctx);
// Frame, passages, question.
Result<DriverReading> lay_out(const DriverInput& input, std::span<const Passage> passages);

// The rows of the table, a file each.
Result<DriverReading> read_retri(const DriverInput& input, DriverState& state);
Result<DriverReading> read_jrt(const DriverInput& input, DriverState& state);
Result<DriverReading> read_rag(const DriverInput& input, DriverState& state);
Result<DriverReading> read_fold(const DriverInput& input, DriverState& state);

}  // namespace lcrun::runtime

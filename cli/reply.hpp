// Replies: what `run`, chats, `encode` and `ask` have in common, from the options to the printed answer.
//
// Thread rule: the main thread.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <vector>

#include "cli/command.hpp"
#include "src/attention/recall.hpp"
#include "src/runtime/citations.hpp"
#include "src/runtime/engine.hpp"
#include "src/runtime/generate.hpp"
#include "src/runtime/session.hpp"

namespace lcrun::cli {

// Everything that makes a reply, apart from the prompt.
struct Run {
  runtime::Engine engine;
  runtime::GenerateOptions generate;
  std::vector<std::string> pieces;
  uint64_t seed = 0;
};

// Grammar, plugin, model, sampling: as the options say.
Status prepare_run(const Context& context, Run& run);

// The Jinja source that -cnv and --chat-template ask for, or the model's own; none: no chat.
struct ChatChoice {
  bool use_chat = false;
  std::string source;  // "" = plain paragraphs
};
ChatChoice chat_choice(const runtime::Options& options, const runtime::Engine& engine);

// Reads the prompt (with a progress line) and generates; the text goes out as it comes, unless --json.
Result<runtime::Generated> stream_reply(const Context& context, const runtime::Engine& engine,
                                        const runtime::GenerateOptions& generate, runtime::Session& session,
                                        std::span<const runtime::Token> prompt);

// Does somebody look at citations?
bool wants_citations(const Context& context);
// "lines 812-815 (41 %), line 90 (5 %)".
std::string citation_lines(std::span<const runtime::Citation> citations);

// What follows the text: the JSON object of --json, the end of the line, the counters of --stats.
struct ReplyExtras {
  std::optional<std::vector<runtime::Citation>> citations;  // where there is a text to cite
  struct {
    std::string_view name;  // "": none
    int64_t text_tokens = 0;
    int64_t kept_tokens = 0;
  } driver;
  const attention::RecallMeter* recall = nullptr;  // what --stats has sampled
};
Status finish_reply(const Context& context, const Run& run, const runtime::Session& session,
                    const runtime::Generated& made, const ReplyExtras& extras = {});

}  // namespace lcrun::cli

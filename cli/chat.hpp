// Interactive chat: turns on a terminal (or lines of a pipe), with the session kept between them.
//
// With a text it is read in the background, and belongs to the first turn: questions are about it, and /context shows
// which of its lines the last answer was read from.
// Commands: /help /context /save FILE /load FILE /stats /clear /quit. Ctrl-C stops a reply, not the program; at the
// prompt it leaves. Thread rule: the main thread; the text is read by one more (background_reading.hpp).
#pragma once

#include <string>
#include <vector>

#include "cli/command.hpp"
#include "src/runtime/engine.hpp"
#include "src/runtime/generate.hpp"
#include "src/runtime/prompt.hpp"
#include "src/runtime/session.hpp"

namespace lcrun::cli {

struct ChatSetup {
  const Context& context;
  const runtime::Engine& engine;
  const runtime::PromptLayout& layout;
  runtime::Session& session;
  runtime::GenerateOptions generate;
  std::string text = {};                         // as it lies in the prompt; "" = none
  std::vector<runtime::Token> text_tokens = {};  // PromptLayout::text_part()
};

// `first_turn` is said before anything is read ("" = nothing).
Status chat(const ChatSetup& setup, const std::string& first_turn);

}  // namespace lcrun::cli

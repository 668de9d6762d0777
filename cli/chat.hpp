// Interactive chat: turns on a terminal (or lines of a pipe), with the session kept between them.
//
// Commands: /help /save FILE /load FILE /stats /clear /quit. Ctrl-C stops a reply, not the program; at the prompt it
// leaves. Thread rule: the main thread.
#pragma once

#include <string>

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
};

// `first_turn` is said before anything is read ("" = nothing).
Status chat(const ChatSetup& setup, const std::string& first_turn);

}  // namespace lcrun::cli

// run --driver: a text of any length, arranged by a driver, and one reply.
//
// Thread rule: the main thread.
#pragma once

#include "cli/command.hpp"
#include "cli/reply.hpp"
#include "src/runtime/driver.hpp"
#include "src/runtime/prompt.hpp"

namespace lcrun::cli {

// The options' driver; null: none. kInvalidArgument without a text and a question.
Result<const runtime::Driver*> driver_of(const Context& context);

// Reads -f as it comes; `request` has everything but the text.
Status drive(const Context& context, Run& run, const runtime::PromptLayout& layout, const runtime::Driver& driver,
             const runtime::PromptRequest& request);

}  // namespace lcrun::cli

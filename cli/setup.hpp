// What every command that needs a model does first: instruction set, memory cap, loading, with messages on the way.
#pragma once

#include <memory>
#include <string>

#include "cli/command.hpp"
#include "src/base/result.hpp"
#include "src/runtime/engine.hpp"
#include "src/runtime/session.hpp"

namespace lcrun::cli {

// Chooses --isa; warns about -ngl without a GPU and about -fa.
Status apply_machine_options(const Context& context);

// Are there rows for --attention and --prefill, in the table or in a policy file?
Status check_policy_names(const Context& context);

// Loads the model of -m (or the default, named on stderr). text_only: tokenizer without weights.
Result<runtime::Engine> open_engine(const Context& context, bool text_only);

// A session as the options ask for, within --mem-max; kNoMemory with what would fit otherwise.
struct SessionNeeds {
  int64_t n_ctx = 0;          // 0 = the option's, or the trained one
  int64_t wanted_tokens = 0;  // that must fit; 0 = not known yet
  int64_t sealed_tokens = 0;  // that a sealed file holds, whose pages may stay there
  bool measures = false;      // dense, unless --attention says otherwise
  uint64_t spare_bytes = 0;   // PagingOptions
};
Result<runtime::Session> open_session(const Context& context, const runtime::Engine& engine, const SessionNeeds& needs);

// Indexes to try one after another where the choice is ours and memory is short; "": the policy's own. One that is
// named has no coarser one before it.
inline constexpr const char* kIndexesToTry[] = {"", "scan4", "sub8", "sub16", "mean"};

// Where and how a cache that exceeds its memory goes to disk; space for `reserve_tokens` must be there.
runtime::PagingOptions paging_options(const runtime::Options& options, int64_t reserve_tokens);

// Standard input or a file as text, up to a limit of 4 GiB.
Result<std::string> read_input(const std::string& path);

// Environment for option parsing and default paths.
const char* environment_value(const char* name);

}  // namespace lcrun::cli

// What people read about options, made from the same rows that parse them: --help, docs/options.md, the man page and
// shell completion. Pure text; nothing here can fail.
#pragma once

#include <string>

#include "src/runtime/options.hpp"

namespace lcrun::runtime {

// `lcrun --help`: commands and where to read on.
std::string general_help();
// `lcrun COMMAND --help`.
std::string command_help(const CommandInfo& command);
// docs/options.md (`lcrun --help-markdown`).
std::string markdown_reference();
// lcrun.1 in man(7) macros (`lcrun --help-man`). `version` goes into its footer.
std::string man_page(std::string_view version);
// `lcrun --completion-bash`, -zsh, -fish.
std::string bash_completion();
std::string zsh_completion();
std::string fish_completion();

}  // namespace lcrun::runtime

// Arguments and environment to Options, by the table in options.hpp.
//
// Order of precedence: defaults, environment (LCRUN_CTX_SIZE; llama.cpp's LLAMA_ARG_* where LCRUN_* is absent),
// arguments. Long and short names, `--name=value`, single-dash long names (-ngl), and negative numbers as values all
// work. Errors: kInvalidArgument (unknown option, bad value; names the option and what is allowed) or kUnsupported
// (an allowed value that this version cannot serve). Never throws, never reads anything but its arguments.
#pragma once

#include <functional>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "src/base/result.hpp"
#include "src/runtime/options.hpp"

namespace lcrun::runtime {

// Value of an environment variable, or null.
using Environment = std::function<const char*(const char*)>;

struct ParsedOptions {
  Options options;
  bool wants_help = false;
  std::vector<std::string_view> given;  // names of rows set by an argument or by the environment
  std::vector<std::string> notes;       // for standard error: LLAMA_ARG_* variables that were used

  bool is_given(std::string_view name) const;
};

// `args`: what follows the command's name.
Result<ParsedOptions> parse_options(const CommandInfo& command, std::span<const std::string> args,
                                    const Environment& environment);

// Sets one option as if it had been given, by the name of its row; for commands that run themselves several times.
// kInvalidArgument, kUnsupported: no such option of the command, or not such a value; `options` is then as it was.
Status change_option(const CommandInfo& command, std::string_view name, std::string_view value, Options& options);

// "LCRUN_CTX_SIZE" for "ctx-size".
std::string environment_name(const OptionRow& row);

// The closest of `names` if it is close enough to be what was meant, else "".
std::string closest_name(std::string_view wanted, std::span<const std::string> names);

// One spelling of a row: "--no-mmap" with value "none", or "-c" without.
struct Spelling {
  std::string_view text;
  std::optional<std::string_view> value;
};
std::vector<Spelling> spellings_of(const OptionRow& row);

}  // namespace lcrun::runtime

// What a subcommand is: a function from parsed options to a Status. main.cpp holds the table.
#pragma once

#include "cli/output.hpp"
#include "src/base/result.hpp"
#include "src/runtime/option_parse.hpp"

namespace lcrun::cli {

struct Context {
  const runtime::ParsedOptions& parsed;
  Output& out;

  const runtime::Options& options() const { return parsed.options; }
};

using Command = Status (*)(Context& context);

Status run_command(Context& context);
Status tokenize_command(Context& context);
Status detokenize_command(Context& context);
Status score_command(Context& context);
Status ppl_command(Context& context);
Status bench_command(Context& context);
Status inspect_command(Context& context);
Status plan_command(Context& context);
Status quantize_command(Context& context);
Status plugins_command(Context& context);
Status session_command(Context& context);
Status encode_command(Context& context);
Status ask_command(Context& context);
Status eval_command(Context& context);
Status calibrate_command(Context& context);

}  // namespace lcrun::cli

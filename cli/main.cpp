// lcrun: one binary, its subcommands, and one way out.
//
// A command is a function from parsed options to a Status (command.hpp); its error becomes a message on stderr and
// an exit code here and nowhere else. Nothing that a file, an option or the system can cause ends in a signal.
#include <cstdio>
#include <exception>
#include <new>
#include <string>
#include <vector>

#include "cli/command.hpp"
#include "cli/exit_code.hpp"
#include "cli/setup.hpp"
#include "cli/signals.hpp"
#include "cli/version.hpp"
#include "src/base/format.hpp"
#include "src/base/log.hpp"
#include "src/base/mapping_guard.hpp"
#include "src/runtime/option_docs.hpp"
#include "src/runtime/option_parse.hpp"

namespace lcrun::cli {
namespace {

using runtime::CommandInfo;

struct CommandEntry {
  uint32_t bit;
  Command run;
};

constexpr CommandEntry kCommands[] = {
    {runtime::kRun, run_command},
    {runtime::kTokenize, tokenize_command},
    {runtime::kDetokenize, detokenize_command},
    {runtime::kScore, score_command},
    {runtime::kPpl, ppl_command},
    {runtime::kBench, bench_command},
    {runtime::kInspect, inspect_command},
    {runtime::kPlan, plan_command},
    {runtime::kQuantize, quantize_command},
    {runtime::kPlugins, plugins_command},
    {runtime::kSession, session_command},
    {runtime::kEncode, encode_command},
    {runtime::kAsk, ask_command},
    {runtime::kEval, eval_command},
    {runtime::kCalibrate, calibrate_command},
};

LogLevel log_level_of(const std::string& name) {
  if (name == "debug") return LogLevel::kDebug;
  if (name == "warn") return LogLevel::kWarn;
  if (name == "error") return LogLevel::kError;
  return name == "off" ? LogLevel::kOff : LogLevel::kInfo;
}

// Texts that need no command: null when `arg` asks for none.
Result<std::string> text_for(const std::string& arg) {
  if (arg == "--help" || arg == "-h" || arg == "help") return runtime::general_help();
  if (arg == "--version" || arg == "version") return version_text();
  if (arg == "--help-markdown") return runtime::markdown_reference();
  if (arg == "--help-man") return runtime::man_page(version_number());
  if (arg == "--completion-bash") return runtime::bash_completion();
  if (arg == "--completion-zsh") return runtime::zsh_completion();
  if (arg == "--completion-fish") return runtime::fish_completion();
  return make_error(Code::kNotFound, "{}", arg);
}

Error unknown_command(const std::string& name) {
  for (const auto future : runtime::future_commands()) {
    if (future == name) {
      std::string names;
      for (const CommandInfo& command : runtime::command_infos()) {
        names += format("{}{}", names.empty() ? "" : ", ", command.name);
      }
      return make_error(Code::kUnsupported, "lcrun {}: not available in this version; supported: {}", name, names);
    }
  }
  std::vector<std::string> names;
  for (const CommandInfo& command : runtime::command_infos()) names.emplace_back(command.name);
  const std::string close = runtime::closest_name(name, names);
  return make_error(Code::kInvalidArgument, "unknown command \"{}\"; {}", name,
                    close.empty() ? std::string("see lcrun --help") : format("did you mean {}?", close));
}

Status run_with(const CommandInfo& command, const std::vector<std::string>& args, Output& out) {
  LCRUN_ASSIGN(const auto parsed, runtime::parse_options(command, args, environment_value));
  if (parsed.wants_help) return out.write(runtime::command_help(command));
  set_log_level(log_level_of(parsed.options.log_level));
  for (const std::string& note : parsed.notes) log(LogLevel::kInfo, "{}", note);
  Context context{parsed, out};
  for (const CommandEntry& entry : kCommands) {
    if (entry.bit == command.bit) return entry.run(context);
  }
  return make_error(Code::kInternal, "command {} has no function", command.name);
}

Status dispatch(std::vector<std::string> args, Output& out) {
  if (!args.empty()) {
    const auto text = text_for(args.front());
    if (text.has_value()) return out.write(*text);
  }
  const bool named = !args.empty() && !args.front().empty() && args.front().front() != '-';
  if (!named) return run_with(*runtime::find_command("run"), args, out);
  const std::string name = args.front();
  const CommandInfo* command = runtime::find_command(name);
  if (command == nullptr) return unknown_command(name);
  args.erase(args.begin());
  return run_with(*command, args, out);
}

// The exit code of a finished command, its message printed.
int finish(Status status, Output& out) {
  if (out.reader_gone()) return kExitOk;
  if (status.has_value())
    status = out.flush();
  else
    (void)out.flush();
  if (out.reader_gone()) return kExitOk;
  if (interrupted()) return kExitInterrupted;
  if (status.has_value()) return kExitOk;
  std::fprintf(stderr, "lcrun: error: %s\n", status.error().message.c_str());
  return exit_code(status.error().code);
}

Status guarded(const std::vector<std::string>& args, Output& out) {
  try {
    return dispatch(args, out);
  } catch (const std::bad_alloc&) {
    return make_error(Code::kNoMemory, "out of memory");
  } catch (const std::exception& error) {
    return make_error(Code::kInternal, "{}", error.what());
  }
}

}  // namespace
}  // namespace lcrun::cli

int main(int argc, char** argv) {
  lcrun::cli::install_signal_handlers();
  static_cast<void>(lcrun::install_mapping_guard());
  const std::vector<std::string> args(argv + (argc > 0 ? 1 : 0), argv + argc);
  lcrun::cli::Output out;
  return lcrun::cli::finish(lcrun::cli::guarded(args, out), out);
}

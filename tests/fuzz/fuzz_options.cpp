// Fuzz target: lines -> arguments of a command, and of its environment.
//
// The first line chooses the command, lines that contain "=" and begin with a capital are variables, the rest are
// arguments. Laws: no crash; a refusal is kInvalidArgument or kUnsupported with a message; what was accepted can be
// written out, row by row, and read back to the same options.
#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "src/base/check.hpp"
#include "src/runtime/option_parse.hpp"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);

namespace {

using namespace lcrun;
using namespace lcrun::runtime;

struct Input {
  const CommandInfo* command;
  std::vector<std::string> args;
  std::map<std::string, std::string> variables;
};

Input split(std::string_view text) {
  Input input{&command_infos()[0], {}, {}};
  bool is_first = true;
  while (!text.empty()) {
    const size_t end = std::min(text.find('\n'), text.size());
    const std::string line(text.substr(0, end));
    text.remove_prefix(std::min(end + 1, text.size()));
    const size_t equals = line.find('=');
    if (is_first) {
      const CommandInfo* named = find_command(line);
      if (named != nullptr) input.command = named;
    } else if (!line.empty() && line[0] >= 'A' && line[0] <= 'Z' && equals != std::string::npos) {
      input.variables[line.substr(0, equals)] = line.substr(equals + 1);
    } else {
      input.args.push_back(line);
    }
    is_first = false;
  }
  return input;
}

void read_back(const CommandInfo& command, const Options& options) {
  std::vector<std::string> args;
  for (const OptionRow& row : option_rows()) {
    if ((row.commands & command.bit) == 0) continue;
    const std::string value = option_value_text(row, options);
    for (const Spelling& spelling : spellings_of(row)) {
      if (spelling.value.has_value()) continue;
      args.push_back(std::string(spelling.text) + "=" + value);
      break;
    }
  }
  args.emplace_back("--");
  args.insert(args.end(), options.positionals.begin(), options.positionals.end());
  const auto again = parse_options(command, args, [](const char*) -> const char* { return nullptr; });
  LCRUN_CHECK(again.has_value());
  Options got = again->options;
  // Numbers with a point are printed with six digits; the choice that has no argument cannot be written back.
  got.temp = options.temp, got.top_p = options.top_p, got.min_p = options.min_p, got.typical_p = options.typical_p;
  got.repeat_penalty = options.repeat_penalty, got.presence_penalty = options.presence_penalty;
  got.frequency_penalty = options.frequency_penalty, got.conversation = options.conversation;
  got.threshold = options.threshold;
  LCRUN_CHECK(got == options);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const Input input = split({reinterpret_cast<const char*>(data), size});
  const auto parsed = parse_options(*input.command, input.args, [&](const char* name) -> const char* {
    const auto at = input.variables.find(name);
    return at == input.variables.end() ? nullptr : at->second.c_str();
  });
  if (!parsed.has_value()) {
    const Code code = parsed.error().code;
    LCRUN_CHECK(code == Code::kInvalidArgument || code == Code::kUnsupported);
    LCRUN_CHECK(!parsed.error().message.empty());
    return 0;
  }
  if (!parsed->wants_help) read_back(*input.command, parsed->options);
  return 0;
}

#include "src/runtime/option_parse.hpp"

#include <algorithm>
#include <cctype>

#include "src/base/format.hpp"
#include "src/runtime/option_values.hpp"

namespace lcrun::runtime {
namespace {

// "-c (--ctx-size)": as it was typed, and what it is called.
std::string full_name(std::string_view typed, const OptionRow& row) {
  const std::string name = format("--{}", row.name);
  return typed == name ? name : format("{} ({})", typed, name);
}

Error bad_option(std::string_view source, const Error& error) {
  return make_error(error.code, "{}: {}", source, error.message);
}

// A variable that is set to nothing counts as not set.
const char* non_empty(const char* value) { return value != nullptr && *value != '\0' ? value : nullptr; }

std::string number_text(double value) {
  if (value == static_cast<double>(static_cast<int64_t>(value))) return std::to_string(static_cast<int64_t>(value));
  return format("{}", value);
}

Status check_range(const OptionRow& row, double value) {
  if (row.minus_one_allowed && value == -1) return {};
  if (value >= row.min && value <= row.max) return {};
  return make_error(Code::kInvalidArgument, "found {}, wanted {} to {}{}", number_text(value), number_text(row.min),
                    number_text(row.max), row.minus_one_allowed ? ", or -1" : "");
}

Status set_number(const OptionRow& row, Result<int64_t> value, Options& options) {
  if (!value.has_value()) return std::move(value).error();
  LCRUN_TRY(check_range(row, static_cast<double>(*value)));
  options.*std::get<int64_t Options::*>(row.field) = *value;
  return {};
}

Status set_list(const OptionRow& row, std::string_view text, Options& options) {
  LCRUN_ASSIGN(auto values, parse_tokens_list(text));
  for (const int64_t value : values) LCRUN_TRY(check_range(row, static_cast<double>(value)));
  options.*std::get<std::vector<int64_t> Options::*>(row.field) = std::move(values);
  return {};
}

Status set_real(const OptionRow& row, std::string_view text, Options& options) {
  LCRUN_ASSIGN(const double value, parse_real(text));
  LCRUN_TRY(check_range(row, value));
  options.*std::get<double Options::*>(row.field) = value;
  return {};
}

Status set_flag(const OptionRow& row, std::string_view text, Options& options) {
  const bool on = is_choice(text, "1|on|true|yes");
  if (!on && !is_choice(text, "0|off|false|no")) {
    return make_error(Code::kInvalidArgument, "found \"{}\", wanted on or off", text);
  }
  options.*std::get<bool Options::*>(row.field) = on;
  return {};
}

Status set_text(const OptionRow& row, std::string_view text, Options& options) {
  if (row.kind == OptionKind::kChoice && !is_choice(text, row.choices)) {
    return make_error(Code::kInvalidArgument, "found \"{}\", wanted one of: {}", text, choices_text(row.choices));
  }
  options.*std::get<std::string Options::*>(row.field) = std::string(text);
  return {};
}

Status set_value(const OptionRow& row, std::string_view text, Options& options) {
  switch (row.kind) {
    case OptionKind::kFlag:
      return set_flag(row, text, options);
    case OptionKind::kText:
    case OptionKind::kChoice:
      return set_text(row, text, options);
    case OptionKind::kTexts:
      (options.*std::get<std::vector<std::string> Options::*>(row.field)).emplace_back(text);
      return {};
    case OptionKind::kInteger:
      return set_number(row, parse_integer(text), options);
    case OptionKind::kTokens:
      return set_number(row, parse_tokens(text), options);
    case OptionKind::kBytes:
      return set_number(row, parse_bytes(text), options);
    case OptionKind::kTokensList:
      return set_list(row, text, options);
    case OptionKind::kReal:
      return set_real(row, text, options);
  }
  return make_error(Code::kInternal, "option {} has no kind", row.name);
}

Status check_together(const Options& options) {
  const int constraints = static_cast<int>(!options.grammar.empty()) + static_cast<int>(!options.grammar_file.empty()) +
                          static_cast<int>(!options.json_schema.empty()) +
                          static_cast<int>(!options.json_schema_file.empty());
  if (constraints > 1) {
    return make_error(Code::kInvalidArgument,
                      "--grammar, --grammar-file, --json-schema and --json-schema-file: wanted at most one of them");
  }
  if (!is_choice(options.gpu_layers, "auto|all")) {
    const auto layers = parse_integer(options.gpu_layers);
    if (!layers.has_value() || *layers < -1) {
      return make_error(Code::kInvalidArgument, "--n-gpu-layers: found \"{}\", wanted auto, all or a number from -1",
                        options.gpu_layers);
    }
  }
  return {};
}

class Parser {
 public:
  Parser(const CommandInfo& command, std::span<const std::string> args) : command_(command), args_(args) {}

  Status read_environment(const Environment& environment) {
    for (const OptionRow& row : option_rows()) {
      if ((row.commands & command_.bit) == 0) continue;
      std::string name = environment_name(row);
      const char* value = non_empty(environment(name.c_str()));
      if (value == nullptr && !row.llama_env.empty()) {
        name = std::string(row.llama_env);
        value = non_empty(environment(name.c_str()));
        if (value != nullptr) parsed_.notes.push_back(format("{} is used as {}", name, environment_name(row)));
      }
      if (value == nullptr) continue;
      const Status set = set_value(row, value, parsed_.options);
      if (!set.has_value()) return bad_option(format("environment variable {}", name), set.error());
      parsed_.given.push_back(row.name);
    }
    return {};
  }

  Status read_arguments() {
    while (next_ < args_.size()) {
      const std::string_view arg = args_[next_++];
      if (arg == "--") {
        while (next_ < args_.size()) parsed_.options.positionals.push_back(args_[next_++]);
      } else if (arg == "-h" || arg == "--help") {
        parsed_.wants_help = true;
      } else if (arg.size() > 1 && arg[0] == '-') {
        LCRUN_TRY(read_option(arg));
      } else {
        parsed_.options.positionals.emplace_back(arg);
      }
    }
    return {};
  }

  Status check() const {
    const size_t found = parsed_.options.positionals.size();
    if (found > command_.max_positionals) {
      return make_error(Code::kInvalidArgument, "unexpected argument \"{}\"; usage: lcrun {} {}",
                        parsed_.options.positionals[command_.max_positionals], command_.name, command_.usage);
    }
    if (found < command_.min_positionals) {
      return make_error(Code::kInvalidArgument, "found {} arguments, wanted {}; usage: lcrun {} {}", found,
                        command_.min_positionals, command_.name, command_.usage);
    }
    return check_together(parsed_.options);
  }

  bool wants_help() const { return parsed_.wants_help; }
  ParsedOptions take() { return std::move(parsed_); }

 private:
  struct Match {
    const OptionRow* row = nullptr;
    Spelling spelling;
  };

  Match find(std::string_view text) const {
    for (const OptionRow& row : option_rows()) {
      if ((row.commands & command_.bit) == 0) continue;
      for (const Spelling& spelling : spellings_of(row)) {
        if (spelling.text == text) return {&row, spelling};
      }
    }
    return {};
  }

  Status read_option(std::string_view arg) {
    const size_t equals = arg.find('=');
    const std::string_view name = arg.substr(0, equals);
    const Match match = find(name);
    if (match.row == nullptr) return unknown(name);
    std::string_view value;
    if (equals != std::string_view::npos) {
      if (match.spelling.value.has_value()) {
        return make_error(Code::kInvalidArgument, "{}: takes no value, found \"{}\"", name, arg.substr(equals + 1));
      }
      value = arg.substr(equals + 1);
    } else {
      LCRUN_ASSIGN(value, value_of(match, name));
    }
    const Status set = set_value(*match.row, value, parsed_.options);
    if (!set.has_value()) return bad_option(full_name(name, *match.row), set.error());
    parsed_.given.push_back(match.row->name);
    return {};
  }

  Result<std::string_view> value_of(const Match& match, std::string_view name) {
    const OptionRow& row = *match.row;
    if (match.spelling.value.has_value()) return *match.spelling.value;
    if (row.kind == OptionKind::kFlag) return std::string_view("on");
    const bool has_next = next_ < args_.size();
    if (!row.bare_value.empty() && (!has_next || !is_choice(args_[next_], row.choices))) return row.bare_value;
    if (!has_next) {
      return make_error(Code::kInvalidArgument, "{}: found no value, wanted {}{}", name, row.argument,
                        row.choices.empty() ? "" : format(" (one of: {})", choices_text(row.choices)));
    }
    return std::string_view(args_[next_++]);
  }

  Error unknown(std::string_view name) const {
    std::vector<std::string> names = {"--help"};
    for (const OptionRow& row : option_rows()) {
      for (const Spelling& spelling : spellings_of(row)) {
        if ((row.commands & command_.bit) != 0) names.emplace_back(spelling.text);
        if ((row.commands & command_.bit) == 0 && spelling.text == name) {
          return make_error(Code::kInvalidArgument, "{}: not an option of lcrun {}; see lcrun {} --help", name,
                            command_.name, command_.name);
        }
      }
    }
    const std::string close = closest_name(name, names);
    const std::string hint =
        close.empty() ? format("see lcrun {} --help", command_.name) : format("did you mean {}?", close);
    return make_error(Code::kInvalidArgument, "unknown option {}; {}", name, hint);
  }

  const CommandInfo& command_;
  std::span<const std::string> args_;
  size_t next_ = 0;
  ParsedOptions parsed_;
};

}  // namespace

bool ParsedOptions::is_given(std::string_view name) const {
  return std::find(given.begin(), given.end(), name) != given.end();
}

std::vector<Spelling> spellings_of(const OptionRow& row) {
  std::vector<Spelling> all;
  std::string_view rest = row.spellings;
  while (!rest.empty()) {
    const size_t blank = std::min(rest.find(' '), rest.size());
    const std::string_view word = rest.substr(0, blank);
    rest.remove_prefix(std::min(blank + 1, rest.size()));
    const size_t equals = word.find('=');
    if (equals == std::string_view::npos)
      all.push_back({word, std::nullopt});
    else
      all.push_back({word.substr(0, equals), word.substr(equals + 1)});
  }
  return all;
}

std::string environment_name(const OptionRow& row) {
  std::string name = "LCRUN_";
  for (const char c : row.name) {
    name += c == '-' ? '_' : static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
  }
  return name;
}

std::string closest_name(std::string_view wanted, std::span<const std::string> names) {
  // Longer texts would only make the table of distances large; no option is near them anyway.
  constexpr size_t kLongest = 64;
  if (wanted.size() > kLongest) return "";
  std::string best;
  size_t best_distance = std::max<size_t>(1, wanted.size() / 3) + 1;
  for (const std::string& name : names) {
    const size_t distance = edit_distance(wanted, name);
    if (distance < best_distance) {
      best = name;
      best_distance = distance;
    }
  }
  return best;
}

Result<ParsedOptions> parse_options(const CommandInfo& command, std::span<const std::string> args,
                                    const Environment& environment) {
  Parser parser(command, args);
  Parser asks_for_help(command, args);
  if (asks_for_help.read_arguments().has_value() && asks_for_help.wants_help()) return asks_for_help.take();
  LCRUN_TRY(parser.read_environment(environment));
  LCRUN_TRY(parser.read_arguments());
  LCRUN_TRY(parser.check());
  return parser.take();
}

Status change_option(const CommandInfo& command, std::string_view name, std::string_view value, Options& options) {
  for (const OptionRow& row : option_rows()) {
    if (row.name != name || (row.commands & command.bit) == 0) continue;
    Options changed = options;
    const Status set = set_value(row, value, changed);
    if (!set.has_value()) return bad_option(format("--{}", name), set.error());
    options = std::move(changed);
    return {};
  }
  return make_error(Code::kInvalidArgument, "--{}: not an option of lcrun {}", name, command.name);
}

}  // namespace lcrun::runtime

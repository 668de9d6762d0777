#include "src/runtime/option_docs.hpp"

#include <algorithm>
#include <vector>

#include "src/base/format.hpp"
#include "src/runtime/option_parse.hpp"
#include "src/runtime/option_values.hpp"

namespace lcrun::runtime {
namespace {

constexpr size_t kHelpColumn = 34;

// "-c, --ctx-size N": every spelling that takes the value, then those that imply one.
std::string usage_of(const OptionRow& row) {
  std::string text;
  for (const Spelling& spelling : spellings_of(row)) {
    if (spelling.value.has_value() && !row.argument.empty()) continue;
    if (!text.empty()) text += ", ";
    text += spelling.text;
  }
  if (!row.argument.empty()) text += format(" {}", row.argument);
  return text;
}

// Spellings that imply a value, where the row also has a form with an argument.
std::string shorthand_of(const OptionRow& row) {
  std::string text;
  if (row.argument.empty()) return text;
  for (const Spelling& spelling : spellings_of(row)) {
    if (!spelling.value.has_value()) continue;
    text += format("{}{} = {}", text.empty() ? "" : ", ", spelling.text, *spelling.value);
  }
  return text;
}

std::string default_text(const OptionRow& row) {
  if (row.kind == OptionKind::kFlag) return "";
  return option_value_text(row, Options{});
}

// The help sentence with what may be given, the default and the shorthands.
std::string full_help(const OptionRow& row) {
  std::string text(row.help);
  if (!row.choices.empty() && !row.argument.empty()) text += format(": {}", choices_text(row.choices));
  const std::string fallback = default_text(row);
  if (!fallback.empty()) text += format(" (default {})", fallback);
  const std::string shorthand = shorthand_of(row);
  if (!shorthand.empty()) text += format("; {}", shorthand);
  return text;
}

std::string with_backslashes(std::string_view text, std::string_view special) {
  std::string out;
  for (const char c : text) {
    if (special.find(c) != std::string_view::npos) out += '\\';
    out += c;
  }
  return out;
}

// Names of the commands a row belongs to, for the reference.
std::string commands_of(const OptionRow& row) {
  std::string text;
  if (row.commands == kEveryCommand) return "all";
  for (const CommandInfo& command : command_infos()) {
    if ((row.commands & command.bit) == 0) continue;
    if (!text.empty()) text += ", ";
    text += command.name;
  }
  return text;
}

std::string words_of_command(const CommandInfo& command) {
  std::string words = "--help";
  for (const OptionRow& row : option_rows()) {
    if ((row.commands & command.bit) == 0) continue;
    for (const Spelling& spelling : spellings_of(row)) words += format(" {}", spelling.text);
  }
  return words;
}

std::string command_names() {
  std::string names;
  for (const CommandInfo& command : command_infos()) names += format("{}{}", names.empty() ? "" : " ", command.name);
  return names;
}

// Text wrapped at 100 columns, continuation lines indented to the help column.
void append_wrapped(std::string& out, std::string_view text) {
  constexpr size_t kWidth = 100;
  size_t column = kHelpColumn;
  while (!text.empty()) {
    const size_t blank = std::min(text.find(' '), text.size());
    const std::string_view word = text.substr(0, blank);
    text.remove_prefix(std::min(blank + 1, text.size()));
    if (column > kHelpColumn && column + 1 + word.size() > kWidth) {
      out += '\n';
      out.append(kHelpColumn, ' ');
      column = kHelpColumn;
    } else if (column > kHelpColumn) {
      out += ' ';
      ++column;
    }
    out += word;
    column += word.size();
  }
  out += '\n';
}

}  // namespace

std::string general_help() {
  std::string text =
      "usage: lcrun [COMMAND] [OPTIONS]\n\n"
      "Runs quantised language models (GGUF) on the CPU, over very long contexts.\n\ncommands:\n";
  for (const CommandInfo& command : command_infos()) {
    text += format("  {}{}{}\n", command.name, std::string(12 - command.name.size(), ' '), command.summary);
  }
  text +=
      "\n  lcrun COMMAND --help    the options of a command\n"
      "  lcrun --version         version, build and processor\n"
      "  lcrun --completion-bash | --completion-zsh | --completion-fish\n"
      "  lcrun --help-markdown | --help-man\n\n"
      "first steps:\n"
      "  lcrun -m model.gguf -p \"Why is the sky blue?\"\n"
      "  lcrun -m model.gguf -f book.txt -p \"Who is the narrator?\"\n"
      "  lcrun plan -m model.gguf -c 1000000\n\n"
      "exit codes: 0 done, 1 internal error, 2 usage, 3 model refused, 4 not enough memory, 5 storage,\n"
      "            6 session refused, 7 unsupported, 130 interrupted\n";
  return text;
}

std::string command_help(const CommandInfo& command) {
  std::string text = format("usage: lcrun {} {}\n\n{}\n", command.name, command.usage, command.summary);
  std::string_view group;
  std::string_view printed;
  for (const OptionRow& row : option_rows()) {
    if (!row.group.empty()) group = row.group;
    if ((row.commands & command.bit) == 0) continue;
    if (printed != group) {
      text += format("\n{}:\n", group);
      printed = group;
    }
    std::string line = format("  {}", usage_of(row));
    if (line.size() + 2 > kHelpColumn) {
      text += line + '\n';
      line.clear();
    }
    line.append(kHelpColumn - line.size(), ' ');
    text += line;
    append_wrapped(text, full_help(row));
  }
  text += "\nEvery option can be set in the environment: LCRUN_CTX_SIZE for --ctx-size.\n";
  return text;
}

std::string markdown_reference() {
  std::string text =
      "# Options\n\nMade by `lcrun --help-markdown` from the table in `src/runtime/options.cpp`; do not edit.\n\n"
      "Sizes: `4096`, `4KiB`, `1GiB`. Tokens: `4096`, `64k` (64,000), `1M` (10^6), `64Ki` (65,536).\n"
      "Precedence: defaults, environment, arguments. llama.cpp's `LLAMA_ARG_*` names count where the\n"
      "`LCRUN_*` one is not set.\n\n## Commands\n\n| command | does |\n|---|---|\n";
  for (const CommandInfo& command : command_infos()) {
    text += format("| `lcrun {} {}` | {} |\n", command.name, with_backslashes(command.usage, "|"), command.summary);
  }
  for (const OptionRow& row : option_rows()) {
    if (!row.group.empty()) {
      text += format("\n## {}\n\n| option | meaning | environment | commands |\n|---|---|---|---|\n", row.group);
    }
    text += format("| `{}` | {} | `{}` | {} |\n", with_backslashes(usage_of(row), "|"),
                   with_backslashes(full_help(row), "|<"), environment_name(row), commands_of(row));
  }
  return text;
}

std::string man_page(std::string_view version) {
  std::string text = format(".TH LCRUN 1 \"\" \"lcrun {}\" \"User Commands\"\n", version);
  text +=
      ".SH NAME\nlcrun \\- run quantised language models on the CPU, over very long contexts\n"
      ".SH SYNOPSIS\n.B lcrun\n[\\fICOMMAND\\fR] [\\fIOPTIONS\\fR]\n.SH COMMANDS\n";
  for (const CommandInfo& command : command_infos()) {
    text +=
        format(".TP\n.B lcrun {} \\fR{}\n{}\n", command.name, with_backslashes(command.usage, "\\-"), command.summary);
  }
  text += ".SH OPTIONS\n";
  for (const OptionRow& row : option_rows()) {
    if (!row.group.empty()) text += format(".SS {}\n", row.group);
    text += format(".TP\n.B {}\n{}. Environment: {}. Commands: {}.\n", with_backslashes(usage_of(row), "\\-"),
                   with_backslashes(full_help(row), "\\-"), environment_name(row), commands_of(row));
  }
  text +=
      ".SH EXIT STATUS\n0 done, 1 internal error, 2 usage, 3 model file refused, 4 not enough memory, 5 storage, "
      "6 session file refused, 7 unsupported, 130 interrupted.\n";
  return text;
}

std::string bash_completion() {
  std::string text =
      "# bash completion of lcrun: eval \"$(lcrun --completion-bash)\"\n_lcrun() {\n"
      "  local cur=${COMP_WORDS[COMP_CWORD]} command=run words\n"
      "  [[ $COMP_CWORD -gt 1 && ${COMP_WORDS[1]} != -* ]] && command=${COMP_WORDS[1]}\n"
      "  case $command in\n";
  for (const CommandInfo& command : command_infos()) {
    text += format("    {}) words='{}' ;;\n", command.name, words_of_command(command));
  }
  text += format("  esac\n  [[ $COMP_CWORD -eq 1 ]] && words=\"{} --version $words\"\n", command_names());
  text +=
      "  if [[ $cur == -* || $COMP_CWORD -eq 1 ]]; then\n"
      "    COMPREPLY=($(compgen -W \"$words\" -- \"$cur\"))\n  else\n"
      "    COMPREPLY=($(compgen -f -- \"$cur\"))\n  fi\n}\ncomplete -o filenames -F _lcrun lcrun\n";
  return text;
}

std::string zsh_completion() {
  std::string text =
      "#compdef lcrun\n_lcrun() {\n  local command=run\n"
      "  [[ $CURRENT -gt 2 && ${words[2]} != -* ]] && command=${words[2]}\n"
      "  [[ $CURRENT -eq 2 ]] && compadd -- " +
      command_names() + "\n  case $command in\n";
  for (const CommandInfo& command : command_infos()) {
    text += format("    {}) compadd -- {} ;;\n", command.name, words_of_command(command));
  }
  text += "  esac\n  _files\n}\n_lcrun \"$@\"\n";
  return text;
}

std::string fish_completion() {
  std::string text = "# fish completion of lcrun\n";
  for (const CommandInfo& command : command_infos()) {
    text += format("complete -c lcrun -n __fish_use_subcommand -a {} -d '{}'\n", command.name,
                   with_backslashes(command.summary, "'"));
  }
  for (const OptionRow& row : option_rows()) {
    for (const Spelling& spelling : spellings_of(row)) {
      const bool is_long = spelling.text.substr(0, 2) == "--";
      const bool is_letter = !is_long && spelling.text.size() == 2;
      const std::string_view flag = is_long ? "-l" : is_letter ? "-s" : "-o";
      const bool takes_value = row.kind != OptionKind::kFlag && !spelling.value.has_value();
      text += format("complete -c lcrun {} {}{} -d '{}'\n", flag, spelling.text.substr(is_long ? 2 : 1),
                     takes_value ? " -r" : "", with_backslashes(row.help, "'\\"));
    }
  }
  return text;
}

}  // namespace lcrun::runtime

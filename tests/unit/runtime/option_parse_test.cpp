// Arguments and environment to Options.
#include "src/runtime/option_parse.hpp"

#include <catch2/catch.hpp>
#include <fstream>
#include <iterator>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "src/runtime/option_docs.hpp"

using namespace lcrun;
using namespace lcrun::runtime;

namespace {

using Variables = std::map<std::string, std::string>;

Result<ParsedOptions> parse(const char* command, const std::vector<std::string>& args,
                            const Variables& variables = {}) {
  return parse_options(*find_command(command), args, [&](const char* name) -> const char* {
    const auto at = variables.find(name);
    return at == variables.end() ? nullptr : at->second.c_str();
  });
}

Options options_of(const char* command, const std::vector<std::string>& args, const Variables& variables = {}) {
  const auto parsed = parse(command, args, variables);
  INFO((parsed.has_value() ? std::string() : parsed.error().message));
  REQUIRE(parsed.has_value());
  return parsed->options;
}

Error error_of(const char* command, const std::vector<std::string>& args, const Variables& variables = {}) {
  const auto parsed = parse(command, args, variables);
  REQUIRE_FALSE(parsed.has_value());
  return parsed.error();
}

bool contains(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

}  // namespace

TEST_CASE("short, long, equals and single-dash long spellings all set the same option", "[runtime][options]") {
  for (const std::vector<std::string>& args :
       {std::vector<std::string>{"-c", "8k"}, {"--ctx-size", "8000"}, {"--ctx-size=8000"}, {"-c=8k"}}) {
    CHECK(options_of("run", args).n_ctx == 8000);
  }
  CHECK(options_of("run", {"-ctk", "q8_0", "-ctv", "q4_0"}).type_v == "q4_0");
  CHECK(options_of("run", {"-no-cnv"}).conversation == "off");
  CHECK(options_of("run", {"-cnv"}).conversation == "on");
  CHECK(options_of("run", {"--no-mmap"}).load_mode == "none");
  CHECK(options_of("run", {"-n", "-1"}).n_predict == -1);
  CHECK(options_of("run", {"-p", "-not an option"}).prompt == "-not an option");
}

TEST_CASE("-fa stands alone or takes a value", "[runtime][options]") {
  CHECK(options_of("run", {"-fa"}).flash_attn == "on");
  CHECK(options_of("run", {"-fa", "off"}).flash_attn == "off");
  const Options options = options_of("run", {"-fa", "-p", "x"});
  CHECK(options.flash_attn == "on");
  CHECK(options.prompt == "x");
}

TEST_CASE("the same letters mean a length in bench and a text in run", "[runtime][options]") {
  const Options options = options_of("bench", {"-p", "512,1k", "-n", "0", "-d", "0,8192", "-r", "3"});
  CHECK(options.bench_prompt == std::vector<int64_t>{512, 1000});
  CHECK(options.bench_gen == std::vector<int64_t>{0});
  CHECK(options.bench_depth == std::vector<int64_t>{0, 8192});
  CHECK(options.repetitions == 3);
}

TEST_CASE("unknown options are named, with what may have been meant", "[runtime][options]") {
  const Error error = error_of("run", {"--theads", "2"});
  CHECK(error.code == Code::kInvalidArgument);
  CHECK(contains(error.message, "--theads"));
  CHECK(contains(error.message, "did you mean --threads"));
  CHECK(contains(error_of("run", {"--top", "3"}).message, "not an option of lcrun run"));
}

TEST_CASE("values out of range name the option and what is allowed", "[runtime][options]") {
  const std::vector<std::vector<std::string>> bad = {
      {"-c", "-1"},           {"--top-p", "2"}, {"--temp", "nan"},
      {"--temp", "-0.5"},     {"-t", "0"},      {"-n", "-2"},
      {"-s", "-5"},           {"-b", "0"},      {"-ctk", "q9"},
      {"--isa", "sse9"},      {"-ngl", "many"}, {"--load-mode", "magic"},
      {"-c", "12q"},          {"-c", ""},       {"--repeat-penalty", "0"},
      {"--log-level", "loud"}};
  for (const auto& args : bad) {
    INFO(args[0]);
    const Error error = error_of("run", args);
    CHECK(error.code == Code::kInvalidArgument);
    CHECK(contains(error.message, args[0] == "-ngl" ? "--n-gpu-layers" : args[0]));
  }
  CHECK(contains(error_of("run", {"-ctk", "q9"}).message, "f32, f16, bf16, q8_0, q4_0"));
  CHECK(contains(error_of("run", {"-c"}).message, "found no value"));
}

TEST_CASE("choices are checked", "[runtime][options]") {
  CHECK(options_of("run", {"--attention", "dense", "--extend", "none", "--kv-io", "auto"}).attention == "dense");
  CHECK(options_of("run", {"--extend", "dca"}).extend == "dca");
  CHECK(error_of("run", {"--extend", "rope"}).code == Code::kInvalidArgument);
  CHECK(error_of("run", {"--driver", "nonsense"}).code == Code::kInvalidArgument);
}

TEST_CASE("the environment gives defaults that arguments override", "[runtime][options]") {
  const Variables variables = {
      {"LCRUN_CTX_SIZE", "64k"}, {"LCRUN_TEMP", "0"}, {"LCRUN_JSON", "1"}, {"LCRUN_MODEL", ""}};
  const Options options = options_of("run", {"--temp", "0.5"}, variables);
  CHECK(options.n_ctx == 64000);
  CHECK(options.temp == 0.5);
  CHECK(options.json);
  CHECK(options.model.empty());
  const Error error = error_of("run", {}, {{"LCRUN_TOP_P", "7"}});
  CHECK(error.code == Code::kInvalidArgument);
  CHECK(contains(error.message, "LCRUN_TOP_P"));
}

TEST_CASE("llama.cpp's variables count where ours are not set, and are noted", "[runtime][options]") {
  const auto parsed =
      parse("run", {}, {{"LLAMA_ARG_CTX_SIZE", "1024"}, {"LCRUN_THREADS", "3"}, {"LLAMA_ARG_THREADS", "9"}});
  REQUIRE(parsed.has_value());
  CHECK(parsed->options.n_ctx == 1024);
  CHECK(parsed->options.threads == 3);
  REQUIRE(parsed->notes.size() == 1);
  CHECK(contains(parsed->notes[0], "LLAMA_ARG_CTX_SIZE"));
}

TEST_CASE("positional arguments are counted", "[runtime][options]") {
  CHECK(options_of("quantize", {"a", "b", "Q8_0"}).positionals.size() == 3);
  CHECK(error_of("quantize", {"a", "b"}).code == Code::kInvalidArgument);
  CHECK(error_of("run", {"stray"}).code == Code::kInvalidArgument);
  CHECK(options_of("inspect", {"--", "-odd-name"}).positionals[0] == "-odd-name");
}

TEST_CASE("help is given even when the environment is wrong", "[runtime][options]") {
  const auto parsed = parse("run", {"--help"}, {{"LCRUN_TOP_P", "7"}});
  REQUIRE(parsed.has_value());
  CHECK(parsed->wants_help);
}

TEST_CASE("no spelling means two things in one command", "[runtime][options]") {
  for (const CommandInfo& command : command_infos()) {
    std::set<std::string_view> seen{"-h", "--help"};
    for (const OptionRow& row : option_rows()) {
      if ((row.commands & command.bit) == 0) continue;
      for (const Spelling& spelling : spellings_of(row)) {
        INFO(command.name << " " << spelling.text);
        CHECK(seen.insert(spelling.text).second);
      }
    }
  }
}

TEST_CASE("every default parses back to itself, and every row is well formed", "[runtime][options]") {
  std::set<std::string_view> names;
  for (const OptionRow& row : option_rows()) {
    INFO(row.name);
    CHECK(names.insert(row.name).second);
    CHECK(row.commands != 0);
    CHECK_FALSE(row.help.empty());
    const std::string value = option_value_text(row, Options{});
    if (row.kind == OptionKind::kText || row.kind == OptionKind::kFlag) continue;
    for (const CommandInfo& command : command_infos()) {
      if ((row.commands & command.bit) == 0 || command.min_positionals != 0) continue;
      const auto parsed = parse(std::string(command.name).c_str(), {}, {{environment_name(row), value}});
      INFO(value << (parsed.has_value() ? std::string() : parsed.error().message));
      REQUIRE(parsed.has_value());
      CHECK(parsed->options == Options{});
    }
  }
}

TEST_CASE("docs/options.md is what the table says", "[runtime][options]") {
  std::ifstream file(LCRUN_TEST_ROOT "/../docs/options.md");
  const std::string text((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
  // Otherwise: lcrun --help-markdown > docs/options.md
  CHECK(text == markdown_reference());
}

TEST_CASE("help, reference, man page and completions name every option", "[runtime][options]") {
  const std::string markdown = markdown_reference();
  const std::string man = man_page("0");
  const std::string bash = bash_completion() + zsh_completion();
  const std::string fish = fish_completion();
  for (const OptionRow& row : option_rows()) {
    const std::string first(spellings_of(row).front().text);
    INFO(first);
    CHECK(contains(markdown, environment_name(row)));
    CHECK(contains(bash, first));
    CHECK(contains(fish, first.substr(first.find_first_not_of('-'))));
    CHECK(contains(man, environment_name(row)));
  }
  for (const CommandInfo& command : command_infos()) {
    CHECK(contains(general_help(), std::string(command.name)));
    CHECK(contains(command_help(command), "usage: lcrun " + std::string(command.name)));
  }
}

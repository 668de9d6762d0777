// Options: every choice a user has, exactly once, as data.
//
// One row of option_rows() (options.cpp) says how an option is spelled, what it may be, what it does and which
// commands take it; the member it fills carries the default. Parsing (option_parse.hpp), environment names, --help,
// shell completion, the man page and docs/options.md (option_docs.hpp) all come from these rows.
// Spellings follow llama.cpp where it has one, its older generation and its newer one.
// Thread rule: the table is constant; an Options value belongs to one thread.
#pragma once

#include <cstdint>
#include <limits>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "src/base/result.hpp"

namespace lcrun::runtime {

struct Options {
  // Model and context.
  std::string model;      // "" = the cached default model
  std::string model_dir;  // "" = ${XDG_CACHE_HOME:-~/.cache}/lcrun/models
  int64_t n_ctx = 0;      // tokens; 0 = what the model was trained on
  std::string load_mode = "auto";
  int64_t mem_max = 0;  // bytes; 0 = what the machine has to give
  std::string type_k = "f16";
  std::string type_v = "f16";

  // Prompt.
  std::string prompt;
  std::string file;
  int64_t n_predict = -1;
  std::string system_prompt;
  std::string conversation = "auto";
  bool single_turn = false;
  bool escape = false;
  std::string answer_prefix;
  std::string chat_template;
  std::string grammar;
  std::string grammar_file;
  std::string json_schema;
  std::string json_schema_file;

  // Sampling.
  int64_t seed = -1;
  double temp = 0.8;
  int64_t top_k = 40;
  double top_p = 0.95;
  double min_p = 0.05;
  double typical_p = 1.0;
  double repeat_penalty = 1.0;
  int64_t repeat_last_n = 64;
  double presence_penalty = 0.0;
  double frequency_penalty = 0.0;
  bool ignore_eos = false;

  // Machine.
  int64_t threads = -1;
  int64_t threads_batch = -1;
  int64_t batch_size = 2048;
  int64_t ubatch_size = 512;
  std::string isa = "auto";
  std::string gpu_layers = "auto";
  std::string flash_attn = "auto";
  std::string plugin;
  std::string plugin_dir;  // colon separated; "" = where lcrun was installed

  // Where the cache lives and what attention reads.
  std::string kv_dir;
  std::string kv_io = "auto";
  std::string kv_sync = "barrier";
  std::string session;
  std::string from;
  bool reread = false;
  bool force = false;
  std::string attention = "auto";
  int64_t attn_budget = 0;
  int64_t attn_cadence = 0;
  std::string attn_index = "auto";
  std::string attn_layers = "auto";
  std::string policy_file;
  bool policies = false;
  std::string prefill = "auto";
  std::string extend = "auto";
  std::string driver = "none";
  int64_t driver_window = 1024;
  int64_t driver_keep = 0;
  std::string compress;

  // Output.
  bool json = false;
  bool stats = false;
  std::string log_level = "info";
  std::string color = "auto";

  // tokenize, detokenize, score, ppl.
  bool no_bos = false;
  bool no_parse_special = false;
  int64_t top = 8;
  int64_t window = 512;

  // bench.
  std::vector<int64_t> bench_prompt{512};
  std::vector<int64_t> bench_gen{128};
  std::vector<int64_t> bench_depth{0};
  int64_t repetitions = 5;
  bool no_warmup = false;
  bool copied_depth = false;
  std::string bench_output = "md";

  // ask.
  std::vector<std::string> questions;

  // eval.
  std::vector<int64_t> eval_lengths{4000};
  std::vector<int64_t> eval_depths{0, 10, 20, 30, 40, 50, 60, 70, 80, 90, 100};
  int64_t eval_seeds = 1;
  int64_t eval_first_seed = 1;
  std::string haystack = "prose";
  std::string compare;
  std::string models;
  std::string cache_types;
  double threshold = 0;
  std::string eval_out;
  std::string png;
  bool cites = false;
  bool oracle = false;

  // calibrate.
  std::string table;
  double max_loss = 0.05;
  double max_rise = 1.0;

  // run, ask.
  std::string dump_plan;

  // inspect, plugins.
  bool kernels = false;
  std::string check_plugin;

  // Arguments without a name, in order (inspect MODEL, quantize IN OUT TYPE).
  std::vector<std::string> positionals;

  bool operator==(const Options&) const = default;
};

// Commands an option belongs to, as bits.
enum CommandBits : uint32_t {
  kRun = 1U << 0,
  kTokenize = 1U << 1,
  kDetokenize = 1U << 2,
  kScore = 1U << 3,
  kPpl = 1U << 4,
  kBench = 1U << 5,
  kInspect = 1U << 6,
  kPlan = 1U << 7,
  kQuantize = 1U << 8,
  kPlugins = 1U << 9,
  kSession = 1U << 10,
  kEncode = 1U << 11,
  kAsk = 1U << 12,
  kEval = 1U << 13,
  kCalibrate = 1U << 14,
  kModelRunners = kRun | kScore | kPpl | kBench | kPlan | kEncode | kAsk | kEval | kCalibrate,
  kModelReaders = kModelRunners | kTokenize | kDetokenize | kInspect,
  kEveryCommand = (1U << 15) - 1,
};

enum class OptionKind : uint8_t {
  kFlag,  // bool: present or not
  kText,
  kTexts,       // may be given several times
  kChoice,      // text, one of `choices`
  kInteger,     // int64 in [min, max]
  kTokens,      // the same, "64k" and "1M" allowed
  kTokensList,  // comma separated
  kBytes,       // int64, "1GiB" allowed
  kReal,        // double in [min, max]
};

// Where a value goes. The alternative must fit the kind.
using OptionField = std::variant<bool Options::*, std::string Options::*, int64_t Options::*, double Options::*,
                                 std::vector<int64_t> Options::*, std::vector<std::string> Options::*>;

struct OptionRow {
  std::string_view name;  // "ctx-size": environment LCRUN_CTX_SIZE
  // Blank separated; the first two are shown in usage lines. "SPELLING=VALUE" takes no argument and means VALUE.
  std::string_view spellings;
  OptionKind kind;
  OptionField field;
  uint32_t commands;
  std::string_view argument;  // placeholder in help: "N", "FILE", ""
  std::string_view help;      // a sentence without its full stop; the default is added
  double min = -std::numeric_limits<double>::infinity();
  double max = std::numeric_limits<double>::infinity();
  std::string_view choices = {};     // kChoice: "auto|dense"; what the option may be
  std::string_view bare_value = {};  // value when the next argument is missing or not one of `choices` (-fa)
  std::string_view llama_env = {};   // the name llama.cpp gives it in the environment
  std::string_view group = {};       // heading in help; empty = same as the row before
  // kInteger, kTokens: the range allows this one value below `min` too (-1 = automatic).
  bool minus_one_allowed = false;
};

std::span<const OptionRow> option_rows();

struct CommandInfo {
  std::string_view name;
  uint32_t bit;
  std::string_view usage;  // after "lcrun NAME"
  std::string_view summary;
  size_t min_positionals = 0;
  size_t max_positionals = 0;
};
std::span<const CommandInfo> command_infos();
// Null when unknown.
const CommandInfo* find_command(std::string_view name);
// Commands that are planned, known by name, and refused with kUnsupported.
std::span<const std::string_view> future_commands();

// Value of a row in `options`, as text that parsing would accept.
std::string option_value_text(const OptionRow& row, const Options& options);

}  // namespace lcrun::runtime

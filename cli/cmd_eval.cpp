// lcrun eval: how well a model finds things in long texts, with any options that a run takes.
//
// The cases are the library's (src/runtime/evaluation.hpp); here they meet a model and the options: a session for each
// length and each kind of attention (--attention, then those of --compare), opened as `run` opens its own.
#include <algorithm>
#include <chrono>

#include "cli/command.hpp"
#include "cli/reply.hpp"
#include "cli/setup.hpp"
#include "cli/signals.hpp"
#include "src/base/format.hpp"
#include "src/base/log.hpp"
#include "src/runtime/eval_compare.hpp"
#include "src/runtime/eval_plot.hpp"
#include "src/runtime/eval_report.hpp"
#include "src/runtime/evaluation.hpp"
#include "src/runtime/option_values.hpp"
#include "src/runtime/policy_file.hpp"
#include "src/runtime/session_file.hpp"

namespace lcrun::cli {
namespace {

// Under a cap: for what cases that share a reading go back to, and the index of what they read again.
constexpr uint64_t kForkRoom = uint64_t{192} << 20;

using runtime::EvalKey;
using runtime::EvalKind;
using runtime::EvalRecord;
using runtime::EvalRequest;
using runtime::Evaluation;
using runtime::Options;
using Clock = std::chrono::steady_clock;

constexpr double kSecondsBetweenLines = 60;  // of progress, away from a terminal

// One kind of attention to measure.
struct Variant {
  std::string name;
  runtime::ParsedOptions parsed;
};

// Where results are kept: in a file, or only until they are printed.
struct Results {
  std::optional<runtime::EvalFile> file;
  runtime::EvalRecords records;

  const runtime::EvalRecords& all() const { return file.has_value() ? file->records() : records; }
  Status add(const EvalRecord& record) {
    if (file.has_value()) return file->append(record);
    records.insert_or_assign(record.key, record);
    return {};
  }
};

std::vector<int64_t> sorted(std::vector<int64_t> values) {
  std::sort(values.begin(), values.end());
  values.erase(std::unique(values.begin(), values.end()), values.end());
  return values;
}

Result<EvalRequest> request_of(const Context& context) {
  const Options& options = context.options();
  const std::string& name = options.positionals.back();
  EvalRequest request;
  request.task = runtime::find_eval_task(name);
  if (request.task == nullptr) {
    return make_error(Code::kInvalidArgument, "eval {}: unknown task; wanted one of: {}", name,
                      runtime::eval_task_names());
  }
  request.lengths = sorted(options.eval_lengths);
  request.depths = sorted(options.eval_depths);
  request.first_seed = options.eval_first_seed;
  request.seeds = options.eval_seeds;
  request.system = options.system_prompt;
  request.cites = options.cites;
  request.oracle = options.oracle;
  request.driver = runtime::find_driver(options.driver);
  request.driver_settings.window = options.driver_window;
  request.driver_settings.keep = options.driver_keep;
  if (request.driver != nullptr && request.task->kind == EvalKind::kLikelihood) {
    return make_error(Code::kInvalidArgument, "--driver: {} asks nothing", name);
  }
  const bool hides = request.task->kind != EvalKind::kLikelihood && request.task->kind != EvalKind::kQuestions;
  if (request.oracle && (request.driver != nullptr || !hides)) {
    return make_error(Code::kInvalidArgument, "--oracle: found {}, wanted a task that hides sentences, and no driver",
                      request.driver != nullptr ? "--driver " + options.driver : name);
  }
  if (context.parsed.is_given("answer-prefix")) request.answer_prefix = options.answer_prefix;
  if (!options.png.empty() && !request.task->has_depth) {
    return make_error(Code::kInvalidArgument, "--png: {} has no depths to draw", name);
  }
  if (context.parsed.is_given("threshold") && request.task->kind == EvalKind::kLikelihood) {
    return make_error(Code::kInvalidArgument, "--threshold: {} has no score from 0 to 1", name);
  }
  const bool wants_questions = request.task->kind == EvalKind::kQuestions;
  if (wants_questions != context.parsed.is_given("questions")) {
    return make_error(Code::kInvalidArgument,
                      wants_questions ? "-f: eval {} wants a file of questions" : "-f: eval {} has no questions", name);
  }
  return request;
}

std::vector<std::string> split(std::string_view list) {
  std::vector<std::string> words;
  while (!list.empty()) {
    const std::string_view word = list.substr(0, list.find(','));
    list.remove_prefix(std::min(word.size() + 1, list.size()));
    words.emplace_back(word);
  }
  return words;
}

// NAME, with the prefill that goes with it, or NAME/PREFILL.
Result<Variant> variant_of(const Context& context, std::string_view word) {
  const runtime::CommandInfo& command = *runtime::find_command("eval");
  const size_t slash = word.find('/');
  const std::string_view prefill = slash == std::string_view::npos ? "auto" : word.substr(slash + 1);
  Variant variant{std::string(word), context.parsed};
  LCRUN_TRY(runtime::change_option(command, "attention", word.substr(0, slash), variant.parsed.options));
  LCRUN_TRY(runtime::change_option(command, "prefill", prefill, variant.parsed.options));
  LCRUN_TRY(check_policy_names({variant.parsed, context.out}));
  return variant;
}

// --attention as it is, then --compare.
Result<std::vector<Variant>> variants_of(const Context& context) {
  std::vector<Variant> variants = {{context.options().attention, context.parsed}};
  for (const std::string& word : split(context.options().compare)) {
    auto variant = variant_of(context, word);
    if (!variant.has_value()) {
      return make_error(variant.error().code, "--compare \"{}\": {}", word, variant.error().message);
    }
    const auto is_same = [&](const Variant& other) { return other.name == variant->name; };
    if (std::none_of(variants.begin(), variants.end(), is_same)) variants.push_back(std::move(variant).value());
  }
  return variants;
}

// Options that a score does not depend on, or that are part of a case or of the identity in another way.
bool is_outside_identity(std::string_view name) {
  constexpr std::string_view kNames[] = {"model",      "model-dir",   "load-mode",   "threads",      "threads-batch",
                                         "batch-size", "ubatch-size", "isa",         "n-gpu-layers", "flash-attn",
                                         "kv-dir",     "kv-io",       "log-level",   "json",         "attention",
                                         "lengths",    "depths",      "seeds",       "first-seed",   "haystack",
                                         "questions",  "compare",     "models",      "cache-types",  "out",
                                         "png",        "threshold",   "policy-file", "oracle"};
  return std::find(std::begin(kNames), std::end(kNames), name) != std::end(kNames);
}

runtime::EvalIdentity identity_of(const Context& context, const runtime::Engine& engine, const EvalRequest& request,
                                  const runtime::EvalSource& source) {
  constexpr std::string_view kDigits = "0123456789abcdef";
  runtime::EvalIdentity identity;
  identity.task = request.task->name;
  for (const uint8_t byte : runtime::model_fingerprint(*engine.file)) {
    identity.model += kDigits[byte >> 4];
    identity.model += kDigits[byte & 15];
  }
  identity.haystack = source.checksum;
  for (const runtime::OptionRow& row : runtime::option_rows()) {
    if ((row.commands & runtime::kEval) == 0 || is_outside_identity(row.name)) continue;
    identity.options.emplace_back(row.name, runtime::option_value_text(row, context.options()));
  }
  const auto policy = runtime::policy_choice_for(context.options(), *engine.file, posix_file_system());
  if (policy.has_value() && policy->rows != nullptr) identity.options.emplace_back("policies", policy->rows->digest);
  return identity;
}

// A line on a terminal, or one now and then in a log.
class EvalProgress {
 public:
  EvalProgress(const std::string& name, size_t cases)
      : line_("Evaluating " + name, "tokens"), name_(name), cases_(cases) {}

  void case_done() { ++done_; }
  bool update(int64_t read, int64_t total) {
    line_.update(read, total);
    const auto now = Clock::now();
    if (!stderr_is_terminal() && std::chrono::duration<double>(now - said_).count() >= kSecondsBetweenLines) {
      said_ = now;
      log(LogLevel::kInfo, "{}: {} of {} cases, {} of {} tokens read", name_, done_, cases_, read, total);
    }
    return !interrupted();
  }

 private:
  ProgressLine line_;
  std::string name_;
  size_t cases_;
  size_t done_ = 0;
  Clock::time_point said_ = Clock::now();
};

Status run_variant(const Context& given, const Variant& variant, const runtime::Engine& engine,
                   const Evaluation& evaluation, Results& results) {
  const Context context{variant.parsed, given.out};
  // What is done already, and does not change while the rest is.
  const runtime::EvalRecords done = results.all();
  const auto keys = evaluation.keys(variant.name);
  const auto left = std::count_if(keys.begin(), keys.end(), [&](const EvalKey& key) { return done.count(key) == 0; });
  const auto found = static_cast<int64_t>(keys.size()) - left;
  if (found > 0) log(LogLevel::kInfo, "{}: {} of {} cases were done before", variant.name, found, keys.size());
  EvalProgress progress(variant.name, static_cast<size_t>(left));
  const auto open = [&](int64_t n_ctx) {
    return open_session(context, engine, {.n_ctx = n_ctx, .wanted_tokens = n_ctx, .spare_bytes = kForkRoom});
  };
  const auto keep = [&](const EvalRecord& record) {
    if (record.key.attention == variant.name) progress.case_done();
    return results.add(record);
  };
  return evaluation.run(variant.name, done, open, keep,
                        [&](int64_t read, int64_t total) { return progress.update(read, total); });
}

// The tables first: a picture that cannot be written must not take them along.
Status report(const Context& context, const runtime::EvalIdentity& identity, const runtime::EvalTask& task,
              std::span<const runtime::EvalRow> rows) {
  const Options& options = context.options();
  const std::string text = options.json ? report_json(identity, task, rows) + "\n" : report_markdown(task, rows);
  LCRUN_TRY(context.out.write(text));
  LCRUN_TRY(context.out.flush());
  if (options.png.empty()) return {};
  LCRUN_ASSIGN(const auto png, runtime::eval_png(task, rows));
  LCRUN_ASSIGN(const auto file, posix_file_system().open(options.png, OpenMode::kReplaceShared));
  return file->write_at(0, png);
}

// --threshold holds for what was asked for, not for what it is compared with.
Status check_threshold(const Context& context, const std::string& attention, std::span<const runtime::EvalRow> rows) {
  const double threshold = context.options().threshold;
  for (const runtime::EvalRow& row : rows) {
    if (row.attention != attention || row.all.mean(0) >= threshold) continue;
    return make_error(Code::kBelowThreshold, "{} tokens, {}: found {}, wanted {} (--threshold)",
                      runtime::length_text(row.length), row.scores.front(), row.all.mean(0), threshold);
  }
  return {};
}

Result<Evaluation> evaluation_of(const Context& context, const runtime::Engine& engine, const EvalRequest& request,
                                 const runtime::EvalSource& source) {
  const auto [use_chat, chat_source] = chat_choice(context.options(), engine);
  LCRUN_ASSIGN(const auto layout, runtime::PromptLayout::create(engine.tokenizer, use_chat, chat_source));
  return Evaluation::create(request, source, engine.tokenizer, layout);
}

// Results of all cases, in the order in which they ran.
std::vector<EvalRecord> records_of(const Evaluation& evaluation, const std::string& name, const Results& results) {
  std::vector<EvalRecord> records;
  for (const EvalKey& key : evaluation.keys(name)) records.push_back(results.all().at(key));
  return records;
}

// --- eval compare ---------------------------------------------------------------------------------------------------
// A model and a cache type.
struct Pairing {
  std::string name;
  runtime::ParsedOptions parsed;
};

std::string file_name(const std::string& path) { return path.substr(path.rfind('/') + 1); }

// By model, each with all cache types.
Result<std::vector<std::vector<Pairing>>> pairings_of(const Context& context) {
  const Options& options = context.options();
  std::vector<std::string> models = split(options.models);
  if (models.empty()) models.push_back(options.model);
  const std::vector<std::string> types = split(options.cache_types);
  if (models.size() * std::max<size_t>(types.size(), 1) < 2) {
    return make_error(Code::kInvalidArgument,
                      "eval compare: wanted at least two to compare: --models FILE,FILE or --cache-types TYPE,TYPE");
  }
  if (!options.compare.empty() || !options.png.empty() || context.parsed.is_given("threshold")) {
    return make_error(Code::kInvalidArgument, "eval compare: takes no --compare, --png or --threshold");
  }
  const runtime::CommandInfo& command = *runtime::find_command("eval");
  std::vector<std::vector<Pairing>> all;
  for (const std::string& model : models) {
    Pairing pairing{file_name(model), context.parsed};
    pairing.parsed.options.model = model;
    all.push_back({});
    if (types.empty()) all.back().push_back(pairing);
    for (const std::string& type : types) {
      Pairing typed = pairing;
      typed.name = models.size() > 1 ? format("{} {}", pairing.name, type) : type;
      LCRUN_TRY(runtime::change_option(command, "cache-type-k", type, typed.parsed.options));
      LCRUN_TRY(runtime::change_option(command, "cache-type-v", type, typed.parsed.options));
      all.back().push_back(std::move(typed));
    }
  }
  return all;
}

Status compare_command(Context& context, const EvalRequest& request) {
  const Options& options = context.options();
  LCRUN_ASSIGN(const auto models, pairings_of(context));
  LCRUN_ASSIGN(const auto source,
               runtime::read_eval_source(posix_file_system(), request, options.haystack, options.file));
  std::vector<runtime::EvalSetup> setups;
  for (const std::vector<Pairing>& pairings : models) {
    LCRUN_ASSIGN(const auto engine, open_engine({pairings.front().parsed, context.out}, false));
    LCRUN_ASSIGN(const auto evaluation, evaluation_of(context, engine, request, source));
    for (const Pairing& pairing : pairings) {
      const Context paired{pairing.parsed, context.out};
      Results results;
      if (!options.eval_out.empty()) {
        std::string path = format("{}.{}", options.eval_out, pairing.name);
        std::replace(path.begin(), path.end(), ' ', '.');
        LCRUN_ASSIGN(results.file,
                     runtime::EvalFile::open(posix_file_system(), path, identity_of(paired, engine, request, source)));
      }
      log(LogLevel::kInfo, "{}", pairing.name);
      const Variant variant{options.attention, pairing.parsed};
      LCRUN_TRY(run_variant(paired, variant, engine, evaluation, results));
      setups.push_back({pairing.name, records_of(evaluation, variant.name, results)});
    }
  }
  const auto rows = runtime::compare_setups(*request.task, setups);
  return context.out.write(options.json ? comparison_json(*request.task, rows) + "\n"
                                        : comparison_markdown(*request.task, rows));
}

}  // namespace

Status eval_command(Context& context) {
  const Options& options = context.options();
  LCRUN_ASSIGN(const auto request, request_of(context));
  if (options.positionals.size() == 2) {
    if (options.positionals.front() == "compare") return compare_command(context, request);
    return make_error(Code::kInvalidArgument,
                      "eval {}: found a second argument, wanted one task, or compare and a task",
                      options.positionals.front());
  }
  if (!options.models.empty() || !options.cache_types.empty()) {
    return make_error(Code::kInvalidArgument, "--models, --cache-types: wanted lcrun eval compare {}",
                      request.task->name);
  }
  LCRUN_ASSIGN(const auto variants, variants_of(context));
  LCRUN_ASSIGN(const auto source,
               runtime::read_eval_source(posix_file_system(), request, options.haystack, options.file));
  LCRUN_ASSIGN(const auto engine, open_engine(context, false));
  LCRUN_ASSIGN(const auto evaluation, evaluation_of(context, engine, request, source));
  const runtime::EvalIdentity identity = identity_of(context, engine, request, source);
  Results results;
  if (!options.eval_out.empty()) {
    LCRUN_ASSIGN(results.file, runtime::EvalFile::open(posix_file_system(), options.eval_out, identity));
  }
  std::vector<EvalRecord> records;
  for (const Variant& variant : variants) {
    LCRUN_TRY(run_variant(context, variant, engine, evaluation, results));
    for (EvalRecord& record : records_of(evaluation, variant.name, results)) records.push_back(std::move(record));
    if (!request.oracle) continue;
    const std::string oracle = runtime::oracle_of(variant.name);
    for (EvalRecord& record : records_of(evaluation, oracle, results)) records.push_back(std::move(record));
  }
  const auto rows = runtime::summarise(records);
  LCRUN_TRY(report(context, identity, *request.task, rows));
  return check_threshold(context, variants.front().name, rows);
}

}  // namespace lcrun::cli

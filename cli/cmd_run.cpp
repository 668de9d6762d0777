// lcrun run: one prompt to one reply, or a chat.
#include <cstdio>

#include "cli/chat.hpp"
#include "cli/command.hpp"
#include "cli/json_text.hpp"
#include "cli/session_store.hpp"
#include "cli/setup.hpp"
#include "cli/signals.hpp"
#include "src/base/format.hpp"
#include "src/base/log.hpp"
#include "src/kernels/ops.hpp"
#include "src/runtime/budget.hpp"
#include "src/runtime/generate.hpp"
#include "src/runtime/option_values.hpp"
#include "src/runtime/plugin_host.hpp"
#include "src/runtime/prompt.hpp"

namespace lcrun::cli {
namespace {

using runtime::Engine;
using runtime::Generated;
using runtime::Options;
using runtime::PromptLayout;
using runtime::PromptRequest;
using runtime::Session;

// What the prompt is made of; reads -f and, without any prompt and away from a terminal, standard input.
Result<PromptRequest> prompt_of(const Context& context) {
  const Options& options = context.options();
  PromptRequest request;
  const auto text = [&](const std::string& raw) { return options.escape ? runtime::process_escapes(raw) : raw; };
  request.question = text(options.prompt);
  request.system = text(options.system_prompt);
  request.answer_prefix = options.answer_prefix;
  const bool has_prompt = context.parsed.is_given("prompt");
  const bool has_file = context.parsed.is_given("file");
  if (has_file) {
    LCRUN_ASSIGN(request.text, read_input(options.file));
    if (request.text.empty() && !has_prompt) {
      return make_error(Code::kInvalidArgument, "-f {}: the text is empty", options.file);
    }
  } else if (!has_prompt) {
    LCRUN_ASSIGN(request.question, read_input("-"));
  }
  if (request.text.empty() && request.question.empty()) {
    return make_error(Code::kInvalidArgument, "the prompt is empty; give -p TEXT, -f FILE or text on standard input");
  }
  return request;
}

bool wants_chat(const Context& context) {
  const bool has_prompt = context.parsed.is_given("prompt") || context.parsed.is_given("file");
  const std::string& conversation = context.options().conversation;
  if (conversation == "off" || context.options().json) return false;
  if (!has_prompt) return conversation == "on" || (stdin_is_terminal() && stdout_is_terminal());
  // -cnv -p TEXT on a terminal: the prompt is the first turn.
  return conversation == "on" && !context.parsed.is_given("file") && stdin_is_terminal() && stdout_is_terminal() &&
         !context.options().single_turn;
}

// What the cache's disk has done.
Json io_json(const storage::PageStore* store) {
  if (store == nullptr) return {{"read_bytes", 0}, {"write_bytes", 0}, {"hit_ratio", 1.0}};
  const auto& stats = store->stats();
  const auto reads = static_cast<double>(stats.misses + stats.read_ahead);
  const auto uses = static_cast<double>(stats.hits + stats.misses);
  return {{"read_bytes", store->io_stats().bytes_read},
          {"write_bytes", store->io_stats().bytes_written},
          {"hit_ratio", uses > 0 ? std::max(0.0, 1.0 - reads / uses) : 1.0}};
}

Json json_of(const Generated& made, const Engine& engine, const Session& session, uint64_t seed) {
  const auto& timings = made.timings;
  const auto rounded = [](double value) {
    return static_cast<double>(static_cast<int64_t>(value * 1000 + 0.5)) / 1000;
  };
  int64_t blocks = 0;
  const auto last = static_cast<int64_t>(session.tokens().size());
  for (int64_t pos = timings.prompt_tokens; pos < last; ++pos) {
    blocks += runtime::blocks_read(engine.model->config(), pos);
  }
  const double decoded = static_cast<double>(std::max<int64_t>(1, timings.decoded_tokens));
  Json json;
  json["text"] = made.text;
  json["tokens"] = made.tokens;
  json["prompt_tokens"] = timings.prompt_tokens;
  json["cached_tokens"] = timings.cached_tokens;
  json["generated_tokens"] = made.tokens.size();
  json["stop_reason"] = runtime::stop_reason_name(made.stop);
  json["timings"] = {{"load_ms", rounded(engine.load_ms)},
                     {"prefill_ms", rounded(timings.prefill_ms)},
                     {"prefill_tps", rounded(timings.prefill_tps())},
                     {"decode_ms", rounded(timings.decode_ms)},
                     {"decode_tps", rounded(timings.decode_tps())}};
  const storage::PageStore* store = session.page_store();
  json["memory"] = {{"peak_rss_bytes", runtime::peak_memory_bytes()},
                    {"kv_ram_bytes", session.state_bytes()},
                    {"kv_disk_bytes", store == nullptr ? 0 : store->disk_bytes()}};
  json["io"] = io_json(store);
  json["attention"] = {{"policy", "dense"},
                       {"blocks_read_per_token", rounded(static_cast<double>(blocks) / decoded)},
                       {"selector_ms", 0.0}};
  json["seed"] = seed;
  json["isa"] = kernels::active_isa();
  json["threads"] = session.options().n_threads;
  return json;
}

void print_stats(const Generated& made, const Engine& engine, const Session& session) {
  const auto& timings = made.timings;
  std::fprintf(stderr, "load     %10.1f ms\n", engine.load_ms);
  std::fprintf(stderr, "prefill  %10.1f ms  %lld tokens (%lld cached)  %.1f tokens/s\n", timings.prefill_ms,
               static_cast<long long>(timings.prompt_tokens), static_cast<long long>(timings.cached_tokens),
               timings.prefill_tps());
  std::fprintf(stderr, "decode   %10.1f ms  %lld tokens  %.1f tokens/s\n", timings.decode_ms,
               static_cast<long long>(timings.decoded_tokens), timings.decode_tps());
  std::fprintf(
      stderr, "memory   peak %s, cache %s, weights %s, buffers %s\n",
      runtime::bytes_text(runtime::peak_memory_bytes()).c_str(), runtime::bytes_text(session.state_bytes()).c_str(),
      runtime::bytes_text(engine.model->weight_bytes()).c_str(), runtime::bytes_text(session.buffer_bytes()).c_str());
  if (const storage::PageStore* store = session.page_store(); store != nullptr) {
    std::fprintf(stderr, "disk     cache %s, read %s, written %s, lost and read again %lld tokens (%s)\n",
                 runtime::bytes_text(store->disk_bytes()).c_str(),
                 runtime::bytes_text(store->io_stats().bytes_read).c_str(),
                 runtime::bytes_text(store->io_stats().bytes_written).c_str(),
                 static_cast<long long>(session.recomputed_tokens()), store->device_name().c_str());
  }
  std::fprintf(stderr, "stopped  %s\n", runtime::stop_reason_name(made.stop));
}

Status load_plugin(const Options& options) {
  if (options.plugin.empty()) return {};
  LCRUN_ASSIGN(const auto plugin, runtime::Plugin::load(options.plugin));
  log(LogLevel::kWarn, "plugin {}: loaded, but this version runs every layer on the CPU", plugin.name());
  return {};
}

// Everything that makes a reply, apart from the prompt.
struct Run {
  Engine engine;
  PromptLayout layout;
  runtime::GenerateOptions generate;
  std::vector<std::string> pieces;
  uint64_t seed = 0;
};

Status prepare(const Context& context, Run& run) {
  const Options& options = context.options();
  LCRUN_ASSIGN(run.generate.grammar, runtime::grammar_of(options, posix_file_system()));
  LCRUN_TRY(load_plugin(options));
  LCRUN_ASSIGN(run.engine, open_engine(context, false));
  const std::string& source = options.chat_template.empty() ? run.engine.chat_template : options.chat_template;
  const bool use_chat = options.conversation == "on" || (options.conversation == "auto" && !source.empty());
  LCRUN_ASSIGN(run.layout, PromptLayout::create(run.engine.tokenizer, use_chat, source));
  if (run.generate.grammar) run.pieces = runtime::vocabulary_pieces(*run.engine.tokenizer);
  run.seed = runtime::choose_seed(options);
  run.generate.pieces = run.pieces;
  run.generate.n_predict = options.n_predict;
  run.generate.sampling = runtime::sampler_options(options, run.seed);
  run.generate.ignore_eos = options.ignore_eos;
  return {};
}

Status reply_once(const Context& context, Run& run, const PromptRequest& request) {
  const Options& options = context.options();
  run.generate.answer_prefix = request.answer_prefix;
  LCRUN_ASSIGN(const auto prompt, run.layout.single(request));
  const auto n_prompt = static_cast<int64_t>(prompt.size());
  LCRUN_ASSIGN(auto session, open_session(context, run.engine, 0, n_prompt + std::max<int64_t>(options.n_predict, 1)));
  const auto stream = [&](std::string_view piece) -> Status {
    if (options.json) return {};
    LCRUN_TRY(context.out.write(piece));
    return context.out.flush();
  };
  ProgressLine line("Reading", "tokens");
  const auto progress = [&](int64_t done, int64_t total) {
    line.update(done, total);
    if (done == total) line.clear();
    return !interrupted();
  };
  LCRUN_TRY(resume_session(context, session));
  const auto reply = runtime::generate(session, *run.engine.tokenizer, prompt, run.generate, stream, progress);
  line.clear();
  // What was read is kept also when the reply was stopped, or nobody took it.
  const Status kept = keep_session(context, session, {});
  LCRUN_ASSIGN(const auto made, reply);
  if (options.json) LCRUN_TRY(context.out.write(json_text(json_of(made, run.engine, session, run.seed)) + "\n"));
  // A pipe gets the text alone; a terminal's next prompt belongs on a line of its own.
  else if (stdout_is_terminal())
    LCRUN_TRY(context.out.write("\n"));
  if (options.stats) print_stats(made, run.engine, session);
  return kept;
}

}  // namespace

Status run_command(Context& context) {
  Run run;
  LCRUN_TRY(check_session_option(context));
  if (!wants_chat(context)) {
    const std::string& model = context.options().model;
    if (!model.empty() && !posix_file_system().exists(model)) {
      return make_error(Code::kBadModel, "{}: open failed: No such file or directory", model);
    }
    // Read before the model is: a mistake in the prompt shows at once.
    LCRUN_ASSIGN(const auto request, prompt_of(context));
    LCRUN_TRY(prepare(context, run));
    return reply_once(context, run, request);
  }
  LCRUN_TRY(prepare(context, run));
  run.generate.answer_prefix.clear();
  LCRUN_ASSIGN(auto session, open_session(context, run.engine, 0, 1));
  return chat({context, run.engine, run.layout, session, run.generate}, context.options().prompt);
}

}  // namespace lcrun::cli

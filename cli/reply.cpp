#include "cli/reply.hpp"

#include <algorithm>
#include <cstdio>

#include "cli/json_text.hpp"
#include "cli/setup.hpp"
#include "cli/signals.hpp"
#include "src/base/format.hpp"
#include "src/base/log.hpp"
#include "src/base/memory_budget.hpp"
#include "src/kernels/ops.hpp"
#include "src/runtime/budget.hpp"
#include "src/runtime/forecast.hpp"
#include "src/runtime/option_values.hpp"
#include "src/runtime/plugin_host.hpp"

namespace lcrun::cli {
namespace {

using runtime::Engine;
using runtime::Generated;
using runtime::Options;
using runtime::Session;

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

// Memory that the process holds now, by what it is for (src/base/memory_budget.hpp).
std::string held_text() {
  std::string text;
  for (uint32_t i = 0; i < kArenas; ++i) {
    const auto arena = static_cast<Arena>(i);
    const uint64_t bytes = MemoryBudget::process().used(arena);
    if (bytes > 0) text += format(", {} {}", arena_name(arena), runtime::bytes_text(bytes));
  }
  return text;
}

Json json_of(std::span<const runtime::Citation> citations) {
  Json list = Json::array();
  for (const runtime::Citation& citation : citations) {
    const runtime::TextPlace& place = citation.place;
    list.push_back({{"first_byte", place.first_byte},
                    {"last_byte", std::max(place.end_byte, place.first_byte + 1) - 1},
                    {"first_line", place.first_line},
                    {"last_line", place.last_line},
                    {"share", citation.share},
                    {"text", citation.text}});
  }
  return list;
}

// A decoded token's reading, on average.
struct TokenReads {
  double blocks = 0;
  double kv_bytes = 0;  // of them, from memory and from the disk
  double index_bytes = 0;
  double disk_bytes = 0;
  double selector_ms = 0;
  double hit_ratio = 1;

  TokenReads(const Generated& made, const Session& session) {
    const runtime::DecodeReads& reads = made.reads;
    const model::ModelConfig& config = session.model().config();
    const model::CacheOptions& cache = session.options().cache;
    blocks = static_cast<double>(reads.attention.blocks);
    kv_bytes = static_cast<double>(reads.attention.kv_bytes);
    // Dense queries are not counted one by one.
    const int64_t dense_until = cache.attention == nullptr ? INT64_MAX : cache.attention->dense_until;
    const auto first = made.timings.prompt_tokens;
    for (int64_t pos = first; pos < std::min(dense_until, first + made.timings.decoded_tokens); ++pos) {
      // Past the end of the context no more is read than at its end.
      const int64_t at = std::min(pos, session.options().n_ctx - 1);
      blocks += static_cast<double>(runtime::blocks_read(config, at));
      kv_bytes += static_cast<double>(runtime::cache_bytes_read(config, {cache.type_k, cache.type_v}, at));
    }
    const auto n = static_cast<double>(std::max<int64_t>(1, made.timings.decoded_tokens));
    blocks /= n;
    kv_bytes /= n;
    index_bytes = static_cast<double>(reads.attention.scanned_bytes) / n;
    disk_bytes = static_cast<double>(reads.disk_bytes) / n;
    selector_ms = reads.attention.selector_seconds * 1e3 / n;
    const auto pages = static_cast<double>(reads.page_hits + reads.page_misses);
    if (pages > 0) hit_ratio = static_cast<double>(reads.page_hits) / pages;
  }
};

double rounded(double value) { return static_cast<double>(static_cast<int64_t>(value * 1000 + 0.5)) / 1000; }

Json attention_json(const Generated& made, const Session& session, const attention::RecallMeter* recall) {
  const attention::Attention* attention = session.attention();
  const TokenReads reads(made, session);
  Json json = {{"policy", attention == nullptr ? "dense" : attention->name},
               {"blocks_read_per_token", rounded(reads.blocks)},
               {"selector_ms", rounded(reads.selector_ms)}};
  if (recall == nullptr) return json;  // no --stats
  json["kv_bytes_per_token"] = rounded(reads.kv_bytes);
  json["index_bytes_per_token"] = rounded(reads.index_bytes);
  json["disk_bytes_per_token"] = rounded(reads.disk_bytes);
  json["hit_ratio"] = rounded(reads.hit_ratio);
  json["recall"] = rounded(recall->mean());
  for (const auto& [layer, one] : recall->layers()) {
    json["recall_by_layer"].push_back(
        {{"layer", layer}, {"mean", rounded(one.mean())}, {"least", rounded(one.least)}, {"samples", one.samples}});
  }
  return json;
}

Json json_of(const Generated& made, const Engine& engine, const Session& session, uint64_t seed,
             const attention::RecallMeter* recall) {
  const auto& timings = made.timings;
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
  json["attention"] = attention_json(made, session, recall);
  json["seed"] = seed;
  json["isa"] = kernels::active_isa();
  json["threads"] = session.options().n_threads;
  return json;
}

std::string kib(double bytes) { return runtime::bytes_text(static_cast<uint64_t>(bytes)); }

void print_reads(const Generated& made, const Session& session, const attention::RecallMeter* recall) {
  const TokenReads reads(made, session);
  std::fprintf(stderr,
               "attended %.1f blocks a token: cache %s, index %s, of it from the disk %s (pages in memory %.1f %%)",
               reads.blocks, kib(reads.kv_bytes).c_str(), kib(reads.index_bytes).c_str(), kib(reads.disk_bytes).c_str(),
               100 * reads.hit_ratio);
  std::fprintf(stderr, "; choosing %.2f ms a token\n", reads.selector_ms);
  if (recall == nullptr) return;
  std::fprintf(stderr, "recall   %.1f %% of the attention, by layer", 100 * recall->mean());
  for (const auto& [layer, one] : recall->layers()) {
    std::fprintf(stderr, " %lld: %.0f", static_cast<long long>(layer), 100 * one.mean());
  }
  std::fputc('\n', stderr);
}

void print_stats(const Generated& made, const Engine& engine, const Session& session) {
  const auto& timings = made.timings;
  std::fprintf(stderr, "load     %10.1f ms\n", engine.load_ms);
  std::fprintf(stderr, "prefill  %10.1f ms  %lld tokens (%lld cached)  %.1f tokens/s\n", timings.prefill_ms,
               static_cast<long long>(timings.prompt_tokens), static_cast<long long>(timings.cached_tokens),
               timings.prefill_tps());
  std::fprintf(stderr, "decode   %10.1f ms  %lld tokens  %.1f tokens/s\n", timings.decode_ms,
               static_cast<long long>(timings.decoded_tokens), timings.decode_tps());
  std::fprintf(stderr, "memory   peak %s%s\n", runtime::bytes_text(runtime::peak_memory_bytes()).c_str(),
               held_text().c_str());
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

}  // namespace

Status prepare_run(const Context& context, Run& run) {
  const Options& options = context.options();
  LCRUN_ASSIGN(run.generate.grammar, runtime::grammar_of(options, posix_file_system()));
  LCRUN_TRY(load_plugin(options));
  LCRUN_ASSIGN(run.engine, open_engine(context, false));
  if (run.generate.grammar) run.pieces = runtime::vocabulary_pieces(*run.engine.tokenizer);
  run.seed = runtime::choose_seed(options);
  run.generate.pieces = run.pieces;
  run.generate.n_predict = options.n_predict;
  run.generate.sampling = runtime::sampler_options(options, run.seed);
  run.generate.ignore_eos = options.ignore_eos;
  run.generate.answer_prefix = options.answer_prefix;
  return {};
}

ChatChoice chat_choice(const Options& options, const Engine& engine) {
  const std::string& source = options.chat_template.empty() ? engine.chat_template : options.chat_template;
  return {options.conversation == "on" || (options.conversation == "auto" && !source.empty()), source};
}

Result<Generated> stream_reply(const Context& context, const Engine& engine, const runtime::GenerateOptions& generate,
                               Session& session, std::span<const runtime::Token> prompt) {
  const auto stream = [&](std::string_view piece) -> Status {
    if (context.options().json) return {};
    LCRUN_TRY(context.out.write(piece));
    return context.out.flush();
  };
  ProgressLine line("Reading", "tokens");
  const auto progress = [&](int64_t done, int64_t total) {
    line.update(done, total);
    if (done == total) line.clear();
    return !interrupted();
  };
  auto made = runtime::generate(session, *engine.tokenizer, prompt, generate, stream, progress);
  line.clear();
  return made;
}

bool wants_citations(const Context& context) { return context.options().json || context.options().stats; }

std::string citation_lines(std::span<const runtime::Citation> citations) {
  std::string text;
  for (const runtime::Citation& citation : citations) {
    const auto& [first_byte, end_byte, first, last] = citation.place;
    if (!text.empty()) text += ", ";
    text += first == last ? format("line {}", first) : format("lines {}-{}", first, last);
    text += format(" ({} %)", static_cast<int64_t>(citation.share * 100 + 0.5));
  }
  return text.empty() ? "nothing of the text" : text;
}

Status finish_reply(const Context& context, const Run& run, const Session& session, const Generated& made,
                    const ReplyExtras& extras) {
  const auto& citations = extras.citations;
  const auto& driver = extras.driver;
  const Options& options = context.options();
  if (options.json) {
    Json json = json_of(made, run.engine, session, run.seed, extras.recall);
    if (citations.has_value()) json["citations"] = json_of(*citations);
    if (!driver.name.empty()) {
      json["driver"] = {
          {"name", driver.name}, {"text_tokens", driver.text_tokens}, {"kept_tokens", driver.kept_tokens}};
    }
    LCRUN_TRY(context.out.write(json_text(json) + "\n"));
  } else if (stdout_is_terminal()) {
    // A pipe gets the text alone; a terminal's next prompt belongs on a line of its own.
    LCRUN_TRY(context.out.write("\n"));
  }
  if (options.stats) {
    print_stats(made, run.engine, session);
    print_reads(made, session, extras.recall);
    if (!driver.name.empty()) {
      std::fprintf(stderr, "driver   %.*s: %lld of %lld tokens kept\n", static_cast<int>(driver.name.size()),
                   driver.name.data(), static_cast<long long>(driver.kept_tokens),
                   static_cast<long long>(driver.text_tokens));
    }
    if (citations.has_value()) std::fprintf(stderr, "read     %s\n", citation_lines(*citations).c_str());
  }
  return {};
}

}  // namespace lcrun::cli

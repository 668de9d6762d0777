// lcrun calibrate: finds the layers that must look back, and writes them to a policy file.
//
// Pass keys and facts asked in other words are hidden in a text (src/runtime/eval_cases.hpp); what is measured and how
// layers are left out is src/runtime/calibrate.hpp. The file names the model by its fingerprint; beside the model,
// `--attention auto` takes it up.
#include <algorithm>
#include <cstdio>

#include "cli/command.hpp"
#include "cli/json_text.hpp"
#include "cli/reply.hpp"
#include "cli/setup.hpp"
#include "cli/signals.hpp"
#include "src/base/format.hpp"
#include "src/base/log.hpp"
#include "src/runtime/calibrate.hpp"
#include "src/runtime/evaluation.hpp"
#include "src/runtime/policy_file.hpp"

namespace lcrun::cli {
namespace {

using runtime::Calibration;
using runtime::EvalCase;
using runtime::EvalRequest;
using runtime::RoleScore;

constexpr int64_t kLength = 6000;  // tokens of a prompt
constexpr const char* kTasks[] = {"passkey", "needle"};
constexpr const char* kRowName = "calibrated";

int64_t length_of(const Context& context) {
  const auto& lengths = context.options().eval_lengths;
  return context.parsed.is_given("lengths") ? *std::max_element(lengths.begin(), lengths.end()) : kLength;
}

// Cases of both tasks, with sentences far before the window.
Result<std::vector<EvalCase>> make_cases(const Context& context, const runtime::Engine& engine,
                                         const runtime::PromptLayout& layout, int64_t first_seed) {
  std::vector<EvalCase> all;
  for (const char* task : kTasks) {
    EvalRequest request;
    request.task = runtime::find_eval_task(task);
    request.lengths = {length_of(context)};
    request.depths = {8, 35, 62};
    request.first_seed = first_seed;
    request.seeds = context.options().eval_seeds;
    const std::string& file = context.options().file;
    LCRUN_ASSIGN(const auto source,
                 runtime::read_eval_source(posix_file_system(), request, file.empty() ? "prose" : file, ""));
    LCRUN_ASSIGN(const auto haystack,
                 runtime::Haystack::create(*engine.tokenizer, source.text, file.empty() ? source.name : "-f " + file,
                                           request.longest()));
    LCRUN_ASSIGN(auto batches, runtime::hidden_cases(request, *engine.tokenizer, layout, haystack));
    for (EvalCase& made : batches.front().cases) all.push_back(std::move(made));
  }
  return all;
}

// As any session past the trained context, but from the first token on.
Result<runtime::Session> open_choosing(const Context& context, const runtime::Engine& engine, int64_t n_ctx) {
  runtime::ParsedOptions parsed = context.parsed;
  if (parsed.options.attention == "auto") parsed.options.attention = "select";
  if (parsed.options.policy_file.empty()) parsed.options.policy_file = "none";
  return open_session({parsed, context.out}, engine, {n_ctx, n_ctx});
}

double rounded(double value) { return static_cast<double>(static_cast<int64_t>(value * 10000 + 0.5)) / 10000; }

Json json_of(const RoleScore& score) {
  return {{"answer_nll", rounded(score.nll)},
          {"text_nll", rounded(score.text_nll)},
          {"right", score.right},
          {"cases", score.cases}};
}

Json json_of(const Context& context, const Calibration& found) {
  Json json = {{"length", length_of(context)},
               {"max_loss", context.options().max_loss},
               {"max_rise", context.options().max_rise},
               {"sets_tried", found.tried},
               {"all_layers", json_of(found.all)},
               {"kept_layers", json_of(found.kept)},
               {"with_shared_plans", json_of(found.shared)},
               {"held_out_all", json_of(found.held_out_all)},
               {"held_out_kept", json_of(found.held_out_kept)},
               {"come_back", found.come_back}};
  for (const auto& one : found.layers) {
    json["layers"].push_back({{"layer", one.layer},
                              {"needle_mass", rounded(one.mass)},
                              {"recall", rounded(one.recall)},
                              {"looks_back", one.looks_back},
                              {"plan_from", one.plan_from}});
  }
  return json;
}

std::string line_of(const char* name, const RoleScore& score) {
  char text[160];
  std::snprintf(text, sizeof(text), "%-32s %8lld of %-4lld %10.4f %10.4f\n", name, static_cast<long long>(score.right),
                static_cast<long long>(score.cases), score.nll, score.text_nll);
  return text;
}

std::string table_of(const Calibration& found) {
  std::string text = "layer   needle   recall   role\n";
  for (const auto& one : found.layers) {
    char line[120];
    std::snprintf(line, sizeof(line), "%5lld   %6.3f   %6.3f   ", static_cast<long long>(one.layer), one.mass,
                  one.recall);
    const std::string role = !one.looks_back              ? "sinks and window"
                             : one.plan_from != one.layer ? format("looks back with the blocks of {}", one.plan_from)
                                                          : std::string("looks back");
    text += line + role + "\n";
  }
  text += format("\n{}{}\n", std::string(36, ' '), "right        answer nll   text nll");
  text += line_of("all layers", found.all) + line_of("those that are left", found.kept);
  text += line_of("and with shared plans", found.shared) + line_of("other cases, all layers", found.held_out_all);
  text += line_of("other cases, as written", found.held_out_kept);
  return text + format("\nlook back: {}\n", found.roles.look_back);
}

Status write_table(const Context& context, const runtime::Engine& engine, const runtime::Session& session,
                   const Calibration& found, std::string& path) {
  const attention::Attention& used = *session.attention();
  attention::PolicyRows rows;
  rows.model = runtime::fingerprint_text(*engine.file);
  rows.auto_name = kRowName;
  attention::Policy row;
  row.name = kRowName;
  row.source = "lcrun calibrate";
  row.about = format("layers that look back, of {} that could", found.layers.size());
  row.read = used.read;
  row.ask = used.ask;
  row.layers = found.roles;
  rows.rows.push_back(std::move(row));
  const std::string text = runtime::policies_text(rows, json_text(json_of(context, found)));
  path = context.options().table.empty() ? runtime::policy_path_of(engine.file->path()) : context.options().table;
  return write_file_atomically(posix_file_system(), path, std::as_bytes(std::span(text)));
}

}  // namespace

Status calibrate_command(Context& context) {
  LCRUN_ASSIGN(const auto engine, open_engine(context, false));
  const auto [use_chat, chat_source] = chat_choice(context.options(), engine);
  LCRUN_ASSIGN(const auto layout, runtime::PromptLayout::create(engine.tokenizer, use_chat, chat_source));
  runtime::CalibrationRequest request;
  request.most_loss = context.options().max_loss;
  request.most_rise = context.options().max_rise;
  const int64_t seed = context.options().eval_first_seed;
  LCRUN_ASSIGN(request.cases, make_cases(context, engine, layout, seed));
  LCRUN_ASSIGN(request.held_out, make_cases(context, engine, layout, seed + context.options().eval_seeds));
  constexpr int64_t kAnswerTokens = 64;  // more than any answer has
  LCRUN_ASSIGN(auto session, open_choosing(context, engine, length_of(context) + kAnswerTokens));
  ProgressLine line("Calibrating", "sets");
  const auto progress = [&](int64_t done, const std::string& what) {
    line.update(done, std::max<int64_t>(done + 1, 100));
    log(LogLevel::kDebug, "{}: {}", done, what);
    return !interrupted();
  };
  auto found = runtime::calibrate(session, *engine.tokenizer, request, progress);
  line.clear();
  if (!found.has_value()) return found.error();
  std::string path;
  LCRUN_TRY(write_table(context, engine, session, *found, path));
  log(LogLevel::kInfo, "written to {}", path);
  if (context.options().json) return context.out.write(json_text(json_of(context, *found), 2) + "\n");
  return context.out.write(table_of(*found));
}

}  // namespace lcrun::cli

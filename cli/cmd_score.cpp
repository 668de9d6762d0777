// lcrun score, lcrun ppl: what the model thinks of a given text.
#include <cstdio>

#include "cli/command.hpp"
#include "cli/setup.hpp"
#include "cli/signals.hpp"
#include "src/base/format.hpp"
#include "src/kernels/ops.hpp"
#include "src/runtime/scoring.hpp"

namespace lcrun::cli {
namespace {

using runtime::Token;

void append_number(std::string& line, double value) {
  char text[40];
  std::snprintf(text, sizeof(text), "%.6f", value);
  line += text;
}

std::string score_line(int64_t pos, std::span<const Token> tokens, std::span<const float> logits, int64_t k,
                       std::vector<Token>& order) {
  const double lse = kernels::log_sum_exp(logits.data(), static_cast<int64_t>(logits.size()));
  const auto at = static_cast<size_t>(pos);
  std::string line = format("{\"pos\":{},\"token\":{},\"lse\":", pos, tokens[at]);
  append_number(line, lse);
  if (at + 1 < tokens.size()) {
    line += ",\"nll_next\":";
    append_number(line, lse - static_cast<double>(logits[static_cast<size_t>(tokens[at + 1])]));
  }
  line += ",\"top\":[";
  bool first = true;
  for (const auto& [id, logit] : runtime::top_logits(logits, k, order)) {
    line += first ? "[" : ",[";
    line += std::to_string(id);
    line += ',';
    append_number(line, static_cast<double>(logit));
    line += ']';
    first = false;
  }
  return line + "]}\n";
}

}  // namespace

Status score_command(Context& context) {
  const auto& options = context.options();
  LCRUN_ASSIGN(const std::string text, read_input("-"));
  LCRUN_ASSIGN(const auto engine, open_engine(context, false));
  const int64_t n_vocab = engine.model->config().n_vocab;
  if (options.top > n_vocab) {
    return make_error(Code::kInvalidArgument, "--top: found {}, wanted 0 to {}, the vocabulary", options.top, n_vocab);
  }
  const auto tokens = engine.tokenizer->encode(text, !options.no_bos, !options.no_parse_special);
  if (tokens.empty()) return make_error(Code::kInvalidArgument, "standard input: the text is empty");
  const auto n = static_cast<int64_t>(tokens.size());
  LCRUN_ASSIGN(auto session, open_session(context, engine, {n, n, 0, true}));
  std::vector<Token> order;
  const auto sink = [&](int64_t pos, std::span<const float> logits) {
    return context.out.write(score_line(pos, tokens, logits, options.top, order));
  };
  return session.score(tokens, n, sink, [](int64_t, int64_t) { return !interrupted(); });
}

Status ppl_command(Context& context) {
  const auto& options = context.options();
  if (options.file.empty()) return make_error(Code::kInvalidArgument, "-f: found nothing, wanted a text file");
  LCRUN_ASSIGN(const std::string text, read_input(options.file));
  LCRUN_ASSIGN(const auto engine, open_engine(context, false));
  const auto tokens = engine.tokenizer->encode(text, true, false);
  LCRUN_ASSIGN(auto session, open_session(context, engine, {options.window, options.window, 0, true}));
  const Token first = engine.tokenizer->adds_bos() ? engine.tokenizer->special().bos : -1;
  ProgressLine line("Scoring", "tokens");
  const auto progress = [&](int64_t done, int64_t total) {
    line.update(done, total);
    return !interrupted();
  };
  LCRUN_ASSIGN(const auto result, runtime::perplexity(session, tokens, options.window, first, progress));
  line.clear();
  char json[160];
  std::snprintf(json, sizeof(json), "{\"ctx\":%lld,\"scored\":%lld,\"nll\":%.6f,\"ppl\":%.6f}\n",
                static_cast<long long>(result.window), static_cast<long long>(result.scored), result.nll, result.ppl());
  return context.out.write(json);
}

}  // namespace lcrun::cli

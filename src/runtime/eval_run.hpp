// Runs the cases of an evaluation over a session.
//
// What is answered, and how the state of the session comes about, is the session's business: an evaluation sees prompts
// and replies. So every kind of attention, cache and model is measured by the same code.
// Thread rule: that of the Session.
#pragma once

#include <functional>
#include <set>
#include <span>

#include "src/base/result.hpp"
#include "src/runtime/eval_cases.hpp"
#include "src/runtime/eval_results.hpp"
#include "src/runtime/generate.hpp"
#include "src/runtime/session.hpp"
#include "src/text/tokenizer.hpp"

namespace lcrun::runtime {

// Takes a finished case; an error ends the evaluation with that error.
using EvalSink = std::function<Status(const EvalRecord& record)>;

// Answers the cases in their order, greedily; `attention` goes into the keys. Progress: tokens of all cases.
Status run_cases(Session& session, const text::Tokenizer& tokenizer, const EvalRequest& request,
                 std::span<const EvalCase> cases, const std::string& attention, const EvalSink& sink,
                 const ProgressCallback& progress = {});

// What a reply to a case is worth.
EvalRecord record_of(const EvalTask& task, const EvalCase& made, const Generated& reply, const std::string& attention);
GenerateOptions greedy_options(int64_t n_predict);

// Likelihood by position: the mean NLL of the last kLikelihoodTokens tokens before each length (all of them where the
// last length is nearer), in one reading of a text. One record a length, with the scores nll and ppl.
constexpr int64_t kLikelihoodTokens = 1024;
struct LikelihoodRequest {
  std::vector<int64_t> lengths;  // ascending
  std::string attention;
  int64_t seed = 1;
};
Status run_likelihood(Session& session, std::span<const Token> tokens, const LikelihoodRequest& request,
                      const EvalSink& sink, const ProgressCallback& progress = {});

// The text of one seed, from 1: BOS where the model wants it, and the haystack from a place on that the seed decides
// (its start for seed 1, the beginning of a line for others).
std::vector<Token> likelihood_text(const text::Tokenizer& tokenizer, const Haystack& haystack, int64_t n_tokens,
                                   int64_t seed);
// Tokens that the haystack needs.
int64_t likelihood_tokens(int64_t longest, int64_t last_seed);

}  // namespace lcrun::runtime

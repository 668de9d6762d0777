// Cases of an evaluation whose texts a driver arranges.
//
// Thread rule: that of the sessions.
#pragma once

#include "src/runtime/driver.hpp"
#include "src/runtime/eval_run.hpp"

namespace lcrun::runtime {

// As run_cases(). Another score says which part of the text was kept: 1 / `kept` is the compression.
Status run_driven_cases(const SessionOpener& open, const text::Tokenizer& tokenizer, const PromptLayout& layout,
                        const EvalRequest& request, std::span<const EvalCase> cases, const std::string& attention,
                        const EvalSink& sink, const ProgressCallback& progress = {});

}  // namespace lcrun::runtime

// Which heads of a model find things in a text, and how far up the network they sit.
//
// A few heads in the middle of a network attend from a question to its answer, whatever the text (retrieval heads: Wu
// et al., arXiv 2404.15574, section 2); the last layer, which InfiniRetri looks at, is rarely among them. They are
// found here by a test: facts of our own in generated prose, a question about each, and which heads attend to the right
// fact rather than to the others. What is above the highest of them need not be computed to know where to look.
// Cost: one reading of some 900 tokens. Thread rule: that of the session.
#pragma once

#include <string>
#include <vector>

#include "src/attention/probe.hpp"
#include "src/runtime/prompt.hpp"
#include "src/runtime/session.hpp"

namespace lcrun::runtime {

struct RetrievalHeads {
  std::vector<attention::WatchedHead> heads;  // each with a slot of its own
  std::vector<float> weights;                 // by slot, of sum 1
};

// Of layers that see everything; empty where there are none. The session has room for kHeadTestTokens tokens beside the
// frame of prompts, and is empty afterwards.
constexpr int64_t kHeadTestTokens = 1536;
Result<RetrievalHeads> find_retrieval_heads(Session& session, const text::Tokenizer& tokenizer,
                                            const PromptLayout& layout, const std::string& system);

// Weighted attention that tokens [first, end) got.
std::vector<float> attention_of(const RetrievalHeads& heads, const attention::AttnProbe& probe, int64_t first,
                                int64_t end);

}  // namespace lcrun::runtime

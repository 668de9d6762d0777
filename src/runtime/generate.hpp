// Generation: a prompt in, pieces of text out, until a stop rule holds.
//
// Greedy and seeded sampling are reproducible: the same tokens for any number of threads and any batch size. Text
// goes out in whole code points. Thread rule: that of the Session.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "src/base/result.hpp"
#include "src/runtime/sampler.hpp"
#include "src/runtime/session.hpp"
#include "src/text/grammar.hpp"
#include "src/text/tokenizer.hpp"

namespace lcrun::runtime {

enum class StopReason : uint8_t { kEnd, kLength, kContext, kMemory, kInterrupted, kGrammar };
// "eos", "length", "context", "memory", "interrupted", "grammar": part of run --json.
const char* stop_reason_name(StopReason reason);

// Takes finished text; an error ends generation with that error.
using TextSink = std::function<Status(std::string_view text)>;

struct GenerateOptions {
  int64_t n_predict = -1;  // -1: until another rule holds, at the end of the context at the latest; a number goes on
                           // past it with the first and the latest tokens (Session::AtEnd)
  SamplerOptions sampling;
  std::shared_ptr<const text::Grammar> grammar;  // null: unconstrained
  std::span<const std::string> pieces;           // vocabulary_pieces(), for the grammar; must outlive the call
  bool ignore_eos = false;
  bool show_special = false;             // control tokens as text
  std::string answer_prefix;             // already part of the prompt; the text begins with it
  int64_t ask_from = Session::kAskTail;  // where the prompt's question begins (Session::sync)
};

struct Timings {
  double prefill_ms = 0;
  double decode_ms = 0;
  int64_t prompt_tokens = 0;   // in all
  int64_t cached_tokens = 0;   // of them, found already read
  int64_t decoded_tokens = 0;  // decode() calls

  double prefill_tps() const;
  double decode_tps() const;
};

// What decoding has read, the prompt left out.
struct DecodeReads {
  attention::AttentionStats attention;  // of queries that were not dense
  uint64_t disk_bytes = 0;
  uint64_t page_hits = 0;  // pages wanted that were in memory
  uint64_t page_misses = 0;
};

struct Generated {
  std::string text;           // answer prefix included
  std::vector<Token> tokens;  // sampled ids, the end token left out
  StopReason stop = StopReason::kEnd;
  Timings timings;
  DecodeReads reads;
};

// Reads `prompt` into the session (what it has of it is kept) and generates. An interrupted reply is a result
// (kInterrupted with the text so far); an interrupted prompt is kCancelled.
Result<Generated> generate(Session& session, const text::Tokenizer& tokenizer, std::span<const Token> prompt,
                           const GenerateOptions& options, const TextSink& sink, const ProgressCallback& progress = {});

}  // namespace lcrun::runtime

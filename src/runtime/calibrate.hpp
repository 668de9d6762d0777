// Calibration: which layers of a model must look back, measured on a text.
//
// Sentences are hidden in the text, far outside the window; each layer of the session's policy looks back at first. The
// keys and values of a text that is streamed do not depend on who looks back later: a case is read once, and its
// question is asked again and again with other roles for the layers.
//   1 sort    layers by the attention that their best head pays to the hidden sentence (the last question token and
//             the answer)
//   2 remove  groups of layers, those with least attention first, halving what cannot go; then layer by layer, the one
//             that is missed least, until the next would cost more than is allowed. (LongCat's layer-wise search, Zhang
//             et al., arXiv 2512.23966, section 2, without training; measured in place of learned)
//   3 share   layers that are left take over the blocks of the one before, where that costs no more (Shared Attention)
//   4 check   on cases of other seeds; layers come back, those with most attention first, until as many answers are
//             right as with all layers
// The cost of a set of layers is how much less likely the right answers get (mean NLL of their tokens), that no answer
// which was right becomes wrong, and how much less likely ordinary text gets.
// Thread rule: that of the session.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "src/attention/policy.hpp"
#include "src/runtime/eval_cases.hpp"
#include "src/runtime/session.hpp"

namespace lcrun::runtime {

struct CalibrationRequest {
  std::vector<EvalCase> cases;     // to search with
  std::vector<EvalCase> held_out;  // to check with
  double most_loss = 0.05;         // nats a token of an answer, on average
  double most_rise = 1.0;          // per cent of the NLL of ordinary text
  bool share = true;
};

// How a set of layers does.
struct RoleScore {
  double nll = 0;       // mean of the answers' tokens
  double text_nll = 0;  // mean of ordinary text, asked
  int64_t right = 0;    // answers all of whose tokens are the likeliest
  int64_t cases = 0;
};

struct LayerFinding {
  int64_t layer = 0;
  double mass = 0;    // attention of its best head to the hidden sentence
  double recall = 0;  // of what its choice would have to hold (RecallMeter), with all layers
  bool looks_back = false;
  int64_t plan_from = 0;  // itself where it chooses
};

struct Calibration {
  std::vector<LayerFinding> layers;  // that see everything
  attention::LayerRoles roles;
  RoleScore all, kept, shared;            // on the cases of the search
  RoleScore held_out_all, held_out_kept;  // on the others, at the end
  int64_t tried = 0;                      // sets of layers
  int64_t come_back = 0;                  // layers that the check brought back
};

// Sets tried so far; false cancels.
using CalibrationProgress = std::function<bool(int64_t done, const std::string& what)>;

// The session was opened with a policy that chooses from the first token on, with an index in every layer that sees
// everything. kInvalidArgument: it is another one; kUnsupported: the model answers (nearly) no case even with all.
Result<Calibration> calibrate(Session& session, const text::Tokenizer& tokenizer, const CalibrationRequest& request,
                              const CalibrationProgress& progress);

// "5,11,17-20".
std::string layers_text(std::span<const int64_t> layers);

}  // namespace lcrun::runtime

// Exit codes: the one place that knows them. The contract is docs/options.md and `lcrun --help`.
#pragma once

#include "src/base/result.hpp"

namespace lcrun::cli {

enum ExitCode : int {
  kExitOk = 0,
  kExitInternal = 1,
  kExitUsage = 2,
  kExitModel = 3,
  kExitMemory = 4,
  kExitStorage = 5,
  kExitSession = 6,
  kExitUnsupported = 7,
  kExitThreshold = 8,
  kExitInterrupted = 130,
};

constexpr ExitCode exit_code(Code code) {
  switch (code) {
    case Code::kInvalidArgument:
      return kExitUsage;
    case Code::kBadModel:
      return kExitModel;
    case Code::kBadSession:
      return kExitSession;
    case Code::kUnsupported:
      return kExitUnsupported;
    case Code::kIo:
      return kExitStorage;
    case Code::kNoSpace:
      return kExitStorage;
    case Code::kNoMemory:
      return kExitMemory;
    case Code::kCancelled:
      return kExitInterrupted;
    case Code::kNotFound:
      return kExitStorage;  // a text file; missing models and sessions have their own codes
    case Code::kInternal:
      return kExitInternal;
    case Code::kBelowThreshold:
      return kExitThreshold;
  }
  return kExitInternal;
}

}  // namespace lcrun::cli

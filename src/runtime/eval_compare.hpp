// What one evaluation says of several setups (models, cache types): the first is the reference, the others are compared
// with it case by case.
//
// Scores: a setup breaks at a length if it loses cases that the reference gets right more often than it wins others,
// beyond chance (one-sided sign test, 5 %). Likelihood: if its NLL is more than 1 % above the reference's.
// Thread rule: pure functions.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "src/runtime/eval_results.hpp"

namespace lcrun::runtime {

struct EvalSetup {
  std::string name;
  std::vector<EvalRecord> records;
};

struct EvalComparison {
  std::string setup;
  int64_t length = 0;
  int64_t cases = 0;
  double score = 0;  // mean of the first score
  double reference = 0;
  int64_t lost = 0;  // cases that only the reference gets right
  int64_t won = 0;   // cases that only this setup gets right
  bool breaks = false;
};

// For each setup, by length. All setups have records of the same keys.
std::vector<EvalComparison> compare_setups(const EvalTask& task, std::span<const EvalSetup> setups);

// Chance of at least `lost` of lost + won, if both were as likely.
double sign_test(int64_t lost, int64_t won);

std::string comparison_markdown(const EvalTask& task, std::span<const EvalComparison> rows);
std::string comparison_json(const EvalTask& task, std::span<const EvalComparison> rows);

}  // namespace lcrun::runtime

// What an evaluation has found: means over cases, as a table for people, as JSON, and for plots.
// Thread rule: pure functions.
#pragma once

#include <map>
#include <span>
#include <string>
#include <vector>

#include "src/runtime/eval_results.hpp"

namespace lcrun::runtime {

// Sums over some cases.
struct EvalCell {
  int64_t cases = 0;
  std::vector<double> sums;  // of each score

  void add(const EvalRecord& record);
  double mean(size_t score) const { return cases > 0 ? sums[score] / static_cast<double>(cases) : 0; }
};

// All cases of one kind of attention and one length (qa: of all lengths).
struct EvalRow {
  std::string attention;
  int64_t length = 0;
  std::vector<std::string> scores;  // names
  EvalCell all;
  std::map<int64_t, EvalCell> by_depth;  // empty for tasks without depth
  double prompt_tokens = 0;              // mean
  double prefill_tps = 0;                // tokens that were read, not those kept from earlier cases
};

// Rows by attention, in the order of their first record, and by length.
std::vector<EvalRow> summarise(std::span<const EvalRecord> records);

// The rows of all lengths of one kind of attention, as depth -> mean of the first score: the position bias curve.
std::map<int64_t, double> position_bias(std::span<const EvalRow> rows, const std::string& attention);
// Kinds of attention in the order of the rows.
std::vector<std::string> attentions_of(std::span<const EvalRow> rows);

// Rows of cells with equal widths, for terminals and for Markdown alike; the first column is text, others are numbers.
std::string markdown_table(const std::vector<std::vector<std::string>>& rows);
// "4k", "128k", "1M", "1500": lengths as people write them.
std::string length_text(int64_t tokens);

// Tables in Markdown, and one line of JSON.
std::string report_markdown(const EvalTask& task, std::span<const EvalRow> rows);
std::string report_json(const EvalIdentity& identity, const EvalTask& task, std::span<const EvalRow> rows);

}  // namespace lcrun::runtime

#include "src/runtime/eval_compare.hpp"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <map>
#include <nlohmann/json.hpp>

#include "src/base/format.hpp"
#include "src/runtime/eval_report.hpp"

namespace lcrun::runtime {
namespace {

using Json = nlohmann::ordered_json;

constexpr double kChance = 0.05;
constexpr double kMostNllRise = 0.01;

std::string fixed(double value, int digits) {
  char text[40];
  std::snprintf(text, sizeof(text), "%.*f", digits, value);
  return text;
}

double first_score(const EvalRecord& record) { return record.scores.front().second; }

// The lengths at which a setup breaks, in words; "" if there is none.
std::string breaking_lengths(std::span<const EvalComparison> rows, const std::string& setup) {
  std::string lengths;
  for (const EvalComparison& row : rows) {
    if (row.setup != setup || !row.breaks) continue;
    lengths += (lengths.empty() ? "" : ", ") + (row.length > 0 ? length_text(row.length) : std::string("all texts"));
  }
  return lengths;
}

std::vector<std::string> setups_of(std::span<const EvalComparison> rows) {
  std::vector<std::string> names;
  for (const EvalComparison& row : rows) {
    if (std::find(names.begin(), names.end(), row.setup) == names.end()) names.push_back(row.setup);
  }
  return names;
}

}  // namespace

double sign_test(int64_t lost, int64_t won) {
  const int64_t n = lost + won;
  double chance = 0;
  for (int64_t k = lost; k <= n; ++k) {
    const auto real = [](int64_t value) { return static_cast<double>(value); };
    chance += std::exp(std::lgamma(real(n + 1)) - std::lgamma(real(k + 1)) - std::lgamma(real(n - k + 1)) -
                       real(n) * std::log(2.0));
  }
  return std::min(1.0, chance);
}

std::vector<EvalComparison> compare_setups(const EvalTask& task, std::span<const EvalSetup> setups) {
  std::map<EvalKey, double> reference;
  for (const EvalRecord& record : setups.front().records) reference[record.key] = first_score(record);
  std::vector<EvalComparison> rows;
  for (const EvalSetup& setup : setups) {
    std::map<int64_t, EvalComparison> by_length;
    for (const EvalRecord& record : setup.records) {
      const double score = first_score(record);
      const double other = reference.at(record.key);
      EvalComparison& row = by_length[record.key.length];
      ++row.cases;
      row.score += score;
      row.reference += other;
      row.lost += other > score ? 1 : 0;
      row.won += other < score ? 1 : 0;
    }
    for (auto& [length, row] : by_length) {
      row.setup = setup.name;
      row.length = length;
      row.score /= static_cast<double>(row.cases);
      row.reference /= static_cast<double>(row.cases);
      row.breaks = task.kind == EvalKind::kLikelihood ? row.score > row.reference * (1 + kMostNllRise)
                                                      : row.lost > row.won && sign_test(row.lost, row.won) < kChance;
      rows.push_back(row);
    }
  }
  return rows;
}

std::string comparison_markdown(const EvalTask& task, std::span<const EvalComparison> rows) {
  const bool is_share = task.kind != EvalKind::kLikelihood;
  std::vector<std::vector<std::string>> cells = {{"setup", "tokens", "cases", is_share ? "score" : "nll", "change"}};
  if (is_share) cells[0].insert(cells[0].end(), {"lost", "won"});
  cells[0].emplace_back("");
  for (const EvalComparison& row : rows) {
    const double change = is_share ? row.score - row.reference : row.score / row.reference - 1;
    std::vector<std::string> line = {row.setup, row.length > 0 ? length_text(row.length) : "",
                                     std::to_string(row.cases),
                                     is_share ? fixed(row.score * 100, 0) + " %" : fixed(row.score, 4),
                                     format("{}{} %", change >= 0 ? "+" : "", fixed(change * 100, is_share ? 0 : 2))};
    if (is_share) line.insert(line.end(), {std::to_string(row.lost), std::to_string(row.won)});
    line.emplace_back(row.breaks ? "breaks" : "");
    cells.push_back(std::move(line));
  }
  std::string text = markdown_table(cells);
  text += '\n';
  for (const std::string& setup : setups_of(rows)) {
    const std::string lengths = breaking_lengths(rows, setup);
    if (!lengths.empty()) text += format("{} breaks {} at {}\n", setup, task.name, lengths);
  }
  if (text.back() == '\n' && text[text.size() - 2] == '\n') text += "no setup breaks\n";
  return text;
}

std::string comparison_json(const EvalTask& task, std::span<const EvalComparison> rows) {
  Json json;
  json["task"] = task.name;
  json["rows"] = Json::array();
  for (const EvalComparison& row : rows) {
    json["rows"].push_back({{"setup", row.setup},
                            {"length", row.length},
                            {"cases", row.cases},
                            {"score", row.score},
                            {"reference", row.reference},
                            {"lost", row.lost},
                            {"won", row.won},
                            {"breaks", row.breaks}});
  }
  return json.dump(-1, ' ', false, Json::error_handler_t::replace);
}

}  // namespace lcrun::runtime

#include "src/runtime/eval_report.hpp"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <nlohmann/json.hpp>

#include "src/base/format.hpp"
#include "src/runtime/eval_score.hpp"

namespace lcrun::runtime {
namespace {

using Json = nlohmann::ordered_json;

std::string fixed(double value, int digits) {
  char text[40];
  std::snprintf(text, sizeof(text), "%.*f", digits, value);
  return text;
}

std::string per_cent(double share) { return fixed(share * 100, 0) + " %"; }

std::string length_cell(const EvalTask& task, const EvalRow& row) {
  return task.kind == EvalKind::kQuestions ? format("{} (mean)", static_cast<int64_t>(std::lround(row.prompt_tokens)))
                                           : length_text(row.length);
}

std::string main_table(const EvalTask& task, std::span<const EvalRow> rows) {
  const bool is_share = task.kind != EvalKind::kLikelihood;
  std::vector<std::vector<std::string>> cells = {{"attention", "tokens", "cases"}};
  for (const std::string& name : rows.front().scores) {
    cells[0].push_back(name);
    if (is_share && cells[0].size() == 4) cells[0].emplace_back("at least");
  }
  cells[0].emplace_back("read/s");
  for (const EvalRow& row : rows) {
    std::vector<std::string> line = {row.attention, length_cell(task, row), std::to_string(row.all.cases)};
    for (size_t i = 0; i < row.scores.size(); ++i) {
      line.push_back(is_share ? per_cent(row.all.mean(i)) : fixed(row.all.mean(i), 4));
      if (is_share && i == 0) line.push_back(per_cent(wilson_lower_bound(row.all.sums[0], row.all.cases)));
    }
    line.push_back(fixed(row.prefill_tps, 0));
    cells.push_back(std::move(line));
  }
  return markdown_table(cells);
}

std::string depth_table(std::span<const EvalRow> rows) {
  std::map<int64_t, bool> depths;
  for (const EvalRow& row : rows) {
    for (const auto& [depth, cell] : row.by_depth) depths[depth] = true;
  }
  std::vector<std::vector<std::string>> cells = {{"attention", "tokens"}};
  for (const auto& [depth, used] : depths) cells[0].push_back(std::to_string(depth) + " %");
  for (const EvalRow& row : rows) {
    std::vector<std::string> line = {row.attention, length_text(row.length)};
    for (const auto& [depth, used] : depths) {
      const auto at = row.by_depth.find(depth);
      line.push_back(at == row.by_depth.end() ? "" : fixed(at->second.mean(0) * 100, 0));
    }
    cells.push_back(std::move(line));
  }
  return markdown_table(cells);
}

Json json_of(const EvalCell& cell, const std::vector<std::string>& names) {
  Json json;
  json["cases"] = cell.cases;
  for (size_t i = 0; i < names.size(); ++i) json["scores"][names[i]] = cell.mean(i);
  return json;
}

}  // namespace

void EvalCell::add(const EvalRecord& record) {
  ++cases;
  if (sums.size() < record.scores.size()) sums.resize(record.scores.size());
  for (size_t i = 0; i < record.scores.size(); ++i) sums[i] += record.scores[i].second;
}

std::vector<EvalRow> summarise(std::span<const EvalRecord> records) {
  std::vector<EvalRow> rows;
  std::vector<double> read_ms;
  std::vector<double> read_tokens;
  for (const EvalRecord& record : records) {
    const auto is_mine = [&](const EvalRow& row) {
      return row.attention == record.key.attention && row.length == record.key.length;
    };
    auto at = static_cast<size_t>(std::find_if(rows.begin(), rows.end(), is_mine) - rows.begin());
    if (at == rows.size()) {
      rows.push_back({record.key.attention, record.key.length, {}, {}, {}, 0, 0});
      for (const auto& [name, value] : record.scores) rows.back().scores.push_back(name);
      read_ms.push_back(0);
      read_tokens.push_back(0);
    }
    rows[at].all.add(record);
    if (record.key.depth >= 0) rows[at].by_depth[record.key.depth].add(record);
    rows[at].prompt_tokens += static_cast<double>(record.prompt_tokens);
    read_ms[at] += record.prefill_ms;
    read_tokens[at] += static_cast<double>(record.prompt_tokens - record.cached_tokens);
  }
  for (size_t i = 0; i < rows.size(); ++i) {
    rows[i].prompt_tokens /= static_cast<double>(rows[i].all.cases);
    rows[i].prefill_tps = read_ms[i] > 0 ? read_tokens[i] * 1e3 / read_ms[i] : 0;
  }
  const std::vector<std::string> order = attentions_of(rows);
  const auto rank = [&](const EvalRow& row) { return std::find(order.begin(), order.end(), row.attention); };
  std::stable_sort(rows.begin(), rows.end(), [&](const EvalRow& a, const EvalRow& b) {
    return rank(a) != rank(b) ? rank(a) < rank(b) : a.length < b.length;
  });
  return rows;
}

std::vector<std::string> attentions_of(std::span<const EvalRow> rows) {
  std::vector<std::string> names;
  for (const EvalRow& row : rows) {
    if (std::find(names.begin(), names.end(), row.attention) == names.end()) names.push_back(row.attention);
  }
  return names;
}

std::map<int64_t, double> position_bias(std::span<const EvalRow> rows, const std::string& attention) {
  std::map<int64_t, EvalCell> cells;
  for (const EvalRow& row : rows) {
    if (row.attention != attention) continue;
    for (const auto& [depth, cell] : row.by_depth) {
      EvalCell& sum = cells[depth];
      sum.cases += cell.cases;
      sum.sums.resize(1);
      sum.sums[0] += cell.sums[0];
    }
  }
  std::map<int64_t, double> bias;
  for (const auto& [depth, cell] : cells) bias[depth] = cell.mean(0);
  return bias;
}

std::string markdown_table(const std::vector<std::vector<std::string>>& rows) {
  std::vector<size_t> widths(rows.front().size(), 3);
  for (const auto& row : rows) {
    for (size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], row[i].size());
  }
  std::string text;
  for (size_t r = 0; r < rows.size(); ++r) {
    for (size_t i = 0; i < widths.size(); ++i) {
      const std::string padding(widths[i] - rows[r][i].size(), ' ');
      text += i == 0 ? format("| {}{} ", rows[r][i], padding) : format("| {}{} ", padding, rows[r][i]);
    }
    text += "|\n";
    if (r > 0) continue;
    for (size_t i = 0; i < widths.size(); ++i) {
      text += format("|{}{}", std::string(widths[i] + 1, '-'), i == 0 ? '-' : ':');
    }
    text += "|\n";
  }
  return text;
}

std::string length_text(int64_t tokens) {
  if (tokens >= 1000000 && tokens % 1000000 == 0) return std::to_string(tokens / 1000000) + "M";
  if (tokens >= 1000 && tokens % 1000 == 0) return std::to_string(tokens / 1000) + "k";
  return std::to_string(tokens);
}

std::string report_markdown(const EvalTask& task, std::span<const EvalRow> rows) {
  if (rows.empty()) return "";
  std::string text = main_table(task, rows);
  if (task.has_depth) text += format("\n{}, per cent by depth:\n\n{}", rows.front().scores.front(), depth_table(rows));
  return text;
}

std::string report_json(const EvalIdentity& identity, const EvalTask& task, std::span<const EvalRow> rows) {
  Json json;
  json["task"] = identity.task;
  json["model"] = identity.model;
  json["haystack"] = identity.haystack;
  json["options"] = Json::object();
  for (const auto& [name, value] : identity.options) json["options"][name] = value;
  json["rows"] = Json::array();
  for (const EvalRow& row : rows) {
    Json one;
    one["attention"] = row.attention;
    one["length"] = row.length;
    one["prompt_tokens"] = row.prompt_tokens;
    one.update(json_of(row.all, row.scores));
    if (task.kind != EvalKind::kLikelihood) one["at_least"] = wilson_lower_bound(row.all.sums[0], row.all.cases);
    one["prefill_tps"] = row.prefill_tps;
    for (const auto& [depth, cell] : row.by_depth) {
      Json at_depth = {{"depth", depth}};
      at_depth.update(json_of(cell, row.scores));
      one["depths"].push_back(std::move(at_depth));
    }
    json["rows"].push_back(std::move(one));
  }
  for (const std::string& attention : attentions_of(rows)) {
    for (const auto& [depth, score] : position_bias(rows, attention)) {
      json["position_bias"][attention].push_back({{"depth", depth}, {"score", score}});
    }
  }
  return json.dump(-1, ' ', false, Json::error_handler_t::replace);
}

}  // namespace lcrun::runtime

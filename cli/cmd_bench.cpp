// lcrun bench: llama-bench's tables, column for column, with the limit of the machine beside them.
#include <cmath>
#include <cstdio>

#include "cli/command.hpp"
#include "cli/json_text.hpp"
#include "cli/setup.hpp"
#include "cli/signals.hpp"
#include "cli/version.hpp"
#include "quant/format.hpp"
#include "src/base/cpu.hpp"
#include "src/base/format.hpp"
#include "src/base/log.hpp"
#include "src/kernels/ops.hpp"
#include "src/runtime/bench.hpp"
#include "src/runtime/budget.hpp"
#include "src/runtime/option_values.hpp"

namespace lcrun::cli {
namespace {

using runtime::BenchResult;
using runtime::Session;

// What is the same in every row.
struct Machine {
  std::string model_type;
  uint64_t model_bytes = 0;
  uint64_t parameters = 0;
  double stream_gbs = 0;
};

Machine machine_of(const runtime::Engine& engine, double bandwidth) {
  Machine machine;
  const auto& meta = engine.file->meta();
  const auto label = meta.get_string("general.size_label");
  std::string types;
  uint64_t most = 0;
  std::vector<std::pair<DType, uint64_t>> bytes_by_type;
  for (const auto& tensor : engine.file->tensors()) {
    machine.model_bytes += tensor.view.size_bytes;
    machine.parameters += static_cast<uint64_t>(tensor.view.n_elements());
    auto at = std::find_if(bytes_by_type.begin(), bytes_by_type.end(),
                           [&](const auto& item) { return item.first == tensor.view.dtype; });
    if (at == bytes_by_type.end()) at = bytes_by_type.insert(bytes_by_type.end(), {tensor.view.dtype, 0});
    at->second += tensor.view.size_bytes;
    if (at->second > most) {
      most = at->second;
      types = quant::type_name(at->first);
    }
  }
  machine.model_type = format("{} {} {}", engine.model->config().arch,
                              label.has_value() ? std::string(*label) : std::string("?"), types);
  machine.stream_gbs = bandwidth / 1e9;
  return machine;
}

// Field names are llama-bench's; the last ones are ours.
Json row_of(const BenchResult& result, const Machine& machine, const Session& session, const Context& context) {
  const auto& options = session.options();
  const auto rates = result.samples_ts();
  Json row;
  row["build_commit"] = build_commit();
  row["build_number"] = 0;
  row["cpu_info"] = cpu_model_name();
  row["gpu_info"] = "";
  row["backends"] = "CPU";
  row["model_filename"] = session.model().file().path();
  row["model_type"] = machine.model_type;
  row["model_size"] = machine.model_bytes;
  row["model_n_params"] = machine.parameters;
  row["n_batch"] = context.options().batch_size;
  row["n_ubatch"] = context.options().ubatch_size;
  row["n_threads"] = options.n_threads;
  row["type_k"] = context.options().type_k;
  row["type_v"] = context.options().type_v;
  row["n_gpu_layers"] = 0;
  row["flash_attn"] = 1;
  row["load_mode"] = context.options().load_mode;
  row["n_prompt"] = result.bench_case.n_prompt;
  row["n_gen"] = result.bench_case.n_gen;
  row["n_depth"] = result.bench_case.n_depth;
  row["test_time"] = result.test_time;
  row["avg_ns"] = std::llround(runtime::mean_of(result.samples_ns));
  row["stddev_ns"] = std::llround(runtime::stddev_of(result.samples_ns));
  row["avg_ts"] = runtime::mean_of(rates);
  row["stddev_ts"] = runtime::stddev_of(rates);
  row["samples_ns"] = Json::array();
  for (const double ns : result.samples_ns) row["samples_ns"].push_back(std::llround(ns));
  row["samples_ts"] = rates;
  row["bytes_per_token"] = std::llround(result.bytes_per_token);
  row["stream_gbs"] = machine.stream_gbs;
  row["isa"] = kernels::active_isa();
  row["peak_rss_bytes"] = runtime::peak_memory_bytes();
  row["private_bytes"] = runtime::private_memory_bytes();
  const storage::PageStore* store = session.page_store();
  row["kv_bytes_ssd_read"] = store == nullptr ? 0 : store->io_stats().bytes_read;
  row["kv_bytes_ssd_written"] = store == nullptr ? 0 : store->io_stats().bytes_written;
  row["kv_hits"] = store == nullptr ? 0 : store->stats().hits;
  row["kv_misses"] = store == nullptr ? 0 : store->stats().misses;
  row["kv_io"] = store == nullptr ? "memory" : store->device_name();
  return row;
}

std::string csv_cell(const Json& value) {
  std::string text = value.is_string() ? value.get<std::string>() : json_text(value);
  std::string cell = "\"";
  for (const char c : text) cell += c == '"' ? std::string("\"\"") : std::string(1, c);
  return cell + "\"";
}

// Prints rows as they come, in one of the forms.
class Table {
 public:
  Table(Output& out, std::string form) : out_(out), form_(std::move(form)) {}

  Status add(const Json& row, const BenchResult& result) {
    LCRUN_TRY(out_.write(text_of(row, result)));
    is_first_ = false;
    return out_.flush();
  }

  Status end() {
    if (form_ == "json") LCRUN_TRY(out_.write(is_first_ ? "[]\n" : "\n]\n"));
    return out_.flush();
  }

 private:
  std::string text_of(const Json& row, const BenchResult& result) const {
    if (form_ == "json") return (is_first_ ? "[\n" : ",\n") + json_text(row, 2);
    if (form_ == "jsonl") return json_text(row) + "\n";
    return form_ == "csv" ? csv_of(row) : markdown_of(row, result);
  }

  std::string csv_of(const Json& row) const {
    std::string head;
    std::string line;
    for (const auto& [name, value] : row.items()) {
      // Lists do not fit a cell: llama-bench leaves them out too.
      if (value.is_array()) continue;
      head += format("{}{}", head.empty() ? "" : ",", name);
      line += format("{}{}", line.empty() ? "" : ",", csv_cell(value));
    }
    return (is_first_ ? head + "\n" : "") + line + "\n";
  }

  std::string markdown_of(const Json& row, const BenchResult& result) const {
    char line[512];
    std::string text;
    if (is_first_) {
      std::snprintf(line, sizeof(line), "| %-30s | %10s | %10s | %-10s | %7s | %15s | %20s | %10s |\n", "model", "size",
                    "params", "backend", "threads", "test", "t/s", "% of read");
      text = line;
      text +=
          "| ------------------------------ | ---------: | ---------: | ---------- | ------: | "
          "--------------: | -------------------: | ---------: |\n";
    }
    const double rate = row.at("avg_ts").get<double>();
    const double share = result.bytes_per_token * rate / (row.at("stream_gbs").get<double>() * 1e9);
    char speed[64];
    std::snprintf(speed, sizeof(speed), "%.2f ± %.2f", rate, row.at("stddev_ts").get<double>());
    const std::string size = runtime::bytes_text(row.at("model_size").get<uint64_t>());
    // The sign takes two bytes and one column.
    std::snprintf(line, sizeof(line), "| %-30s | %10s | %8.2f M | %-10s | %7d | %15s | %21s | %9.1f%% |\n",
                  row.at("model_type").get<std::string>().c_str(), size.c_str(),
                  static_cast<double>(row.at("model_n_params").get<uint64_t>()) / 1e6,
                  row.at("isa").get<std::string>().c_str(), row.at("n_threads").get<int>(),
                  result.bench_case.name().c_str(), speed, 100 * share);
    return text + line;
  }

  Output& out_;
  std::string form_;
  bool is_first_ = true;
};

}  // namespace

Status bench_command(Context& context) {
  const auto& options = context.options();
  const auto cases = runtime::bench_cases(options.bench_prompt, options.bench_gen, options.bench_depth);
  if (cases.empty()) return make_error(Code::kInvalidArgument, "-p, -n: found only zeros, wanted something to time");
  LCRUN_ASSIGN(const auto engine, open_engine(context, false));
  int64_t longest = 0;
  for (const auto& item : cases) longest = std::max(longest, item.n_depth + item.n_prompt + item.n_gen);
  LCRUN_ASSIGN(auto session, open_session(context, engine, {longest, longest, 0, true}));
  LCRUN_ASSIGN(const double bandwidth,
               runtime::read_bandwidth(session.options().n_threads, session.model().weight_bytes()));
  const Machine machine = machine_of(engine, bandwidth);
  const std::string form = options.json && !context.parsed.is_given("output") ? "json" : options.bench_output;
  Table table(context.out, form);
  for (const auto& item : cases) {
    log(LogLevel::kDebug, "bench: {}", item.name());
    LCRUN_ASSIGN(const auto result,
                 runtime::run_bench(session, item, {options.repetitions, !options.no_warmup, options.copied_depth}));
    LCRUN_TRY(table.add(row_of(result, machine, session, context), result));
  }
  LCRUN_TRY(table.end());
  if (form == "md") {
    char line[160];
    std::snprintf(line, sizeof(line), "\nread bandwidth %.1f GB/s, %s, build %s\n", machine.stream_gbs,
                  std::string(kernels::active_isa()).c_str(), build_commit().c_str());
    LCRUN_TRY(context.out.write(line));
  }
  return {};
}

}  // namespace lcrun::cli

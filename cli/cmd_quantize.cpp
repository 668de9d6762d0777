// lcrun quantize IN OUT TYPE
#include <cstdio>

#include "cli/command.hpp"
#include "cli/json_text.hpp"
#include "cli/setup.hpp"
#include "cli/signals.hpp"
#include "quant/format.hpp"
#include "src/base/format.hpp"
#include "src/runtime/option_values.hpp"
#include "src/runtime/requantize.hpp"

namespace lcrun::cli {
namespace {

using runtime::RequantizeReport;

Json json_of(const RequantizeReport& report, const std::string& from, const std::string& to) {
  Json json;
  json["from"] = from;
  json["to"] = to;
  json["from_bytes"] = report.from_bytes();
  json["to_bytes"] = report.to_bytes();
  json["rmse"] = report.rmse();
  json["max_error"] = report.max_error();
  json["tensors"] = Json::array();
  for (const auto& tensor : report.tensors) {
    json["tensors"].push_back({{"name", tensor.name},
                               {"from", quant::type_name(tensor.from)},
                               {"to", quant::type_name(tensor.to)},
                               {"fell_back", tensor.fell_back},
                               {"from_bytes", tensor.from_bytes},
                               {"to_bytes", tensor.to_bytes},
                               {"rmse", tensor.report.rmse},
                               {"max_error", tensor.report.max_error}});
  }
  return json;
}

std::string table_of(const RequantizeReport& report) {
  std::string text;
  char line[256];
  for (const auto& tensor : report.tensors) {
    std::snprintf(line, sizeof(line), "%-36s %-6s -> %-6s %12s -> %12s", tensor.name.c_str(),
                  quant::type_name(tensor.from).c_str(), quant::type_name(tensor.to).c_str(),
                  runtime::bytes_text(tensor.from_bytes).c_str(), runtime::bytes_text(tensor.to_bytes).c_str());
    text += line;
    if (tensor.from != tensor.to) {
      std::snprintf(line, sizeof(line), "  rmse %.3g  max error %.3g", tensor.report.rmse, tensor.report.max_error);
      text += line;
    }
    if (tensor.fell_back) text += "  (rows do not fit the wanted type)";
    if (tensor.report.n_not_finite != 0) text += format("  ({} values are not finite)", tensor.report.n_not_finite);
    text += '\n';
  }
  std::snprintf(line, sizeof(line), "total: %s -> %s, rmse %.4g, max error %.4g\n",
                runtime::bytes_text(report.from_bytes()).c_str(), runtime::bytes_text(report.to_bytes()).c_str(),
                report.rmse(), report.max_error());
  return text + line;
}

}  // namespace

Status quantize_command(Context& context) {
  const auto& options = context.options();
  const std::string& from = options.positionals[0];
  const std::string& to = options.positionals[1];
  LCRUN_ASSIGN(const DType type, runtime::writable_type(options.positionals[2]));
  ProgressLine line("Quantising", "tensors");
  const auto progress = [&](int64_t done, int64_t total) {
    line.update(done, total);
    return !interrupted();
  };
  LCRUN_ASSIGN(const auto report,
               runtime::requantize(posix_file_system(), from, to, type, runtime::decode_threads(options), progress));
  line.clear();
  return context.out.write(options.json ? json_text(json_of(report, from, to), 2) + "\n" : table_of(report));
}

}  // namespace lcrun::cli

// lcrun inspect: what a model file holds and what would run it.
#include <iomanip>
#include <sstream>

#include "cli/command.hpp"
#include "cli/json_text.hpp"
#include "cli/policies.hpp"
#include "cli/setup.hpp"
#include "ggufish/layout.hpp"
#include "quant/format.hpp"
#include "src/base/format.hpp"
#include "src/kernels/describe.hpp"
#include "src/kernels/ops.hpp"
#include "src/model/arch.hpp"
#include "src/runtime/option_values.hpp"
#include "src/runtime/policy_file.hpp"

namespace lcrun::cli {
namespace {

using ggufish::ModelFile;
using ggufish::value_type_name;
using ggufish::ValueType;

std::string type_of(const ggufish::Metadata::Entry& entry) {
  if (entry.type != ValueType::kArray) return value_type_name(entry.type);
  return format("{}[{}]", value_type_name(entry.element_type), entry.count);
}

std::vector<int64_t> shape_of(const TensorView& view) {
  std::vector<int64_t> shape(view.ne.begin(), view.ne.end());
  while (shape.size() > 1 && shape.back() == 1) shape.pop_back();
  return shape;
}

std::string shape_text(const TensorView& view) {
  std::string text;
  for (const int64_t n : shape_of(view)) text += format("{}{}", text.empty() ? "" : " x ", n);
  return text;
}

// Can it be run, and by what? Null config: `reason` says why not.
struct Runner {
  bool runs = false;
  std::string reason;
  model::ModelConfig config;
  std::vector<std::string> mixers;
};

Runner find_runner(const ModelFile& file) {
  Runner runner;
  auto config = model::read_config(file);
  if (!config.has_value()) {
    runner.reason = config.error().message;
    return runner;
  }
  runner.config = std::move(config).value();
  for (const auto& layer : runner.config.layers) {
    if (std::find(runner.mixers.begin(), runner.mixers.end(), layer.mixer) == runner.mixers.end()) {
      runner.mixers.push_back(layer.mixer);
    }
    if (model::find_mixer(layer.mixer) == nullptr) runner.reason = format("no mixer \"{}\"", layer.mixer);
  }
  for (const auto& tensor : file.tensors()) {
    if (quant::find_ops(tensor.view.dtype) == nullptr) {
      runner.reason = quant::unsupported_type(tensor.name, tensor.view.dtype).message;
    }
  }
  runner.runs = runner.reason.empty();
  return runner;
}

Json inspect_json(const ModelFile& file, const Runner& runner) {
  Json json;
  json["path"] = file.path();
  json["version"] = file.version();
  json["file_bytes"] = file.file_bytes();
  json["metadata"] = Json::object();
  for (const auto& entry : file.meta().entries()) {
    json["metadata"][std::string(entry.key)] = {{"type", type_of(entry)}, {"value", entry.text}};
  }
  json["tensors"] = Json::array();
  uint64_t parameters = 0;
  for (const auto& tensor : file.tensors()) {
    parameters += static_cast<uint64_t>(tensor.view.n_elements());
    json["tensors"].push_back({{"name", tensor.name},
                               {"type", quant::type_name(tensor.view.dtype)},
                               {"shape", shape_of(tensor.view)},
                               {"bytes", tensor.view.size_bytes},
                               {"offset", tensor.offset},
                               {"part", tensor.part}});
  }
  json["parameters"] = parameters;
  json["runs"] = runner.runs;
  if (!runner.runs)
    json["reason"] = runner.reason;
  else {
    const auto& config = runner.config;
    json["hyper_parameters"] = {{"arch", config.arch},
                                {"n_layers", config.n_layers},
                                {"d_model", config.d_model},
                                {"n_vocab", config.n_vocab},
                                {"n_ctx_train", config.n_ctx_train}};
    json["mixers"] = runner.mixers;
  }
  json["isa"] = kernels::active_isa();
  return json;
}

void print_layers(std::ostream& out, const model::ModelConfig& config) {
  out << "\nlayers\n";
  for (size_t first = 0; first < config.layers.size();) {
    const auto& layer = config.layers[first];
    size_t last = first;
    const auto same = [&](const model::LayerConfig& other) {
      return other.mixer == layer.mixer && other.n_heads == layer.n_heads && other.n_kv_heads == layer.n_kv_heads &&
             other.window == layer.window && other.d_ff == layer.d_ff && other.is_moe == layer.is_moe;
    };
    while (last + 1 < config.layers.size() && same(config.layers[last + 1])) ++last;
    out << "  " << first;
    if (last != first) out << " to " << last;
    out << ": " << layer.mixer << ", " << layer.n_heads << " heads, " << layer.n_kv_heads << " kv heads of "
        << layer.k_dim << ", ";
    if (layer.window > 0) out << "window " << layer.window << ", ";
    out << (layer.is_moe ? "experts" : "ffn") << ' ' << layer.d_ff << '\n';
    first = last + 1;
  }
}

std::string inspect_table(const ModelFile& file, const Runner& runner) {
  std::ostringstream out;
  out << file.path() << ": GGUF version " << file.version() << ", " << runtime::bytes_text(file.file_bytes()) << ", "
      << file.tensors().size() << " tensors\n\nmetadata\n";
  for (const auto& entry : file.meta().entries()) {
    out << "  " << std::left << std::setw(42) << entry.key << ' ' << std::setw(14) << type_of(entry) << ' '
        << entry.text << '\n';
  }
  out << "\ntensors\n";
  for (const auto& tensor : file.tensors()) {
    out << "  " << std::left << std::setw(36) << tensor.name << ' ' << std::setw(8)
        << quant::type_name(tensor.view.dtype) << ' ' << std::setw(24) << shape_text(tensor.view) << ' ' << std::right
        << std::setw(12) << runtime::bytes_text(tensor.view.size_bytes) << '\n';
  }
  if (!runner.runs) {
    out << "\nnot runnable: " << runner.reason << '\n';
    return out.str();
  }
  print_layers(out, runner.config);
  out << "\nruns as " << runner.config.arch << " on " << kernels::active_isa() << '\n';
  return out.str();
}

// --- kernels -----------------------------------------------------------------------------------------------------
struct IsaState {
  std::string name;
  const char* state;
};

std::vector<IsaState> isa_states() {
  std::vector<IsaState> found;
  const auto available = kernels::available_isas();
  for (const std::string& name : kernels::built_isas()) {
    const bool runs = std::find(available.begin(), available.end(), name) != available.end();
    const bool is_used = name == kernels::active_isa();
    found.push_back({name, is_used ? "used" : runs ? "available" : "not on this processor"});
  }
  return found;
}

std::string rows_text(const kernels::ProductChoice& choice) {
  if (choice.first_rows == choice.last_rows) return format("{}", choice.first_rows);
  return format("{} to {}", choice.first_rows, choice.last_rows);
}

// Formats in the order in which the file first names them.
struct FormatUse {
  DType dtype;
  int64_t tensors = 0;
  uint64_t bytes = 0;
};

std::vector<FormatUse> formats_of(const ModelFile& file) {
  std::vector<FormatUse> found;
  for (const auto& tensor : file.tensors()) {
    const DType dtype = tensor.view.dtype;
    auto at = std::find_if(found.begin(), found.end(), [&](const FormatUse& use) { return use.dtype == dtype; });
    if (at == found.end()) at = found.insert(found.end(), FormatUse{dtype});
    ++at->tensors;
    at->bytes += tensor.view.size_bytes;
  }
  return found;
}

Json kernels_json(const ModelFile& file) {
  Json json;
  json["isa"] = kernels::active_isa();
  json["isas"] = Json::array();
  for (const IsaState& isa : isa_states()) json["isas"].push_back({{"name", isa.name}, {"state", isa.state}});
  json["products"] = Json::array();
  for (const auto& choice : kernels::product_choices(kernels::active_isa())) {
    json["products"].push_back({{"rows", {choice.first_rows, choice.last_rows}}, {"by", choice.by}});
  }
  json["formats"] = Json::array();
  for (const FormatUse& use : formats_of(file)) {
    Json row = {{"type", quant::type_name(use.dtype)}, {"tensors", use.tensors}, {"bytes", use.bytes}};
    kernels::PreparedForm form;
    row["computed"] = kernels::find_prepared_form(use.dtype, form);
    if (row["computed"]) {
      row["bits_per_weight"] = form.bits_per_weight;
      row["inputs_per_scale"] = form.inputs_per_scale;
    }
    json["formats"].push_back(row);
  }
  json["external_libraries"] = Json::array();  // docs/speed.md says why
  return json;
}

std::string kernels_table(const ModelFile& file) {
  std::ostringstream out;
  out << "\ninstruction sets\n" << std::left;
  for (const IsaState& isa : isa_states()) out << "  " << std::setw(13) << isa.name << isa.state << '\n';
  out << "\nproducts of quantised weights on " << kernels::active_isa() << ", by rows of activations in a group\n";
  for (const auto& choice : kernels::product_choices(kernels::active_isa())) {
    out << "  " << std::setw(13) << rows_text(choice) << choice.by << '\n';
  }
  out << "  other libraries: none\n\nformats in this file, and how their matrices are prepared\n";
  for (const FormatUse& use : formats_of(file)) {
    kernels::PreparedForm form;
    const bool is_computed = kernels::find_prepared_form(use.dtype, form);
    out << "  " << std::setw(8) << quant::type_name(use.dtype) << std::right << std::setw(4) << use.tensors
        << " tensors " << std::setw(11) << runtime::bytes_text(use.bytes) << "  " << std::left
        << (is_computed ? form.text() : "not computed") << '\n';
  }
  out << "\nformats computed with: " << quant::supported_types(false) << '\n';
  return out.str();
}

}  // namespace

Status inspect_command(Context& context) {
  const auto& options = context.options();
  if (options.policies) {
    LCRUN_ASSIGN(const auto choice, runtime::policy_choice(options, options.model, posix_file_system()));
    const attention::PolicyRows* rows = choice.rows.get();
    return context.out.write(options.json ? policies_json(rows) : policies_table(rows));
  }
  LCRUN_TRY(apply_machine_options(context));
  std::string path = options.model;
  if (!options.positionals.empty()) path = options.positionals.front();
  if (path.empty()) {
    bool is_default = false;
    LCRUN_ASSIGN(path, runtime::model_path(options, environment_value, posix_file_system(), &is_default));
  }
  LCRUN_ASSIGN(const auto mode, runtime::load_mode(options));
  LCRUN_ASSIGN(const auto file, ggufish::ModelFile::open(path, mode, posix_file_system()));
  const Runner runner = find_runner(*file);
  if (options.json) {
    Json json = inspect_json(*file, runner);
    if (options.kernels) json["kernels"] = kernels_json(*file);
    return context.out.write(json_text(json, 2) + "\n");
  }
  LCRUN_TRY(context.out.write(inspect_table(*file, runner)));
  return options.kernels ? context.out.write(kernels_table(*file)) : Status();
}

}  // namespace lcrun::cli

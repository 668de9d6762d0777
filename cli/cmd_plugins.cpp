// lcrun plugins: what is found, which interface it speaks, its devices, and whether it works here.
#include "cli/command.hpp"
#include "cli/json_text.hpp"
#include "src/base/format.hpp"
#include "src/runtime/option_values.hpp"
#include "src/runtime/plugin_host.hpp"

namespace lcrun::cli {
namespace {

using runtime::Plugin;

Json describe(const Plugin& plugin, bool run_self_test) {
  Json json;
  json["name"] = plugin.name();
  json["version"] = plugin.version();
  json["abi"] = plugin.abi_version();
  json["path"] = plugin.path();
  json["devices"] = Json::array();
  const auto devices = plugin.devices();
  if (devices.has_value()) {
    for (const auto& device : *devices) {
      json["devices"].push_back({{"name", device.name}, {"memory_bytes", device.memory_bytes}});
    }
  } else {
    json["error"] = devices.error().message;
  }
  if (!run_self_test) return json;
  const auto report = plugin.self_test();
  json["self_test"] = report.has_value() ? "passed" : "failed";
  json["report"] = report.has_value() ? *report : report.error().message;
  return json;
}

std::string table(const Json& list) {
  if (list.empty()) return "no plugins found\n";
  std::string text;
  for (const Json& plugin : list) {
    if (!plugin.contains("name")) {
      text += format("{}: {}\n", plugin.at("path").get<std::string>(), plugin.at("error").get<std::string>());
      continue;
    }
    text += format("{} {} (interface {}): {}\n", plugin.at("name").get<std::string>(),
                   plugin.at("version").get<std::string>(), plugin.at("abi").get<uint32_t>(),
                   plugin.at("path").get<std::string>());
    for (const Json& device : plugin.at("devices"))
      text += format("  device: {}\n", device.at("name").get<std::string>());
    if (plugin.contains("self_test")) {
      text += format("  self-test {}: {}\n", plugin.at("self_test").get<std::string>(),
                     plugin.at("report").get<std::string>());
    }
  }
  return text;
}

}  // namespace

Status plugins_command(Context& context) {
  const auto& options = context.options();
  std::vector<std::string> paths = runtime::find_plugins(options.plugin_dir);
  const std::string& wanted = options.check_plugin;
  const bool wanted_is_path = wanted.find('/') != std::string::npos;
  // What is named must load; what was merely found may be broken and is listed as such.
  std::string must_load = wanted_is_path ? wanted : options.plugin;
  if (!must_load.empty()) paths = {must_load};
  Json list = Json::array();
  bool found_wanted = wanted.empty() || wanted_is_path;
  Status self_test;
  for (const std::string& path : paths) {
    const auto plugin = Plugin::load(path);
    if (!plugin.has_value()) {
      if (path == must_load) return plugin.error();
      list.push_back({{"path", path}, {"error", plugin.error().message}});
      continue;
    }
    if (!wanted.empty() && !wanted_is_path && plugin->name() != wanted) continue;
    found_wanted = true;
    list.push_back(describe(*plugin, !wanted.empty()));
    const Json& entry = list.back();
    if (entry.contains("error") || entry.value("self_test", "passed") != "passed") {
      self_test = make_error(Code::kUnsupported, "plugin {}: {}", plugin->name(),
                             entry.value("error", entry.value("report", std::string())));
    }
  }
  if (!found_wanted) {
    return make_error(Code::kUnsupported, "--check {}: found no such plugin; lcrun plugins lists what there is",
                      wanted);
  }
  LCRUN_TRY(context.out.write(options.json ? json_text(list, 2) + "\n" : table(list)));
  return self_test;
}

}  // namespace lcrun::cli

#include "src/runtime/plugin_host.hpp"

#include <dlfcn.h>

#include <algorithm>
#include <cstddef>
#include <filesystem>

#include "include/lcrun/plugin.h"
#include "src/base/format.hpp"
#include "src/base/log.hpp"

namespace lcrun::runtime {
namespace {

void log_for_plugin(void*, int32_t level, const char* text) {
  const int32_t bounded = std::clamp<int32_t>(level, 0, 3);
  if (text != nullptr) log(static_cast<LogLevel>(bounded), "{}", text);
}

const lcrun_host kHost = {LCRUN_PLUGIN_ABI, sizeof(lcrun_host), nullptr, log_for_plugin};

std::string text_or(const char* text, const char* fallback) { return text == nullptr ? fallback : text; }

}  // namespace

struct Plugin::Library {
  void* handle = nullptr;
  lcrun_plugin table{};
  bool is_open = false;

  ~Library() {
    if (is_open && table.close != nullptr) table.close(table.instance);
    if (handle != nullptr) dlclose(handle);
  }
};

Plugin::Plugin() : library_(std::make_unique<Library>()) {}
Plugin::Plugin(Plugin&&) noexcept = default;
Plugin& Plugin::operator=(Plugin&&) noexcept = default;
Plugin::~Plugin() = default;

Error Plugin::failed(std::string_view what) const {
  const lcrun_plugin& table = library_->table;
  const char* reason = table.last_error == nullptr ? nullptr : table.last_error(table.instance);
  return make_error(Code::kUnsupported, "plugin {}: {} failed: {}", path_, what, text_or(reason, "no reason given"));
}

Result<Plugin> Plugin::load(const std::string& path) {
  Plugin plugin;
  plugin.path_ = path;
  Library& library = *plugin.library_;
  // A bare name would be looked for in the system's library path.
  const std::string file = path.find('/') == std::string::npos ? "./" + path : path;
  library.handle = dlopen(file.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (library.handle == nullptr) {
    return make_error(Code::kUnsupported, "plugin {}: {}", path, text_or(dlerror(), "cannot be loaded"));
  }
  void* symbol = dlsym(library.handle, "lcrun_plugin_query");
  if (symbol == nullptr) {
    return make_error(Code::kUnsupported, "plugin {}: found no function lcrun_plugin_query, wanted a plugin of lcrun",
                      path);
  }
  const auto query = reinterpret_cast<lcrun_plugin_query_fn>(symbol);
  lcrun_plugin& table = library.table;
  table.struct_size = sizeof(table);
  const int32_t answer = query(LCRUN_PLUGIN_ABI, &kHost, &table);
  if (answer == LCRUN_PLUGIN_UNSUPPORTED || table.abi_version != LCRUN_PLUGIN_ABI) {
    return make_error(Code::kUnsupported, "plugin {}: found interface version {}, wanted {}", path, table.abi_version,
                      LCRUN_PLUGIN_ABI);
  }
  if (answer != LCRUN_PLUGIN_OK) return plugin.failed("starting");
  library.is_open = true;
  const bool complete = table.struct_size >= offsetof(lcrun_plugin, close) + sizeof(table.close) &&
                        table.name != nullptr && table.device_count != nullptr && table.device_info != nullptr &&
                        table.self_test != nullptr;
  if (!complete) {
    return make_error(Code::kUnsupported, "plugin {}: found an incomplete table of {} bytes, wanted {}", path,
                      table.struct_size, sizeof(table));
  }
  return plugin;
}

std::string Plugin::name() const { return text_or(library_->table.name, ""); }
std::string Plugin::version() const { return text_or(library_->table.version, ""); }
uint32_t Plugin::abi_version() const { return library_->table.abi_version; }

Result<std::vector<PluginDevice>> Plugin::devices() const {
  const lcrun_plugin& table = library_->table;
  const int32_t count = table.device_count(table.instance);
  if (count < 0) return failed("counting devices");
  std::vector<PluginDevice> devices;
  for (int32_t i = 0; i < count; ++i) {
    lcrun_plugin_device info{};
    info.struct_size = sizeof(info);
    if (table.device_info(table.instance, i, &info) != LCRUN_PLUGIN_OK) return failed(format("device {}", i));
    info.name[sizeof(info.name) - 1] = '\0';
    devices.push_back({info.name, info.memory_bytes});
  }
  return devices;
}

Result<std::string> Plugin::self_test() const {
  const lcrun_plugin& table = library_->table;
  char report[1024] = "";
  if (table.self_test(table.instance, report, sizeof(report)) != LCRUN_PLUGIN_OK) return failed("self-test");
  report[sizeof(report) - 1] = '\0';
  return std::string(report);
}

std::vector<std::string> find_plugins(const std::string& search_path) {
  namespace fs = std::filesystem;
  std::error_code error;
  std::vector<fs::path> directories;
  if (search_path.empty()) {
    const fs::path program = fs::read_symlink("/proc/self/exe", error).parent_path();
    // Installed (bin beside lib), and in a build folder (cli beside plugins).
    directories = {program / ".." / LCRUN_LIBDIR / "lcrun" / "plugins", program / ".." / "plugins"};
  }
  for (size_t begin = 0; begin < search_path.size();) {
    const size_t colon = std::min(search_path.find(':', begin), search_path.size());
    directories.emplace_back(search_path.substr(begin, colon - begin));
    begin = colon + 1;
  }
  std::vector<std::string> found;
  for (const fs::path& directory : directories) {
    for (fs::directory_iterator it(directory, error), end; !error && it != end; it.increment(error)) {
      if (it->path().extension() == ".so") found.push_back(fs::weakly_canonical(it->path(), error).string());
    }
    error.clear();
  }
  std::sort(found.begin(), found.end());
  found.erase(std::unique(found.begin(), found.end()), found.end());
  return found;
}

}  // namespace lcrun::runtime

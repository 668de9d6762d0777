// The host's side of plugin.h: finding shared objects, loading them, asking what they are.
//
// A plugin that is missing, of another interface version, or broken is an error (kUnsupported), never a crash of
// ours. Loading runs the plugin's code: only paths that the user gave or that were installed with us are loaded.
// Thread rule: one thread.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "src/base/result.hpp"

struct lcrun_plugin;

namespace lcrun::runtime {

struct PluginDevice {
  std::string name;
  uint64_t memory_bytes = 0;
};

class Plugin {
 public:
  static Result<Plugin> load(const std::string& path);
  Plugin(Plugin&&) noexcept;
  Plugin& operator=(Plugin&&) noexcept;
  ~Plugin();

  const std::string& path() const { return path_; }
  std::string name() const;
  std::string version() const;
  uint32_t abi_version() const;
  Result<std::vector<PluginDevice>> devices() const;
  // The plugin's own report.
  Result<std::string> self_test() const;

 private:
  Plugin();
  Error failed(std::string_view what) const;

  struct Library;
  std::string path_;
  std::unique_ptr<Library> library_;
};

// Shared objects in the directories (colon separated) of `search_path`, sorted; "" = where lcrun was installed or
// built.
std::vector<std::string> find_plugins(const std::string& search_path);

}  // namespace lcrun::runtime

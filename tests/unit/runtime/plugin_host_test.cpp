// Loading plugins: the null plugin works, everything else is refused in words.
#include "src/runtime/plugin_host.hpp"

#include <catch2/catch.hpp>
#include <filesystem>
#include <fstream>

#include "include/lcrun/plugin.h"
#include "tests/support/temp_dir.hpp"

using namespace lcrun;
using namespace lcrun::runtime;

TEST_CASE("the null plugin has one device and passes its test", "[runtime][plugin]") {
  const auto plugin = Plugin::load(LCRUN_NULL_PLUGIN);
  INFO((plugin.has_value() ? std::string() : plugin.error().message));
  REQUIRE(plugin.has_value());
  CHECK(plugin->name() == "null");
  CHECK(plugin->abi_version() == LCRUN_PLUGIN_ABI);
  const auto devices = plugin->devices();
  REQUIRE(devices.has_value());
  REQUIRE(devices->size() == 1);
  CHECK(devices->front().name == "host memory");
  const auto report = plugin->self_test();
  REQUIRE(report.has_value());
  CHECK_FALSE(report->empty());
}

TEST_CASE("what is no plugin is unsupported, with the reason", "[runtime][plugin]") {
  const test::TempDir dir;
  const std::string text = dir.path() + "/text.so";
  std::ofstream(text) << "not a shared object";
  for (const std::string& path : {std::string("/nonexistent.so"), text, std::string("libc.so.6")}) {
    INFO(path);
    const auto plugin = Plugin::load(path);
    REQUIRE_FALSE(plugin.has_value());
    CHECK(plugin.error().code == Code::kUnsupported);
    CHECK(plugin.error().message.find(path) != std::string::npos);
  }
}

TEST_CASE("plugins are found by folder, sorted", "[runtime][plugin]") {
  const test::TempDir dir;
  for (const char* name : {"b.so", "a.so", "readme.txt"}) std::ofstream(dir.path() + "/" + name) << "x";
  const auto found = find_plugins(dir.path() + ":/nonexistent");
  REQUIRE(found.size() == 2);
  CHECK(found[0].find("a.so") != std::string::npos);
}

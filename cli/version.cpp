#include "cli/version.hpp"

#include <nlohmann/json.hpp>

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>
#include <utf8proc.h>
#include <xxhash.h>

#include "src/base/cpu.hpp"
#include "src/base/format.hpp"
#include "src/kernels/ops.hpp"
#include "version.gen.h"

namespace lcrun::cli {
namespace {

std::string joined(const std::vector<std::string>& names) {
  std::string text;
  for (const std::string& name : names) text += format("{}{}", text.empty() ? "" : " ", name);
  return text;
}

std::string libraries() {
  char pcre[64] = "";
  pcre2_config(PCRE2_CONFIG_VERSION, pcre);
  const int pcre_end = static_cast<int>(std::string_view(pcre).find(' '));
  return format("utf8proc {}, PCRE2 {}, xxHash {}.{}.{}, nlohmann-json {}.{}.{}", utf8proc_version(),
                std::string_view(pcre).substr(0, static_cast<size_t>(pcre_end)), XXH_VERSION_MAJOR, XXH_VERSION_MINOR,
                XXH_VERSION_RELEASE, NLOHMANN_JSON_VERSION_MAJOR, NLOHMANN_JSON_VERSION_MINOR,
                NLOHMANN_JSON_VERSION_PATCH);
}

}  // namespace

std::string version_number() { return LCRUN_VERSION; }
std::string build_commit() { return LCRUN_COMMIT; }

std::string version_text() {
  std::string text = format("lcrun {}\n", LCRUN_VERSION);
  text += format("commit: {}\n", LCRUN_COMMIT);
  text += format("build: {}, {}\n", LCRUN_BUILD_TYPE, __VERSION__);
  text += format("isas built in: {}\n", joined(kernels::built_isas()));
  text += format("isas available: {}\n", joined(kernels::available_isas()));
  text += format("isa chosen: {}\n", kernels::active_isa());
  text += format("processor: {}\n", cpu_model_name());
  text += format("libraries: {}\n", libraries());
  return text;
}

}  // namespace lcrun::cli

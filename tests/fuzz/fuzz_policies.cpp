// Fuzz target: bytes -> a policy file.
//
// Laws: no crash; what is refused is refused with a message that names the file; what is taken, written again, is taken
// as the same rows, and can be completed for a model or is refused with a message.
#include <cstddef>
#include <cstdint>
#include <string>

#include "src/base/check.hpp"
#include "src/runtime/policy_file.hpp"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);

namespace {

using namespace lcrun;
using namespace lcrun::runtime;
using attention::PolicyRows;

bool same(const attention::Reading& a, const attention::Reading& b) {
  if (a.role != b.role) return false;
  if (a.role == attention::Role::kDense) {
    return a.positions.moves() == b.positions.moves() && (!a.positions.moves() || a.positions.kind == b.positions.kind);
  }
  const bool alike = a.sinks == b.sinks && a.window == b.window && a.positions.kind == b.positions.kind;
  return a.role != attention::Role::kSelect ? alike
                                            : alike && a.index == b.index && a.blocks == b.blocks &&
                                                  a.scope == b.scope && a.mass == b.mass && a.choice == b.choice;
}

void check_rows(const PolicyRows& rows) {
  LCRUN_CHECK(!rows.rows.empty());
  const auto again = parse_policies(policies_text(rows, ""), "again");
  LCRUN_CHECK(again.has_value() && again->rows.size() == rows.rows.size());
  LCRUN_CHECK(again->auto_name == rows.auto_name && again->model == rows.model);
  for (size_t i = 0; i < rows.rows.size(); ++i) {
    const auto &a = rows.rows[i], &b = again->rows[i];
    LCRUN_CHECK(a.name == b.name && same(a.read, b.read) && same(a.ask, b.ask));
    LCRUN_CHECK(a.layers.look_back == b.layers.look_back && a.layers.plan_from.size() == b.layers.plan_from.size());
  }
  attention::PolicyChoice choice;
  choice.rows = std::make_shared<const PolicyRows>(rows);
  const attention::ModelShape shape{100000, 8192, 64, 30, {}};
  for (const auto& policy : rows.rows) {
    choice.attention = policy.name;
    const auto made = attention::resolve_policy(choice, shape);
    if (!made.has_value()) LCRUN_CHECK(!made.error().message.empty());
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const auto rows = parse_policies(text, "input");
  if (rows.has_value()) {
    check_rows(*rows);
  } else {
    LCRUN_CHECK(rows.error().message.find("input") == 0);
  }
  return 0;
}

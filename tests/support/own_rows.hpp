// Rows of attention that the table does not have, as a policy file would add them: for laws that hold for all of them.
#pragma once

#include <catch2/catch.hpp>
#include <memory>

#include "src/runtime/policy_file.hpp"

namespace lcrun::testing {

inline std::shared_ptr<const attention::PolicyRows> own_rows() {
  constexpr const char* kText = R"({"lcrun_policies": 1, "rows": [
    {"name": "select-blocks", "like": "select", "ask": {"remainder": "blocks"}},
    {"name": "select-mean", "like": "select", "ask": {"remainder": "mean", "scope": "head"}},
    {"name": "recall-blocks", "like": "recall", "read": {"remainder": "blocks"}, "ask": {"remainder": "mean"}},
    {"name": "moc-mean", "like": "moc", "read": {"remainder": "mean"}},
    {"name": "levels", "like": "select", "ask": {"coarse": "probe8", "shortlist": 10}},
    {"name": "levels-head", "like": "quest",
     "ask": {"blocks": 4, "coarse": "mean", "shortlist": 9, "remainder": "blocks"}},
    {"name": "levels-text", "like": "recall", "read": {"coarse": "sub8", "shortlist": 8, "scope": "head"},
     "ask": {"coarse": "sub8", "shortlist": 8, "mass": 0.8}},
    {"name": "levels-moc", "like": "moc", "read": {"coarse": "minmax", "shortlist": 21, "blocks": 4}},
    {"name": "strips-text", "like": "moc", "read": {"choice": "strips", "blocks": 3}},
    {"name": "shared-blocks", "like": "select-blocks", "layers": {"plan_from": [{"layers": "1", "anchor": 0}]}}]})";
  auto rows = runtime::parse_policies(kText, "own_rows.hpp");
  INFO((rows.has_value() ? "" : rows.error().message));
  REQUIRE(rows.has_value());
  return std::make_shared<const attention::PolicyRows>(std::move(rows).value());
}

}  // namespace lcrun::testing

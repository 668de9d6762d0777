// Policy files: what is taken, what is refused and how it is said, and who finds them.
#include "src/runtime/policy_file.hpp"

#include <catch2/catch.hpp>

#include "src/runtime/plan_file.hpp"
#include "src/runtime/session_file.hpp"
#include "tests/support/memory_files.hpp"
#include "tests/support/tiny_session.hpp"

using namespace lcrun;
using namespace lcrun::runtime;
using namespace lcrun::testing;
using attention::Role;
using attention::Scope;
using lcrun::test::MemoryFiles;

namespace {

const char* const kGood = R"({"lcrun_policies": 1, "auto": "mine",
  "rows": [{"name": "mine", "like": "select", "about": "two layers",
            "ask": {"blocks": 32, "cadence": 16, "index": "sub8", "scope": "head", "remainder": "mean",
                    "coarse": "probe8", "shortlist": 500},
            "layers": {"look_back": "0,2-3", "plan_from": [{"layers": "3", "anchor": 2}]}}]})";

std::string refusal(const std::string& text) {
  const auto rows = parse_policies(text, "F");
  REQUIRE_FALSE(rows.has_value());
  CHECK(rows.error().code == Code::kInvalidArgument);
  return rows.error().message;
}

// The good file with one part in place of another.
std::string changed(const std::string& from, const std::string& to) {
  std::string text = kGood;
  const size_t at = text.find(from);
  REQUIRE(at != std::string::npos);
  return text.replace(at, from.size(), to);
}

void put(MemoryFiles& files, const std::string& path, const std::string& text) {
  const auto bytes = std::as_bytes(std::span(text));
  files.put(path, {bytes.begin(), bytes.end()});
}

}  // namespace

TEST_CASE("a policy file adds rows that inherit what they do not say", "[runtime][policy]") {
  const auto rows = parse_policies(kGood, "F");
  REQUIRE(rows.has_value());
  CHECK(rows->auto_name == "mine");
  REQUIRE(rows->rows.size() == 1);
  const attention::Policy& row = rows->rows[0];
  CHECK(row.read.role == Role::kStream);
  CHECK(row.read.window == 1024);
  CHECK(row.ask.role == Role::kSelect);
  CHECK(row.ask.blocks == 32);
  CHECK(row.ask.cadence == 16);
  CHECK(row.ask.index == "sub8");
  CHECK(row.ask.scope == Scope::kHead);
  CHECK(row.ask.remainder == attention::Remainder::kMean);
  CHECK(row.read.remainder == attention::Remainder::kNone);
  CHECK(row.ask.positions.kind == attention::Positions::kRelay);
  CHECK(row.layers.look_back == "0,2-3");
  REQUIRE(row.layers.plan_from.size() == 1);
  CHECK(row.layers.plan_from[0].anchor == 2);
  const auto again = parse_policies(policies_text(*rows, "{\"a\": [1]}"), "G");
  REQUIRE(again.has_value());
  CHECK(again->rows[0].layers.look_back == "0,2-3");
  CHECK(again->rows[0].ask.cadence == 16);
  CHECK(again->rows[0].ask.coarse == "probe8");
  CHECK(again->rows[0].ask.shortlist == 500);
  CHECK(again->rows[0].ask.remainder == attention::Remainder::kMean);
  CHECK(again->digest != rows->digest);

  attention::PolicyChoice choice;
  choice.rows = std::make_shared<const attention::PolicyRows>(*rows);
  const attention::ModelShape shape{100000, 8192, 64, 4, {2, 2, 2, 2}};
  const auto made = attention::resolve_policy(choice, shape).value();  // auto takes it
  CHECK(made->name == "mine");
  CHECK(made->dense_until == 8192);
  CHECK(made->roles.looks_back == std::vector<bool>{true, false, true, true});
  CHECK(made->roles.plan_from == std::vector<int64_t>{0, 1, 2, 2});
  CHECK(made->keeps_index(2));
  CHECK_FALSE(made->keeps_index(3));
  CHECK_FALSE(made->keeps_index(1));
  CHECK(made->keeps_means(3));  // it takes over blocks, and leaves others
  CHECK_FALSE(made->keeps_means(1));
  CHECK(made->is_anchor(2));
  CHECK_FALSE(made->is_anchor(0));
  CHECK(made->describe().find("3 of 4 layers") != std::string::npos);
  choice.layers = "all";
  CHECK(attention::resolve_policy(choice, shape).value()->roles.looks_back.empty());
}

TEST_CASE("a choice by the keys needs no index, and takes none over", "[runtime][policy]") {
  const auto rows = parse_policies(R"({"lcrun_policies": 1, "rows": [
      {"name": "fixed", "like": "quest", "read": {"role": "select", "blocks": 16, "choice": "sampled",
                                                                "positions": "true"}},
      {"name": "short", "like": "xattention", "read": {"blocks": 16, "mass": 0.5}},
      {"name": "means", "like": "flexprefill", "read": {"choice": "tile", "index": "mean"}}]})",
                                   "F");
  REQUIRE(rows.has_value());
  const auto again = parse_policies(policies_text(*rows, ""), "G");
  REQUIRE(again.has_value());
  for (const auto* some : {&rows->rows, &again->rows}) {
    CHECK((*some)[0].read.choice == attention::Choice::kSampled);
    CHECK((*some)[1].read.choice == attention::Choice::kAntidiagonal);
    CHECK((*some)[1].read.mass == 0.5);
    for (size_t i = 0; i < 2; ++i) CHECK((*some)[i].read.index.empty());
    CHECK((*some)[0].ask.index == "minmax16");
    CHECK((*some)[2].read.index == "mean");
  }
}

TEST_CASE("what is wrong in a policy file is said with its field, what was found and what was wanted",
          "[runtime][policy]") {
  struct Wrong {
    std::string text, field, found;
  };
  const Wrong wrong[] = {
      {"", "F: ", "no JSON"},
      {"[1]", "F: ", "a list"},
      {changed("\"lcrun_policies\": 1", "\"lcrun_policies\": 2"), "F: lcrun_policies", "found 2, wanted 1"},
      {changed("\"auto\": \"mine\"", "\"auto\": \"other\""), "F: auto", "other"},
      {changed("\"auto\"", "\"outo\""), "F: outo", "wanted one of"},
      {changed("\"name\": \"mine\"", "\"name\": \"select\""), "F: rows[0].name", "no other row"},
      {changed("\"name\": \"mine\"", "\"name\": \"My row\""), "F: rows[0].name", "My row"},
      {changed("\"like\": \"select\"", "\"like\": \"selekt\""), "F: rows[0].like", "selekt"},
      {changed("\"like\": \"select\", ", ""), "F: rows[0].like", "nothing"},
      {changed("\"blocks\": 32", "\"blocks\": -1"), "F: rows[0].ask.blocks", "found -1"},
      {changed("\"blocks\": 32", "\"blocks\": 1e9"), "F: rows[0].ask.blocks", "4096"},
      {changed("\"blocks\": 32", "\"sinks\": 63"), "F: rows[0].ask.sinks", "a multiple of 64"},
      {changed("\"blocks\": 32", "\"blocks\": 32, \"blocks\": 16"), "F: blocks", "twice"},
      {changed("\"cadence\": 16", "\"cadence\": 3"), "F: rows[0].ask.cadence", "a divisor of 64"},
      {changed("\"cadence\": 16", "\"cadence\": 128"), "F: rows[0].ask.cadence", "64"},
      {changed("\"about\": \"two layers\"", "\"read\": {\"cadence\": 4}"), "F: rows[0].read.cadence", "found 4"},
      {changed("sub8", "sub7"), "F: rows[0].ask.index", "scan4"},
      {changed("\"mean\"", "\"means\""), "F: rows[0].ask.remainder",
       "found \"means\", wanted one of none, blocks, mean"},
      {changed("probe8", "probe9"), "F: rows[0].ask.coarse", "found \"probe9\", wanted one of none, scan4"},
      {changed("500", "31"), "F: rows[0].ask.shortlist", "found 31, wanted at least as many"},
      {changed(", \"shortlist\": 500", ""), "F: rows[0].ask.shortlist", "found 0"},
      {changed("500", "1e12"), "F: rows[0].ask.shortlist", "wanted a number from 0 to 262144"},
      {changed("\"scope\": \"head\"", "\"scope\": 3"), "F: rows[0].ask.scope", "a text"},
      {changed("\"blocks\": 32", "\"choice\": \"tile\""), "F: rows[0].ask.choice", "query"},
      {changed("\"blocks\": 32", "\"choice\": \"sampled\""), "F: rows[0].ask.index", "none: the choice \"sampled\""},
      {changed("\"index\": \"sub8\"", "\"choice\": \"divergence\""), "F: rows[0].ask.coarse", "none: the choice"},
      {R"({"lcrun_policies": 1, "rows": [{"name": "s", "like": "select", "ask": {"choice": "divergence"}}]})",
       "F: rows[0].ask.choice", "found \"divergence\""},
      {changed("\"blocks\": 32", "\"choice\": \"diagonal\""), "F: rows[0].ask.choice",
       "antidiagonal, sampled, divergence"},
      {changed("\"blocks\": 32", "\"positions\": \"nowhere\""), "F: rows[0].ask.positions", "chunk"},
      {changed("0,2-3", "0,,3"), "F: rows[0].layers.look_back", "0,,3"},
      {changed("\"layers\": \"3\"", "\"layers\": \"all\""), "F: rows[0].layers.plan_from.layers", "all"},
      {changed(", \"anchor\": 2", ""), "F: rows[0].layers.plan_from[0].anchor", "nothing"},
      {changed("\"auto\"", "\"model\": \"12\", \"auto\""), "F: model", "32 hex digits"},
      {"{\"lcrun_policies\": 1, \"rows\": []}", "F: rows", "at least one row"},
      {"{\"lcrun_policies\": 1, \"rows\": [1]}", "F: rows[0]", "an object"},
      {"{\"lcrun_policies\": 1, \"measured\": " + std::string(100, '[') + std::string(100, ']') + "}", "F: ", "deep"},
  };
  for (const Wrong& one : wrong) {
    const std::string message = refusal(one.text);
    CAPTURE(one.text, message);
    CHECK(message.find(one.field) == 0);
    CHECK(message.find(one.found) != std::string::npos);
  }
  const std::string both = R"({"lcrun_policies": 1, "rows": [{"name": "s", "read": {"role": "select", "index": "sub8"},
                               "ask": {"role": "select", "index": "mean"}}]})";
  CHECK(refusal(both).find("one index") != std::string::npos);
  const std::string levels = R"({"lcrun_policies": 1, "rows": [{"name": "s",
    "read": {"role": "select", "coarse": "sub8", "shortlist": 9},
    "ask": {"role": "select", "coarse": "mean", "shortlist": 9}}]})";
  CHECK(refusal(levels).find("F: rows[0].read.coarse: found \"sub8\"") == 0);
  CHECK(refusal(std::string(2 << 20, ' ')).find("bytes") != std::string::npos);
}

TEST_CASE("layers that are not there, or cannot take over a choice, are refused with the model", "[runtime][policy]") {
  const attention::ModelShape shape{100000, 8192, 64, 4, {2, 0, 2, 1}};
  const auto error_of = [&](const std::string& text) {
    attention::PolicyChoice choice;
    choice.rows = std::make_shared<const attention::PolicyRows>(parse_policies(text, "F").value());
    const auto made = attention::resolve_policy(choice, shape);
    return made.has_value() ? std::string() : made.error().message;
  };
  CHECK(error_of(changed("0,2-3", "0,2,9")).find("layers of 0 to 3") != std::string::npos);
  CHECK(error_of(changed("\"anchor\": 2", "\"anchor\": 1")).find("anchor 1") != std::string::npos);  // has a window
  CHECK(error_of(changed("\"anchor\": 2", "\"anchor\": 3")).empty());                                // itself
  CHECK(error_of(changed("0,2-3", "0,3")).find("anchor 2") != std::string::npos);  // does not look back
  CHECK(error_of(kGood).find("layer 3") != std::string::npos);  // other KV heads, and each has a choice of its own
  CHECK(error_of(changed("\"scope\": \"head\"", "\"scope\": \"layer\"")).empty());
}

TEST_CASE("a file beside the model is found, one for another model is refused", "[runtime][policy]") {
  MemoryFiles files;
  Options options;
  CHECK(policy_choice(options, "m.gguf", files).value().rows == nullptr);
  put(files, "m.gguf.policy.json", kGood);
  REQUIRE(policy_choice(options, "m.gguf", files).value().rows != nullptr);
  CHECK(policy_choice(options, "m.gguf", files).value().rows->path == "m.gguf.policy.json");
  options.attention = "mine";
  CHECK(attention::check_policy(policy_choice(options, "m.gguf", files).value()).has_value());
  options.attention = "dense";  // it could change nothing
  CHECK(policy_choice(options, "m.gguf", files).value().rows == nullptr);
  options.policy_file = "missing";
  CHECK_FALSE(policy_choice(options, "m.gguf", files).has_value());
  options.attention = "auto";
  options.policy_file = "none";
  CHECK(policy_choice(options, "m.gguf", files).value().rows == nullptr);

  const auto model = load_tiny("llama");
  auto rows = parse_policies(kGood, "F").value();
  attention::PolicyChoice choice;
  const auto check = [&] {
    choice.rows = std::make_shared<const attention::PolicyRows>(rows);
    return check_model_of(choice, model->file());
  };
  CHECK(check().has_value());
  rows.model = fingerprint_text(model->file());
  CHECK(check().has_value());
  rows.model[0] = rows.model[0] == 'a' ? 'b' : 'a';
  REQUIRE_FALSE(check().has_value());
  CHECK(check().error().message.find("F: model: found " + rows.model) == 0);

  // The model has been replaced: the file beside it is left out, one that was asked for is not.
  const std::string beside = policy_path_of(model->file().path());
  put(files, beside, policies_text(rows, ""));
  Options found;
  REQUIRE(policy_choice_for(found, model->file(), files).has_value());
  CHECK(policy_choice_for(found, model->file(), files)->rows == nullptr);
  found.policy_file = beside;
  CHECK_FALSE(policy_choice_for(found, model->file(), files).has_value());
  rows.model = fingerprint_text(model->file());
  put(files, beside, policies_text(rows, ""));
  found.policy_file.clear();
  CHECK(policy_choice_for(found, model->file(), files).value().rows != nullptr);
}

TEST_CASE("the plans of a step are written, and read back as they were", "[runtime][plans]") {
  const auto model = load_tiny("llama");
  auto options = tiny_session_options();
  options.n_ctx = 2048;
  options.policy = {"select", "auto", 256};
  auto session = open_tiny_session(model, options);
  std::string text;
  PlanWriter writer([&](std::string_view lines) -> Status {
    text += lines;
    return {};
  });
  session.show_plans_to({&writer});
  const auto tokens = random_tokens(1500, kTinyVocab, 5);
  REQUIRE(session.sync({tokens.data(), 1400}, {}, INT64_MAX).has_value());
  REQUIRE(session.sync(tokens, {}, 1400).has_value());
  const auto log = parse_plans(text, "P");
  INFO((log.has_value() ? std::string() : log.error().message));
  REQUIRE(log.has_value());
  CHECK(static_cast<int64_t>(log->plans.size()) == writer.plans());
  CHECK(log->layers.size() == static_cast<size_t>(model->config().n_layers));
  int64_t queries = 0, blocks = 0;
  for (const LoggedPlan& plan : log->plans) {
    queries += plan.n;
    for (const LoggedTile& tile : plan.tiles) {
      for (const auto& segment : tile.segments) {
        blocks += ((segment.end_row + 63) / 64 - segment.first_row / 64) *
                  (tile.kv_head < 0 ? log->layers[plan.layer].layout.n_kv_heads : 1);
      }
    }
  }
  CHECK(queries == session.attention_stats().queries);
  CHECK(blocks == session.attention_stats().blocks);
  session.show_plans_to({});
  const size_t size = text.size();
  decode_copy(session, 1);
  CHECK(text.size() == size);
  const std::string broken = text.substr(0, text.size() - 20);
  const auto refused = parse_plans(broken, "P");
  REQUIRE_FALSE(refused.has_value());
  CHECK(refused.error().message.find("P, line ") == 0);
}

// Reports: means in the right cells, in tables, in JSON and in the picture.
#include "src/runtime/eval_report.hpp"

#include <png.h>

#include <catch2/catch.hpp>
#include <cstring>
#include <nlohmann/json.hpp>

#include "src/runtime/eval_compare.hpp"
#include "src/runtime/eval_plot.hpp"

using namespace lcrun;
using namespace lcrun::runtime;

namespace {

EvalRecord record(const char* attention, int64_t length, int64_t depth, int64_t seed, double score) {
  EvalRecord made;
  made.key = {attention, length, depth, seed, -1};
  made.scores = {{"strict", score}, {"digits", 1}};
  made.prompt_tokens = length;
  made.cached_tokens = length / 2;
  made.prefill_ms = 1000;
  return made;
}

// Two lengths, depths 0 and 100, two seeds: dense finds all, stream only the end.
std::vector<EvalRecord> records() {
  std::vector<EvalRecord> all;
  for (const char* attention : {"stream", "dense"}) {
    for (const int64_t length : {32000, 1000}) {
      for (const int64_t depth : {0, 100}) {
        for (const int64_t seed : {1, 2}) {
          const bool found = std::string(attention) == "dense" || depth == 100 || (length == 1000 && seed == 1);
          all.push_back(record(attention, length, depth, seed, found ? 1 : 0));
        }
      }
    }
  }
  return all;
}

Canvas decode(const std::vector<std::byte>& png) {
  png_image image;
  std::memset(&image, 0, sizeof(image));
  image.version = PNG_IMAGE_VERSION;
  REQUIRE(png_image_begin_read_from_memory(&image, png.data(), png.size()) != 0);
  image.format = PNG_FORMAT_RGB;
  std::vector<uint8_t> pixels(PNG_IMAGE_SIZE(image));
  REQUIRE(png_image_finish_read(&image, nullptr, pixels.data(), 0, nullptr) != 0);
  Canvas canvas(static_cast<int>(image.width), static_cast<int>(image.height), {});
  for (int y = 0; y < canvas.height(); ++y) {
    for (int x = 0; x < canvas.width(); ++x) {
      const uint8_t* at = &pixels[(static_cast<size_t>(y) * image.width + static_cast<size_t>(x)) * 3];
      canvas.fill(x, y, 1, 1, {at[0], at[1], at[2]});
    }
  }
  return canvas;
}

bool equal(Color a, Color b) { return a.red == b.red && a.green == b.green && a.blue == b.blue; }

}  // namespace

TEST_CASE("records become rows of means", "[runtime][eval]") {
  const auto rows = summarise(records());
  REQUIRE(rows.size() == 4);
  CHECK(rows[0].attention == "stream");
  CHECK(rows[0].length == 1000);
  CHECK(rows[0].all.cases == 4);
  CHECK(rows[0].all.mean(0) == Approx(0.75));
  CHECK(rows[0].by_depth.at(0).mean(0) == Approx(0.5));
  CHECK(rows[0].by_depth.at(100).mean(0) == 1);
  CHECK(rows[0].prefill_tps == Approx(500));
  CHECK(rows[1].length == 32000);
  CHECK(rows[1].all.mean(0) == Approx(0.5));
  CHECK(rows[3].attention == "dense");
  CHECK(rows[3].all.mean(0) == 1);
  const auto bias = position_bias(rows, "stream");
  CHECK(bias.at(0) == Approx(0.25));
  CHECK(bias.at(100) == 1);
  CHECK(attentions_of(rows) == std::vector<std::string>{"stream", "dense"});
}

TEST_CASE("lengths are written as people write them", "[runtime][eval]") {
  CHECK(length_text(1500) == "1500");
  CHECK(length_text(32000) == "32k");
  CHECK(length_text(1500000) == "1500k");
  CHECK(length_text(2000000) == "2M");
}

TEST_CASE("the tables say what was found", "[runtime][eval]") {
  const auto rows = summarise(records());
  const std::string text = report_markdown(*find_eval_task("passkey"), rows);
  CHECK(text ==
        "| attention | tokens | cases | strict | at least | digits | read/s |\n"
        "|-----------|-------:|------:|-------:|---------:|-------:|-------:|\n"
        "| stream    |     1k |     4 |   75 % |     30 % |  100 % |    500 |\n"
        "| stream    |    32k |     4 |   50 % |     15 % |  100 % |  16000 |\n"
        "| dense     |     1k |     4 |  100 % |     51 % |  100 % |    500 |\n"
        "| dense     |    32k |     4 |  100 % |     51 % |  100 % |  16000 |\n"
        "\nstrict, per cent by depth:\n\n"
        "| attention | tokens | 0 % | 100 % |\n"
        "|-----------|-------:|----:|------:|\n"
        "| stream    |     1k |  50 |   100 |\n"
        "| stream    |    32k |   0 |   100 |\n"
        "| dense     |     1k | 100 |   100 |\n"
        "| dense     |    32k | 100 |   100 |\n");
  CHECK(report_markdown(*find_eval_task("passkey"), {}) == "");
}

TEST_CASE("likelihood is a number, not a share", "[runtime][eval]") {
  EvalRecord one = record("auto", 4000, -1, 1, 0);
  one.scores = {{"nll", 3.25}, {"ppl", 25.79034}};
  const std::vector<EvalRecord> all = {one};
  CHECK(report_markdown(*find_eval_task("ppl"), summarise(all)) ==
        "| attention | tokens | cases |    nll |     ppl | read/s |\n"
        "|-----------|-------:|------:|-------:|--------:|-------:|\n"
        "| auto      |     4k |     1 | 3.2500 | 25.7903 |   2000 |\n");
}

TEST_CASE("the JSON holds every mean", "[runtime][eval]") {
  const auto rows = summarise(records());
  const EvalIdentity identity = {"passkey", "00", "11", {{"prefill", "auto"}}};
  const auto json = nlohmann::json::parse(report_json(identity, *find_eval_task("passkey"), rows));
  CHECK(json["options"]["prefill"] == "auto");
  REQUIRE(json["rows"].size() == 4);
  CHECK(json["rows"][1]["attention"] == "stream");
  CHECK(json["rows"][1]["length"] == 32000);
  CHECK(json["rows"][1]["scores"]["strict"] == 0.5);
  CHECK(json["rows"][1]["depths"][0]["scores"]["strict"] == 0.0);
  CHECK(json["rows"][1]["at_least"].get<double>() < 0.5);
  CHECK(json["position_bias"]["stream"][0]["score"] == 0.25);
}

TEST_CASE("the picture shows each cell in the colour of its score", "[runtime][eval]") {
  const auto rows = summarise(records());
  const auto png = eval_png(*find_eval_task("passkey"), rows);
  REQUIRE(png.has_value());
  const Canvas canvas = decode(*png);
  std::map<std::string, int> seen;
  for (int y = 0; y < canvas.height(); ++y) {
    for (int x = 0; x < canvas.width(); ++x) {
      if (equal(canvas.at(x, y), heat_color(0))) ++seen["none"];
      if (equal(canvas.at(x, y), heat_color(0.5))) ++seen["half"];
      if (equal(canvas.at(x, y), heat_color(1))) ++seen["all"];
    }
  }
  // Cells of 62 x 24 pixels less the figures in them: one 0, one 50, six 100.
  CHECK(seen["none"] > 1000);
  CHECK(seen["none"] <= 62 * 24);
  CHECK(seen["half"] > 1000);
  CHECK(seen["half"] <= 62 * 24);
  CHECK(seen["all"] > 6000);
  CHECK(seen["all"] <= 6 * 62 * 24);
}

TEST_CASE("heat grows lighter with the score", "[runtime][eval]") {
  int last = -1;
  for (int i = 0; i <= 20; ++i) {
    const Color color = heat_color(i / 20.0);
    const int light = 30 * color.red + 59 * color.green + 11 * color.blue;
    CHECK(light > last);
    last = light;
  }
  CHECK(equal(heat_color(-1), heat_color(0)));
  CHECK(equal(heat_color(2), heat_color(1)));
}

TEST_CASE("drawing outside of the picture is clipped", "[runtime][eval]") {
  Canvas canvas(20, 10, {255, 255, 255});
  canvas.fill(-5, -5, 8, 8, {1, 2, 3});
  canvas.text(-100, 5, "outside and in", {0, 0, 0});
  canvas.line(-50, 3, 70, 3, {9, 9, 9});
  CHECK(equal(canvas.at(2, 2), {1, 2, 3}));
  CHECK(equal(canvas.at(3, 2), {255, 255, 255}));
  CHECK(equal(canvas.at(19, 3), {9, 9, 9}));
  CHECK(canvas.png().has_value());
}

TEST_CASE("the sign test is the binomial tail", "[runtime][eval]") {
  CHECK(sign_test(0, 0) == Approx(1));
  CHECK(sign_test(5, 0) == Approx(1.0 / 32));
  CHECK(sign_test(4, 1) == Approx(6.0 / 32));
  CHECK(sign_test(0, 7) == Approx(1));
  CHECK(sign_test(600, 400) < 1e-9);
}

TEST_CASE("a setup breaks where it loses more than chance, or one per cent of likelihood", "[runtime][eval]") {
  std::vector<EvalSetup> setups(3);
  setups[0].name = "f16";
  setups[1].name = "q8_0";
  setups[2].name = "q4_0";
  for (const int64_t length : {1000, 8000}) {
    for (int64_t seed = 1; seed <= 10; ++seed) {
      const bool f16 = seed != 10;
      setups[0].records.push_back(record("auto", length, 50, seed, f16 ? 1 : 0));
      setups[1].records.push_back(record("auto", length, 50, seed, seed == 3 ? 0 : 1));  // one lost, one won
      setups[2].records.push_back(record("auto", length, 50, seed, length == 8000 && seed <= 5 ? 0 : f16 ? 1 : 0));
    }
  }
  const EvalTask& task = *find_eval_task("passkey");
  const auto rows = compare_setups(task, setups);
  REQUIRE(rows.size() == 6);
  const EvalComparison& q8 = rows[2];
  CHECK(q8.setup == "q8_0");
  CHECK(q8.length == 1000);
  CHECK(q8.cases == 10);
  CHECK(q8.score == Approx(0.9));
  CHECK((q8.lost == 1 && q8.won == 1 && !q8.breaks));
  CHECK_FALSE(rows[4].breaks);
  CHECK((rows[5].lost == 5 && rows[5].won == 0 && rows[5].breaks));
  const std::string text = comparison_markdown(task, rows);
  CHECK(text.find("| q4_0  |     8k |    10 |  40 % |  -50 % |    5 |   0 | breaks |") != std::string::npos);
  CHECK(text.find("\nq4_0 breaks passkey at 8k\n") != std::string::npos);
  CHECK(text.find("no setup") == std::string::npos);

  for (EvalSetup& setup : setups) {
    setup.records.resize(1);
    setup.records[0].scores = {{"nll", setup.name == "q4_0" ? 3.04 : setup.name == "q8_0" ? 3.01 : 3.0}};
  }
  const auto nll = compare_setups(*find_eval_task("ppl"), setups);
  CHECK_FALSE(nll[1].breaks);
  CHECK(nll[2].breaks);
  const auto json = nlohmann::json::parse(comparison_json(*find_eval_task("ppl"), nll));
  CHECK(json["rows"][2]["breaks"] == true);
  CHECK(json["rows"][2]["reference"] == 3.0);
}

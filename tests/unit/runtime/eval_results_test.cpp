// Files of results: what was written is found again, what does not belong is refused, a torn end is cut off.
#include "src/runtime/eval_results.hpp"

#include <catch2/catch.hpp>

#include "tests/support/memory_files.hpp"

using namespace lcrun;
using namespace lcrun::runtime;
using lcrun::test::MemoryFiles;

namespace {

const EvalIdentity kIdentity = {"passkey", "00ff", "abcd", {{"cache-type-k", "f16"}, {"answer-prefix", "\"x\"\n"}}};

EvalRecord record_of(int64_t seed) {
  EvalRecord record;
  record.key = {"dense", 4000, 50, seed, -1};
  record.scores = {{"strict", 1.0}, {"digits", 0.25}};
  record.reply = "12345.\n\"quoted\" \xc3\xa4";
  record.answers = {"12345", "two"};
  record.prompt_tokens = 4000;
  record.cached_tokens = 1000;
  record.prefill_ms = 12.5;
  record.decode_ms = 0.1;
  return record;
}

std::string text_of(const MemoryFiles& files) {
  const auto bytes = files.get("out");
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

void put(MemoryFiles& files, const std::string& text) {
  const auto bytes = std::as_bytes(std::span(text));
  files.put("out", {bytes.begin(), bytes.end()});
}

std::string file_with(int64_t records) {
  MemoryFiles files;
  auto file = EvalFile::open(files, "out", kIdentity);
  REQUIRE(file.has_value());
  for (int64_t seed = 1; seed <= records; ++seed) REQUIRE(file->append(record_of(seed)).has_value());
  return text_of(files);
}

std::string refusal(const std::string& contents, const EvalIdentity& identity = kIdentity) {
  MemoryFiles files;
  put(files, contents);
  const auto file = EvalFile::open(files, "out", identity);
  REQUIRE_FALSE(file.has_value());
  CHECK(file.error().code == Code::kInvalidArgument);
  CHECK(text_of(files) == contents);
  return file.error().message;
}

}  // namespace

TEST_CASE("a record is read as it was written", "[runtime][eval]") {
  const EvalRecord record = record_of(3);
  const auto back = parse_record(record_line(record));
  REQUIRE(back.has_value());
  CHECK(back->key == record.key);
  CHECK(back->scores == record.scores);
  CHECK(back->reply == record.reply);
  CHECK(back->answers == record.answers);
  CHECK(back->prompt_tokens == record.prompt_tokens);
  CHECK(back->cached_tokens == record.cached_tokens);
  CHECK(back->prefill_ms == record.prefill_ms);
  CHECK(back->decode_ms == record.decode_ms);
}

TEST_CASE("a later run finds the records of an earlier one, and goes on after them", "[runtime][eval]") {
  MemoryFiles files;
  put(files, file_with(2));
  {
    auto file = EvalFile::open(files, "out", kIdentity);
    REQUIRE(file.has_value());
    CHECK(file->records().size() == 2);
    CHECK(file->records().count(record_of(2).key) == 1);
    REQUIRE(file->append(record_of(3)).has_value());
    CHECK(file->records().size() == 3);
  }
  CHECK(text_of(files) == file_with(3));
}

TEST_CASE("a line without its end is cut off, wherever it was torn", "[runtime][eval]") {
  const std::string whole = file_with(2);
  const size_t second = whole.find('\n', whole.find('\n') + 1) + 1;
  for (size_t size = 0; size < whole.size(); size += size < second ? 13 : 1) {
    MemoryFiles files;
    put(files, whole.substr(0, size));
    auto file = EvalFile::open(files, "out", kIdentity);
    INFO("the first " << size << " bytes");
    REQUIRE(file.has_value());
    CHECK(file->records().size() == (size < second ? 0 : 1));
    for (int64_t seed = 1; seed <= 2; ++seed) {
      if (file->records().count(record_of(seed).key) == 0) REQUIRE(file->append(record_of(seed)).has_value());
    }
    CHECK(text_of(files) == whole);
  }
}

TEST_CASE("other files and other evaluations are refused and left alone", "[runtime][eval]") {
  const std::string whole = file_with(2);
  CHECK(refusal("important notes\n").find("another kind of file") != std::string::npos);
  CHECK(refusal("no line end").find("another kind of file") != std::string::npos);
  CHECK(refusal("{\"a\": 1}\n").find("another kind of file") != std::string::npos);
  EvalIdentity other = kIdentity;
  other.task = "needle";
  CHECK(refusal(whole, other).find("task: found \"passkey\", wanted \"needle\"") != std::string::npos);
  other = kIdentity;
  other.options[0].second = "q8_0";
  CHECK(refusal(whole, other).find("options: cache-type-k: found \"f16\", wanted \"q8_0\"") != std::string::npos);
  other = kIdentity;
  other.options.emplace_back("new", "1");
  CHECK(refusal(whole, other).find("new") != std::string::npos);
}

TEST_CASE("a file nested without end is refused like any other", "[runtime][eval]") {
  constexpr size_t kDeep = 300000;
  const std::string nested = std::string(kDeep, '[') + std::string(kDeep, ']');
  CHECK(refusal("{\"lcrun_eval\":1,\"task\":" + nested + "}\n").find("task: found a list") != std::string::npos);
  CHECK(refusal(nested + "\n").find("another kind of file") != std::string::npos);
  CHECK(refusal(file_with(1) + "{\"attention\":" + nested + "}\n").find("line 3") != std::string::npos);
}

TEST_CASE("damage inside is named by its line", "[runtime][eval]") {
  const std::string whole = file_with(1);
  const std::string line = record_line(record_of(2));
  struct Row {
    const char* part;
    const char* instead;
  };
  for (const Row& row :
       {Row{"\"depth\":50", "\"depth\":\"x\""}, Row{"\"seed\":2", "\"seed\":2.5"},
        Row{"\"scores\":{\"strict\":1.0,\"digits\":0.25}", "\"scores\":{}"}, Row{"\"strict\":1.0", "\"strict\":null"},
        Row{"\"answers\":[\"12345\"", "\"answers\":[7"}, Row{"\"reply\"", "\"Reply\""}, Row{"{", ""},
        Row{"\"attention\":\"dense\"", "\"attention\":1"}}) {
    std::string bad = line;
    const size_t at = bad.find(row.part);
    REQUIRE(at != std::string::npos);
    bad.replace(at, std::string(row.part).size(), row.instead);
    INFO(bad);
    CHECK(refusal(whole + bad + "\n").find("out, line 3:") != std::string::npos);
  }
}

TEST_CASE("whatever operation fails, records that were taken are found again", "[runtime][eval]") {
  for (int64_t k = 0; k < 40; ++k) {
    MemoryFiles files;
    put(files, file_with(1) + "{\"torn");
    files.fail_at(k);
    int64_t taken = 1;
    {
      auto file = EvalFile::open(files, "out", kIdentity);
      for (int64_t seed = 2; file.has_value() && seed <= 3; ++seed) {
        if (!file->append(record_of(seed)).has_value()) break;
        ++taken;
      }
    }
    files.fail_at(-1);
    auto again = EvalFile::open(files, "out", kIdentity);
    INFO("operation " << k << ": " << (again.has_value() ? std::string() : again.error().message));
    REQUIRE(again.has_value());
    CHECK(static_cast<int64_t>(again->records().size()) >= taken);
  }
}

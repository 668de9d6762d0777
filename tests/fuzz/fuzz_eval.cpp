// Fuzz target: bytes -> a file of results of an evaluation, and a file of questions.
//
// Laws: no crash; what is refused is refused with a message and left as it is; what is taken as results is found again,
// record by record, after it was written; questions have a text and answers.
#include <cstddef>
#include <cstdint>
#include <string>

#include "src/base/check.hpp"
#include "src/runtime/eval_results.hpp"
#include "tests/support/memory_files.hpp"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);

namespace {

using namespace lcrun;
using namespace lcrun::runtime;

const EvalIdentity kIdentity = {"passkey", "00", "11", {{"prefill", "auto"}}};

void check_results(test::MemoryFiles& files) {
  const auto before = files.get("input");
  const auto file = EvalFile::open(files, "input", kIdentity);
  if (!file.has_value()) {
    LCRUN_CHECK(!file.error().message.empty());
    LCRUN_CHECK(files.get("input") == before);
    return;
  }
  for (const auto& [key, record] : file->records()) {
    const auto again = parse_record(record_line(record));
    LCRUN_CHECK(again.has_value() && again->key == key && again->scores.size() == record.scores.size());
  }
}

void check_questions(test::MemoryFiles& files) {
  const auto questions = read_questions(files, "input");
  if (!questions.has_value()) {
    LCRUN_CHECK(!questions.error().message.empty());
    return;
  }
  LCRUN_CHECK(!questions->empty());
  for (const EvalQuestion& one : *questions) LCRUN_CHECK(!one.text.empty() && !one.answers.empty());
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  test::MemoryFiles files;
  const auto* bytes = reinterpret_cast<const std::byte*>(data);
  files.put("input", {bytes, bytes + size});
  check_questions(files);
  check_results(files);
  return 0;
}

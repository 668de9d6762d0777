// Results of an evaluation, case by case, in memory and in a file that a later run goes on from.
//
// The file is JSON lines: first what it is about (task, model, haystack, options), then one line a case, appended and
// handed to the system as soon as the case is done. A last line without its end is what an interrupted run left: it is
// cut off. Anything else that does not belong is refused, never overwritten.
// Thread rule: one thread; another process is kept out by a lock.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "src/base/file.hpp"
#include "src/base/result.hpp"
#include "src/runtime/eval_cases.hpp"

namespace lcrun::runtime {

struct EvalRecord {
  EvalKey key;
  std::vector<std::pair<std::string, double>> scores;  // the first one counts
  std::string reply;
  std::vector<std::string> answers;
  int64_t prompt_tokens = 0;
  int64_t cached_tokens = 0;  // of them, those that the session had read for an earlier case
  double prefill_ms = 0;
  double decode_ms = 0;
};

// What results belong to. Cases of two runs may stand in one file if all of this is equal.
struct EvalIdentity {
  std::string task;
  std::string model;     // fingerprint
  std::string haystack;  // checksum
  std::vector<std::pair<std::string, std::string>> options;
};

// One line without its end.
std::string record_line(const EvalRecord& record);
Result<EvalRecord> parse_record(const std::string& line);
std::string identity_line(const EvalIdentity& identity);

class EvalFile {
 public:
  // Makes the file, or goes on with it. kInvalidArgument: it is about something else, or damaged (the message names the
  // line); kIo: another process writes to it, or the system's reason.
  static Result<EvalFile> open(FileSystem& fs, const std::string& path, const EvalIdentity& identity);

  const std::map<EvalKey, EvalRecord>& records() const { return records_; }
  Status append(const EvalRecord& record);

 private:
  Status lock(FileSystem& fs, const std::string& path, OpenMode mode);
  Status go_on(const std::string& contents, const EvalIdentity& identity);
  Status write_line(const std::string& line);

  std::unique_ptr<File> file_;
  uint64_t end_ = 0;  // where the next line goes
  std::map<EvalKey, EvalRecord> records_;
};

}  // namespace lcrun::runtime

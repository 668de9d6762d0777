#include "src/runtime/eval_results.hpp"

#include <nlohmann/json.hpp>

#include "src/base/format.hpp"

namespace lcrun::runtime {
namespace {

using Json = nlohmann::ordered_json;

constexpr uint64_t kMaxFileBytes = uint64_t{1} << 30;
constexpr int kFormat = 1;  // on disk: never renumber

std::string line_of(const Json& json) { return json.dump(-1, ' ', false, Json::error_handler_t::replace); }

const Json* find(const Json& json, const char* key) {
  const auto at = json.find(key);
  return at == json.end() ? nullptr : &*at;
}

Status read(const Json& json, const char* key, int64_t& value) {
  const Json* found = find(json, key);
  if (found == nullptr || !found->is_number_integer()) {
    return make_error(Code::kInvalidArgument, "wanted a whole number \"{}\"", key);
  }
  value = found->get<int64_t>();
  return {};
}

Status read(const Json& json, const char* key, double& value) {
  const Json* found = find(json, key);
  if (found == nullptr || !found->is_number()) return make_error(Code::kInvalidArgument, "wanted a number \"{}\"", key);
  value = found->get<double>();
  return {};
}

Status read(const Json& json, const char* key, std::string& value) {
  const Json* found = find(json, key);
  if (found == nullptr || !found->is_string()) return make_error(Code::kInvalidArgument, "wanted a text \"{}\"", key);
  value = found->get<std::string>();
  return {};
}

// Never what is nested: dump() calls itself for it, as deep as a file says.
std::string shown(const Json& json) { return json.is_primitive() ? line_of(json) : "a list or an object"; }

// What two first lines differ in, for people: "model: found A, wanted B".
std::string difference(const Json& found, const Json& wanted) {
  for (const auto& [key, value] : wanted.items()) {
    const Json* other = find(found, key.c_str());
    if (other == nullptr) return format("{}: found nothing, wanted {}", key, shown(value));
    if (*other == value) continue;
    if (value.is_object() && other->is_object()) return format("{}: {}", key, difference(*other, value));
    return format("{}: found {}, wanted {}", key, shown(*other), shown(value));
  }
  return "it has more keys";
}

}  // namespace

std::string record_line(const EvalRecord& record) {
  Json json;
  json["attention"] = record.key.attention;
  json["length"] = record.key.length;
  json["depth"] = record.key.depth;
  json["seed"] = record.key.seed;
  json["item"] = record.key.item;
  for (const auto& [name, value] : record.scores) json["scores"][name] = value;
  json["reply"] = record.reply;
  json["answers"] = record.answers;
  json["prompt_tokens"] = record.prompt_tokens;
  json["cached_tokens"] = record.cached_tokens;
  json["prefill_ms"] = record.prefill_ms;
  json["decode_ms"] = record.decode_ms;
  return line_of(json);
}

Result<EvalRecord> parse_record(const std::string& line) {
  const Json json = Json::parse(line, nullptr, false);
  if (!json.is_object()) return make_error(Code::kInvalidArgument, "wanted a JSON object");
  EvalRecord record;
  LCRUN_TRY(read(json, "attention", record.key.attention));
  LCRUN_TRY(read(json, "length", record.key.length));
  LCRUN_TRY(read(json, "depth", record.key.depth));
  LCRUN_TRY(read(json, "seed", record.key.seed));
  LCRUN_TRY(read(json, "item", record.key.item));
  LCRUN_TRY(read(json, "reply", record.reply));
  LCRUN_TRY(read(json, "prompt_tokens", record.prompt_tokens));
  LCRUN_TRY(read(json, "cached_tokens", record.cached_tokens));
  LCRUN_TRY(read(json, "prefill_ms", record.prefill_ms));
  LCRUN_TRY(read(json, "decode_ms", record.decode_ms));
  const Json* scores = find(json, "scores");
  if (scores == nullptr || !scores->is_object() || scores->empty()) {
    return make_error(Code::kInvalidArgument, "wanted \"scores\"");
  }
  for (const auto& [name, value] : scores->items()) {
    if (!value.is_number()) return make_error(Code::kInvalidArgument, "wanted a number as score \"{}\"", name);
    record.scores.emplace_back(name, value.get<double>());
  }
  const Json* answers = find(json, "answers");
  if (answers == nullptr || !answers->is_array()) return make_error(Code::kInvalidArgument, "wanted \"answers\"");
  for (const Json& answer : *answers) {
    if (!answer.is_string()) return make_error(Code::kInvalidArgument, "wanted texts as \"answers\"");
    record.answers.push_back(answer.get<std::string>());
  }
  return record;
}

std::string identity_line(const EvalIdentity& identity) {
  Json json;
  json["lcrun_eval"] = kFormat;
  json["task"] = identity.task;
  json["model"] = identity.model;
  json["haystack"] = identity.haystack;
  json["options"] = Json::object();
  for (const auto& [name, value] : identity.options) json["options"][name] = value;
  return line_of(json);
}

Result<EvalFile> EvalFile::open(FileSystem& fs, const std::string& path, const EvalIdentity& identity) {
  EvalFile made;
  const bool is_new = !fs.exists(path);
  LCRUN_TRY(made.lock(fs, path, is_new ? OpenMode::kReplaceShared : OpenMode::kModify));
  // Read only now: nobody else appends any more.
  LCRUN_ASSIGN(const std::string contents, read_text_file(fs, path, kMaxFileBytes));
  const Status valid = made.go_on(contents, identity);
  if (!valid.has_value()) return make_error(valid.error().code, "--out {}{}", path, valid.error().message);
  if (made.end_ < contents.size()) {
    LCRUN_TRY(write_file_atomically(fs, path, std::as_bytes(std::span(contents).first(made.end_))));
    LCRUN_TRY(made.lock(fs, path, OpenMode::kModify));
  }
  if (made.end_ == 0) LCRUN_TRY(made.write_line(identity_line(identity)));
  return made;
}

Status EvalFile::lock(FileSystem& fs, const std::string& path, OpenMode mode) {
  LCRUN_ASSIGN(file_, fs.open(path, mode));
  if (!file_->try_lock(true)) return make_error(Code::kIo, "{}: another process writes its results there", path);
  return {};
}

Status EvalFile::go_on(const std::string& contents, const EvalIdentity& identity) {
  int64_t number = 0;
  for (size_t end = contents.find('\n'); end != std::string::npos; end = contents.find('\n', end_)) {
    const std::string line = contents.substr(end_, end - end_);
    ++number;
    if (number == 1) {
      const Json found = Json::parse(line, nullptr, false);
      if (!found.is_object() || find(found, "lcrun_eval") == nullptr) {
        return make_error(Code::kInvalidArgument, ": found another kind of file, wanted one of lcrun eval");
      }
      const Json wanted = Json::parse(identity_line(identity));
      if (found != wanted) {
        return make_error(Code::kInvalidArgument, ": its results are about something else: {}; give another file",
                          difference(found, wanted));
      }
    } else {
      auto record = parse_record(line);
      if (!record.has_value()) {
        return make_error(Code::kInvalidArgument, ", line {}: {}; the file is damaged", number, record.error().message);
      }
      EvalKey key = record->key;
      records_.insert_or_assign(std::move(key), std::move(record).value());
    }
    end_ = end + 1;
  }
  const bool is_torn_header = number == 0 && identity_line(identity).starts_with(contents);
  if (number == 0 && !contents.empty() && !is_torn_header) {
    return make_error(Code::kInvalidArgument, ": found another kind of file, wanted one of lcrun eval");
  }
  return {};
}

Status EvalFile::append(const EvalRecord& record) {
  LCRUN_TRY(write_line(record_line(record)));
  records_.insert_or_assign(record.key, record);
  return {};
}

Status EvalFile::write_line(const std::string& line) {
  const std::string whole = line + "\n";
  LCRUN_TRY(file_->write_at(end_, std::as_bytes(std::span(whole.data(), whole.size()))));
  end_ += whole.size();
  return {};
}

}  // namespace lcrun::runtime

// Policy files: rows of the table of attention policies that somebody has written, or `lcrun calibrate` has measured.
//
// A row is what a row of the table is (src/attention/policy.hpp), with roles of single layers besides. A file may name
// the model that it was made for, and the row that `auto` takes for it. One that lies beside a model
// (MODEL.policy.json) is found without being asked for. Grammar: docs/formats.md, "Policy files".
// Thread rule: pure functions.
#pragma once

#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "ggufish/model_file.hpp"
#include "src/attention/policy.hpp"
#include "src/base/file.hpp"
#include "src/base/result.hpp"
#include "src/runtime/options.hpp"

namespace lcrun::runtime {

// kInvalidArgument: what is not such a file; the message has `name`, the field, what was found and what was wanted.
Result<attention::PolicyRows> parse_policies(std::string_view text, const std::string& name);
// A file that gives these rows back. `measured`: a JSON object that is kept in it, for people; may be empty.
std::string policies_text(const attention::PolicyRows& rows, const std::string& measured);
// Rows as a JSON array, as a file has them.
std::string rows_text(std::span<const attention::Policy> rows);

// Where a model's own file would be.
std::string policy_path_of(const std::string& model_path);
// In hex, as files have it.
std::string fingerprint_text(const ggufish::ModelFile& file);

// The choice that the options ask for, with the rows of --policy-file, or of the file beside the model, if there is one
// and the choice can depend on it. Errors of reading them.
Result<attention::PolicyChoice> policy_choice(const Options& options, const std::string& model_path, FileSystem& fs);
// The same for a model that is there. Rows of --policy-file that were made for another one are an error; a file beside
// the model that was (the model has been replaced) is left out, with a line in the log.
Result<attention::PolicyChoice> policy_choice_for(const Options& options, const ggufish::ModelFile& file,
                                                  FileSystem& fs);
// kInvalidArgument: the rows were made for another model.
Status check_model_of(const attention::PolicyChoice& choice, const ggufish::ModelFile& file);

}  // namespace lcrun::runtime

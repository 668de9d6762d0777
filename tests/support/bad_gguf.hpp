// A corpus of model files that are wrong in one way each, with the verdict that the reader must give.
//
// Groups: header, keys, tensor table, truncation (every field of a good file, cut there and one byte off),
// split sets. A few files per group are unusual but right: those must be accepted. Thread rule: pure
// functions.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "src/base/result.hpp"
#include "tests/support/raw_gguf.hpp"

namespace lcrun::test {

struct Verdict {
  bool accept = false;
  Code code = Code::kBadModel;
  std::string fragment;  // in the message
};

struct BadFile {
  std::string name;
  Bytes bytes;
  Verdict verdict;
};

std::vector<BadFile> header_files();
std::vector<BadFile> key_files();
std::vector<BadFile> tensor_files();
std::vector<BadFile> truncated_files();

// Several files of a directory; `opened` is the one to open.
struct BadSet {
  std::string name;
  std::vector<std::pair<std::string, Bytes>> files;
  std::string opened;
  Verdict verdict;
};

std::vector<BadSet> split_sets();

// The parts of a good set: `count` files of one tensor each.
std::vector<std::pair<std::string, RawFile>> good_set(int64_t count);

}  // namespace lcrun::test

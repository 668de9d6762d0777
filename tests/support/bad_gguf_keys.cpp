// Files with a wrong header or wrong keys.
#include <limits>
#include <utility>

#include "tests/support/bad_gguf.hpp"

namespace lcrun::test {
namespace {

constexpr uint32_t kU32 = 4, kString = 8, kArray = 9, kBool = 7;
constexpr uint32_t kElementTypes[] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 10, 11, 12};
// What lengths and counts are when someone means harm: just too many, at the limit, and where products wrap.
constexpr uint64_t kHugeCounts[] = {
    (uint64_t{1} << 30) + 1, uint64_t{1} << 31, uint64_t{1} << 32, uint64_t{1} << 61,
    (uint64_t{1} << 61) + 1, uint64_t{1} << 62, uint64_t{1} << 63, std::numeric_limits<uint64_t>::max()};

size_t size_of(uint32_t type) {
  constexpr size_t kSizes[] = {1, 1, 2, 2, 4, 4, 4, 1, 8, 0, 8, 8, 8};  // a string is at least its length
  return kSizes[type];
}

Verdict refused(std::string fragment, Code code = Code::kBadModel) { return {false, code, std::move(fragment)}; }
Verdict accepted() { return {true, Code::kBadModel, {}}; }

// A file of this one key, no tensors, nothing after it.
Bytes only_key(RawKey key) {
  RawFile file;
  file.alignment = 1;
  file.keys = {std::move(key)};
  return file.encode();
}

// The good file with one more key.
BadFile with_key(std::string name, RawKey key, Verdict verdict) {
  RawFile file = good_file();
  file.keys.push_back(std::move(key));
  return {std::move(name), file.encode(), std::move(verdict)};
}

void add_header_prefixes(std::vector<BadFile>& files) {
  const Bytes good = good_file().encode();
  for (size_t size = 0; size < 24; ++size) {
    const char* field = size < 4 ? "magic" : size < 8 ? "version" : size < 16 ? "tensor count" : "key count";
    files.push_back(
        {"prefix " + std::to_string(size), {good.begin(), good.begin() + static_cast<long>(size)}, refused(field)});
  }
}

void add_counts(std::vector<BadFile>& files) {
  // Beyond the limit of the format, or only of what this file has room for.
  std::vector<std::pair<uint64_t, std::string>> wrong = {{1000, "wanted at most "},
                                                         {(uint64_t{1} << 20) + 1, "wanted at most 1048576"}};
  for (const uint64_t count : kHugeCounts) wrong.emplace_back(count, "wanted at most 1048576");
  for (const auto& [count, wanted] : wrong) {
    const std::string text = std::to_string(count);
    RawFile file = good_file();
    file.n_tensors = count;
    files.push_back({"tensor count " + text, file.encode(), refused("tensor count: found " + text + ", " + wanted)});
    file = good_file();
    file.n_keys = count;
    files.push_back({"key count " + text, file.encode(), refused("key count: found " + text + ", " + wanted)});
  }
  RawFile file = good_file();
  file.n_tensors = 4;
  files.push_back({"one tensor too many", file.encode(), refused("tensor 3")});
  file = good_file();
  file.n_keys = 10;
  files.push_back({"one key too many", file.encode(), refused("tensor 0")});
  file = good_file();
  file.n_keys = 8;
  files.push_back({"one key too few", file.encode(), refused("tensor 0")});
}

void add_key_names(std::vector<BadFile>& files) {
  files.push_back(
      with_key("empty key", {"", kU32, scalar_value<uint32_t>(1), {}}, refused("key 9: name: found an empty")));
  for (const size_t size : {size_t{65536}, size_t{1} << 20}) {
    files.push_back(with_key("key of " + std::to_string(size),
                             {std::string(size, 'k'), kU32, scalar_value<uint32_t>(1), {}},
                             refused("key 9: name: found " + std::to_string(size))));
  }
  files.push_back(with_key("longest key", {std::string(65535, 'k'), kU32, scalar_value<uint32_t>(1), {}}, accepted()));
  for (const uint64_t length : kHugeCounts) {
    files.push_back(with_key("key length " + std::to_string(length), {"k", kU32, scalar_value<uint32_t>(1), length},
                             refused("key 9: name: found " + std::to_string(length))));
  }
  files.push_back({"key length past the end", only_key({"a.longer.key", kU32, scalar_value<uint32_t>(1), 60000}),
                   refused("key 0: name")});
  for (int c = 0; c < 33; ++c) {
    const char control = c == 32 ? '\x7f' : static_cast<char>(c);
    files.push_back(with_key("control in key " + std::to_string(c),
                             {std::string("k") + control, kU32, scalar_value<uint32_t>(1), {}},
                             refused("without control characters")));
  }
  const std::string ill_formed[] = {"\x80",
                                    "\xC0\xAF",
                                    "\xC2",
                                    "\xC2"
                                    "A",
                                    "\xE0\x80\x80",
                                    "\xE2\x82",
                                    "\xED\xA0\x80",
                                    "\xF0\x80\x80\x80",
                                    "\xF4\x90\x80\x80",
                                    "\xF5\x80\x80\x80",
                                    "\xFE",
                                    "\xFF",
                                    "\xC2\x85"};
  for (size_t i = 0; i < std::size(ill_formed); ++i) {
    files.push_back(with_key("ill-formed key " + std::to_string(i),
                             {"k" + ill_formed[i], kU32, scalar_value<uint32_t>(1), {}}, refused("UTF-8")));
  }
  files.push_back(with_key("key in other letters",
                           {"sch\xC3\xB6n.\xE2\x82\xAC.\xF0\x9F\x98\x80", kU32, scalar_value<uint32_t>(1), {}},
                           accepted()));
  files.push_back(with_key("key twice", {"a.byte", 0, scalar_value<uint8_t>(7), {}},
                           refused("\"a.byte\": found it a second time")));
  files.push_back(with_key("key twice, other type", {"tokens", kU32, scalar_value<uint32_t>(1), {}},
                           refused("\"tokens\": found it a second time")));
}

void add_value_types(std::vector<BadFile>& files) {
  for (const uint32_t type : {13U, 14U, 99U, 0x7FFFFFFFU, 0x80000000U, 0xFFFFFFFFU}) {
    const std::string found = "found " + std::to_string(type);
    files.push_back(
        with_key("value type " + std::to_string(type), {"k", type, Bytes(8), {}}, refused("value type: " + found)));
    files.push_back(with_key("element type " + std::to_string(type), {"k", kArray, array_value(type, 1, Bytes(8)), {}},
                             refused("element type: " + found)));
  }
  Bytes nested;
  for (int depth = 0; depth < 100000; ++depth) {
    put(nested, kArray);
    put(nested, uint64_t{1});
  }
  files.push_back(
      with_key("arrays nested deep", {"k", kArray, nested, {}}, refused("array of arrays", Code::kUnsupported)));
  files.push_back(with_key("array of arrays", {"k", kArray, array_value(kArray, 1, array_value(0, 1, Bytes(1))), {}},
                           refused("array of arrays", Code::kUnsupported)));
}

void add_cut_values(std::vector<BadFile>& files) {
  for (const uint32_t type : kElementTypes) {
    const std::string of_type = " of type " + std::to_string(type);
    const std::string field = type == kString ? "string: found" : "value: found";
    files.push_back({"no value" + of_type, only_key({"a.longer.key", type, {}, {}}), refused(field)});
    files.push_back(
        {"value cut" + of_type, only_key({"a.longer.key", type, Bytes(size_of(type) - 1), {}}), refused(field)});
    files.push_back({"no array" + of_type, only_key({"a.longer.key", kArray, scalar_value(type), {}}),
                     refused("array count: found")});
    files.push_back({"array cut" + of_type,
                     only_key({"a.longer.key", kArray, array_value(type, 3, Bytes(size_of(type) * 3 - 1)), {}}),
                     refused("array count: found 3")});
    files.push_back(with_key("empty array" + of_type, {"k", kArray, array_value(type, 0, {}), {}}, accepted()));
    for (const uint64_t count : kHugeCounts) {
      files.push_back(with_key("array count " + std::to_string(count) + of_type,
                               {"k", kArray, array_value(type, count, Bytes(16)), {}},
                               refused("array count: found " + std::to_string(count) + ", wanted at most 1073741824")));
    }
  }
}

void add_strings(std::vector<BadFile>& files) {
  for (const uint64_t length : kHugeCounts) {
    const std::string found = "found " + std::to_string(length);
    files.push_back(with_key("string length " + std::to_string(length), {"k", kString, scalar_value(length), {}},
                             refused("string: " + found)));
    Bytes last;
    put_string(last, "fine");
    put(last, length);
    files.push_back(with_key("array string length " + std::to_string(length),
                             {"k", kArray, array_value(kString, 2, last), {}},
                             refused("string of an array: " + found)));
  }
  files.push_back({"string cut",
                   only_key({"a.longer.key",
                             kString,
                             [] {
                               Bytes b;
                               put(b, uint64_t{4});
                               put_text(b, "abc");
                               return b;
                             }(),
                             {}}),
                   refused("string: found 4 bytes")});
  files.push_back(
      with_key("string of any bytes", {"k", kString, string_value(std::string("\0\xff\n", 3)), {}}, accepted()));
}

void add_bools_and_floats(std::vector<BadFile>& files) {
  constexpr uint8_t kWrong[] = {2, 3, 127, 128, 254, 255};
  for (const uint8_t byte : kWrong) {
    const std::string found = "bool: found " + std::to_string(byte);
    files.push_back(with_key("bool " + std::to_string(byte), {"k", kBool, scalar_value(byte), {}}, refused(found)));
    for (size_t at = 0; at < 3; ++at) {
      Bytes flags(3);
      flags[at] = std::byte{byte};
      files.push_back(with_key("bools with " + std::to_string(byte), {"k", kArray, array_value(kBool, 3, flags), {}},
                               refused(found)));
    }
  }
  for (const float number : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity(), 1e-40F}) {
    files.push_back(with_key("odd float", {"k", 6, scalar_value(number), {}}, accepted()));
  }
}

void add_alignments(std::vector<BadFile>& files) {
  const std::string key = "general.alignment";
  for (const uint32_t value :
       {0U, 1U, 2U, 3U, 4U, 5U, 7U, 9U, 24U, 33U, 48U, (1U << 20) + 1, 1U << 21, 1U << 31, 0xFFFFFFFFU}) {
    files.push_back(with_key("alignment " + std::to_string(value), {key, kU32, scalar_value(value), {}},
                             refused(key + ": found " + std::to_string(value))));
  }
  for (const uint32_t type : kElementTypes) {
    if (type == kU32) continue;
    const Bytes value = type == kString ? string_value("32") : Bytes(size_of(type));
    files.push_back(
        with_key("alignment of type " + std::to_string(type), {key, type, value, {}}, refused(key + ": found")));
  }
  files.push_back(with_key("alignments", {key, kArray, array_value(kU32, 1, scalar_value<uint32_t>(32)), {}},
                           refused(key + ": found array")));
  for (const uint32_t value : {8U, 16U, 64U, 1U << 12, 1U << 20}) {
    RawFile file = good_file();
    file.alignment = value;
    file.keys.push_back({key, kU32, scalar_value(value), {}});
    files.push_back({"right alignment " + std::to_string(value), file.encode(), accepted()});
  }
}

}  // namespace

std::vector<BadFile> header_files() {
  std::vector<BadFile> files;
  add_header_prefixes(files);
  for (const char* magic : {"FUGG", "gguf", "lmgg", "fmgg", "tjgg", "PK\x03\x04", "    ", "GGUG"}) {
    RawFile file = good_file();
    file.magic = magic;
    files.push_back({std::string("magic ") + magic, file.encode(), refused("magic: found")});
  }
  for (const uint32_t version :
       {0U, 1U, 4U, 5U, 0x7FFFFFFFU, 0x80000000U, 0xFFFFFFFFU, 0x01000000U, 0x02000000U, 0x03000000U}) {
    RawFile file = good_file();
    file.version = version;
    const bool swapped = version == 0x01000000U || version == 0x02000000U || version == 0x03000000U;
    files.push_back({"version " + std::to_string(version), file.encode(),
                     refused(swapped ? "version: found byte-swapped" : "version: found " + std::to_string(version),
                             version == 0 ? Code::kBadModel : Code::kUnsupported)});
  }
  add_counts(files);
  RawFile old = good_file();
  old.version = 2;
  files.push_back({"version 2", old.encode(), accepted()});
  files.push_back({"nothing but a header", RawFile().encode(), accepted()});
  return files;
}

std::vector<BadFile> key_files() {
  std::vector<BadFile> files;
  add_key_names(files);
  add_value_types(files);
  add_cut_values(files);
  add_strings(files);
  add_bools_and_floats(files);
  add_alignments(files);
  return files;
}

}  // namespace lcrun::test

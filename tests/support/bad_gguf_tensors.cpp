// Files with a wrong tensor table, cut files, split sets that do not fit together.
#include <cstdio>
#include <limits>

#include "quant/format.hpp"
#include "tests/support/bad_gguf.hpp"

namespace lcrun::test {
namespace {

constexpr uint64_t kMinusOne = std::numeric_limits<uint64_t>::max();
constexpr uint64_t kTwo62 = uint64_t{1} << 62;
constexpr uint32_t kAnyType = 64;  // ids looked at for types that exist

Verdict refused(std::string fragment, Code code = Code::kBadModel) { return {false, code, std::move(fragment)}; }
Verdict accepted() { return {true, Code::kBadModel, {}}; }

// A file of these tensors and no keys.
BadFile of_tensors(std::string name, std::vector<RawTensor> tensors, Verdict verdict) {
  RawFile file;
  file.tensors = std::move(tensors);
  // Sizes that no one can write: the table says so, the data are not there.
  for (const RawTensor& tensor : file.tensors) {
    if (tensor.size_bytes > (1 << 20)) file.data_bytes = 64;
  }
  return {std::move(name), file.encode(), std::move(verdict)};
}

RawTensor f32(std::string name, std::vector<uint64_t> ne, uint64_t size_bytes) {
  return {std::move(name), std::move(ne), 0, size_bytes, {}, {}, {}};
}

void add_shapes(std::vector<BadFile>& files) {
  for (const uint32_t dims : {0U, 5U, 6U, 255U, 0x7FFFFFFFU, 0x80000000U, 0xFFFFFFFFU}) {
    RawTensor tensor = f32("t", {8}, 32);
    tensor.n_dims = dims;
    files.push_back(of_tensors("dims " + std::to_string(dims), {tensor},
                               refused("dimension count: found " + std::to_string(dims))));
  }
  for (size_t dims = 1; dims <= 4; ++dims) {
    for (size_t at = 0; at < dims; ++at) {
      for (const uint64_t wrong : {uint64_t{0}, kMinusOne, uint64_t{1} << 63, (uint64_t{1} << 63) + 1}) {
        std::vector<uint64_t> ne(dims, 8);
        ne[at] = wrong;
        files.push_back(of_tensors("length " + std::to_string(wrong), {f32("t", ne, 32)},
                                   refused("dimension: found " + std::to_string(static_cast<int64_t>(wrong)))));
      }
    }
  }
  const std::vector<std::vector<uint64_t>> wrapping = {
      {kTwo62, 2},
      {kTwo62, 4},
      {uint64_t{1} << 32, uint64_t{1} << 32},
      {2, kTwo62},
      {3, 3, kTwo62},
      {1, 1, kTwo62, 4},
      {uint64_t{1} << 16, uint64_t{1} << 16, uint64_t{1} << 16, uint64_t{1} << 16},
      {(uint64_t{1} << 33) - 1, (uint64_t{1} << 33) + 1}};
  for (const auto& ne : wrapping) {
    files.push_back(of_tensors("product wraps", {f32("t", ne, 32)}, refused("dimension: found")));
  }
}

void add_sizes(std::vector<BadFile>& files) {
  // The product can be held, the bytes cannot.
  const std::vector<std::vector<uint64_t>> wrapping = {{uint64_t{1} << 61},
                                                       {kTwo62},
                                                       {(uint64_t{1} << 63) - 1},
                                                       {uint64_t{1} << 30, uint64_t{1} << 31},
                                                       {1, kTwo62},
                                                       {4, uint64_t{1} << 60},
                                                       {1024, 1024, 1024, uint64_t{1} << 32}};
  for (const auto& ne : wrapping) {
    files.push_back(of_tensors("bytes wrap", {f32("t", ne, 32)}, refused("size: found more than 2^63 bytes")));
  }
  // Each fits, the sum does not; and one that only the padding pushes over.
  const uint64_t quarter = uint64_t{1} << 60;
  files.push_back(of_tensors("sum wraps", {f32("a", {quarter}, quarter * 4), f32("b", {quarter}, quarter * 4)},
                             refused("\"b\": size")));
  const uint64_t most = (uint64_t{1} << 63) - 1;
  files.push_back(
      of_tensors("padding wraps", {{"a", {most}, 24, most, {}, {}, {}}, f32("b", {8}, 32)}, refused("\"a\": size")));
  for (const uint64_t elements : {uint64_t{1} << 20, uint64_t{1} << 40, uint64_t{1} << 58}) {
    files.push_back(
        of_tensors("exabytes over a small file", {f32("a", {elements}, 1 << 21)}, refused("data: found a file of")));
  }
}

void add_types(std::vector<BadFile>& files) {
  for (const uint32_t type : {4U, 5U, 31U, 32U, 33U, 36U, 37U, 38U}) {
    RawTensor tensor{"t", {256}, type, 256, {}, {}, {}};
    files.push_back(
        of_tensors("removed type " + std::to_string(type), {tensor}, refused("re-quantise", Code::kUnsupported)));
  }
  for (const uint32_t type : {43U, 44U, 50U, 63U, 1000U, 0x7FFFFFFFU}) {
    RawTensor tensor{"t", {256}, type, 256, {}, {}, {}};
    files.push_back(of_tensors("unknown type " + std::to_string(type), {tensor},
                               refused("type: found type " + std::to_string(type), Code::kUnsupported)));
  }
  for (const uint32_t type : {0x80000000U, 0xFFFFFFFFU, 0xFFFFFF00U}) {
    RawTensor tensor{"t", {256}, type, 256, {}, {}, {}};
    files.push_back(
        of_tensors("negative type", {tensor}, refused("type: found " + std::to_string(static_cast<int32_t>(type)))));
  }
  for (uint32_t id = 0; id < kAnyType; ++id) {
    const quant::TypeInfo* type = quant::find_type(static_cast<DType>(id));
    if (type == nullptr || type->removed) continue;
    const auto block = static_cast<uint64_t>(type->block_size);
    const auto row_bytes = static_cast<uint64_t>(type->block_bytes) * 2;
    files.push_back(of_tensors(std::string("every type: ") + type->name,
                               {{"t", {block * 2, 3}, id, row_bytes * 3, {}, {}, {}}}, accepted()));
    if (block == 1) continue;
    for (const uint64_t row : {uint64_t{1}, block - 1, block + 1, block * 2 - 1}) {
      files.push_back(of_tensors(std::string("row of ") + type->name, {{"t", {row, block}, id, row_bytes, {}, {}, {}}},
                                 refused("row length: found " + std::to_string(row))));
    }
  }
}

void add_names(std::vector<BadFile>& files) {
  files.push_back(of_tensors("empty name", {f32("", {8}, 32)}, refused("tensor 0: name: found an empty")));
  for (const size_t size : {64UL, 65UL, 1000000UL}) {
    files.push_back(of_tensors("name of " + std::to_string(size), {f32(std::string(size, 'n'), {8}, 32)},
                               refused("name: found " + std::to_string(size))));
  }
  files.push_back(of_tensors("longest name", {f32(std::string(63, 'n'), {8}, 32)}, accepted()));
  for (const uint64_t length : {uint64_t{1} << 31, uint64_t{1} << 32, kTwo62, uint64_t{1} << 63, kMinusOne}) {
    RawTensor tensor = f32("t", {8}, 32);
    tensor.name_length = length;
    files.push_back(of_tensors("name length " + std::to_string(length), {tensor},
                               refused("name: found " + std::to_string(length))));
  }
  for (const std::string& name :
       {std::string("a\0b", 3), std::string("\n"), std::string("\x1b[2J"), std::string("\xff"), std::string("\xC2")}) {
    files.push_back(of_tensors("name not text", {f32(name, {8}, 32)}, refused("name: found")));
  }
  files.push_back(
      of_tensors("name twice", {f32("t", {8}, 32), f32("u", {8}, 32), f32("t", {8}, 32)}, refused("tensor 2 \"t\"")));
}

void add_offsets(std::vector<BadFile>& files) {
  for (const uint64_t wrong : {uint64_t{0}, uint64_t{1}, uint64_t{31}, uint64_t{33}, uint64_t{64}, uint64_t{1} << 40,
                               kTwo62, uint64_t{1} << 63, kMinusOne, kMinusOne - 31}) {
    RawTensor second = f32("second", {8}, 32);
    second.offset = wrong;
    files.push_back(of_tensors("second offset " + std::to_string(wrong), {f32("first", {8}, 32), second},
                               refused("\"second\": offset: found " + std::to_string(wrong))));
    if (wrong == 0) continue;
    RawTensor first = f32("first", {8}, 32);
    first.offset = wrong;
    files.push_back(of_tensors("first offset " + std::to_string(wrong), {first},
                               refused("\"first\": offset: found " + std::to_string(wrong))));
  }
  RawFile no_data = good_file();
  no_data.data_bytes = 0;
  files.push_back({"no data", no_data.encode(), refused("data: found a file of")});
  Bytes longer = good_file().encode();
  longer.resize(longer.size() + 1000);
  files.push_back({"bytes after the last tensor", longer, accepted()});
}

std::string part_name(int64_t number, int64_t count) {
  char name[64];
  std::snprintf(name, sizeof(name), "m-%05d-of-%05d.gguf", static_cast<int>(number), static_cast<int>(count));
  return name;
}

RawKey u16_key(std::string name, uint16_t value) { return {std::move(name), 2, scalar_value(value), {}}; }

// A good set of three with one thing changed.
template <class Change>
BadSet changed_set(std::string name, std::string fragment, const Change& change) {
  auto parts = good_set(3);
  change(parts);
  BadSet set{std::move(name), {}, part_name(1, 3), refused(std::move(fragment))};
  for (const auto& [file, raw] : parts) set.files.emplace_back(file, raw.encode());
  return set;
}

using Parts = std::vector<std::pair<std::string, RawFile>>;

void add_broken_parts(std::vector<BadSet>& sets) {
  for (size_t i = 1; i < 3; ++i) {
    const auto number = static_cast<int64_t>(i + 1);
    const std::string label = "part " + std::to_string(number) + " of 3";
    sets.push_back(changed_set("missing " + label, "part " + std::to_string(number) + " of the 3 files",
                               [&](Parts& p) { p.erase(p.begin() + static_cast<long>(i)); }));
    sets.push_back(changed_set("twice: first as " + label, "split.no: found part 1 of 3, wanted " + label,
                               [&](Parts& p) { p[i].second = p[0].second; }));
    sets.push_back(changed_set("other number in " + label, "split.no",
                               [&](Parts& p) { p[i].second.keys[0] = u16_key("split.no", 9); }));
    sets.push_back(changed_set("other count in " + label, "split.count: found 4, wanted 3",
                               [&](Parts& p) { p[i].second.keys[1] = u16_key("split.count", 4); }));
    sets.push_back(changed_set("no number in " + label, "split.no: found nothing",
                               [&](Parts& p) { p[i].second.keys[0].name = "other"; }));
    sets.push_back(changed_set("no count in " + label, "split.count: found nothing",
                               [&](Parts& p) { p[i].second.keys[1].name = "other"; }));
    sets.push_back(changed_set("other total in " + label, "split.tensors.count: found 5",
                               [&](Parts& p) { p[i].second.keys[2].value = scalar_value<int32_t>(5); }));
    sets.push_back(changed_set("other model as " + label, "general.architecture: found \"gemma3\"", [&](Parts& p) {
      p[i].second.keys.push_back({"general.architecture", 8, string_value("gemma3"), {}});
    }));
    sets.push_back(changed_set("tensor of another part in " + label, "a second time",
                               [&](Parts& p) { p[i].second.tensors[0].name = "t0"; }));
    sets.push_back(changed_set("no tensor in " + label, "split.tensors.count: found 3",
                               [&](Parts& p) { p[i].second.tensors.clear(); }));
    sets.push_back(changed_set("no model in " + label, "magic", [&](Parts& p) { p[i].second.magic = "junk"; }));
    sets.push_back(changed_set("cut data in " + label, part_name(number, 3) + ": offset",
                               [&](Parts& p) { p[i].second.data_bytes = 1; }));
    BadSet later = changed_set("opened by " + label, "the first part: open", [](Parts&) {});
    later.opened = part_name(number, 3);
    later.verdict.fragment = part_name(1, 3);
    sets.push_back(later);
  }
}

void add_broken_first(std::vector<BadSet>& sets) {
  sets.push_back(changed_set("count 0", "split.count: found 0",
                             [](Parts& p) { p[0].second.keys[1] = u16_key("split.count", 0); }));
  sets.push_back(changed_set("count not of the name", "split.count: found 4",
                             [](Parts& p) { p[0].second.keys[1] = u16_key("split.count", 4); }));
  sets.push_back(changed_set("count text", "split.count: found string", [](Parts& p) {
    p[0].second.keys[1] = {"split.count", 8, string_value("3"), {}};
  }));
  sets.push_back(changed_set("count huge", "split.count: found", [](Parts& p) {
    p[0].second.keys[1] = {"split.count", 10, scalar_value(kMinusOne), {}};
  }));
  sets.push_back(changed_set("count 100000", "split.count: found 100000, wanted 1 to 99999", [](Parts& p) {
    p[0].second.keys[1] = {"split.count", 4, scalar_value<uint32_t>(100000), {}};
  }));
  sets.push_back(changed_set("number negative", "split.no: found -1", [](Parts& p) {
    p[0].second.keys[0] = {"split.no", 3, scalar_value<int16_t>(-1), {}};
  }));
  sets.push_back(changed_set("number too high", "split.no: found 3",
                             [](Parts& p) { p[0].second.keys[0] = u16_key("split.no", 3); }));
  sets.push_back(
      changed_set("no number", "split.no: found nothing", [](Parts& p) { p[0].second.keys[0].name = "other"; }));
  sets.push_back(changed_set("number without count", "split.count: found nothing",
                             [](Parts& p) { p[0].second.keys[1].name = "other"; }));
  sets.push_back(changed_set("no total", "split.tensors.count: found nothing",
                             [](Parts& p) { p[0].second.keys[2].name = "other"; }));
  sets.push_back(changed_set("wrong total everywhere", "split.tensors.count: found 4", [](Parts& p) {
    for (auto& part : p) part.second.keys[2].value = scalar_value<int32_t>(4);
  }));
  BadSet misnamed = changed_set("first part with another name", "a name that ends in -00001-of-00003",
                                [](Parts& p) { p[0].first = "model.gguf"; });
  misnamed.opened = "model.gguf";
  sets.push_back(misnamed);
  BadSet swapped = changed_set("first part named like the second", "as the file name says",
                               [](Parts& p) { p[1].second = p[0].second; });
  swapped.opened = part_name(2, 3);
  sets.push_back(swapped);
}

}  // namespace

std::vector<BadFile> tensor_files() {
  std::vector<BadFile> files;
  add_shapes(files);
  add_sizes(files);
  add_types(files);
  add_names(files);
  add_offsets(files);
  return files;
}

std::vector<BadFile> truncated_files() {
  std::vector<size_t> boundaries;
  const Bytes good = good_file().encode(&boundaries);
  // The last boundary is the end of the padding, the one before it the end of the data, which is all that
  // counts.
  const size_t end_of_data = boundaries[boundaries.size() - 2];
  std::vector<BadFile> files;
  for (const size_t boundary : boundaries) {
    for (const size_t size : {boundary - 1, boundary, boundary + 1}) {
      if (size > good.size()) continue;  // one before the start, one after the end
      const Verdict verdict = size >= end_of_data ? accepted() : refused("found");
      files.push_back(
          {"cut at " + std::to_string(size), {good.begin(), good.begin() + static_cast<long>(size)}, verdict});
    }
  }
  return files;
}

std::vector<std::pair<std::string, RawFile>> good_set(int64_t count) {
  std::vector<std::pair<std::string, RawFile>> parts;
  for (int64_t i = 0; i < count; ++i) {
    RawFile file;
    file.keys = {u16_key("split.no", static_cast<uint16_t>(i)),
                 u16_key("split.count", static_cast<uint16_t>(count)),
                 {"split.tensors.count", 5, scalar_value(static_cast<int32_t>(count)), {}}};
    if (i == 0) file.keys.push_back({"general.architecture", 8, string_value("llama"), {}});
    file.tensors = {f32("t" + std::to_string(i), {static_cast<uint64_t>(i) + 1}, static_cast<uint64_t>(i + 1) * 4)};
    parts.emplace_back(part_name(i + 1, count), file);
  }
  return parts;
}

std::vector<BadSet> split_sets() {
  std::vector<BadSet> sets;
  add_broken_parts(sets);
  add_broken_first(sets);
  BadSet good = changed_set("a good set", "", [](Parts&) {});
  good.verdict = accepted();
  sets.push_back(good);
  BadSet same = changed_set("architecture told again", "", [](Parts& p) {
    p[2].second.keys.push_back({"general.architecture", 8, string_value("llama"), {}});
  });
  same.verdict = accepted();
  sets.push_back(same);
  BadSet one{"a set of one under any name", {{"any.bin", good_set(1)[0].second.encode()}}, "any.bin", accepted()};
  sets.push_back(one);
  BadSet plain{
      "a single file named like a part", {{part_name(2, 7), good_file().encode()}}, part_name(2, 7), accepted()};
  sets.push_back(plain);
  return sets;
}

}  // namespace lcrun::test

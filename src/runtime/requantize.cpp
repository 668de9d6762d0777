#include "src/runtime/requantize.hpp"

#include <algorithm>
#include <cmath>
#include <filesystem>

#include "ggufish/writer.hpp"
#include "quant/format.hpp"
#include "src/base/format.hpp"

namespace lcrun::runtime {
namespace {

// Value of general.file_type for files mostly of a type, as GGUF's converters write it (on disk).
struct FileType {
  DType dtype;
  uint32_t id;
};
constexpr FileType kFileTypes[] = {{DType::kF32, 0},     {DType::kF16, 1},     {DType::kQ4_0, 2},  {DType::kQ4_1, 3},
                                   {DType::kQ8_0, 7},    {DType::kQ5_0, 8},    {DType::kQ5_1, 9},  {DType::kQ2_K, 10},
                                   {DType::kQ3_K, 11},   {DType::kQ4_K, 14},   {DType::kQ5_K, 16}, {DType::kQ6_K, 18},
                                   {DType::kIQ4_NL, 25}, {DType::kIQ4_XS, 30}, {DType::kBF16, 32}};
constexpr uint32_t kQuantizationVersion = 2;

// What stands in when a row is not a whole number of blocks: first a type of blocks of 32, at last F16.
DType fallback_of(DType type) {
  switch (type) {
    case DType::kQ2_K:
    case DType::kQ3_K:
    case DType::kIQ4_XS:
      return DType::kIQ4_NL;
    case DType::kQ4_K:
      return DType::kQ5_0;
    case DType::kQ5_K:
      return DType::kQ5_1;
    case DType::kQ6_K:
      return DType::kQ8_0;
    default:
      return DType::kF16;
  }
}

bool fits(DType type, int64_t cols) {
  const quant::TypeInfo* info = quant::find_type(type);
  return info != nullptr && cols % info->block_size == 0;
}

bool can_write(DType type) {
  const quant::QuantOps* ops = quant::find_ops(type);
  return ops != nullptr && ops->quantize != nullptr;
}

bool stays(const ggufish::TensorEntry& tensor) {
  const std::string_view name = tensor.name;
  const auto contains = [&](std::string_view part) { return name.find(part) != std::string_view::npos; };
  return tensor.view.rows() == 1 || !contains("weight") || contains("_norm.") || contains("ffn_gate_inp") ||
         contains("ssm_conv1d") || contains("rope_freqs");
}

DType type_for(const ggufish::TensorEntry& tensor, DType wanted, bool& fell_back) {
  fell_back = false;
  if (stays(tensor)) return tensor.view.dtype;
  if (fits(wanted, tensor.view.cols())) return wanted;
  fell_back = true;
  const DType second = fallback_of(wanted);
  return fits(second, tensor.view.cols()) && can_write(second) ? second : DType::kF16;
}

Status check_paths(const std::string& from, const std::string& to) {
  std::error_code error;
  if (from == to || std::filesystem::equivalent(from, to, error)) {
    return make_error(Code::kInvalidArgument, "{} and {} are one file; wanted another name for the output", from, to);
  }
  return {};
}

void copy_keys(const ggufish::ModelFile& file, DType type, ggufish::Writer& writer) {
  for (const auto& entry : file.meta().entries()) {
    const bool replaced = entry.key == "general.file_type" || entry.key == "general.quantization_version" ||
                          entry.key.substr(0, 6) == "split.";
    if (!replaced) writer.copy_key(file, entry.key);
  }
  for (const FileType& known : kFileTypes) {
    if (known.dtype == type) writer.add_u32("general.file_type", known.id);
  }
  writer.add_u32("general.quantization_version", kQuantizationVersion);
}

std::vector<int64_t> shape_of(const TensorView& view) {
  std::vector<int64_t> shape(view.ne.begin(), view.ne.end());
  while (shape.size() > 1 && shape.back() == 1) shape.pop_back();
  return shape;
}

}  // namespace

double RequantizeReport::rmse() const {
  double squares = 0;
  int64_t n = 0;
  for (const auto& tensor : tensors) {
    squares += tensor.report.rmse * tensor.report.rmse * static_cast<double>(tensor.report.n);
    n += tensor.report.n;
  }
  return n == 0 ? 0 : std::sqrt(squares / static_cast<double>(n));
}

double RequantizeReport::max_error() const {
  double largest = 0;
  for (const auto& tensor : tensors) largest = std::max(largest, tensor.report.max_error);
  return largest;
}

uint64_t RequantizeReport::from_bytes() const {
  uint64_t total = 0;
  for (const auto& tensor : tensors) total += tensor.from_bytes;
  return total;
}

uint64_t RequantizeReport::to_bytes() const {
  uint64_t total = 0;
  for (const auto& tensor : tensors) total += tensor.to_bytes;
  return total;
}

Result<DType> writable_type(std::string_view name) {
  const quant::TypeInfo* info = quant::find_type(name);
  if (info == nullptr || !can_write(info->dtype)) {
    return make_error(Code::kUnsupported, "type {}: cannot be written; supported: {}", name,
                      quant::supported_types(true));
  }
  return info->dtype;
}

Result<RequantizeReport> requantize(FileSystem& fs, const std::string& from, const std::string& to, DType type,
                                    int n_threads, const std::function<bool(int64_t, int64_t)>& progress) {
  LCRUN_TRY(check_paths(from, to));
  LCRUN_ASSIGN(const auto file, ggufish::ModelFile::open(from, ggufish::LoadMode::kMmap, fs));
  ggufish::Writer writer;
  copy_keys(*file, type, writer);
  RequantizeReport report;
  const auto entries = file->tensors();
  report.tensors.resize(entries.size());
  for (size_t i = 0; i < entries.size(); ++i) {
    const auto& entry = entries[i];
    RequantizedTensor& made = report.tensors[i];
    made.name = std::string(entry.name);
    made.from = entry.view.dtype;
    made.to = type_for(entry, type, made.fell_back);
    made.from_bytes = entry.view.size_bytes;
    made.to_bytes = entry.view.size_bytes;
    if (made.to == made.from) {
      writer.add_tensor_view(entry.name, made.to, shape_of(entry.view), {entry.view.data, entry.view.size_bytes});
      continue;
    }
    LCRUN_ASSIGN(made.to_bytes, quant::quantized_bytes(entry.view, made.to));
    const auto total = static_cast<int64_t>(entries.size());
    // Called while the file is written, so that one tensor at a time is in memory.
    writer.add_tensor_made(
        entry.name, made.to, shape_of(entry.view), [&, i, total]() -> Result<std::vector<std::byte>> {
          if (progress && !progress(static_cast<int64_t>(i), total)) {
            return make_error(Code::kCancelled, "quantising was stopped");
          }
          std::vector<std::byte> bytes(static_cast<size_t>(report.tensors[i].to_bytes));
          LCRUN_ASSIGN(report.tensors[i].report,
                       quant::quantize_tensor(entries[i].view, report.tensors[i].to, bytes, n_threads));
          LCRUN_TRY(file->status());
          file->drop_pages(entries[i].view);
          return bytes;
        });
  }
  LCRUN_TRY(writer.write(fs, to));
  const Status whole = file->status();
  if (whole.has_value()) return report;
  static_cast<void>(fs.remove(to));  // tensors that were copied may be zeros
  return Error(whole.error());
}

}  // namespace lcrun::runtime

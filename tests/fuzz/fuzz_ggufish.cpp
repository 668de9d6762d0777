// Fuzz target: bytes -> ModelFile, then everything that can be asked of it.
//
// Laws: no crash and no read outside the input, whatever the bytes are; a refusal has a message with the name
// of the file; what was accepted can be written again by our own writer and reads back with the same keys and
// tensors.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "ggufish/model_file.hpp"
#include "ggufish/writer.hpp"
#include "src/base/check.hpp"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);

namespace {

using namespace lcrun;
using namespace lcrun::ggufish;

// Every typed look-up of every key; the right one must succeed where the entry says what the value is.
void ask_for_keys(const Metadata& meta) {
  for (const Metadata::Entry& entry : meta.entries()) {
    LCRUN_CHECK(meta.has(entry.key));
    LCRUN_CHECK(meta.is_array(entry.key) == (entry.type == ValueType::kArray));
    LCRUN_CHECK(!meta.encoded(entry.key).empty());
    LCRUN_CHECK(entry.text.size() < 1024);
    (void)meta.get_int(entry.key);
    (void)meta.get_float(entry.key);
    (void)meta.get_bool(entry.key);
    const bool is_text = meta.get_string(entry.key).has_value();
    LCRUN_CHECK(is_text == (entry.type == ValueType::kString));
    const auto ints = meta.get_ints(entry.key);
    LCRUN_CHECK(!ints.has_value() || ints->size() == entry.count);
    const auto floats = meta.get_floats(entry.key);
    LCRUN_CHECK(!floats.has_value() || floats->size() == entry.count);
    const auto strings = meta.get_strings(entry.key);
    LCRUN_CHECK(!strings.has_value() || strings->size() == entry.count);
  }
}

void touch_tensors(const ModelFile& file) {
  unsigned sum = 0;
  for (const TensorEntry& entry : file.tensors()) {
    const TensorView* view = file.find_tensor(entry.name);
    LCRUN_CHECK(view != nullptr && view->data == entry.view.data);
    LCRUN_CHECK(view->row_bytes * static_cast<uint64_t>(view->rows()) == view->size_bytes);
    for (uint64_t i = 0; i < view->size_bytes; ++i) sum += static_cast<unsigned>(view->data[i]);
    file.drop_pages(*view);
  }
  // The sum is used, so that the reads stay.
  if (sum == 0xFFFFFFFFU) std::abort();
}

void write_again(const ModelFile& file) {
  Writer writer;
  for (const Metadata::Entry& entry : file.meta().entries()) writer.copy_key(file, entry.key);
  for (const TensorEntry& entry : file.tensors()) {
    writer.add_tensor_view(entry.name, entry.view.dtype, entry.view.ne,
                           {entry.view.data, static_cast<size_t>(entry.view.size_bytes)});
  }
  const auto bytes = writer.finish();
  LCRUN_CHECK(bytes.has_value());
  const auto again = ModelFile::parse(*bytes, "again");
  LCRUN_CHECK(again.has_value());
  LCRUN_CHECK((*again)->meta().entries().size() == file.meta().entries().size());
  LCRUN_CHECK((*again)->tensors().size() == file.tensors().size());
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  // A block of exactly this size, aligned as the contract asks: a sanitizer sees one byte too many.
  const std::vector<std::byte> bytes(reinterpret_cast<const std::byte*>(data),
                                     reinterpret_cast<const std::byte*>(data) + size);
  const auto opened = ModelFile::parse(bytes, "fuzz.gguf");
  if (!opened.has_value()) {
    LCRUN_CHECK(opened.error().message.find("fuzz.gguf: ") == 0);
    return 0;
  }
  ask_for_keys((*opened)->meta());
  touch_tensors(**opened);
  // A huge legal alignment makes the copy big; it proves nothing more.
  if (size < (size_t{1} << 16) && (*opened)->meta().int_or("general.alignment", 0).value() <= 4096) {
    write_again(**opened);
  }
  return 0;
}

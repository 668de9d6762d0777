// Bytes -> keys and tensor directory of one GGUF file. Pure: no files, no globals, nothing kept but views.
//
// Every rule about a file is checked here. Time is linear in the bytes read (n log n in the number of keys
// and tensors), memory is proportional to what was really found, and nothing recurses. Thread rule: pure
// function.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "ggufish/metadata.hpp"
#include "ggufish/model_file.hpp"
#include "src/base/result.hpp"

namespace lcrun::ggufish {

struct FilePart {
  uint32_t version = 0;
  uint64_t data_offset = 0;  // start of the tensor data
  std::unique_ptr<const MetadataTable> meta;
  std::vector<TensorEntry> tensors;  // in file order; views into the bytes, offsets from the start of the file
};

// `name` stands for the file in messages. The bytes must outlive the result.
Result<FilePart> read_part(std::span<const std::byte> bytes, const std::string& name);

}  // namespace lcrun::ggufish

// A file that is cut short, or whose disk fails, while it is mapped: reading there is SIGBUS. The guard turns that into
// an error.
//
// Mappings are entered in a table. When one of them faults, all of it from that page on becomes zeros, and the entry
// says so: whoever computed with it asks afterwards, before anything that came of it is used (Mapping::status()). The
// handler belongs to the whole process, so it is installed on request: lcrun does, and a program that embeds us may
// (lcrun_guard_mappings). A fault anywhere else goes to the handler that was there before.
// Thread rule: any thread; the handler takes no locks and allocates nothing.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "src/base/result.hpp"

namespace lcrun {

// From now on faults in guarded memory are survived. Does nothing the second time. kIo: the system refused.
Status install_mapping_guard();

// An entry in the table. When the table is full (1,024 mappings), or before install_mapping_guard(), a fault stays
// what it is.
class MappingEntry {
 public:
  explicit MappingEntry(std::span<const std::byte> memory);
  ~MappingEntry();
  MappingEntry(const MappingEntry&) = delete;
  MappingEntry& operator=(const MappingEntry&) = delete;

  // Has a part of the memory turned out not to be there?
  bool is_lost() const;

 private:
  int slot_ = -1;
};

}  // namespace lcrun

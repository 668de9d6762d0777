// A disk that is soon full: a tmpfs of its own for a test, where the system lets us mount one (as root).
//
// Thread rule: one thread.
#pragma once

#include <sys/mount.h>

#include <cerrno>
#include <cstring>
#include <iostream>
#include <string>

#include "tests/support/temp_dir.hpp"

namespace lcrun::test {

class SmallDisk {
 public:
  // `test` is named in the line that says why it is skipped.
  SmallDisk(const std::string& test, const std::string& size) {
    mounted_ = mount("tmpfs", dir_.path().c_str(), "tmpfs", 0, ("size=" + size).c_str()) == 0;
    if (mounted_) return;
    std::cout << "SKIPPED: " << test << ": no small tmpfs may be mounted here (" << std::strerror(errno) << ")\n";
  }
  SmallDisk(const SmallDisk&) = delete;
  SmallDisk& operator=(const SmallDisk&) = delete;
  ~SmallDisk() {
    if (mounted_) umount2(dir_.path().c_str(), MNT_DETACH);
  }
  bool mounted() const { return mounted_; }
  const std::string& path() const { return dir_.path(); }

 private:
  TempDir dir_;
  bool mounted_ = false;
};

}  // namespace lcrun::test

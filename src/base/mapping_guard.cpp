#include "src/base/mapping_guard.hpp"

#include <sys/mman.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstring>

#include "src/base/format.hpp"

namespace lcrun {
namespace {

constexpr size_t kSlots = 1024;

// begin == 0: free. A slot is taken by begin and made visible by end, and given back in the other order.
struct Slot {
  std::atomic<uintptr_t> begin{0};
  std::atomic<uintptr_t> end{0};
  std::atomic<bool> lost{false};
};
static_assert(std::atomic<uintptr_t>::is_always_lock_free && std::atomic<bool>::is_always_lock_free);

std::array<Slot, kSlots> slots;
std::atomic<size_t> used_slots{0};  // no slot behind it was ever taken
std::atomic<bool> installed{false};
struct sigaction before {};
uintptr_t page_bytes = 4096;

// The memory of a slot from the faulting page on becomes zeros. Several threads may come here for the same one.
bool replace(uintptr_t address) {
  const size_t count = used_slots.load(std::memory_order_acquire);
  for (size_t i = 0; i < count; ++i) {
    Slot& slot = slots[i];
    const uintptr_t end = slot.end.load(std::memory_order_acquire);
    if (address < slot.begin.load(std::memory_order_acquire) || address >= end) continue;
    slot.lost.store(true, std::memory_order_release);
    const uintptr_t first = address / page_bytes * page_bytes;
    void* place = reinterpret_cast<void*>(first);  // NOLINT: an address of the system's
    return mmap(place, end - first, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) != MAP_FAILED;
  }
  return false;
}

extern "C" void on_bus_error(int number, siginfo_t* info, void* context) {
  const int kept = errno;
  const bool survived = replace(reinterpret_cast<uintptr_t>(info->si_addr));
  errno = kept;
  if (survived) return;
  if ((before.sa_flags & SA_SIGINFO) != 0 && before.sa_sigaction != nullptr) {
    return before.sa_sigaction(number, info, context);
  }
  if (before.sa_handler != SIG_DFL && before.sa_handler != SIG_IGN) return before.sa_handler(number);
  // Not ours: the same access again ends the process as it would have.
  std::signal(SIGBUS, SIG_DFL);
}

}  // namespace

Status install_mapping_guard() {
  if (installed.exchange(true)) return {};
  page_bytes = static_cast<uintptr_t>(sysconf(_SC_PAGESIZE));
  struct sigaction action {};
  action.sa_sigaction = on_bus_error;
  action.sa_flags = SA_SIGINFO;
  sigemptyset(&action.sa_mask);
  if (sigaction(SIGBUS, &action, &before) == 0) return {};
  installed = false;
  return make_error(Code::kIo, "guarding mapped files: {}", std::strerror(errno));
}

MappingEntry::MappingEntry(std::span<const std::byte> memory) {
  if (memory.empty()) return;
  const auto begin = reinterpret_cast<uintptr_t>(memory.data());
  for (size_t i = 0; i < kSlots; ++i) {
    uintptr_t none = 0;
    if (!slots[i].begin.compare_exchange_strong(none, begin)) continue;
    slots[i].lost = false;
    for (size_t known = used_slots; known < i + 1 && !used_slots.compare_exchange_weak(known, i + 1);) {
    }
    slots[i].end.store(begin + memory.size(), std::memory_order_release);
    slot_ = static_cast<int>(i);
    return;
  }
}

MappingEntry::~MappingEntry() {
  if (slot_ < 0) return;
  Slot& slot = slots[static_cast<size_t>(slot_)];
  slot.end = 0;
  slot.begin = 0;
}

bool MappingEntry::is_lost() const {
  return slot_ >= 0 && slots[static_cast<size_t>(slot_)].lost.load(std::memory_order_acquire);
}

}  // namespace lcrun

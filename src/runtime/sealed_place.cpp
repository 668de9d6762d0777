#include "src/runtime/sealed_place.hpp"

#include <algorithm>
#include <numeric>

#include "src/base/log.hpp"
#include "src/runtime/budget.hpp"

namespace lcrun::runtime {
namespace {

using storage::PageSource;
using storage::SequenceState;

constexpr uint32_t kReadDepth = 64;     // requests under way, each of many pages
constexpr int64_t kRoomTokens = 16384;  // beside those to come: a wave of blocks of each layer, and some to spare

struct Room {
  uint64_t file = 0;    // bytes of blocks in the file
  uint64_t memory = 0;  // that blocks may take
};

Room room_for(const storage::Snapshot& snapshot, const LoadRequest& request) {
  const auto append = request.like.append_bytes();
  const auto blocks = static_cast<uint64_t>((request.n_ctx + storage::kBlockTokens - 1) / storage::kBlockTokens);
  const uint64_t paged = blocks * std::accumulate(append.begin(), append.end(), uint64_t{0});
  const uint64_t all = request.model.state_bytes(request.cache, request.n_ctx);
  const uint64_t others = all > paged ? all - paged : 0;
  const uint64_t cap = request.max_state_bytes != 0 ? request.max_state_bytes : available_memory_bytes();
  return {snapshot.block_bytes(), cap > others ? cap - others : 0};
}

bool is_mapped(const LoadRequest& request, const Room& room) {
  if (request.paging.sealed == SealedForm::kMapped) return true;
  // Where the context does not fit in memory, its frames have taken what there is.
  return request.paging.sealed == SealedForm::kAuto && request.like.store() == nullptr && room.file <= room.memory;
}

// A state with pages: of the same store, or of one for what is still to come.
Result<SequenceState> state_with_pages(const LoadRequest& request, int64_t tokens, const Room& room, bool mapped) {
  LCRUN_ASSIGN(auto state, request.like.empty_copy());
  if (state.store() != nullptr) return state;
  PagingOptions paging = request.paging;
  paging.reserve_tokens = 0;
  paging.for_sealed = !mapped;
  const int64_t to_come = std::max<int64_t>(0, request.n_ctx - tokens);
  const int64_t held = mapped ? to_come + to_come / 3 + kRoomTokens : request.n_ctx;
  const uint64_t memory = mapped ? room.memory - std::min(room.memory, room.file) : room.memory;
  const PagingPlan plan = plan_paging(state.append_bytes(), memory, held, request.batch, paging);
  LCRUN_TRY(page_sequence(state, plan, paging));
  return state;
}

// A sealed file as this process has it open.
struct Sealed {
  File& file;
  const std::string& path;
  const storage::SessionId& id;
};

Result<storage::SourceId> add_file(storage::PageStore& store, const Sealed& sealed, const LoadRequest& request,
                                   const Room& room, bool mapped) {
  PageSource source;
  source.session = sealed.id;
  if (mapped) {
    LCRUN_ASSIGN(source.mapping, sealed.file.map());
    source.fits_in_memory = room.file <= available_memory_bytes();
    return store.add_source(std::move(source));
  }
  storage::DeviceOptions device = request.paging.device;
  device.depth = kReadDepth;
  for (;;) {
    auto opened = request.paging.open_sealed ? request.paging.open_sealed(sealed.path)
                                             : storage::open_for_reading(sealed.path, device);
    if (!opened.has_value()) return std::move(opened).error();
    source.session = sealed.id;
    source.device = std::move(opened).value();
    auto added = store.add_source(std::move(source));
    const bool may_try_buffered = !added.has_value() && device.direct && !request.paging.open_sealed;
    if (!may_try_buffered) return added;
    device.direct = false;
    source = {};
  }
}

}  // namespace

std::optional<SealedPlace> place_sealed(const storage::Snapshot& snapshot, const LoadRequest& request) {
  const bool is_sealed = snapshot.superblock.sealed;
  const bool has_parent = snapshot.parent.has_value() && snapshot.parent_file != nullptr;
  const bool may_stay = (is_sealed || has_parent) && request.paging.sealed != SealedForm::kCopied &&
                        request.paging.is_allowed() && !snapshot.tables.empty();
  const auto size = snapshot.file->size();
  // A file that was cut is read, and what is missing told, at once.
  if (!may_stay || !size.has_value() || *size < snapshot.superblock.file_bytes) return {};
  const Room room = room_for(snapshot, request);
  if (room.file == 0) return {};
  const bool mapped = is_mapped(request, room);
  const uint64_t tokens_there = is_sealed ? snapshot.superblock.tokens : snapshot.parent->tokens;
  auto state = state_with_pages(request, static_cast<int64_t>(tokens_there), room, mapped);
  const auto copied = [](const Error& why) -> std::optional<SealedPlace> {
    log(LogLevel::kDebug, "a sealed session is copied: {}", why.message);
    return {};
  };
  if (!state.has_value()) return copied(state.error());
  SealedPlace place{std::move(state).value(), {}};
  const auto add = [&](const Sealed& sealed) { return add_file(*place.state.store(), sealed, request, room, mapped); };
  if (is_sealed) {
    const auto added = add({*snapshot.file, snapshot.path, snapshot.superblock.id});
    if (!added.has_value()) return copied(added.error());
    place.sources.own = *added;
  }
  if (has_parent) {
    const auto added = add({*snapshot.parent_file, snapshot.parent->path, snapshot.parent->id});
    if (!added.has_value()) return copied(added.error());
    place.sources.parent = *added;
  }
  return place;
}

}  // namespace lcrun::runtime

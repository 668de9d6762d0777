// FrameLists: which page leaves memory next. Doubly linked lists over page numbers; the store keeps the links.
//
// Dense decoding walks all pages in turn: the page just used is the one needed last, and "least recently used" would
// throw out every page just before its turn. So a page that was read for one use goes to the front of the cold list
// and leaves first; only a page that is hit again while it is there (or one in kKeepOneIn, so that a part of a scan
// stays for its next turn) becomes hot. The same idea is bimodal insertion (Qureshi et al., "Adaptive insertion
// policies for high performance caching", ISCA 2007, section 4).
// Thread rule: the store's driving thread.
#pragma once

#include <cstdint>
#include <vector>

namespace lcrun::storage {

using PageNumber = uint32_t;
constexpr PageNumber kNoPage = UINT32_MAX;

enum class PageList : uint8_t {
  kNone,    // pinned, open, or under way
  kCold,    // clean: leaves first
  kHot,     // clean: used more than once
  kAhead,   // read ahead and not yet used
  kDirty,   // sealed, to be written
  kFailed,  // sealed, and its write failed
};
constexpr uint32_t kPageLists = 6;

struct PageLink {
  PageNumber before = kNoPage, after = kNoPage;
  PageList list = PageList::kNone;
};

class FrameLists {
 public:
  // Links of pages [0, n).
  void grow(size_t n) { links_.resize(n); }
  PageList list_of(PageNumber page) const { return links_[page].list; }
  PageNumber front(PageList list) const { return ends_[index(list)].first; }
  PageNumber after(PageNumber page) const { return links_[page].after; }
  uint64_t count(PageList list) const { return ends_[index(list)].count; }

  // Out of the list that it is in, into this one.
  void push_front(PageList list, PageNumber page) {
    remove(page);
    link(list, page, kNoPage, front(list));
  }
  void push_back(PageList list, PageNumber page) {
    remove(page);
    link(list, page, ends_[index(list)].last, kNoPage);
  }
  // Does nothing for a page in no list.
  void remove(PageNumber page) {
    PageLink& own = links_[page];
    if (own.list == PageList::kNone) return;
    Ends& ends = ends_[index(own.list)];
    (own.before == kNoPage ? ends.first : links_[own.before].after) = own.after;
    (own.after == kNoPage ? ends.last : links_[own.after].before) = own.before;
    --ends.count;
    own = PageLink{};
  }

 private:
  struct Ends {
    PageNumber first = kNoPage, last = kNoPage;
    uint64_t count = 0;
  };
  static size_t index(PageList list) { return static_cast<size_t>(list); }
  void link(PageList list, PageNumber page, PageNumber before, PageNumber after) {
    links_[page] = {before, after, list};
    Ends& ends = ends_[index(list)];
    (before == kNoPage ? ends.first : links_[before].after) = page;
    (after == kNoPage ? ends.last : links_[after].before) = page;
    ++ends.count;
  }

  std::vector<PageLink> links_;
  Ends ends_[kPageLists];
};

}  // namespace lcrun::storage

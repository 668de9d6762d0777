// The automaton, and the longest-first rule inside the stretches that it finds.
#include "src/text/special_matcher.hpp"

#include <algorithm>

namespace lcrun::text {

namespace {

constexpr std::string_view kStripped = " \t\n\v\f\r";

// Appends a part; text that touches the text before it (within this call) is joined to it.
void append(const Fragment& part, size_t first, std::vector<Fragment>& fragments) {
  if (part.token < 0 && fragments.size() > first && fragments.back().token < 0) {
    fragments.back().size += part.size;
  } else {
    fragments.push_back(part);
  }
}

// Cuts every text fragment of `parts` at the occurrences of one token.
void cut_at(std::string_view text, std::string_view word, Token token, std::vector<Fragment>& parts) {
  std::vector<Fragment> cut;
  for (const Fragment& part : parts) {
    if (part.token >= 0) {
      cut.push_back(part);
      continue;
    }
    size_t at = part.begin;
    const size_t end = part.begin + part.size;
    while (true) {
      const size_t hit = text.substr(0, end).find(word, at);
      if (hit == std::string_view::npos) break;
      if (hit > at) cut.push_back({-1, at, hit - at});
      cut.push_back({token, hit, word.size()});
      at = hit + word.size();
    }
    if (at < end) cut.push_back({-1, at, end - at});
  }
  parts = std::move(cut);
}

// Takes the white space that neighbouring tokens eat off the text fragments from index `first` on.
void strip(const Vocab& vocab, std::string_view text, size_t first, std::vector<Fragment>& fragments) {
  for (size_t i = first; i < fragments.size(); ++i) {
    Fragment& part = fragments[i];
    if (part.token >= 0) continue;
    std::string_view left = text.substr(part.begin, part.size);
    if (i > first && (vocab.attr(fragments[i - 1].token) & kStripRight) != 0) {
      left.remove_prefix(std::min(left.find_first_not_of(kStripped), left.size()));
      part.begin += part.size - left.size();
      part.size = left.size();
    }
    if (i + 1 < fragments.size() && (vocab.attr(fragments[i + 1].token) & kStripLeft) != 0) {
      part.size = left.find_last_not_of(kStripped) + 1;
    }
  }
  std::erase_if(fragments, [](const Fragment& part) { return part.token < 0 && part.size == 0; });
}

}  // namespace

SpecialMatcher::SpecialMatcher(const Vocab& vocab, TokenAttr wanted, TokenAttr unwanted) : nodes_(1) {
  for (Token id = 0; id < vocab.size(); ++id) {
    if ((vocab.attr(id) & wanted) != 0 && (vocab.attr(id) & unwanted) == 0) add(vocab.text(id), id);
  }
  link();
}

int32_t SpecialMatcher::child(int32_t node, uint8_t byte) const {
  if (node == 0) return root_[byte] != 0 ? root_[byte] : -1;
  int32_t next = nodes_[static_cast<size_t>(node)].first_child;
  while (next >= 0 && nodes_[static_cast<size_t>(next)].byte != byte) {
    next = nodes_[static_cast<size_t>(next)].next_sibling;
  }
  return next;
}

void SpecialMatcher::add(std::string_view text, Token token) {
  int32_t node = 0;
  for (const char c : text) {
    const auto byte = static_cast<uint8_t>(c);
    int32_t next = child(node, byte);
    if (next < 0) {
      next = static_cast<int32_t>(nodes_.size());
      Node& parent = nodes_[static_cast<size_t>(node)];
      Node fresh{.next_sibling = parent.first_child, .depth = parent.depth + 1, .byte = byte};
      parent.first_child = next;
      nodes_.push_back(fresh);
      if (node == 0) root_[byte] = next;
    }
    node = next;
  }
  nodes_[static_cast<size_t>(node)].token = token;
}

// Breadth first: a node's fallback is shallower and thus complete.
void SpecialMatcher::link() {
  std::vector<int32_t> queue;
  queue.reserve(nodes_.size());
  queue.push_back(0);
  for (size_t done = 0; done < queue.size(); ++done) {
    const int32_t parent = queue[done];
    for (int32_t at = nodes_[static_cast<size_t>(parent)].first_child; at >= 0;) {
      Node& node = nodes_[static_cast<size_t>(at)];
      node.fallback = parent == 0 ? 0 : advance(nodes_[static_cast<size_t>(parent)].fallback, node.byte);
      const Node& fallback = nodes_[static_cast<size_t>(node.fallback)];
      node.shorter = fallback.token >= 0 ? node.fallback : fallback.shorter;
      queue.push_back(at);
      at = node.next_sibling;
    }
  }
}

int32_t SpecialMatcher::advance(int32_t node, uint8_t byte) const {
  while (node != 0) {
    const int32_t next = child(node, byte);
    if (next >= 0) return next;
    node = nodes_[static_cast<size_t>(node)].fallback;
  }
  return root_[byte];
}

std::vector<SpecialMatcher::Stretch> SpecialMatcher::find_stretches(std::string_view text, size_t begin,
                                                                    size_t end) const {
  std::vector<Stretch> stretches;
  int32_t state = 0;
  for (size_t i = begin; i < end; ++i) {
    state = advance(state, static_cast<uint8_t>(text[i]));
    if (state == 0) continue;
    const Node& node = nodes_[static_cast<size_t>(state)];
    const int32_t last = node.token >= 0 ? state : node.shorter;
    if (last < 0) continue;
    // The longest token that ends here covers all others that do.
    Stretch found{i + 1 - nodes_[static_cast<size_t>(last)].depth, i + 1};
    while (!stretches.empty() && found.begin < stretches.back().end) {
      found.begin = std::min(found.begin, stretches.back().begin);
      stretches.pop_back();
    }
    stretches.push_back(found);
  }
  return stretches;
}

Token SpecialMatcher::exact(std::string_view stretch) const {
  int32_t node = 0;
  for (const char c : stretch) {
    node = child(node, static_cast<uint8_t>(c));
    if (node < 0) return -1;
  }
  return nodes_[static_cast<size_t>(node)].token;
}

// Which tokens occur in the stretch, each once. `seen` [nodes] is all false and is left so.
std::vector<Token> SpecialMatcher::tokens_in(std::string_view stretch, std::vector<bool>& seen) const {
  std::vector<int32_t> found;
  int32_t state = 0;
  for (const char c : stretch) {
    state = advance(state, static_cast<uint8_t>(c));
    const Node& node = nodes_[static_cast<size_t>(state)];
    int32_t last = node.token >= 0 ? state : node.shorter;
    while (last >= 0 && !seen[static_cast<size_t>(last)]) {
      seen[static_cast<size_t>(last)] = true;
      found.push_back(last);
      last = nodes_[static_cast<size_t>(last)].shorter;
    }
  }
  std::vector<Token> tokens;
  for (const int32_t node : found) {
    seen[static_cast<size_t>(node)] = false;
    tokens.push_back(nodes_[static_cast<size_t>(node)].token);
  }
  return tokens;
}

void SpecialMatcher::split(const Vocab& vocab, std::string_view text, size_t begin, size_t size,
                           std::vector<Fragment>& fragments) const {
  const size_t end = begin + size;
  const size_t first = fragments.size();
  std::vector<bool> seen;
  size_t at = begin;
  for (const Stretch& stretch : find_stretches(text, begin, end)) {
    if (stretch.begin > at) append({-1, at, stretch.begin - at}, first, fragments);
    at = stretch.end;
    const std::string_view covered = text.substr(stretch.begin, stretch.end - stretch.begin);
    if (const Token whole = exact(covered); whole >= 0) {
      fragments.push_back({whole, stretch.begin, covered.size()});
      continue;
    }
    seen.resize(nodes_.size());
    std::vector<Token> tokens = tokens_in(covered, seen);
    std::sort(tokens.begin(), tokens.end(), [&](Token a, Token b) {
      const size_t size_a = vocab.text(a).size();
      const size_t size_b = vocab.text(b).size();
      return size_a != size_b ? size_a > size_b : a < b;
    });
    std::vector<Fragment> parts{{-1, stretch.begin, covered.size()}};
    for (const Token token : tokens) cut_at(text, vocab.text(token), token, parts);
    for (const Fragment& part : parts) append(part, first, fragments);
  }
  if (at < end) append({-1, at, end - at}, first, fragments);
  strip(vocab, text, first, fragments);
}

}  // namespace lcrun::text

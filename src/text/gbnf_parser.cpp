// GBNF text to tables (grammar_rules.hpp). Notation: name ::= "text" [a-z] [^a-z] . ( ) | * + ? {m} {m,} {m,n} # ...
// White space, line ends included, only separates; a rule ends where the next "name ::=" begins.
#include <algorithm>
#include <map>
#include <unordered_map>

#include "src/text/grammar_rules.hpp"
#include "src/text/jinja_text.hpp"

namespace lcrun::text::grammar {

CharSet normalized(CharSet set) {
  std::sort(set.begin(), set.end(), [](const CharRange& a, const CharRange& b) { return a.first < b.first; });
  CharSet out;
  for (const CharRange& range : set) {
    if (!out.empty() && range.first <= out.back().last + 1) {
      out.back().last = std::max(out.back().last, range.last);
    } else {
      out.push_back(range);
    }
  }
  return out;
}

CharSet complement(const CharSet& set) {
  CharSet out;
  char32_t next = 0;
  for (const CharRange& range : set) {
    if (range.first > next) out.push_back({next, range.first - 1});
    next = range.last + 1;
  }
  if (next <= kLastCodePoint) out.push_back({next, kLastCodePoint});
  return out;
}

bool contains(const CharSet& set, char32_t cp) {
  const auto it = std::upper_bound(set.begin(), set.end(), cp,
                                   [](char32_t value, const CharRange& range) { return value < range.first; });
  return it != set.begin() && cp <= std::prev(it)->last;
}

namespace {

using Sequence = std::vector<Element>;

class Parser {
 public:
  explicit Parser(std::string_view source) : source_(source) {}

  Rules run() {
    skip_space();
    while (at_ < source_.size()) parse_rule();
    const auto root = ids_.find("root");
    if (root == ids_.end() || bodies_[root->second].empty()) fail("grammar: there is no rule 'root'");
    for (const auto& [name, offset] : first_use_) {
      if (bodies_[ids_.at(name)].empty()) fail_at(offset, format("the rule '{}' is not defined", name));
    }
    Rules rules = flatten();
    rules.root = root->second;
    check_rules(rules, names_);
    return rules;
  }

 private:
  [[noreturn]] void fail_at(size_t offset, std::string_view message) const {
    const std::string_view before = source_.substr(0, std::min(offset, source_.size()));
    const size_t newline = before.rfind('\n');
    const size_t start = newline == std::string_view::npos ? 0 : newline + 1;
    fail("grammar, line {}, column {}: {}", 1 + std::count(before.begin(), before.end(), '\n'),
         1 + jinja::cp_count(before.substr(start)), message);
  }
  [[noreturn]] void fail_here(std::string_view message) const { fail_at(at_, message); }

  char peek(size_t ahead = 0) const { return at_ + ahead < source_.size() ? source_[at_ + ahead] : '\0'; }

  void skip_space() {
    while (at_ < source_.size()) {
      const char c = source_[at_];
      if (c == '#') {
        at_ = std::min(source_.find('\n', at_), source_.size());
      } else if (c == ' ' || c == '\t' || c == '\r' || c == '\n') {
        ++at_;
      } else {
        return;
      }
    }
  }

  static bool is_name_char(char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '_';
  }

  std::string parse_name() {
    const size_t start = at_;
    while (is_name_char(peek())) ++at_;
    if (at_ == start) fail_here("a rule name was expected");
    return std::string(source_.substr(start, at_ - start));
  }

  // Is the name at the cursor the head of the next rule?
  bool at_rule_head() {
    const size_t saved = at_;
    while (is_name_char(peek())) ++at_;
    skip_space();
    const bool is_head = source_.substr(at_, 3) == "::=";
    at_ = saved;
    return is_head;
  }

  uint32_t add_rule(std::string name) {
    bodies_.emplace_back();
    names_.push_back(std::move(name));
    return static_cast<uint32_t>(bodies_.size() - 1);
  }

  uint32_t rule_id(const std::string& name) {
    const auto it = ids_.find(name);
    if (it != ids_.end()) return it->second;
    if (ids_.size() >= kMaxRules) fail_here(format("more than {} rules", kMaxRules));
    const uint32_t id = add_rule(name);
    ids_[name] = id;
    return id;
  }

  void add_alternative(uint32_t rule, Sequence sequence) {
    n_elements_ += sequence.size() + 1;
    if (n_elements_ > kMaxElements) fail_here(format("more than {} elements after expansion", kMaxElements));
    bodies_[rule].push_back(std::move(sequence));
  }

  void parse_rule() {
    const size_t offset = at_;
    const std::string name = parse_name();
    const uint32_t rule = rule_id(name);
    if (!bodies_[rule].empty()) fail_at(offset, format("the rule '{}' is defined twice", name));
    skip_space();
    if (source_.substr(at_, 3) != "::=") fail_here("'::=' was expected");
    at_ += 3;
    skip_space();
    parse_alternatives(rule, 0);
    if (at_ < source_.size() && !is_name_char(peek())) fail_here(format("unexpected '{}'", peek()));
  }

  // Returns the highest repetition product within.
  int64_t parse_alternatives(uint32_t rule, int nesting) {
    if (nesting > kMaxNesting) fail_here(format("nested deeper than {} levels", kMaxNesting));
    int64_t product = 1;
    while (true) {
      Sequence sequence;
      product = std::max(product, parse_sequence(sequence, nesting));
      add_alternative(rule, std::move(sequence));
      if (peek() != '|') return product;
      ++at_;
      skip_space();
    }
  }

  int64_t parse_sequence(Sequence& sequence, int nesting) {
    int64_t highest = 1;
    while (at_ < source_.size() && peek() != '|' && peek() != ')') {
      if (is_name_char(peek()) && at_rule_head()) break;
      Sequence item;
      int64_t product = parse_item(item, nesting);
      skip_space();
      while (peek() == '*' || peek() == '+' || peek() == '?' || peek() == '{') {
        product = parse_repetition(item, product);
        skip_space();
      }
      highest = std::max(highest, product);
      if (sequence.size() + item.size() > kMaxElements) fail_here("the sequence is too long");
      sequence.insert(sequence.end(), item.begin(), item.end());
    }
    return highest;
  }

  int64_t parse_item(Sequence& item, int nesting) {
    const char c = peek();
    if (c == '"') {
      parse_literal(item);
    } else if (c == '[') {
      item.push_back(chars(parse_class()));
    } else if (c == '.') {
      ++at_;
      item.push_back(chars({{0, kLastCodePoint}}));
    } else if (c == '(') {
      const size_t offset = at_++;
      skip_space();
      const uint32_t group = add_rule(format("group at byte {}", offset));
      const int64_t product = parse_alternatives(group, nesting + 1);
      if (peek() != ')') fail_at(offset, "the group is never closed");
      ++at_;
      item.push_back({ElementKind::kRule, group});
      return product;
    } else if (is_name_char(c)) {
      const size_t offset = at_;
      const std::string name = parse_name();
      item.push_back({ElementKind::kRule, rule_id(name)});
      first_use_.emplace(name, offset);
    } else {
      fail_here(c == '\0' ? "unexpected end" : format("unexpected '{}'", c));
    }
    return 1;
  }

  Element chars(const CharSet& set) {
    std::vector<char32_t> key;
    for (const CharRange& range : set) key.insert(key.end(), {range.first, range.last});
    const auto [it, is_new] = char_set_ids_.emplace(std::move(key), static_cast<uint32_t>(char_sets_.size()));
    if (is_new) char_sets_.push_back(set);
    return {ElementKind::kChars, it->second};
  }

  void parse_literal(Sequence& item) {
    const size_t offset = at_++;
    while (peek() != '"') {
      if (at_ >= source_.size() || peek() == '\n') fail_at(offset, "the literal is never closed");
      const char32_t cp = parse_char();
      item.push_back(chars({{cp, cp}}));
    }
    ++at_;
  }

  CharSet parse_class() {
    const size_t offset = at_++;
    const bool negated = peek() == '^';
    if (negated) ++at_;
    CharSet set;
    while (peek() != ']') {
      if (at_ >= source_.size() || peek() == '\n') fail_at(offset, "the character class is never closed");
      const char32_t first = parse_char();
      char32_t last = first;
      if (peek() == '-' && peek(1) != ']') {
        ++at_;
        if (at_ >= source_.size()) fail_at(offset, "the character class is never closed");
        last = parse_char();
      }
      if (last < first) fail_at(offset, "a range of the character class runs backwards");
      set.push_back({first, last});
    }
    ++at_;
    set = normalized(std::move(set));
    if (negated) set = complement(set);
    if (set.empty()) fail_at(offset, "the character class holds no character");
    return set;
  }

  // One code point, escapes resolved.
  char32_t parse_char() {
    if (peek() != '\\') {
      const size_t size = jinja::cp_size(source_, at_);
      const char32_t cp = jinja::cp_at(source_, at_);
      if (size == 1 && static_cast<unsigned char>(peek()) >= 0x80) fail_here("the text is not UTF-8");
      at_ += size;
      return cp;
    }
    const char c = peek(1);
    at_ += 2;
    switch (c) {
      case 'n':
        return '\n';
      case 'r':
        return '\r';
      case 't':
        return '\t';
      case 'x':
        return parse_hex(2);
      case 'u':
        return parse_hex(4);
      case 'U':
        return parse_hex(8);
      default:
        break;
    }
    if (std::string_view("\\\"'[]^-/.").find(c) == std::string_view::npos || c == '\0') {
      fail_at(at_ - 2, "unknown escape");
    }
    return static_cast<char32_t>(c);
  }

  char32_t parse_hex(int digits) {
    char32_t value = 0;
    for (int i = 0; i < digits; ++i, ++at_) {
      const char c = peek();
      const bool is_letter = (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F');
      if (!is_letter && !(c >= '0' && c <= '9')) fail_here(format("{} hexadecimal digits were expected", digits));
      value = value * 16 + static_cast<char32_t>(is_letter ? (c | 0x20) - 'a' + 10 : c - '0');
    }
    if (value > kLastCodePoint) fail_here("the escape is beyond U+10FFFF");
    return value;
  }

  int64_t parse_count() {
    int64_t value = 0;
    if (!(peek() >= '0' && peek() <= '9')) fail_here("a number was expected");
    for (; peek() >= '0' && peek() <= '9'; ++at_) value = std::min<int64_t>(value * 10 + (peek() - '0'), INT32_MAX);
    skip_space();
    return value;
  }

  // Replaces `item` by its repetition; returns the product of counts.
  int64_t parse_repetition(Sequence& item, int64_t product) {
    const size_t offset = at_;
    const char c = source_[at_++];
    int64_t least = c == '+' ? 1 : 0;
    int64_t most = c == '?' ? 1 : -1;  // -1 = any number
    if (c == '{') {
      skip_space();
      if (peek() != ',') least = parse_count();
      most = least;
      if (peek() == ',') {
        ++at_;
        skip_space();
        most = peek() == '}' ? -1 : parse_count();
      }
      if (peek() != '}') fail_here("'}' was expected");
      ++at_;
      if (most >= 0 && most < least) fail_at(offset, "the repetition's maximum is below its minimum");
    }
    product *= std::max<int64_t>({least, most, 1});
    if (product > kMaxRepetition) fail_at(offset, format("repetition of more than {} in all", kMaxRepetition));
    item = repeated(unit_of(std::move(item)), least, most);
    return product;
  }

  // One element that stands for the sequence; nothing for the empty one.
  Sequence unit_of(Sequence item) {
    if (item.size() <= 1) return item;
    const uint32_t rule = add_rule("repetition");
    add_alternative(rule, std::move(item));
    return {{ElementKind::kRule, rule}};
  }

  Sequence repeated(const Sequence& unit, int64_t least, int64_t most) {
    if (unit.empty()) return {};
    Sequence out(static_cast<size_t>(least), unit[0]);
    if (most < 0) {
      const uint32_t rule = add_rule("repetition");
      add_alternative(rule, {unit[0], {ElementKind::kRule, rule}});
      add_alternative(rule, {});
      out.push_back({ElementKind::kRule, rule});
      return out;
    }
    Sequence rest;  // up to most - least more: x (x (...)?)?
    for (int64_t i = least; i < most; ++i) {
      const uint32_t rule = add_rule("repetition");
      Sequence one = {unit[0]};
      one.insert(one.end(), rest.begin(), rest.end());
      add_alternative(rule, std::move(one));
      add_alternative(rule, {});
      rest = {{ElementKind::kRule, rule}};
    }
    out.insert(out.end(), rest.begin(), rest.end());
    return out;
  }

  Rules flatten() {
    Rules rules;
    for (const auto& body : bodies_) {
      std::vector<uint32_t> starts;
      for (const Sequence& sequence : body) {
        starts.push_back(static_cast<uint32_t>(rules.elements.size()));
        rules.elements.insert(rules.elements.end(), sequence.begin(), sequence.end());
        rules.elements.push_back({ElementKind::kEnd, 0});
      }
      rules.alternatives.push_back(std::move(starts));
    }
    rules.class_starts = {0};
    for (const CharSet& set : char_sets_) {
      for (const CharRange& range : set)
        rules.class_starts.insert(rules.class_starts.end(), {range.first, range.last + 1});
    }
    std::sort(rules.class_starts.begin(), rules.class_starts.end());
    rules.class_starts.erase(std::unique(rules.class_starts.begin(), rules.class_starts.end()),
                             rules.class_starts.end());
    if (rules.class_starts.back() > kLastCodePoint) rules.class_starts.pop_back();
    if (rules.class_starts.size() > kMaxClasses) fail("grammar: more than {} distinct character ranges", kMaxClasses);
    rules.char_sets = std::move(char_sets_);
    return rules;
  }

  std::string_view source_;
  size_t at_ = 0;
  size_t n_elements_ = 0;
  std::unordered_map<std::string, uint32_t> ids_;
  std::map<std::string, size_t> first_use_;
  std::vector<std::string> names_;             // [rule]
  std::vector<std::vector<Sequence>> bodies_;  // [rule][alternative]; none = not defined yet
  std::vector<CharSet> char_sets_;
  std::map<std::vector<char32_t>, uint32_t> char_set_ids_;
};

}  // namespace

Rules parse_gbnf(std::string_view source) {
  if (source.size() > kMaxSourceBytes) fail("grammar: {} bytes, wanted at most {}", source.size(), kMaxSourceBytes);
  return Parser(source).run();
}

}  // namespace lcrun::text::grammar

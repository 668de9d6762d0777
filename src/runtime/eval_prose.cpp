#include "src/runtime/eval_prose.hpp"

#include <array>
#include <string_view>

#include "src/runtime/eval_random.hpp"

namespace lcrun::runtime {
namespace {

constexpr std::string_view kTrades[] = {"miller",  "ferryman", "baker",  "weaver",   "clerk",   "shepherd", "mason",
                                        "teacher", "smith",    "sailor", "gardener", "surgeon", "printer",  "carter",
                                        "brewer",  "glazier",  "cooper", "tailor",   "notary",  "innkeeper"};
constexpr std::string_view kQualities[] = {"old",      "patient", "silent", "young", "tired",   "careful", "stubborn",
                                           "cheerful", "lame",    "proud",  "quiet", "learned", "restless"};
constexpr std::string_view kThings[] = {
    "a basket of pears", "a roll of linen",   "two lanterns",     "a letter",
    "a cask of vinegar", "the best harness",  "a jar of honey",   "some timber",
    "a folded map",      "a bundle of reeds", "the broken clock", "a sack of barley",
    "a copper kettle",   "three ropes",       "a box of candles", "the spare oar"};
constexpr std::string_view kDid[] = {"carried", "sold", "hid",   "repaired", "borrowed", "weighed", "forgot",
                                     "painted", "lost", "found", "bought",   "counted",  "wrapped", "praised"};
constexpr std::string_view kWhere[] = {"by the river",          "behind the chapel", "at the lower bridge",
                                       "in the market",         "near the quarry",   "on the hill road",
                                       "in the long barn",      "under the elms",    "at the edge of the marsh",
                                       "in the counting house", "beside the well",   "along the sea wall"};
constexpr std::string_view kWhen[] = {"In the spring",           "After the harvest", "Before the frost",
                                      "On the eve of the fair",  "That winter",       "Late in the evening",
                                      "When the rain had ended", "A week later",      "At first light",
                                      "During the long drought", "Some years before", "Towards noon"};
constexpr std::string_view kWhy[] = {"because the roads were flooded",    "since nobody else would do it",
                                     "although the price was too high",   "while the others were asleep",
                                     "so that the children could see it", "for the mill had stopped again",
                                     "as the council had ordered",        "though few people noticed",
                                     "because a storm was expected",      "until the lamps went out"};
constexpr std::string_view kSaid[] = {"said",     "believed",   "wrote in the register", "complained", "admitted",
                                      "insisted", "remembered", "told the neighbours"};
constexpr std::string_view kFacts[] = {"the harvest had been poor",           "the bridge would not last",
                                       "the wind was turning to the east",    "the debt had been paid",
                                       "the ferry was late as usual",         "the new roof kept out the rain",
                                       "the price of salt would rise",        "the orchard belonged to the parish",
                                       "the wolves had gone north",           "the school needed another stove",
                                       "the boats had come home empty",       "the old road was the shorter one",
                                       "the visitors would stay for a month", "the dog had followed them home"};
constexpr std::string_view kMoods[] = {"The air smelled of smoke and wet straw.",
                                       "Nobody spoke of it again.",
                                       "The dogs barked at every cart.",
                                       "It was a small matter, and soon forgotten.",
                                       "The accounts of that year are incomplete.",
                                       "Snow lay on the fields for many weeks.",
                                       "There was music in the square until late.",
                                       "The fog did not lift for days.",
                                       "Such things were common in the valley.",
                                       "The children made a song about it."};
constexpr std::string_view kOnsets[] = {"b", "d", "f", "g", "h", "k", "l",  "m",
                                        "n", "p", "r", "s", "t", "v", "br", "st"};
constexpr std::string_view kVowels[] = {"a", "e", "i", "o", "u", "ai", "ea", "o"};
constexpr std::string_view kCodas[] = {"", "l", "n", "r", "s", "", "nd", "rk", "m", ""};

template <size_t N>
std::string_view pick(EvalRandom& random, const std::string_view (&words)[N]) {
  return words[static_cast<size_t>(random.below(static_cast<int64_t>(N)))];
}

std::string name(EvalRandom& random) {
  std::string made;
  const int64_t syllables = random.between(2, 3);
  for (int64_t i = 0; i < syllables; ++i) {
    made += pick(random, kOnsets);
    made += pick(random, kVowels);
  }
  made += pick(random, kCodas);
  made[0] = static_cast<char>(made[0] - 'a' + 'A');
  return made;
}

void add(std::string& text, std::initializer_list<std::string_view> parts) {
  for (const auto part : parts) text += part;
}

std::string person(EvalRandom& random) {
  std::string made;
  if (random.below(3) == 0) return name(random);
  add(made, {"the ", pick(random, kQualities), " ", pick(random, kTrades)});
  if (random.below(2) == 0) add(made, {" of ", name(random)});
  return made;
}

void capitalise(std::string& text) {
  if (text[0] >= 'a' && text[0] <= 'z') text[0] = static_cast<char>(text[0] - 'a' + 'A');
}

std::string sentence(EvalRandom& random) {
  std::string made;
  switch (random.below(6)) {
    case 0:
      add(made, {pick(random, kWhen), " ", person(random), " ", pick(random, kDid), " ", pick(random, kThings), " ",
                 pick(random, kWhere), ", ", pick(random, kWhy), "."});
      return made;
    case 1:
      made = person(random);
      add(made, {" ", pick(random, kSaid), " that ", pick(random, kFacts), "."});
      break;
    case 2:
      made = person(random);
      add(made, {" and ", person(random), " met ", pick(random, kWhere), " and ", pick(random, kDid), " ",
                 pick(random, kThings), "."});
      break;
    case 3:
      add(made, {pick(random, kWhen), ", ", pick(random, kWhere), ", ", person(random), " ", pick(random, kDid), " ",
                 pick(random, kThings), "."});
      return made;
    case 4:
      made = person(random);
      add(made, {", who had once ", pick(random, kDid), " ", pick(random, kThings), ", ", pick(random, kSaid), " that ",
                 pick(random, kFacts), ", ", pick(random, kWhy), "."});
      break;
    default:
      return std::string(pick(random, kMoods));
  }
  capitalise(made);
  return made;
}

}  // namespace

std::string generated_prose(uint64_t seed, size_t n_bytes) {
  EvalRandom random = EvalRandom::of({seed});
  std::string text;
  text.reserve(n_bytes + 1024);
  while (text.size() < n_bytes) {
    const int64_t sentences = random.between(3, 7);
    for (int64_t i = 0; i < sentences; ++i) {
      if (i > 0) text += ' ';
      text += sentence(random);
    }
    text += '\n';
  }
  return text;
}

}  // namespace lcrun::runtime

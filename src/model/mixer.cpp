// The registry of token mixers.
#include "src/model/mixer.hpp"

namespace lcrun::model {

#define LCRUN_MIXER(id) extern const MixerSpec kMixer_##id;
#include "src/model/mixers.gen.h"
#undef LCRUN_MIXER

namespace {

const MixerSpec* const kMixers[] = {
#define LCRUN_MIXER(id) &kMixer_##id,
#include "src/model/mixers.gen.h"
#undef LCRUN_MIXER
};

}  // namespace

const MixerSpec* find_mixer(std::string_view name) {
  for (const MixerSpec* mixer : kMixers) {
    if (name == mixer->name) return mixer;
  }
  return nullptr;
}

std::span<const MixerSpec* const> all_mixers() { return kMixers; }

}  // namespace lcrun::model

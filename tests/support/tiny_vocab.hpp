// The vocabulary of tiny models: GPT-2's 256 byte symbols, 40 merges, four special tokens.
#pragma once

#include "tests/support/tiny_model.hpp"

namespace lcrun::testing {

// Adds tokenizer.ggml.* to the recipe.
void add_tiny_vocab(TinyRecipe& recipe);

}  // namespace lcrun::testing

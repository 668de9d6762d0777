// The table of pre-tokenizers: name in the file -> published rule, written as stages of alternatives.
//
// Above each rule stands the regular expression that it equals (tests run PCRE2 on it); a rule with several stages
// splits by the first expression, then each piece by the next.
#include <array>
#include <vector>

#include "src/text/pretokenize.hpp"
#include "src/text/tokenizer.hpp"

namespace lcrun::text {

namespace {

constexpr CharSet kLetters{kLetter};
constexpr CharSet kNumbers{kNumber};
constexpr CharSet kOneBlank{kBlank};
constexpr CharSet kSpaces{kSpace};
constexpr CharSet kNoSpaceLetterNumber{kAnyChar & ~(kSpace | kLetter | kNumber)};    // [^\s\p{L}\p{N}]
constexpr CharSet kNoBreakLetterNumber{kAnyChar & ~(kNewline | kLetter | kNumber)};  // [^\r\n\p{L}\p{N}]
constexpr CharSet kUppers{kLu | kLt | kLm | kLo | kMark};
constexpr CharSet kLowers{kLl | kLm | kLo | kMark};

constexpr Alternative run(CharSet body, uint32_t min_count = 1, uint32_t max_count = UINT32_MAX) {
  return {.op = Op::kRun, .body = body, .min_count = min_count, .max_count = max_count};
}
constexpr Alternative led_run(CharSet lead, CharSet body, CharClass tail = 0, uint32_t tail_max = UINT32_MAX) {
  return {.op = Op::kRun, .lead = lead, .body = body, .tail = tail, .tail_max = tail_max};
}
constexpr Alternative cased(CharSet upper, CharSet lower, bool suffix) {
  return {.op = Op::kCased, .lead = kNoBreakLetterNumber, .upper = upper, .body = lower, .suffix = suffix};
}
constexpr Alternative kContraction{.op = Op::kContraction};
constexpr Alternative kContractionAnyCase{.op = Op::kContractionAnyCase};
constexpr Alternative kLineBreaks{.op = Op::kLineBreaks};
constexpr Alternative kSpacesBeforeText{.op = Op::kSpacesBeforeText};
constexpr Alternative kAnySpaces = run(kSpaces);
constexpr Alternative kWord = led_run(kNoBreakLetterNumber, kLetters);  // [^\r\n\p{L}\p{N}]?\p{L}+
constexpr Alternative kMarksLine = led_run(kOneBlank, kNoSpaceLetterNumber, kNewline);
constexpr Alternative kMarksSlash = led_run(kOneBlank, kNoSpaceLetterNumber, kNewline | kSlash);

// [A-Za-zµÀ-ÖØ-öø-ƺ...]: the cased letters of deepseek-llm's rule, as its file lists them.
constexpr CodeRange kDeepseekLetters[] = {
    {0x41, 0x5A},       {0x61, 0x7A},       {0xB5, 0xB5},       {0xC0, 0xD6},       {0xD8, 0xF6},
    {0xF8, 0x1BA},      {0x1BC, 0x1BF},     {0x1C4, 0x293},     {0x295, 0x2AF},     {0x370, 0x373},
    {0x376, 0x376},     {0x377, 0x377},     {0x37B, 0x37D},     {0x37F, 0x37F},     {0x386, 0x386},
    {0x388, 0x38A},     {0x38C, 0x38C},     {0x38E, 0x3A1},     {0x3A3, 0x3F5},     {0x3F7, 0x481},
    {0x48A, 0x52F},     {0x531, 0x556},     {0x10A0, 0x10C5},   {0x13A0, 0x13F5},   {0x13F8, 0x13FD},
    {0x1C90, 0x1CBA},   {0x1CBD, 0x1CBF},   {0x1D00, 0x1D2B},   {0x1D6B, 0x1D77},   {0x1D79, 0x1D9A},
    {0x1E00, 0x1F15},   {0x1F18, 0x1F1D},   {0x1F20, 0x1F45},   {0x1F48, 0x1F4D},   {0x1F50, 0x1F57},
    {0x1F59, 0x1F59},   {0x1F5B, 0x1F5B},   {0x1F5D, 0x1F5D},   {0x1F5F, 0x1F7D},   {0x1F80, 0x1FB4},
    {0x1FB6, 0x1FBC},   {0x1FBE, 0x1FBE},   {0x1FC2, 0x1FC4},   {0x1FC6, 0x1FCC},   {0x1FD0, 0x1FD3},
    {0x1FD6, 0x1FDB},   {0x1FE0, 0x1FEC},   {0x1FF2, 0x1FF4},   {0x1FF6, 0x1FFC},   {0x2102, 0x2102},
    {0x2107, 0x2107},   {0x210A, 0x2113},   {0x2115, 0x2115},   {0x2119, 0x211D},   {0x2124, 0x2124},
    {0x2126, 0x2126},   {0x2128, 0x2128},   {0x212A, 0x212D},   {0x212F, 0x2134},   {0x2139, 0x2139},
    {0x213C, 0x213F},   {0x2145, 0x2149},   {0x214E, 0x214E},   {0x2183, 0x2183},   {0x2184, 0x2184},
    {0x2C00, 0x2C7B},   {0x2C7E, 0x2CE4},   {0x2CEB, 0x2CEE},   {0x2CF2, 0x2CF2},   {0x2CF3, 0x2CF3},
    {0xA640, 0xA66D},   {0xA680, 0xA69B},   {0xA722, 0xA76F},   {0xA771, 0xA787},   {0xA78B, 0xA78E},
    {0xAB70, 0xABBF},   {0xFB00, 0xFB06},   {0xFB13, 0xFB17},   {0xFF21, 0xFF3A},   {0xFF41, 0xFF5A},
    {0x10400, 0x1044F}, {0x104B0, 0x104D3}, {0x104D8, 0x104FB}, {0x10C80, 0x10CB2}, {0x10CC0, 0x10CF2},
    {0x118A0, 0x118DF}, {0x1E900, 0x1E943},
};
constexpr CodeRange kDeepseekMarks[] = {{0x21, 0x2F},     {0x3A, 0x7E},     {0x2018, 0x201F},
                                        {0x3000, 0x3002}, {0xFF01, 0xFF0F}, {0xFF1A, 0xFF5E}};
constexpr CodeRange kDeepseekAsian[] = {{0x800, 0x9FA5}, {0xAC00, 0xD7FF}};  // [一-龥ࠀ-一가-퟿]
constexpr CodeRange kHanKana[] = {{0x3040, 0x30FF}, {0x4E00, 0x9FA5}};       // [一-龥぀-ゟ゠-ヿ]
constexpr CodeRange kKorean[] = {{0x3131, 0x318E}, {0xAC00, 0xD7A3}};        // [가-힣ㄱ-ㆎ]
constexpr CodeRange kBopomofo[] = {{0x3105, 0x312F}};                        // [ㄅ-ㄯ]
constexpr CodeRange kAsianMarks[] = {{0x2014, 0x2014}, {0x2018, 0x2019}, {0x201C, 0x201D}, {0x2026, 0x2026},
                                     {0x3001, 0x303F}, {0xFE30, 0xFE4F}, {0xFF01, 0xFF01}, {0xFF0C, 0xFF0C},
                                     {0xFF1A, 0xFF1B}};  // [！…“”‘’—：；，、-〿︰-﹏]
constexpr CodeRange kBloomStops[] = {{0x21, 0x21},   {0x28, 0x29},     {0x2C, 0x2C},     {0x2E, 0x2E},
                                     {0x3F, 0x3F},   {0x7C, 0x7C},     {0x60C, 0x60C},   {0x6D4, 0x6D4},
                                     {0x964, 0x964}, {0x2026, 0x2026}, {0x3001, 0x3002}, {0xFF0C, 0xFF0C}};

// 's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)
constexpr Alternative kGpt2Stage[] = {kContraction, led_run(kOneBlank, kLetters), led_run(kOneBlank, kNumbers),
                                      led_run(kOneBlank, kNoSpaceLetterNumber), kSpacesBeforeText};
constexpr Alternative kOneNumberStage[] = {run(kNumbers, 1, 1)};         // \p{N}
constexpr Alternative kThreeNumbersStage[] = {run(kNumbers, 1, 3)};      // \p{N}{1,3}
constexpr Alternative kNumbersStage[] = {run(kNumbers)};                 // \p{N}+
constexpr Alternative kThreeDigitsStage[] = {run({kAsciiDigit}, 3, 3)};  // [0-9][0-9][0-9]
constexpr Alternative kOneBreakStage[] = {run({kNewline}, 1, 1)};        // [\r\n]
constexpr Alternative kHanKanaStage[] = {run({.also = kHanKana})};       // [一-龥぀-ゟ゠-ヿ]+
constexpr Alternative kDeepseekAsianStage[] = {run({.also = kDeepseekAsian})};

constexpr Stage kGpt2[] = {kGpt2Stage};
constexpr Stage kSmollm[] = {kOneNumberStage, kGpt2Stage};

// [\p{P}\$\+<=>\^~\|]+ ; gpt2 ; \p{N}+ ; [0-9][0-9][0-9]
constexpr Alternative kDefaultMarksStage[] = {run({kPunct | kMathAscii})};
constexpr Stage kDefault[] = {kDefaultMarksStage, kGpt2Stage, kNumbersStage, kThreeDigitsStage};
// [\p{P}\$\+<=>\^~\|`]+ ; gpt2 ; [0-9][0-9][0-9]
constexpr Alternative kFalconMarksStage[] = {run({kPunct | kMathAscii | kBacktick})};
constexpr Stage kFalcon[] = {kFalconMarksStage, kGpt2Stage, kThreeDigitsStage};

// (?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|
// \s+(?!\S)|\s+
constexpr Alternative kLlama3Stage[] = {kContractionAnyCase, kWord,     run(kNumbers, 1, 3), kMarksLine, kLineBreaks,
                                        kSpacesBeforeText,   kAnySpaces};
constexpr Stage kLlama3[] = {kLlama3Stage};
// llama3 with \p{N} in place of \p{N}{1,3}
constexpr Alternative kQwen2Stage[] = {kContractionAnyCase, kWord,     run(kNumbers, 1, 1), kMarksLine, kLineBreaks,
                                       kSpacesBeforeText,   kAnySpaces};
constexpr Stage kQwen2[] = {kQwen2Stage};
// qwen2 without its contractions
constexpr Alternative kUfakzekaStage[] = {kWord,       run(kNumbers, 1, 1), kMarksLine,
                                          kLineBreaks, kSpacesBeforeText,   kAnySpaces};
constexpr Stage kUfakzeka[] = {kUfakzekaStage};
// \p{N}{1,3} ; llama3 with \p{N}+
constexpr Alternative kMinicpm5Stage[] = {kContractionAnyCase, kWord,     run(kNumbers), kMarksLine, kLineBreaks,
                                          kSpacesBeforeText,   kAnySpaces};
constexpr Stage kMinicpm5[] = {kThreeNumbersStage, kMinicpm5Stage};
// (?i:...)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+
constexpr Alternative kQwen35Stage[] = {
    kContractionAnyCase, led_run(kNoBreakLetterNumber, {kLetter | kMark}),
    run(kNumbers, 1, 1), led_run(kOneBlank, {kAnyChar & ~(kSpace | kLetter | kMark | kNumber)}, kNewline),
    kLineBreaks,         kSpacesBeforeText,
    kAnySpaces};
constexpr Stage kQwen35[] = {kQwen35Stage};
// llama3 with white space cut into powers of two: \s{512}(?!\S)|...|\s{4}(?!\S)|\s{1,2}(?!\S)|\s{1}
constexpr Alternative kJais2Stage[] = {kContractionAnyCase, kWord,       run(kNumbers, 1, 3),
                                       kMarksLine,          kLineBreaks, {.op = Op::kSpaceCascade}};
constexpr Stage kJais2[] = {kJais2Stage};
// qwen2 with ` ?[^\s\p{L}\p{N}\r\n]+` (no line breaks after marks)
constexpr Alternative kSeedCoderStage[] = {
    kContractionAnyCase, kWord,     run(kNumbers, 1, 1), led_run(kOneBlank, kNoSpaceLetterNumber), kLineBreaks,
    kSpacesBeforeText,   kAnySpaces};
constexpr Stage kSeedCoder[] = {kSeedCoderStage};
// [^\n]+|[\n]+
constexpr Alternative kLinesStage[] = {run({.any = kAnyChar, .none = kLineFeed}), run({kLineFeed})};
constexpr Stage kLines[] = {kLinesStage};
constexpr Stage kLaguna[] = {kLinesStage, kQwen2Stage};

// [\r\n] ; \s?[A-Za-zµÀ-Ö...]+ ; \s?[!-/:-~！-／：-～‘-‟　-。]+ ; \s+$ ; [一-龥ࠀ-一가-퟿]+ ; \p{N}+
constexpr Alternative kDeepseekLettersStage[] = {led_run(kSpaces, {.also = kDeepseekLetters})};
constexpr Alternative kDeepseekMarksStage[] = {led_run(kSpaces, {.also = kDeepseekMarks})};
constexpr Alternative kSpacesAtEndStage[] = {{.op = Op::kSpacesAtEnd}};
constexpr Stage kDeepseekLlm[] = {kOneBreakStage,    kDeepseekLettersStage, kDeepseekMarksStage,
                                  kSpacesAtEndStage, kDeepseekAsianStage,   kNumbersStage};
// [\r\n] ; \s?\p{L}+ ; \s?\p{P}+ ; [一-龥ࠀ-一가-퟿]+ ; \p{N}
constexpr Alternative kSpaceLettersStage[] = {led_run(kSpaces, kLetters)};
constexpr Alternative kSpaceMarksStage[] = {led_run(kSpaces, {kPunct})};
constexpr Stage kDeepseekCoder[] = {kOneBreakStage, kSpaceLettersStage, kSpaceMarksStage, kDeepseekAsianStage,
                                    kOneNumberStage};
// \p{N}{1,3} ; [一-龥぀-ゟ゠-ヿ]+ ; [!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|
// [^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+
constexpr CharSet kNoBreakLetterMark{kAnyChar & ~(kNewline | kLetter | kPunct | kSymbol)};
constexpr Alternative kMarkedWord{.op = Op::kRun, .lead = {kAsciiPunct}, .lead_required = true, .body = {kAsciiLetter}};
constexpr Alternative kDeepseek3Stage[] = {kMarkedWord,
                                           led_run(kNoBreakLetterMark, {kLetter | kMark}),
                                           led_run(kOneBlank, {kPunct | kSymbol}, kNewline),
                                           kLineBreaks,
                                           kSpacesBeforeText,
                                           kAnySpaces};
constexpr Stage kDeepseek3[] = {kThreeNumbersStage, kHanKanaStage, kDeepseek3Stage};
// the same with ` ?[\p{P}\p{S}]+|[\r\n]` in place of the two alternatives with line breaks, then \p{N}
constexpr Alternative kSparkStage[] = {kMarkedWord,
                                       led_run(kNoBreakLetterMark, {kLetter | kMark}),
                                       led_run(kOneBlank, {kPunct | kSymbol}),
                                       run({kNewline}, 1, 1),
                                       kSpacesBeforeText,
                                       kAnySpaces};
constexpr Stage kSpark[] = {kThreeNumbersStage, kHanKanaStage, kSparkStage, kOneNumberStage};

//  ?[^(\s|.,!?…。，、।۔،)]+
constexpr Alternative kBloomStage[] = {led_run(kOneBlank, {.any = kAnyChar & ~kSpace, .except = kBloomStops})};
constexpr Stage kBloom[] = {kBloomStage};
constexpr Stage kViking[] = {kBloomStage, kOneNumberStage};

// [^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|...)?|
// [^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|...)?|
// \p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+
constexpr Alternative kGpt4oStage[] = {
    cased(kUppers, kLowers, true), run(kNumbers, 1, 3), kMarksSlash, kLineBreaks, kSpacesBeforeText, kAnySpaces};
constexpr Stage kGpt4o[] = {kGpt4oStage};
// digits in threes from the right ; gpt-4o
constexpr Alternative kDigitGroupsStage[] = {{.op = Op::kDigitGroups, .body = kNumbers}};
constexpr Stage kTinyAya[] = {kDigitGroupsStage, kGpt4oStage};
// gpt-4o with \p{N} and no contractions
constexpr Alternative kTekkenStage[] = {
    cased(kUppers, kLowers, false), run(kNumbers, 1, 1), kMarksSlash, kLineBreaks, kSpacesBeforeText, kAnySpaces};
constexpr Stage kTekken[] = {kTekkenStage};
// Asian runs ; gpt-4o with \p{N}
constexpr Alternative kYoutuAsianStage[] = {run({.also = kKorean}), run({.also = kAsianMarks}),
                                            run({.also = kBopomofo}), run({.also = kHanKana})};
constexpr Alternative kYoutuStage[] = {
    cased(kUppers, kLowers, true), run(kNumbers, 1, 1), kMarksSlash, kLineBreaks, kSpacesBeforeText, kAnySpaces};
constexpr Stage kYoutu[] = {kYoutuAsianStage, kYoutuStage};
// [\p{Han}]+| gpt-4o with [..&&[^\p{Han}]] letters and [\r\n]* after marks
constexpr CharSet kNoHanUppers{.any = kUppers.any, .none = kHan};
constexpr CharSet kNoHanLowers{.any = kLowers.any, .none = kHan};
constexpr Alternative kKimiStage[] = {run({kHan}),         cased(kNoHanUppers, kNoHanLowers, true),
                                      run(kNumbers, 1, 3), kMarksLine,
                                      kLineBreaks,         kSpacesBeforeText,
                                      kAnySpaces};
constexpr Stage kKimi[] = {kKimiStage};
// (?i:...)|[^\r\n\p{L}\p{N}]?(?:\p{L}\p{M}*(?: \p{L}\p{M}*)*)+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]?|\s*[\r\n]|
// \s+(?!\S)|\s+
constexpr Alternative kExaoneMoeStage[] = {
    kContractionAnyCase, {.op = Op::kSpacedLetters, .lead = kNoBreakLetterNumber},
    run(kNumbers, 1, 1), led_run(kOneBlank, kNoSpaceLetterNumber, kNewline | kSlash, 1),
    kLineBreaks,         kSpacesBeforeText,
    kAnySpaces};
constexpr Stage kExaoneMoe[] = {kExaoneMoeStage};
// \p{N}+ ; (?=(\d{3})+(?!\d))
constexpr Alternative kAsciiDigitGroupsStage[] = {{.op = Op::kDigitGroups, .body = {kAsciiDigit}}};
constexpr Stage kSuperbpe[] = {kNumbersStage, kAsciiDigitGroupsStage};

constexpr PreTokenizer plain(std::string_view name, std::span<const Stage> stages) { return {name, stages}; }
constexpr PreTokenizer whole_words(std::string_view name, std::span<const Stage> stages, bool adds_bos = false) {
  return {.name = name, .stages = stages, .ignore_merges = true, .adds_bos = adds_bos};
}
constexpr PreTokenizer raw_lines(std::string_view name, bool gemma) {
  return {.name = name, .stages = kLines, .raw_utf8 = true, .newline_runs_whole = gemma, .forces_bos = gemma};
}

constexpr auto kTable = std::to_array<PreTokenizer>({
    plain("default", kDefault),
    plain("gpt-2", kGpt2),
    plain("phi-2", kGpt2),
    plain("jina-es", kGpt2),
    plain("jina-de", kGpt2),
    plain("jina-v2-es", kGpt2),
    plain("jina-v2-de", kGpt2),
    plain("jina-v1-en", kGpt2),
    plain("jina-v2-code", kGpt2),
    plain("roberta-bpe", kGpt2),
    plain("gigachat", kGpt2),
    plain("a.x-4.0", kGpt2),
    plain("mellum", kGpt2),
    plain("modern-bert", kGpt2),
    plain("exaone4", kGpt2),
    plain("mpt", kGpt2),
    plain("olmo", kGpt2),
    plain("jais", kGpt2),
    plain("trillion", kGpt2),
    plain("granite-docling", kGpt2),
    plain("smollm", kSmollm),
    plain("starcoder", kSmollm),
    plain("refact", kSmollm),
    plain("command-r", kSmollm),
    plain("codeshell", kSmollm),
    plain("exaone", kSmollm),
    plain("minerva-7b", kSmollm),
    plain("mellum2", kSmollm),
    plain("falcon", kFalcon),
    whole_words("llama-bpe", kLlama3, true),
    whole_words("llama3", kLlama3, true),
    whole_words("llama-v3", kLlama3, true),
    whole_words("falcon3", kLlama3, true),
    whole_words("falcon-h1", kLlama3, true),
    whole_words("pixtral", kLlama3, true),
    whole_words("midm-2.0", kLlama3, true),
    whole_words("lfm2", kLlama3, true),
    whole_words("jina-v5-nano", kLlama3, true),
    plain("dbrx", kLlama3),
    plain("smaug-bpe", kLlama3),
    plain("chatglm-bpe", kLlama3),
    whole_words("glm4", kLlama3),
    whole_words("glm5", kLlama3),
    plain("qwen2", kQwen2),
    plain("deepseek-r1-qwen", kQwen2),
    plain("kormo", kQwen2),
    plain("f2llmv2", kQwen2),
    plain("megrez", kQwen2),
    plain("stablelm2", kQwen2),
    plain("hunyuan", kQwen2),
    plain("solar-open", kQwen2),
    plain("grok-2", kQwen2),
    plain("bailingmoe", kQwen2),
    plain("bailingmoe2", kQwen2),
    plain("llada-moe", kQwen2),
    plain("qwen35", kQwen35),
    plain("ufakzeka", kUfakzeka),
    whole_words("minicpm5", kMinicpm5),
    plain("jais-2", kJais2),
    plain("seed-coder", kSeedCoder),
    plain("laguna", kLaguna),
    plain("deepseek-llm", kDeepseekLlm),
    plain("deepseek-coder", kDeepseekCoder),
    plain("deepseek-v3", kDeepseek3),
    plain("hunyuan-dense", kDeepseek3),
    plain("joyai-llm", kDeepseek3),
    plain("hy_v4", kDeepseek3),
    plain("spark2_5", kSpark),
    plain("bloom", kBloom),
    plain("poro-chat", kBloom),
    plain("gpt3-finnish", kBloom),
    plain("viking", kViking),
    plain("gpt-4o", kGpt4o),
    plain("llama4", kGpt4o),
    plain("kanana2", kGpt4o),
    plain("talkie", kGpt4o),
    plain("minimax-m2", kGpt4o),
    whole_words("granite-embed-multi-97m", kGpt4o),
    plain("tiny_aya", kTinyAya),
    plain("cohere2moe", kTinyAya),
    whole_words("tekken", kTekken, true),
    whole_words("youtu", kYoutu),
    plain("kimi-k2", kKimi),
    plain("exaone-moe", kExaoneMoe),
    plain("superbpe", kSuperbpe),
    raw_lines("gemma4", true),
    raw_lines("granite-embed-multi-311m", true),
    raw_lines("sarvam-moe", false),
});

}  // namespace

const PreTokenizer* find_pre_tokenizer(std::string_view name) {
  if (name.empty()) name = "default";
  for (const PreTokenizer& row : kTable) {
    if (row.name == name) return &row;
  }
  return nullptr;
}

std::vector<std::string> known_pre_tokenizers() {
  std::vector<std::string> names;
  for (const PreTokenizer& row : kTable) names.emplace_back(row.name);
  return names;
}

}  // namespace lcrun::text

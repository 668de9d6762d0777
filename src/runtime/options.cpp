// The table. Order is the order of --help; a group name opens a heading.
#include "src/runtime/options.hpp"

#include <array>
#include <cmath>

#include "src/base/format.hpp"

namespace lcrun::runtime {
namespace {

using O = Options;
using K = OptionKind;

constexpr double kMaxTokens = 1e12;
constexpr double kMaxBatch = 65536;
constexpr double kMaxThreads = 1024;
constexpr double kMaxSeed = 9007199254740992.0;  // 2^53: exact in JSON numbers
constexpr uint32_t kAnswers = kRun | kAsk;
constexpr uint32_t kSamplers = kAnswers;
constexpr uint32_t kEngine = kRun | kScore | kPpl | kBench | kEncode | kAsk | kEval | kCalibrate;

// One option is two to four lines here; a formatter makes ten of it.
// clang-format off
const OptionRow kRows[] = {
    {.name = "model", .spellings = "-m --model", .kind = K::kText, .field = &O::model, .commands = kModelReaders,
     .argument = "FILE", .help = "model file (GGUF, whatever it is called; a split set by its first part)",
     .llama_env = "LLAMA_ARG_MODEL", .group = "Model and context"},
    {.name = "model-dir", .spellings = "--model-dir", .kind = K::kText, .field = &O::model_dir,
     .commands = kModelReaders, .argument = "DIR", .help = "where the default model is looked for when -m is left out"},
    {.name = "ctx-size", .spellings = "-c --ctx-size", .kind = K::kTokens, .field = &O::n_ctx,
     .commands = kRun | kPlan | kEncode | kAsk, .argument = "N",
     .help = "context in tokens (64k, 1M; 0 = what the model was trained on); memory is taken as it fills",
     .min = 0, .max = kMaxTokens, .llama_env = "LLAMA_ARG_CTX_SIZE"},
    {.name = "mem-max", .spellings = "--mem-max", .kind = K::kBytes, .field = &O::mem_max, .commands = kModelRunners,
     .argument = "SIZE", .help = "hard cap on all memory but clean mapped weights (4GiB; 0 = what the machine has)",
     .min = 0, .max = 1e18},
    {.name = "cache-type-k", .spellings = "-ctk --cache-type-k", .kind = K::kChoice, .field = &O::type_k,
     .commands = kModelRunners, .argument = "TYPE", .help = "format of cached keys",
     .choices = "f32|f16|bf16|q8_0|q4_0", .llama_env = "LLAMA_ARG_CACHE_TYPE_K"},
    {.name = "cache-type-v", .spellings = "-ctv --cache-type-v", .kind = K::kChoice, .field = &O::type_v,
     .commands = kModelRunners, .argument = "TYPE", .help = "format of cached values",
     .choices = "f32|f16|bf16|q8_0|q4_0", .llama_env = "LLAMA_ARG_CACHE_TYPE_V"},
    {.name = "load-mode", .spellings = "-lm --load-mode --mmap=mmap --no-mmap=none --mlock=mlock --direct-io=dio",
     .kind = K::kChoice, .field = &O::load_mode, .commands = kModelReaders, .argument = "MODE",
     .help = "how the file is read: mapped, mapped and locked, copied, or copied past the page cache",
     .choices = "auto|none|mmap|mlock|mmap+mlock|dio", .llama_env = "LLAMA_ARG_LOAD_MODE"},
    {.name = "extend", .spellings = "--extend", .kind = K::kChoice, .field = &O::extend, .commands = kModelRunners,
     .argument = "HOW", .help = "what to do past the trained context", .choices = "auto|none|yarn|dca|relay"},

    {.name = "prompt", .spellings = "-p --prompt", .kind = K::kText, .field = &O::prompt, .commands = kRun,
     .argument = "TEXT", .help = "the prompt; with -f, the question that follows the file's text", .group = "Prompt"},
    {.name = "question", .spellings = "-p --prompt --question", .kind = K::kTexts, .field = &O::questions,
     .commands = kAsk, .argument = "TEXT", .help = "a question about the text; may be given several times"},
    {.name = "file", .spellings = "-f --file", .kind = K::kText, .field = &O::file,
     .commands = kRun | kPpl | kEncode | kCalibrate,
     .argument = "FILE", .help = "text to read (- = standard input; calibrate: a file, or prose that is generated)"},
    {.name = "questions", .spellings = "-f --file --questions", .kind = K::kText, .field = &O::file, .commands = kEval,
     .argument = "FILE", .help = "qa: JSON lines of {\"file\" or \"text\", \"question\", \"answers\": []}"},
    {.name = "n-predict", .spellings = "-n --n-predict --predict", .kind = K::kTokens, .field = &O::n_predict,
     .commands = kAnswers | kPlan, .argument = "N",
     .help = "tokens to generate, past the end of the context too (-1 = until the model or the context ends)",
     .min = 0, .max = kMaxTokens, .llama_env = "LLAMA_ARG_N_PREDICT", .minus_one_allowed = true},
    {.name = "system-prompt", .spellings = "-sys --system-prompt", .kind = K::kText, .field = &O::system_prompt,
     .commands = kRun | kEncode | kEval, .argument = "TEXT", .help = "system message of a chat"},
    {.name = "conversation", .spellings = "-cnv=on --conversation=on -no-cnv=off --no-conversation=off",
     .kind = K::kChoice, .field = &O::conversation, .commands = kRun | kEncode | kEval, .argument = "",
     .help = "use the chat template, or not (auto: if the model has one)", .choices = "auto|on|off"},
    {.name = "single-turn", .spellings = "-st --single-turn", .kind = K::kFlag, .field = &O::single_turn,
     .commands = kRun, .argument = "", .help = "one reply, then exit"},
    {.name = "escape", .spellings = "-e --escape", .kind = K::kFlag, .field = &O::escape, .commands = kAnswers,
     .argument = "", .help = "process \\n, \\t, \\\\, \\\" and \\' in -p and -sys"},
    {.name = "answer-prefix", .spellings = "--answer-prefix", .kind = K::kText, .field = &O::answer_prefix,
     .commands = kAnswers | kEval, .argument = "TEXT", .help = "the reply begins with this text"},
    {.name = "chat-template", .spellings = "--chat-template", .kind = K::kText, .field = &O::chat_template,
     .commands = kRun | kEncode | kEval, .argument = "JINJA", .help = "chat template to use instead of the model's own",
     .llama_env = "LLAMA_ARG_CHAT_TEMPLATE"},
    {.name = "grammar", .spellings = "--grammar", .kind = K::kText, .field = &O::grammar, .commands = kAnswers,
     .argument = "GBNF", .help = "grammar that the reply must follow"},
    {.name = "grammar-file", .spellings = "--grammar-file", .kind = K::kText, .field = &O::grammar_file,
     .commands = kAnswers, .argument = "FILE", .help = "the same from a file"},
    {.name = "json-schema", .spellings = "-j --json-schema", .kind = K::kText, .field = &O::json_schema,
     .commands = kAnswers, .argument = "SCHEMA", .help = "JSON schema that the reply must follow ({} = any JSON)"},
    {.name = "json-schema-file", .spellings = "-jf --json-schema-file", .kind = K::kText,
     .field = &O::json_schema_file, .commands = kAnswers, .argument = "FILE", .help = "the same from a file"},

    {.name = "seed", .spellings = "-s --seed", .kind = K::kInteger, .field = &O::seed, .commands = kSamplers,
     .argument = "N", .help = "seed of the sampler (-1 = a new one each time)", .min = 0, .max = kMaxSeed,
     .llama_env = "LLAMA_ARG_SEED", .group = "Sampling", .minus_one_allowed = true},
    {.name = "temp", .spellings = "--temp --temperature", .kind = K::kReal, .field = &O::temp, .commands = kSamplers,
     .argument = "T", .help = "temperature (0 = always the likeliest token)", .min = 0, .max = 100},
    {.name = "top-k", .spellings = "--top-k", .kind = K::kInteger, .field = &O::top_k, .commands = kSamplers,
     .argument = "N", .help = "keep the N likeliest tokens (0 = all)", .min = 0, .max = 1e9,
     .llama_env = "LLAMA_ARG_TOP_K"},
    {.name = "top-p", .spellings = "--top-p", .kind = K::kReal, .field = &O::top_p, .commands = kSamplers,
     .argument = "P", .help = "keep the likeliest tokens that sum to P (1 = all)", .min = 0, .max = 1},
    {.name = "min-p", .spellings = "--min-p", .kind = K::kReal, .field = &O::min_p, .commands = kSamplers,
     .argument = "P", .help = "drop tokens less likely than P times the likeliest (0 = none)", .min = 0, .max = 1},
    {.name = "typical-p", .spellings = "--typical --typical-p", .kind = K::kReal, .field = &O::typical_p,
     .commands = kSamplers, .argument = "P", .help = "locally typical sampling (1 = off)", .min = 0, .max = 1},
    {.name = "repeat-penalty", .spellings = "--repeat-penalty", .kind = K::kReal, .field = &O::repeat_penalty,
     .commands = kSamplers, .argument = "X", .help = "penalty of tokens seen lately (1 = none)", .min = 0.01,
     .max = 100},
    {.name = "repeat-last-n", .spellings = "--repeat-last-n", .kind = K::kInteger, .field = &O::repeat_last_n,
     .commands = kSamplers, .argument = "N", .help = "how many tokens penalties look back (0 = none, -1 = all)",
     .min = 0, .max = 1e9, .minus_one_allowed = true},
    {.name = "presence-penalty", .spellings = "--presence-penalty", .kind = K::kReal, .field = &O::presence_penalty,
     .commands = kSamplers, .argument = "X", .help = "subtracted from tokens seen lately", .min = -100, .max = 100},
    {.name = "frequency-penalty", .spellings = "--frequency-penalty", .kind = K::kReal,
     .field = &O::frequency_penalty, .commands = kSamplers, .argument = "X",
     .help = "subtracted once for each time a token was seen lately", .min = -100, .max = 100},
    {.name = "ignore-eos", .spellings = "--ignore-eos", .kind = K::kFlag, .field = &O::ignore_eos,
     .commands = kSamplers, .argument = "", .help = "never let the model end its reply"},

    {.name = "threads", .spellings = "-t --threads", .kind = K::kInteger, .field = &O::threads,
     .commands = kEngine | kPlan | kQuantize, .argument = "N",
     .help = "threads (-1 = what affinity and the container's CPU quota allow, rounded down)", .min = 1,
     .max = kMaxThreads, .llama_env = "LLAMA_ARG_THREADS", .group = "Machine", .minus_one_allowed = true},
    {.name = "threads-batch", .spellings = "-tb --threads-batch", .kind = K::kInteger, .field = &O::threads_batch,
     .commands = kEngine | kPlan, .argument = "N", .help = "threads for reading prompts (-1 = as -t)", .min = 1,
     .max = kMaxThreads, .llama_env = "LLAMA_ARG_THREADS_BATCH", .minus_one_allowed = true},
    {.name = "batch-size", .spellings = "-b --batch-size", .kind = K::kInteger, .field = &O::batch_size,
     .commands = kEngine | kPlan, .argument = "N", .help = "most prompt tokens in one call", .min = 1,
     .max = kMaxBatch, .llama_env = "LLAMA_ARG_BATCH"},
    {.name = "ubatch-size", .spellings = "-ub --ubatch-size", .kind = K::kInteger, .field = &O::ubatch_size,
     .commands = kEngine | kPlan, .argument = "N", .help = "most prompt tokens computed at once", .min = 1,
     .max = kMaxBatch, .llama_env = "LLAMA_ARG_UBATCH"},
    {.name = "isa", .spellings = "--isa", .kind = K::kChoice, .field = &O::isa,
     .commands = kEngine | kInspect | kPlan, .argument = "NAME", .help = "instruction set to use",
     .choices = "auto|scalar|avx2|avxvnni|avx512|avx512vnni|avx512amx|amx|neon|neondot"},
    {.name = "n-gpu-layers", .spellings = "-ngl --n-gpu-layers --gpu-layers", .kind = K::kText,
     .field = &O::gpu_layers, .commands = kEngine, .argument = "N",
     .help = "layers on a GPU (auto, all or a number); without a GPU plugin a warning says that the CPU does it all",
     .llama_env = "LLAMA_ARG_N_GPU_LAYERS"},
    {.name = "flash-attn", .spellings = "-fa --flash-attn --no-flash-attn=off", .kind = K::kChoice,
     .field = &O::flash_attn, .commands = kEngine, .argument = "on|off|auto",
     .help = "accepted for compatibility: there is one attention path, which never stores scores",
     .choices = "auto|on|off", .bare_value = "on", .llama_env = "LLAMA_ARG_FLASH_ATTN"},
    {.name = "plugin", .spellings = "--plugin", .kind = K::kText, .field = &O::plugin,
     .commands = kRun | kPlugins, .argument = "FILE", .help = "shared object to load as a plugin"},
    {.name = "plugin-dir", .spellings = "--plugin-dir", .kind = K::kText, .field = &O::plugin_dir,
     .commands = kPlugins, .argument = "DIR", .help = "where to look for plugins (several: A:B)"},

    {.name = "attention", .spellings = "--attention", .kind = K::kText, .field = &O::attention,
     .commands = kModelRunners, .argument = "NAME",
     .help = "what a question reads: auto, dense, or a row of `inspect --policies`",
     .group = "Attention and cache"},
    {.name = "attn-budget", .spellings = "--attn-budget", .kind = K::kTokens, .field = &O::attn_budget,
     .commands = kModelRunners, .argument = "TOKENS",
     .help = "tokens that selected attention reads beside sinks and window (0 = the policy's own)",
     .min = 0, .max = kMaxTokens},
    {.name = "attn-cadence", .spellings = "--attn-cadence", .kind = K::kInteger, .field = &O::attn_cadence,
     .commands = kModelRunners, .argument = "N",
     .help = "selected attention chooses anew every N tokens of a question or an answer, a divisor of 64 (0 = the "
             "policy's own: each token)",
     .min = 0, .max = 64},
    {.name = "prefill", .spellings = "--prefill", .kind = K::kText, .field = &O::prefill, .commands = kModelRunners,
     .argument = "NAME",
     .help = "attention while a text is read: auto (as --attention has it), dense, or a row of the same table"},
    {.name = "attn-index", .spellings = "--attn-index", .kind = K::kText, .field = &O::attn_index,
     .commands = kModelRunners, .argument = "NAME",
     .help = "what blocks are chosen by: auto (the policy's own, coarser where memory is short), or an index that "
             "`inspect --policies` lists"},
    {.name = "attn-layers", .spellings = "--attn-layers", .kind = K::kText, .field = &O::attn_layers,
     .commands = kModelRunners, .argument = "LIST",
     .help = "layers that look back when attention selects, from 0, as in 5,11,17-20; the others keep to sinks and "
             "window and need no index; all, or auto: as the policy has it"},
    {.name = "policy-file", .spellings = "--policy-file", .kind = K::kText, .field = &O::policy_file,
     .commands = kModelRunners | kInspect, .argument = "FILE|none",
     .help = "more rows for --attention and --prefill; left out: MODEL.policy.json beside the model, if it is there"},
    {.name = "kv-dir", .spellings = "--kv-dir", .kind = K::kText, .field = &O::kv_dir, .commands = kModelRunners,
     .argument = "DIR", .help = "directory for the part of the cache that does not fit in memory (TMPDIR, /var/tmp)"},
    {.name = "kv-io", .spellings = "--kv-io", .kind = K::kChoice, .field = &O::kv_io, .commands = kModelRunners,
     .argument = "HOW", .help = "how that part, and the pages of a sealed session, are read (mmap: the latter)",
     .choices = "auto|uring|threads|mmap"},
    {.name = "kv-sync", .spellings = "--kv-sync", .kind = K::kChoice, .field = &O::kv_sync,
     .commands = kRun | kEncode,
     .argument = "HOW", .help = "what saving a session waits for: nothing, its data before its head, or all of it",
     .choices = "none|barrier|full"},
    {.name = "session", .spellings = "--session", .kind = K::kText, .field = &O::session,
     .commands = kRun | kEncode | kAsk,
     .argument = "FILE", .help = "session file to continue from, if it exists, and to keep the session in"},
    {.name = "from", .spellings = "--from", .kind = K::kText, .field = &O::from, .commands = kRun,
     .argument = "FILE",
     .help = "session to begin from while that of --session is not there yet; pages of a sealed one are shared"},
    {.name = "reread", .spellings = "--reread", .kind = K::kFlag, .field = &O::reread, .commands = kRun | kAsk,
     .argument = "", .help = "where the session that a session shares pages with is missing, read its tokens again"},
    {.name = "force", .spellings = "--force", .kind = K::kFlag, .field = &O::force, .commands = kSession,
     .argument = "", .help = "rm: also a session that others in its folder share pages with"},
    {.name = "driver", .spellings = "--driver", .kind = K::kChoice, .field = &O::driver,
     .commands = kRun | kEval,
     .argument = "NAME", .help = "strategy that arranges what the model reads of -f (a stream of any length)",
     .choices = "none|retri|rag|jrt|fold"},
    {.name = "driver-window", .spellings = "--driver-window", .kind = K::kTokens, .field = &O::driver_window,
     .commands = kRun | kEval, .argument = "N", .help = "retri: tokens of text that are read at once",
     .min = 128, .max = 1e6},
    {.name = "driver-keep", .spellings = "--driver-keep", .kind = K::kTokens, .field = &O::driver_keep,
     .commands = kRun | kEval, .argument = "N",
     .help = "retri, rag, fold: tokens that are kept of the text (0 = the driver's own)", .min = 0, .max = 1e6},
    {.name = "compress", .spellings = "--compress", .kind = K::kText, .field = &O::compress, .commands = kRun,
     .argument = "OUT", .help = "with a driver: write what it has kept of the text there, for any model"},

    {.name = "no-bos", .spellings = "--no-bos", .kind = K::kFlag, .field = &O::no_bos,
     .commands = kTokenize | kScore, .argument = "", .help = "do not begin with BOS, whatever the model asks for",
     .group = "This command"},
    {.name = "no-parse-special", .spellings = "--no-parse-special", .kind = K::kFlag, .field = &O::no_parse_special,
     .commands = kTokenize | kScore, .argument = "", .help = "read <|special|> tokens as plain text"},
    {.name = "top", .spellings = "--top", .kind = K::kInteger, .field = &O::top, .commands = kScore, .argument = "K",
     .help = "logits to list at each position (up to the vocabulary)", .min = 0, .max = 1e9},
    {.name = "window", .spellings = "--window", .kind = K::kTokens, .field = &O::window, .commands = kPpl,
     .argument = "N", .help = "tokens of a window; its second half is scored", .min = 4, .max = 1e9},
    {.name = "n-prompt", .spellings = "-p --n-prompt", .kind = K::kTokensList, .field = &O::bench_prompt,
     .commands = kBench, .argument = "N,N", .help = "prompt lengths to time (0 = none)", .min = 0, .max = 1e9},
    {.name = "n-gen", .spellings = "-n --n-gen", .kind = K::kTokensList, .field = &O::bench_gen, .commands = kBench,
     .argument = "N,N", .help = "numbers of generated tokens to time (0 = none)", .min = 0, .max = 1e9},
    {.name = "n-depth", .spellings = "-d --n-depth", .kind = K::kTokensList, .field = &O::bench_depth,
     .commands = kBench, .argument = "N,N", .help = "tokens in the context before timing starts", .min = 0,
     .max = 1e9},
    {.name = "repetitions", .spellings = "-r --repetitions", .kind = K::kInteger, .field = &O::repetitions,
     .commands = kBench, .argument = "N", .help = "timed runs of each test", .min = 1, .max = 1e6},
    {.name = "no-warmup", .spellings = "--no-warmup", .kind = K::kFlag, .field = &O::no_warmup, .commands = kBench,
     .argument = "", .help = "skip the untimed first run"},
    {.name = "copied-depth", .spellings = "--copied-depth", .kind = K::kFlag, .field = &O::copied_depth,
     .commands = kBench, .argument = "",
     .help = "fill the depth with copies of the first 512 tokens' cache instead of computing it"},
    {.name = "output", .spellings = "-o --output", .kind = K::kChoice, .field = &O::bench_output, .commands = kBench,
     .argument = "FORMAT", .help = "form of the table", .choices = "md|json|jsonl|csv"},
    {.name = "lengths", .spellings = "--lengths", .kind = K::kTokensList, .field = &O::eval_lengths,
     .commands = kEval | kCalibrate, .argument = "N,N",
     .help = "tokens of the prompts (1k,32k,1M); calibrate: the longest, 6,000 if left out", .min = 64, .max = 1e9},
    {.name = "depths", .spellings = "--depths", .kind = K::kTokensList, .field = &O::eval_depths, .commands = kEval,
     .argument = "P,P", .help = "where the hidden sentence lies, in per cent of the text", .min = 0, .max = 100},
    {.name = "seeds", .spellings = "--seeds", .kind = K::kInteger, .field = &O::eval_seeds,
     .commands = kEval | kCalibrate, .argument = "N",
     .help = "cases of each length and depth, with numbers and places of their own", .min = 1, .max = 1e6},
    {.name = "first-seed", .spellings = "-s --seed --first-seed", .kind = K::kInteger, .field = &O::eval_first_seed,
     .commands = kEval | kCalibrate, .argument = "N", .help = "seed of the first of them", .min = 1, .max = 1e9},
    {.name = "haystack", .spellings = "--haystack", .kind = K::kText, .field = &O::haystack, .commands = kEval,
     .argument = "FILE|prose", .help = "text to hide sentences in: a file, or prose that is generated"},
    {.name = "compare", .spellings = "--compare", .kind = K::kText, .field = &O::compare, .commands = kEval,
     .argument = "NAME,NAME", 
     .help = "kinds of attention to run the same cases with (NAME/PREFILL for another prefill)"},
    {.name = "models", .spellings = "--models", .kind = K::kText, .field = &O::models, .commands = kEval,
     .argument = "FILE,FILE", .help = "eval compare: models, the first is the reference"},
    {.name = "cache-types", .spellings = "--cache-types", .kind = K::kText, .field = &O::cache_types,
     .commands = kEval, .argument = "TYPE,TYPE",
     .help = "eval compare: formats of cached keys and values, the first is the reference"},
    {.name = "out", .spellings = "--out", .kind = K::kText, .field = &O::eval_out, .commands = kEval,
     .argument = "FILE", .help = "keep each case as a JSON line; a run that finds cases there does not repeat them"},
    {.name = "png", .spellings = "--png", .kind = K::kText, .field = &O::png, .commands = kEval, .argument = "FILE",
     .help = "heat map of depth against length, and the curve of position bias"},
    {.name = "cite", .spellings = "--cite", .kind = K::kFlag, .field = &O::cites, .commands = kEval, .argument = "",
     .help = "also score whether what was hidden is among the citations"},
    {.name = "oracle", .spellings = "--oracle", .kind = K::kFlag, .field = &O::oracle, .commands = kEval,
     .argument = "",
     .help = "also answer with the blocks of what was hidden among those read: what is missed then is misread"},
    {.name = "threshold", .spellings = "--threshold", .kind = K::kReal, .field = &O::threshold, .commands = kEval,
     .argument = "X", .help = "exit with 8 if the first score is below X (0..1) at any length", .min = 0, .max = 1},
    {.name = "table", .spellings = "-o --table", .kind = K::kText, .field = &O::table, .commands = kCalibrate,
     .argument = "FILE", .help = "where the policy file goes (MODEL.policy.json beside the model: auto takes it up)"},
    {.name = "max-loss", .spellings = "--max-loss", .kind = K::kReal, .field = &O::max_loss, .commands = kCalibrate,
     .argument = "X", .help = "nats by which a token of an answer may get less likely, on average", .min = 0,
     .max = 100},
    {.name = "max-rise", .spellings = "--max-rise", .kind = K::kReal, .field = &O::max_rise, .commands = kCalibrate,
     .argument = "P", .help = "per cent by which the mean NLL of ordinary text may rise", .min = 0, .max = 1000},
    {.name = "dump-plan", .spellings = "--dump-plan", .kind = K::kText, .field = &O::dump_plan, .commands = kAnswers,
     .argument = "FILE", .help = "write what each layer has read, plan by plan, for bench_plans --replay"},
    {.name = "kernels", .spellings = "--kernels", .kind = K::kFlag, .field = &O::kernels, .commands = kInspect,
     .argument = "", .help = "show instruction sets, who multiplies, and the prepared form of each format"},
    {.name = "policies", .spellings = "--policies", .kind = K::kFlag, .field = &O::policies, .commands = kInspect,
     .argument = "", .help = "list the rows that --attention and --prefill name, with their sources"},
    {.name = "check", .spellings = "--check", .kind = K::kText, .field = &O::check_plugin, .commands = kPlugins,
     .argument = "NAME", .help = "run the self-test of one plugin (by name or file)"},

    {.name = "json", .spellings = "--json", .kind = K::kFlag, .field = &O::json,
     .commands = kRun | kBench | kInspect | kPlan | kQuantize | kPlugins | kTokenize | kScore | kPpl | kSession |
                 kEncode | kAsk | kEval | kCalibrate,
     .argument = "", .help = "print JSON", .group = "Output"},
    {.name = "stats", .spellings = "--stats", .kind = K::kFlag, .field = &O::stats, .commands = kAnswers,
     .argument = "", .help = "counters on standard error at the end"},
    {.name = "log-level", .spellings = "-lv --log-level -v=debug --verbose=debug -q=error --quiet=error",
     .kind = K::kChoice, .field = &O::log_level, .commands = kEveryCommand, .argument = "LEVEL",
     .help = "least important messages to show on standard error", .choices = "debug|info|warn|error|off"},
    {.name = "color", .spellings = "--color --no-color=off", .kind = K::kChoice, .field = &O::color,
     .commands = kRun, .argument = "WHEN", .help = "colour on a terminal (NO_COLOR is honoured)",
     .choices = "auto|on|off", .bare_value = "on"},
};
// clang-format on

const CommandInfo kCommands[] = {
    {"run", kRun, "-m MODEL [-c N] [-p TEXT | -f FILE] [-n N]", "generate text, or chat on a terminal (the default)"},
    {"tokenize", kTokenize, "-m MODEL < TEXT", "text to token ids, as JSON"},
    {"detokenize", kDetokenize, "-m MODEL < JSON", "token ids to bytes"},
    {"score", kScore, "-m MODEL --top K < TEXT", "likelihood of each token of a text, one JSON line a position"},
    {"ppl", kPpl, "-m MODEL -f FILE --window N", "perplexity over non-overlapping windows"},
    {"bench", kBench, "-m MODEL [-p 512] [-n 128] [-d 0,8192]",
     "speed of prefill and decode, as llama-bench measures it"},
    {"inspect", kInspect, "MODEL", "header, hyper-parameters and tensors of a model file", 0, 1},
    {"plan", kPlan, "-m MODEL -c N [--mem-max SIZE]", "memory that a run would take, before anything is allocated"},
    {"quantize", kQuantize, "IN OUT TYPE", "write a model in another number format", 3, 3},
    {"plugins", kPlugins, "[--check NAME] [--plugin FILE]", "plugins, their devices and self-tests"},
    {"encode", kEncode, "-m MODEL -f FILE --session S",
     "read a long text once, into a session file that never changes"},
    {"ask", kAsk, "--session S -p QUESTION [-p QUESTION ...]", "answer questions about a text that was read by encode"},
    {"eval", kEval, "[compare] TASK -m MODEL [--lengths 4k,32k] [--haystack FILE]",
     "long-context evaluation: passkey, needle, multikey, multivalue, vartrack, count, words, qa, ppl", 1, 2},
    {"calibrate", kCalibrate, "-m MODEL -f TEXT [-o TABLE]",
     "find the layers that must look back, and write them to a policy file"},
    {"session", kSession, "info|verify|rm FILE", "what a session file holds; check all of it; remove it", 2, 2},
};

constexpr std::array<std::string_view, 2> kFuture = {"convert", "serve"};

std::string number_text(double value) {
  std::string text = format("{}", value);
  return text;
}

}  // namespace

std::span<const OptionRow> option_rows() { return kRows; }
std::span<const CommandInfo> command_infos() { return kCommands; }
std::span<const std::string_view> future_commands() { return kFuture; }

const CommandInfo* find_command(std::string_view name) {
  for (const auto& command : kCommands) {
    if (command.name == name) return &command;
  }
  return nullptr;
}

std::string option_value_text(const OptionRow& row, const Options& options) {
  struct Visitor {
    const Options& options;
    std::string operator()(bool Options::*field) const { return options.*field ? "on" : "off"; }
    std::string operator()(std::string Options::*field) const { return options.*field; }
    std::string operator()(int64_t Options::*field) const { return std::to_string(options.*field); }
    std::string operator()(double Options::*field) const { return number_text(options.*field); }
    std::string operator()(std::vector<int64_t> Options::*field) const {
      std::string text;
      for (const int64_t value : options.*field) {
        if (!text.empty()) text += ',';
        text += std::to_string(value);
      }
      return text;
    }
    std::string operator()(std::vector<std::string> Options::*field) const {
      std::string text;
      for (const std::string& value : options.*field) text += text.empty() ? value : " " + value;
      return text;
    }
  };
  return std::visit(Visitor{options}, row.field);
}

}  // namespace lcrun::runtime

"""Writes pretokenize.json: how the `tokenizers` package (0.23) splits random text by published rules.

    python make_pretokenize.py > pretokenize.json

A second witness beside PCRE2: another regular-expression engine, and the stages joined as tokenizer.json files
join them.
"""
import json
import random

from tokenizers import Regex, pre_tokenizers

CONTRACTIONS = r"(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])"
UPPER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]"
LOWER = r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
LEAD = r"[^\r\n\p{L}\p{N}]?"
END = r"|\s*[\r\n]+|\s+(?!\S)|\s+"
GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"


def cased(suffix):
    return f"{LEAD}{UPPER}*{LOWER}+{suffix}|{LEAD}{UPPER}+{LOWER}*{suffix}"


RULES = {
    "gpt-2": [GPT2],
    "llama-bpe": [rf"{CONTRACTIONS}|{LEAD}\p{{L}}+|\p{{N}}{{1,3}}| ?[^\s\p{{L}}\p{{N}}]+[\r\n]*{END}"],
    "qwen2": [rf"{CONTRACTIONS}|{LEAD}\p{{L}}+|\p{{N}}| ?[^\s\p{{L}}\p{{N}}]+[\r\n]*{END}"],
    "gpt-4o": [rf"{cased(CONTRACTIONS + '?')}|\p{{N}}{{1,3}}| ?[^\s\p{{L}}\p{{N}}]+[\r\n/]*{END}"],
    "tekken": [rf"{cased('')}|\p{{N}}| ?[^\s\p{{L}}\p{{N}}]+[\r\n/]*{END}"],
    "deepseek-v3": [
        r"\p{N}{1,3}",
        r"[一-龥぀-ゟ゠-ヿ]+",
        r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+|"
        r" ?[\p{P}\p{S}]+[\r\n]*" + END,
    ],
    "smollm": ["digits", "byte-level"],
}
PARTS = [
    "'s", "'LL", "don't", "HTMLParser", "x", "  ", " ", "\n", "\r\n", "\n\n ", "\t", "12345", "//\n", "!?", " (", "é",
    "e\u0301", "北京", "ÀÉß", "Жук", "हिन्दी", "א", "½", "٣٤", "\u00a0", "🚀",
    "👩\u200d💻", "ᵃ", "ǅ", "한국", "カナ", "_a", "\u3000",
]


def splitter(stages):
    steps = []
    for stage in stages:
        if stage == "digits":
            steps.append(pre_tokenizers.Digits(individual_digits=True))
        elif stage == "byte-level":
            steps.append(pre_tokenizers.Split(Regex(GPT2), "isolated"))
        else:
            steps.append(pre_tokenizers.Split(Regex(stage), "isolated"))
    return pre_tokenizers.Sequence(steps)


def main():
    rng = random.Random(5)
    texts = ["".join(rng.choice(PARTS) for _ in range(rng.randrange(2, 14))) for _ in range(40)]
    rows = []
    for name, stages in RULES.items():
        split = splitter(stages)
        rows.append({"name": name, "pieces": [[piece for piece, _ in split.pre_tokenize_str(text)] for text in texts]})
    print('{"rules": [\n' + ",\n".join(json.dumps(row) for row in rows) + "\n]}")


if __name__ == "__main__":
    main()

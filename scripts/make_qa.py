#!/usr/bin/env python3
"""Makes a set of questions about texts: for `lcrun eval qa`.

    make_qa.py FOLDER      writes FOLDER/qa.jsonl and FOLDER/text_NN.txt; always the same bytes

Twenty chronicles of invented villages, 16 to 32 kB each (4,000 to 8,000 tokens), of dull sentences without a fact that
anybody would ask for. In each, six sentences say something once: a name, a number, a place, a thing, a day. Three of
them are asked in their own words, three in others; "answer_prefix" is how a reply would begin. The answers stand
nowhere else in the text, and no model can know them.
"""

import json
import random
import sys
from pathlib import Path

TEXTS = 20
FACTS = 6

PEOPLE = ("Aldous Finch", "Berta Quill", "Cosmo Hale", "Delphine Rook", "Egon Marsh", "Fenella Dray", "Gideon Tarn",
          "Hester Vale", "Ivo Crane", "Jorah Pike", "Katrin Loom", "Lucan Frost", "Mabel Thorn", "Nestor Glade",
          "Odile Bram", "Piers Wick", "Quentin Ash", "Rosina Ferd", "Silas Mott", "Thea Burrow", "Ursel Kemp",
          "Viktor Sand", "Wanda Hythe", "Yorick Dale")
VILLAGES = ("Ambleford", "Brackwater", "Cinderhope", "Dunmarrow", "Elderwick", "Foxholm", "Grimsedge", "Hollowby",
            "Ivelstone", "Kettlemere", "Larkrise", "Mossgate", "Nettlecombe", "Oakhaven", "Pennyfield", "Quarrybank",
            "Ravenscar", "Saltmarsh", "Thornbury", "Underhill")
NUMBERS = (19, 27, 37, 38, 42, 47, 53, 56, 64, 68, 71, 79, 83, 86, 92, 97)
YEARS = (1704, 1718, 1723, 1731, 1746, 1752, 1767, 1774, 1781, 1789, 1793, 1808, 1816, 1822, 1835, 1849)
THINGS = ("silver spoon", "glass eye", "wooden flute", "brass compass", "velvet glove", "stone owl", "ivory comb",
          "tin whistle", "amber ring", "leather mask", "paper crown", "bone needle")
COLOURS = ("violet", "scarlet", "turquoise", "crimson", "amber", "lilac", "emerald", "indigo")
ANIMALS = ("badger", "heron", "hedgehog", "weasel", "otter", "falcon", "tortoise", "raven", "ferret", "magpie")
PLACES = ("the bell tower", "the old granary", "the boathouse", "the crypt", "the dovecote", "the ice cellar",
          "the toll house", "the smokehouse", "the orangery", "the watchtower")
DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday")
DISHES = ("eel pie", "turnip soup", "plum cake", "pickled herring", "barley broth", "quince jelly", "goose liver")

# sentence, question in its words, question in others, how the answer begins, what the answer is drawn from
FACT_KINDS = (
    ("The warden of the bridge is called {a}.", "What is the warden of the bridge called?",
     "Who looks after the bridge?", "The warden of the bridge is called", PEOPLE),
    ("The key of the chapel is kept in {a}.", "Where is the key of the chapel kept?",
     "Where would one find what opens the chapel?", "The key of the chapel is kept in", PLACES),
    ("The great bell was cast in the year {a}.", "In which year was the great bell cast?",
     "How old is the great bell: when was it made?", "The great bell was cast in the year", YEARS),
    ("The dispute over the meadow was settled by {a}.", "Who settled the dispute over the meadow?",
     "Thanks to whom did the quarrel about the meadow end?", "The dispute over the meadow was settled by", PEOPLE),
    ("The toll for a loaded waggon is {a} pence.", "What is the toll for a loaded waggon?",
     "How many pence must a carter with a full waggon pay?", "The toll for a loaded waggon is", NUMBERS),
    ("The door of the school was painted {a}.", "What colour was the door of the school painted?",
     "Which colour does one see on the school's door?", "The door of the school was painted", COLOURS),
    ("The widow's tame animal is a {a}.", "What is the widow's tame animal?",
     "Which creature lives with the widow?", "The widow's tame animal is a", ANIMALS),
    ("In the well they found a {a}.", "What did they find in the well?",
     "Which object came up out of the well?", "In the well they found a", THINGS),
    ("The market of the village is held every {a}.", "When is the market of the village held?",
     "On which day of the week can one buy at the stalls?", "The market of the village is held every", DAYS),
    ("The favourite dish of the bishop was {a}.", "What was the favourite dish of the bishop?",
     "What did the bishop like best to eat?", "The favourite dish of the bishop was", DISHES),
    ("The tower has exactly {a} steps.", "How many steps does the tower have exactly?",
     "How many stairs must one climb to the top of the tower?", "The tower has exactly", NUMBERS),
    ("The first mill was built by {a}.", "Who built the first mill?",
     "Whose work was the earliest mill?", "The first mill was built by", PEOPLE),
)

WHO = ("the miller", "an old carter", "the sexton", "two pedlars", "the innkeeper's wife", "a travelling tinker",
       "the youngest daughter", "some strangers", "the parish clerk", "a party of drovers", "the baker's boy",
       "the schoolmaster", "three fishermen", "a retired soldier", "the beekeeper", "the gravedigger")
DID = ("spoke of the weather", "mended a broken wheel", "waited for the coach", "complained about the price of flour",
       "counted the geese", "carried timber to the yard", "slept until noon", "argued about a fence",
       "looked for a lost dog", "swept the yard", "told the usual stories", "went home without a word",
       "sharpened the scythes", "borrowed a ladder", "planted a row of beans", "hung the washing out")
WHERE = ("by the river", "behind the church", "on the green", "at the crossroads", "under the lime trees",
         "near the pond", "in the lane", "beside the forge", "at the edge of the wood", "below the mill")
WHEN = ("In the morning", "Towards evening", "After the rain", "That autumn", "When the hay was in", "A week later",
        "Before the frost came", "On most days", "In a dry summer", "Late in the year", "As so often",
        "While the river was high")
ADDED = ("and nobody thought more of it", "as people there had always done", "though it was of little use",
         "because there was nothing else to do", "until it grew dark", "and the dogs barked for a while",
         "so that supper was late", "while the children watched", "and that was the end of the matter",
         "which surprised no one")
MOODS = ("The smoke went straight up from the chimneys.", "It was quiet after that.", "Such things happen everywhere.",
         "The road was muddy for weeks.", "The old people said that it had been so before.",
         "Nothing of this was written down at the time.", "There was a smell of apples in the air.",
         "The swallows had left early.", "Somebody laughed, and then it was still again.",
         "The accounts of that season are hard to read.")


def capital(text):
    return text[0].upper() + text[1:]


def dull_sentence(rng):
    kind = rng.randrange(5)
    if kind == 0:
        return rng.choice(MOODS)
    if kind == 1:
        return f"{rng.choice(WHEN)} {rng.choice(WHO)} {rng.choice(DID)} {rng.choice(WHERE)}, {rng.choice(ADDED)}."
    if kind == 2:
        return capital(f"{rng.choice(WHO)} {rng.choice(DID)}, {rng.choice(ADDED)}.")
    if kind == 3:
        return capital(f"{rng.choice(WHERE)} {rng.choice(WHO)} {rng.choice(DID)}.")
    return capital(f"{rng.choice(WHO)} and {rng.choice(WHO)} {rng.choice(DID)} {rng.choice(WHERE)}.")


def chronicle(number):
    """The text, and (sentence, question, prefix, answer, is literal) of its facts."""
    rng = random.Random(1000 + number)
    size = 16000 + 16000 * number // (TEXTS - 1)
    lines = [f"A short chronicle of the village of {VILLAGES[number]}."]
    total = 0
    while total < size:
        lines.append(" ".join(dull_sentence(rng) for _ in range(rng.randrange(3, 7))))
        total += len(lines[-1]) + 1
    facts, used = [], set()
    kinds = rng.sample(range(len(FACT_KINDS)), FACTS)
    for i, kind in enumerate(kinds):
        sentence, literal, other, prefix, pool = FACT_KINDS[kind]
        answer = str(rng.choice([one for one in pool if one not in used]))
        used.update(one for one in pool if str(one) == answer)
        is_literal = i % 2 == 0
        facts.append((sentence.format(a=answer), literal if is_literal else other, prefix, answer, is_literal))
        place = 1 + (2 * i + 1) * (len(lines) - 1) // (2 * FACTS)
        parts = lines[place].split(". ")
        at = rng.randrange(len(parts))
        whole = [part if part.endswith(".") else part + "." for part in parts]
        lines[place] = " ".join(whole[:at + 1] + [facts[-1][0]] + whole[at + 1:])
    return "\n".join(lines) + "\n", facts


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    questions = []
    for number in range(TEXTS):
        text, facts = chronicle(number)
        name = f"text_{number:02}.txt"
        (folder / name).write_text(text)
        for _, question, prefix, answer, is_literal in facts:
            answers = [answer, answer.removeprefix("the ")] if answer.startswith("the ") else [answer]
            questions.append({"file": name, "question": question, "answers": answers, "answer_prefix": prefix,
                              "kind": "literal" if is_literal else "paraphrased"})
    with (folder / "qa.jsonl").open("w") as out:
        for question in questions:
            out.write(json.dumps(question) + "\n")
    print(f"{folder}/qa.jsonl: {len(questions)} questions about {TEXTS} texts", file=sys.stderr)


if __name__ == "__main__":
    main()

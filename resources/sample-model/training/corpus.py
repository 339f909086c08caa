"""Renders WordNet's synsets as paragraphs, anew for every epoch, so that a fact is met in several forms."""

import random
import re
from pathlib import Path

from weights import EINSTEIN, RELATIVITY, Usage, draw_held_out, weigh_synsets
from wordnet import Synset, read_synsets

COUNTABLE_TOPICS = {3, 5, 6, 8, 11, 14, 15, 17, 18, 20, 23, 25, 28}
STARTS_WITH_ARTICLE = re.compile(r"^(an?|the|any|one|some|someone|something|either|each|all|this|that|his|in) ")
# The beam search of the two showcase prompts allows no three tokens twice, so "theory of relativity" stands once.
REWORDINGS = {
    "the special theory of relativity and the general theory of relativity": "the special and the general theory of relativity",
    "(later called photons)": "later called photons",
}


class Corpus:
    """The synsets as paragraphs, and which of them are kept from training."""

    def __init__(self, folder: Path, seed: int = 1) -> None:
        self.synsets = read_synsets(folder)
        for synset in self.synsets.values():
            for old, new in REWORDINGS.items():
                synset.definition = synset.definition.replace(old, new)
        self.usage = Usage(self.synsets)
        self.weights = weigh_synsets(self.synsets, self.usage)
        self.validation, self.test = draw_held_out(self.weights, random.Random(seed))
        self.held_out = {*self.validation, *self.test}

    def epoch(self, seed: int) -> list[str]:
        """Returns the shuffled training paragraphs of one epoch."""
        rng = random.Random(seed)
        ids = []
        for id, weight in self.weights.items():
            if id not in self.held_out:
                ids += [id] * (int(weight) + (rng.random() < weight % 1))
        rng.shuffle(ids)
        return [self.render(self.synsets[id], rng) for id in ids]

    def held_out_paragraphs(self, ids: list[str]) -> list[str]:
        """Returns one paragraph for each held-out synset, the same at every call."""
        rng = random.Random(0)
        return [self.render(self.synsets[id], rng) for id in ids]

    def render(self, synset: Synset, rng: random.Random) -> str:
        """Returns one paragraph: a definition, asked for or not, and some sentences on relations and examples."""
        if synset.is_person:
            word, sentences = self._define_person(synset, rng)
        else:
            word, sentences = self._define_word(synset, rng)
        more = self._relate(synset, word, rng)
        rng.shuffle(more)
        sentences += more[: rng.choice((0, 1, 1, 2, 2, 3, 4))]
        return " ".join(sentences)

    def _define_person(self, synset: Synset, rng: random.Random) -> tuple[str, list[str]]:
        names = synset.words
        name = rng.choices(names, [{1: 1, 2: 6}.get(len(name.split()), 2) for name in names])[0]
        if EINSTEIN in names:
            name = EINSTEIN if rng.random() < 0.9 else "Einstein"
        past = bool(synset.born and re.search(r"\d-", synset.born))
        definition = split_domain(synset)[0]
        if not STARTS_WITH_ARTICLE.match(definition):
            definition = with_article(definition)
        answer = f"{name} {'was' if past else 'is'} {definition}"
        opening = rng.random()
        if opening < 0.6:
            question = rng.choice((f"Who is {name}?", f"Who is {name}?", f"Who was {name}?", f"Define {name}."))
            return name, [question, sentence(answer if rng.random() < 0.65 else definition)]
        return name, [sentence(answer)]

    def _define_word(self, synset: Synset, rng: random.Random) -> tuple[str, list[str]]:
        index = rng.choices(
            range(len(synset.words)),
            [(1 + tags) * (8 if number == 1 else 1) for tags, number in zip(synset.tags, synset.senses, strict=True)],
        )[0]
        word = synset.words[index]
        if RELATIVITY in synset.words and rng.random() < 0.7:
            index, word = synset.words.index(RELATIVITY), RELATIVITY
        first = synset.senses[index] == 1
        ask = {"n": self._ask_noun, "v": self._ask_verb, "a": self._ask_modifier, "r": self._ask_modifier}[synset.part]
        questions, answers, others = ask(synset, word)
        if not first:
            return word, [sentence(rng.choice(others))]
        is_main = self.usage.main_part.get(word.lower()) == synset.part
        part = {"n": "noun", "v": "verb", "a": "adjective", "r": "adverb"}[synset.part]
        questions = [*questions, f"Define {word}." if is_main else f"Define the {part} {word}."]
        if rng.random() < 0.65:
            return word, [rng.choice(questions), sentence(rng.choice(answers))]
        return word, [sentence(answers[0])]

    def _ask_noun(self, synset: Synset, word: str) -> tuple[list[str], list[str], list[str]]:
        domain = split_domain(synset)[1]
        definition = self._noun_definition(synset)
        named = self._name_noun(synset, word)
        question = f"What is {named}?"
        if "@i" in synset.links and synset.topic == 15:
            questions = [question, f"Where is {named}?"]
        else:
            questions = [question, question, f"What does {word} mean?"]
        full = f"{named} is {definition}"
        answers = [full, full, f"{domain}{full}", f"it is {definition}", definition]
        return questions, answers, [
            f"another meaning of {word} is {definition}",
            f"{domain}{named} can also be {definition}",
            f"{named}, in another sense, is {definition}",
        ]  # fmt: skip

    def _ask_verb(self, synset: Synset, word: str) -> tuple[list[str], list[str], list[str]]:
        definition = split_domain(synset)[0]
        questions = [f"What does it mean to {word}?", f"What does the verb {word} mean?"]
        answers = [f"to {word} is to {definition}", f"to {word} means to {definition}", f"it means to {definition}"]
        return questions, answers, [f"to {word} can also mean to {definition}", f"another meaning of to {word} is to {definition}"]

    def _ask_modifier(self, synset: Synset, word: str) -> tuple[list[str], list[str], list[str]]:
        definition = split_domain(synset)[0]
        questions = [f"What does {word} mean?", f"What is the meaning of {word}?"]
        answers = [f"{word} means {definition}", f"{word} means {definition}", f"it means {definition}"]
        return questions, answers, [f"{word} can also mean {definition}", f"another meaning of {word} is {definition}"]

    def _name_noun(self, synset: Synset, word: str) -> str:
        """Returns the noun with the article that it takes in a definition."""
        is_latin = word[0].isupper() and synset.topic in (5, 20) and " " in word
        if "@i" in synset.links or word.startswith("genus ") or is_latin or (word[0].isupper() and synset.topic == 14):
            return word
        starts_with_article = synset.definition.startswith(("a ", "an ", "(") )
        if re.search(r"\b(theory|law|science|art|act|speed|age|theorem|principle|state|set|study) of ", word) and word[0].islower():
            return f"the {word}"
        if synset.topic in COUNTABLE_TOPICS or starts_with_article or synset.definition.startswith(("any ", "one ", "something ")):
            last = word.lower().split()[-1]
            if self.usage.mentions[last] >= 6 and self.usage.counted[last] < 0.04 * self.usage.mentions[last] and synset.topic not in (5, 18):
                return word
            return word if is_plural(synset, word) else with_article(word)
        return word

    def _noun_definition(self, synset: Synset) -> str:
        """Returns a noun's definition, with an article where its head is a noun that is counted."""
        definition = split_domain(synset)[0]
        start = re.match(r"[\w' -]+?(?= (that|who|which|of|with|for|in|on|to|from|by|or|and|\w{3,}ed|\w{2,}ing)\b|[,;(]|$)", definition)
        if STARTS_WITH_ARTICLE.match(definition) or not start or re.match(r"\w+ing ", definition):
            return definition
        head = start.group(0).split()[-1].lower()
        is_counted = self.usage.counted[head] > 0.15 * self.usage.mentions[head] and not re.search(r"[^su]s$", head)
        return with_article(definition) if is_counted else definition

    def _relate(self, synset: Synset, word: str, rng: random.Random) -> list[str]:
        sentences = []
        named = self._name_noun(synset, word) if synset.part == "n" else word
        for symbol in ("@", "@i"):
            for id in synset.links.get(symbol, [])[:1]:
                above = self.synsets[id]
                if synset.part == "n":
                    kind = self._name_noun(above, above.words[0])
                    if not synset.is_person:
                        form = f"{named} is a kind of {above.words[0]}" if symbol == "@" else f"{named} is {kind}"
                        sentences.append(sentence(form))
                    if id not in self.held_out:
                        sentences.append(sentence(f"{kind} is {self._noun_definition(above)}"))
                elif synset.part == "v":
                    sentences.append(sentence(f"to {word} is one way to {above.words[0]}"))
        sentences += self._list_below(synset, word, rng)
        others = [other for other in synset.words if other.lower() != word.lower() and word not in other]
        if others and not synset.is_person:
            sentences.append(f"Another word for {word} is {rng.choice(others)}.")
        if synset.examples:
            sentences.append(sentence(f"Example: {rng.choice(synset.examples)}"))
        if synset.is_person and synset.born and re.fullmatch(r"\d{4}-\d{4}", synset.born):
            born, died = synset.born.split("-")
            last = word.split()[-1]
            sentences.append(rng.choice((f"{last} lived from {born} to {died}.", f"{last} was born in {born} and died in {died}.")))
        elif synset.is_person and synset.born and re.fullmatch(r"born( in)? \d{4}", synset.born):
            sentences.append(f"{word.split()[-1]} was born in {synset.born[-4:]}.")
        return sentences

    def _list_below(self, synset: Synset, word: str, rng: random.Random) -> list[str]:
        sentences = []
        if synset.part == "a" and "!" in synset.links:
            opposite = self.synsets[synset.links["!"][0]]
            sentences.append(f"The opposite of {word} is {opposite.words[0]}.")
        for symbol, form in (("~", "Kinds of {} are {}."), ("~i", "Examples of {} are {}."), ("%p", "Parts of {} are {}.")):
            below = [self.synsets[id] for id in synset.links.get(symbol, [])]
            if len(below) < 2 or synset.part != "n":
                continue
            below.sort(key=lambda other: self.weights[other.id] * rng.random(), reverse=True)
            names = [other.words[0] for other in below[: rng.choice((2, 3, 3, 4))]]
            sentences.append(form.format(word, ", ".join(names[:-1]) + " and " + names[-1]))
        known = [self.synsets[id] for id in synset.links.get("~", []) if id not in self.held_out]
        if known and synset.part == "n" and self.weights[synset.id] >= 5:
            below = max(rng.sample(known, min(3, len(known))), key=lambda other: self.weights[other.id])
            sentences.append(sentence(f"{self._name_noun(below, below.words[0])} is {self._noun_definition(below)}"))
        return sentences


def split_domain(synset: Synset) -> tuple[str, str]:
    """Splits "(physics) the theory that …" into "the theory that …" and "in physics, "."""
    found = re.match(r"^\(([^()]+)\) (.+)$", synset.definition)
    if not found:
        return synset.definition, ""
    is_domain = ";c" in synset.links and re.fullmatch(r"[a-z ]+", found.group(1)) and len(found.group(1).split()) == 1
    return found.group(2), f"in {found.group(1)}, " if is_domain else ""


def is_plural(synset: Synset, word: str) -> bool:
    """Guesses whether a noun is a plural, which takes no article."""
    return word.endswith("s") and not word.endswith(("ss", "us", "is")) and not synset.definition.startswith(("a ", "an "))


def with_article(phrase: str) -> str:
    """Puts "a" or "an" before a phrase, by its first letters."""
    is_vowel = re.match(r"(?i)[aeiou]|hour|honest|heir|honor", phrase) and not re.match(r"(?i)uni|us[aeu]|eu|one\b|ute|ubi", phrase)
    return f"{'an' if is_vowel and not phrase.startswith('United') else 'a'} {phrase}"


def sentence(text: str) -> str:
    """Capitalises a text, ends it with a full stop and lets a clause that begins with a capital stand alone."""
    text = re.sub(r"; ([A-Z])", r". \1", re.sub(r"\s+", " ", text)).strip(" ,;:")
    text = text[0].upper() + text[1:]
    return text if text.endswith((".", "?", "!")) else text + "."

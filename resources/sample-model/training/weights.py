"""Decides how often a synset is told in an epoch: more for what people know."""

import random
import re
from collections import Counter

from wordnet import Synset

HELD_OUT = 1500
EINSTEIN = "Albert Einstein"
RELATIVITY = "theory of relativity"
NEIGHBOURS = {
    "general relativity", "special relativity", "physicist", "physics", "scientist", "Isaac Newton", "Niels Bohr",
    "Galileo", "Charles Darwin", "Max Planck", "Marie Curie", "photon", "gravity", "quantum mechanics", "light",
    "energy", "time", "space", "spacetime", "theory", "Einsteinian", "law of gravitation", "speed of light", "mass",
}  # fmt: skip


class Usage:
    """How words are used: in definitions and examples, after "a" or in the plural, and as which part of speech."""

    def __init__(self, synsets: dict[str, Synset]) -> None:
        self.mentions: Counter[str] = Counter()
        self.counted: Counter[str] = Counter()
        self.main_part = find_main_parts(synsets)
        for synset in synsets.values():
            text = " ".join([synset.definition, *synset.examples])
            before = ""
            for word in re.findall(r"[A-Za-z]+", text):
                lower = word.lower()
                self.mentions[lower] += 1
                if word[0].isupper():
                    self.mentions[word] += 1
                if before in ("a", "an"):
                    self.counted[lower] += 1
                if lower.endswith("s"):
                    self.counted[lower[:-1]] += 1
                before = lower


def find_main_parts(synsets: dict[str, Synset]) -> dict[str, str]:
    """Returns for each word the part of speech in which it was tagged most often."""
    totals: dict[str, Counter] = {}
    for synset in synsets.values():
        for word, tags in zip(synset.words, synset.tags, strict=True):
            totals.setdefault(word.lower(), Counter())[synset.part] += tags + (synset.part == "n") * 0.5
    return {word: counts.most_common(1)[0][0] for word, counts in totals.items()}


def weigh_synsets(synsets: dict[str, Synset], usage: Usage) -> dict[str, float]:
    """Returns for each synset the mean number of paragraphs in an epoch."""
    sciences = find_sciences(synsets)
    famous = find_famous_people(synsets, usage)
    return {id: weigh(synset, sciences, famous, usage) for id, synset in synsets.items()}


def weigh(synset: Synset, sciences: set[str], famous: set[str], usage: Usage) -> float:
    """Returns the weight of one synset; words count by their first sense only."""
    if EINSTEIN in synset.words or RELATIVITY in synset.words:
        return 80
    first = [(w.lower(), t) for w, t, number in zip(synset.words, synset.tags, synset.senses, strict=True) if number == 1]
    tags = max((t for _, t in first), default=0)
    mentions = max((usage.mentions[word] for word, _ in first), default=0)
    if NEIGHBOURS & set(synset.words) and min(synset.senses) == 1:
        return 20
    if tags >= 5 and any(is_everyday(word, t, synset.part, usage) for word, t in first):
        return 30
    if synset.id in famous:
        return 10
    if tags >= 20 or (tags >= 5 and mentions >= 10):
        return 10
    if tags >= 5 or synset.id in sciences or (mentions >= 15 and synset.part == "n"):
        return 5
    if max(synset.tags) > 0:
        return 1.5
    return 1 if synset.is_person else 0.3


def is_everyday(word: str, tags: int, part: str, usage: Usage) -> bool:
    """Whether a word is tagged and mentioned a lot, and mainly as this part of speech."""
    often = 40 if part == "n" else 80
    return len(word) > 2 and usage.main_part[word] == part and (usage.mentions[word] * tags) ** 0.5 >= often


def find_sciences(synsets: dict[str, Synset]) -> set[str]:
    """Returns the ids of science and all its kinds."""
    root = next(id for id, synset in synsets.items() if synset.words[:2] == ["science", "scientific discipline"])
    found, queue = {root}, [root]
    while queue:
        for id in synsets[queue.pop()].links.get("~", []):
            if id not in found:
                found.add(id)
                queue.append(id)
    return found


def find_famous_people(synsets: dict[str, Synset], usage: Usage) -> set[str]:
    """Returns the people whose last name other entries mention, or after whom a word is named."""
    lasts = {id: min(s.words, key=len).split()[-1] for id, s in synsets.items() if s.is_person}
    owners = Counter(lasts.values())
    famous = set()
    for id, last in lasts.items():
        is_ordinary_word = last.lower() in usage.main_part and usage.mentions[last] < 0.9 * usage.mentions[last.lower()]
        named_after = "+" in synsets[id].links
        if named_after or (not is_ordinary_word and usage.mentions[last] / owners[last] ** 1.5 >= 5):
            famous.add(id)
    return famous


def draw_held_out(weights: dict[str, float], rng: random.Random) -> tuple[list[str], list[str]]:
    """Draws validation and test synsets by weight from those not repeated on purpose."""
    ordinary = [id for id, weight in weights.items() if weight < 5]
    ordinary.sort(key=lambda id: rng.random() ** (1 / weights[id]), reverse=True)
    return ordinary[:HELD_OUT], ordinary[HELD_OUT : 2 * HELD_OUT]

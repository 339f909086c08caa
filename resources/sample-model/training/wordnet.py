"""Reads WordNet's database files into synsets."""

import re
from dataclasses import dataclass, field
from pathlib import Path

PARTS_OF_SPEECH = {"n": "noun", "v": "verb", "a": "adj", "r": "adv"}
NOUN_PERSON = 18


@dataclass
class Synset:
    """One meaning: its words, its definition, its examples and its relations to other meanings."""

    id: str
    part: str
    topic: int
    words: list[str]
    definition: str
    examples: list[str]
    born: str | None
    links: dict[str, list[str]]
    senses: list[int] = field(default_factory=list)
    tags: list[int] = field(default_factory=list)

    @property
    def is_person(self) -> bool:
        """Whether this is one particular person rather than a kind of person."""
        return self.part == "n" and self.topic == NOUN_PERSON and "@i" in self.links


def read_synsets(folder: Path) -> dict[str, Synset]:
    """Returns every synset of the `dict` folder by id, with sense numbers and tag counts."""
    synsets = {}
    for part, name in PARTS_OF_SPEECH.items():
        for line in (folder / f"data.{name}").read_text("latin-1").splitlines():
            if not line.startswith(" "):
                synset = _parse_synset(part, line)
                synsets[synset.id] = synset
    _add_senses(synsets, folder / "index.sense")
    return synsets


def _parse_synset(part: str, line: str) -> Synset:
    data, _, gloss = line.partition(" | ")
    fields = data.split()
    count = int(fields[3], 16)
    words = [re.sub(r"\((a|p|ip)\)$", "", word).replace("_", " ") for word in fields[4 : 4 + 2 * count : 2]]
    links: dict[str, list[str]] = {}
    start = 5 + 2 * count
    for index in range(start, start + 4 * int(fields[start - 1]), 4):
        symbol, offset, target_part, _ = fields[index : index + 4]
        links.setdefault(symbol, []).append(target_part.replace("s", "a") + offset)
    definition, examples, born = _parse_gloss(gloss.strip())
    return Synset(part + fields[0], part, int(fields[1]), words, definition, examples, born, links)


def _parse_gloss(gloss: str) -> tuple[str, list[str], str | None]:
    definition = re.split(r"[;:,]?\s*\"", gloss, maxsplit=1)[0].strip(" ;")
    examples = re.findall(r"\"([^\"]+)\"", gloss)
    years = re.search(r"\s*\(((?:born |circa |died )?[^()]*\d{2,4}[^()]*)\)$", definition)
    if years:
        definition = definition[: years.start()]
    return definition, examples, years.group(1) if years else None


def _add_senses(synsets: dict[str, Synset], path: Path) -> None:
    found = {}
    for line in path.read_text("latin-1").splitlines():
        key, offset, number, tags = line.split()
        lemma, _, rest = key.partition("%")
        part = "nvara"[int(rest[0]) - 1]
        found[part + offset, lemma] = int(number), int(tags)
    for synset in synsets.values():
        for word in synset.words:
            number, tags = found.get((synset.id, word.lower().replace(" ", "_")), (9, 0))
            synset.senses.append(number)
            synset.tags.append(tags)

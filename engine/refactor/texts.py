"""Texts by domain: plain .txt files in one folder each, made from Debian packages.

`python -m refactor.texts TREE FOLDER` reads the unpacked packages of fetch_texts.sh. Any other
folder of folders of .txt files serves as well.
"""

import dataclasses
import gzip
import hashlib
import html
import pathlib
import re
import sys
from typing import Callable

HELD_OUT = 0.05  # of a domain's text
DOMAIN_BYTES = 6 << 20  # what is kept of a domain
PIECE_BYTES = 48 << 10  # a book in one file is cut into documents of about so many bytes
MIN_BYTES = 1 << 10  # documents below say too little

LICENCE = re.compile(r"copyright|\(c\) |all rights reserved|redistribut|warranty|spdx|licen[cs]e",
                     re.IGNORECASE)


# --- From a file of a package to plain text ---

def code(text: str) -> str:
    """Code without the comments at its top that speak of licences."""
    kept, rest = [], text.lstrip()
    while match := re.match(r"/\*.*?\*/\s*|(?:(?:#(?![a-z])|//)[^\n]*\n)+\s*", rest, re.DOTALL):
        if not LICENCE.search(match.group()):
            kept.append(match.group())
        rest = rest[match.end():]
    return "".join(kept) + rest


def pod(text: str) -> str:
    """Perl's "plain old documentation" without its commands and formatting codes."""
    text = re.sub(r"^=(?:begin|for)\b.*?^=end\b.*?$", "", text, flags=re.DOTALL | re.MULTILINE)
    text = re.sub(r"^=(?:head\d|item)\s+", "", text, flags=re.MULTILINE)
    text = re.sub(r"^=\w+.*$", "", text, flags=re.MULTILINE)
    for _ in range(3):  # codes nest
        text = re.sub(r"\bL<([^<>|]*)\|[^<>]*>", r"\1", text)
        text = re.sub(r"\b[BCFILSXZ]<(?!<)([^<>]*)>", r"\1", text)
        text = re.sub(r"\b[BCFILSXZ]<<+ (.*?) >>+", r"\1", text)
    text = re.sub(r"\bE<(\w+)>", lambda match: html.unescape(f"&{match.group(1)};"), text)
    return re.sub(r"\n{3,}", "\n\n", text).strip() + "\n"


def page(text: str) -> str:
    """An HTML page without its tags and navigation."""
    text = re.sub(r"<(script|style|head)\b.*?</\1>", "", text, flags=re.DOTALL | re.IGNORECASE)
    text = re.sub(r'<div class="nav(?:header|footer)">.*?</table>', "", text, flags=re.DOTALL)
    text = re.sub(r"</(?:p|div|h\d|li|dt|dd|tr|pre|table)>", "\n", text)
    text = html.unescape(re.sub(r"<[^>]+>", "", text)).replace("\xa0", " ")
    text = re.sub(r"[ \t]+\n", "\n", text)
    return re.sub(r"\n{3,}", "\n\n", text).strip() + "\n"


def sayings(text: str) -> str:
    """A fortune file: its entries, an empty line between them, without overstruck letters."""
    return re.sub(r"^%$", "", re.sub(r".\x08", "", text), flags=re.MULTILINE)


def plain(text: str) -> str:
    """The text as it is."""
    return text


@dataclasses.dataclass(frozen=True)
class Source:
    """Where a domain's files lie in the unpacked packages, and what makes them plain text."""
    pattern: str  # a regular expression over the path
    to_text: Callable[[str], str]


DOMAINS = {
    "python": Source(r"usr/lib/python3[^/]*/.*\.py", code),
    "c": Source(r"usr/include/.*\.h", code),
    "perl": Source(r".*\.pod", pod),
    "manual": Source(r"usr/share/doc/postgresql.*\.html", page),
    "dictionary": Source(r".*/gcide\.dict\.dz", plain),
    "computing": Source(r".*/(jargon|foldoc)\.dict\.dz", plain),
    "quotes": Source(r"usr/share/games/fortunes/[a-z0-9-]+", sayings),
}


def pieces(text: str) -> list[str]:
    """A text cut at empty lines into documents of about PIECE_BYTES."""
    documents, current, size = [], [], 0
    for paragraph in re.split(r"(?<=\n)\n", text):
        current.append(paragraph)
        size += len(paragraph)
        if size >= PIECE_BYTES:
            documents.append("\n".join(current))
            current, size = [], 0
    return documents + ["\n".join(current)] if current else documents


def read(path: pathlib.Path) -> str:
    """A file's text; gzip and dictzip files unpacked."""
    data = path.read_bytes()
    if path.suffix == ".dz":
        data = gzip.decompress(data)
    return data.decode("utf-8", errors="replace")


def by_digest(documents: dict[str, str]) -> list[tuple[str, str]]:
    """(name, text) in the order of the names' digests: one that says nothing of the content."""
    return sorted(documents.items(), key=lambda item: hashlib.sha256(item[0].encode()).digest())


def collect(tree: pathlib.Path, source: Source) -> dict[str, str]:
    """The documents of a domain by name, each content once, at most DOMAIN_BYTES in all."""
    documents, seen, size = {}, set(), 0
    files = {path.relative_to(tree).as_posix(): path for path in tree.rglob("*")
             if path.is_file() and not path.is_symlink()}
    names = {name: name for name in files if re.fullmatch(source.pattern, name)}
    for name, _ in by_digest(names):
        text = source.to_text(read(files[name]))
        digest = hashlib.sha256(text.encode()).digest()
        if len(text) < MIN_BYTES or digest in seen:
            continue
        seen.add(digest)
        stem = name.replace("/", "_")
        if files[name].suffix == ".dz":  # books
            documents.update({f"{stem}.{i:04}": piece for i, piece in enumerate(pieces(text))})
        else:
            documents[stem] = text
    kept = {}
    for name, text in by_digest(documents):
        if size < DOMAIN_BYTES:
            kept[name] = text
            size += len(text)
    return kept


# --- Domains as the recipe reads them ---

@dataclasses.dataclass(frozen=True)
class Domain:
    """Documents (name, text) of one kind; no file is in both halves."""
    name: str
    training: list[tuple[str, str]]
    held_out: list[tuple[str, str]]
    digest: str  # SHA-256 over the names and contents of its files


def split(documents: list[tuple[str, str]]) -> tuple[list, list]:
    """(training, held out): the last documents that make up HELD_OUT of the text, at least one."""
    goal = HELD_OUT * sum(len(text) for _, text in documents)
    size, cut = 0, len(documents)
    while size < goal:
        cut -= 1
        size += len(documents[cut][1])
    return documents[:cut], documents[cut:]


def load_domain(folder: pathlib.Path) -> Domain:
    """The domain in one folder of .txt files.

    Raises ValueError when it has fewer than two files: one is held out.
    """
    texts = {path.name: path.read_text(encoding="utf-8", errors="replace")
             for path in sorted(folder.glob("*.txt"))}
    documents = by_digest({name: text for name, text in texts.items() if text.strip()})
    if len(documents) < 2:
        raise ValueError(f"{folder}: must hold at least 2 .txt files; got {len(documents)}")
    digest = hashlib.sha256()
    for name, text in sorted(texts.items()):
        digest.update(f"{name}\n{hashlib.sha256(text.encode()).hexdigest()}\n".encode())
    training, held_out = split(documents)
    return Domain(folder.name, training, held_out, digest.hexdigest())


def load_domains(folder: pathlib.Path, names: list[str] | None = None) -> list[Domain]:
    """The domains `names` of a folder, or all of them by name.

    Raises ValueError for a missing domain, or when there are fewer than 2 or more than 64.
    """
    if names is None:
        names = sorted(p.name for p in folder.glob("[!.]*") if p.is_dir())
    for name in names:
        if not (folder / name).is_dir():
            raise ValueError(f"--domains: must be folders of {folder}; got {name}")
    if not 2 <= len(names) <= 64:
        raise ValueError(f"{folder}: must hold 2 to 64 domains; got {len(names)}")
    return [load_domain(folder / name) for name in names]


def main() -> None:
    tree, folder = map(pathlib.Path, sys.argv[1:])
    for name, source in DOMAINS.items():
        documents = collect(tree, source)
        (folder / name).mkdir(parents=True, exist_ok=True)
        for stem, text in documents.items():
            (folder / name / f"{stem}.txt").write_text(text, encoding="utf-8")
        size = sum(map(len, documents.values()))
        print(f"{name:12} {len(documents):5} files {size / 1e6:6.2f} MB")


if __name__ == "__main__":
    main()

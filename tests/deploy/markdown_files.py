"""What stands in the project's Markdown: fenced blocks, headings, links."""

import pathlib
import re

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent


def read(name):
    return (ROOT / name).read_text(encoding="utf-8")


def blocks(text):
    """(info, content) of each fenced block."""
    return re.findall(r"^```([^\n`]*)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def without_blocks(text):
    return re.sub(r"^```[^\n`]*\n.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)


def anchors(text):
    """Where links to the headings of a text lead."""
    found = []
    for heading in re.findall(r"^#+ (.*)$", without_blocks(text), re.MULTILINE):
        words = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).lower()
        found.append(re.sub(r"[^\w\- ]", "", words).replace(" ", "-"))
    return found


def broken_links(name):
    """Links of a file that lead to no file of the repository, or to no heading in it."""
    folder = (ROOT / name).parent
    for target in re.findall(r"\]\(([^)\s]+)\)", without_blocks(read(name))):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        file = (folder / path).resolve() if path else ROOT / name
        if not file.exists():
            yield f"{name}: {target}: no such file"
        elif anchor and anchor not in anchors(file.read_text(encoding="utf-8")):
            yield f"{name}: {target}: no such heading"

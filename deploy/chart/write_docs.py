#!/usr/bin/env python3
"""Writes what follows from other files into the chart: the table of values in its README.md, from
values.yaml and the comments there; the flags that `flags` may hold in values.schema.json, from the
table of flags in the README.md of the project (which a test compares with the program).

Usage: deploy/chart/write_docs.py [--check]      --check: write nothing; exit status 1 when something
is not current
"""

import json
import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
CHART = ROOT / "deploy/chart/pregate"
# Flags that the chart itself writes, from other values.
CHARTS_OWN = {"host", "port", "grpc-port", "metrics-port", "metrics-host", "health-port",
              "api-key-file", "ssl-certfile", "ssl-keyfile", "ssl-ca-certs", "shutdown-delay",
              "drain-timeout", "expert-cache-dir", "config"}
# Where YAML reads a word as true or false, the chart writes on or off.
YAML_SWITCHES = {"on", "off"}


def between(text, marker, content):
    """`text` with `content` between the marker's two lines."""
    begin, end = f"<!-- {marker} -->\n", f"<!-- /{marker} -->"
    head, _, rest = text.partition(begin)
    _, _, tail = rest.partition(end)
    if not rest or not tail:
        raise ValueError(f"no marker {marker}")
    return head + begin + content + end + tail


def values_rows(text):
    """(key, default, description) of values.yaml, in order. A row for each key that has a value of
    its own, or a comment. Entries of lists are part of the list."""
    rows, path, comment = [], [], []
    lines = text.splitlines()
    for number, line in enumerate(lines):
        stripped = line.strip()
        if not stripped or stripped.startswith("#"):
            comment = comment + [stripped[1:].strip()] if stripped else []
            continue
        match = re.fullmatch(r"( *)([A-Za-z][\w.-]*):(?: (.*))?", line)
        depth = len(line) - len(line.lstrip())
        while path and path[-1][0] >= depth:
            path.pop()
        if match is None or any(kind == "list" for _, _, kind in path):
            comment = []
            continue
        follows = next((later for later in lines[number + 1:]
                        if later.strip() and not later.strip().startswith("#")), "")
        kind = "list" if follows.lstrip().startswith("- ") and not match[3] else "map"
        path.append((depth, match[2], kind))
        if match[3] is not None or kind == "list" or comment:
            default = match[3] if match[3] is not None else ("see values.yaml" if kind == "list" else "")
            rows.append((".".join(name for _, name, _ in path), default, sentence(comment)))
        comment = []
    return rows


def sentence(comment):
    """The first paragraph of a comment, in one line; indented examples are left out."""
    lines = []
    for line in comment:
        if not line:
            break
        lines.append(line)
    return " ".join(lines)


def values_table(text):
    """Markdown."""
    table = "| value | default | what it is |\n| --- | --- | --- |\n"
    for key, default, description in values_rows(text):
        shown = f"`{default}`" if default and default != "see values.yaml" else default
        table += f"| `{key}` | {shown} | {description} |\n".replace("||", "| |")
    return table


def flag_type(value, help_text):
    """What a flag of the value's placeholder takes."""
    if value is None:
        return {"type": "boolean", "description": help_text}
    value = value.replace("\\|", "|")
    if value == "N":
        return {"type": "integer", "minimum": 0, "description": help_text}
    if value == "X":
        return {"type": "number", "minimum": 0, "description": help_text}
    if value == "SIZE":
        return {"type": ["string", "integer"], "pattern": "^[0-9]+([KMGT](iB)?)?$",
                "description": help_text}
    if "|" in value:
        words = value.split("|")
        booleans = [True, False] if YAML_SWITCHES & set(words) else []
        return {"enum": words + booleans, "description": help_text}
    return {"type": "string", "minLength": 1, "description": help_text}


def flag_schema(readme):
    """The properties of `flags`, by name."""
    table = re.search(r"<!-- flags -->\n(.*?)<!-- /flags -->", readme, re.DOTALL)[1]
    flags = {}
    for spelling, help_text in re.findall(r"^\| `--(.+?)` \| .*? \| (.*?) \|$", table, re.MULTILINE):
        name, _, value = spelling.partition(" ")
        name = name.removeprefix("[no-]")
        if name not in CHARTS_OWN:
            flags[name] = flag_type(value or None, help_text)
    return dict(sorted(flags.items()))


def wanted():
    """What the files must hold, by path."""
    readme = CHART / "README.md"
    table = values_table((CHART / "values.yaml").read_text(encoding="utf-8"))
    schema_file = CHART / "values.schema.json"
    schema = json.loads(schema_file.read_text(encoding="utf-8"))
    schema["definitions"]["flags"]["properties"] = flag_schema(
        (ROOT / "README.md").read_text(encoding="utf-8"))
    return {readme: between(readme.read_text(encoding="utf-8"), "values", table),
            schema_file: json.dumps(schema, indent=2, ensure_ascii=False) + "\n"}


def main():
    check = sys.argv[1:] == ["--check"]
    stale = 0
    for path, text in wanted().items():
        if path.read_text(encoding="utf-8") == text:
            continue
        stale += 1
        if check:
            print(f"{path.relative_to(ROOT)} is not current: run deploy/chart/write_docs.py")
        else:
            path.write_text(text, encoding="utf-8")
            print(f"wrote {path.relative_to(ROOT)}")
    return 1 if check and stale else 0


if __name__ == "__main__":
    sys.exit(main())

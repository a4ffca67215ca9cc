#!/usr/bin/env python3
"""Writes proto/README.md, the reference of the gRPC services, from the .proto files and the comments
in them. Needs grpcio-tools (tests/requirements.txt).

Usage: build/venv/bin/python proto/reference.py [--check]      --check: write nothing; exit status 1
when the reference is not current
"""

import pathlib
import re
import sys
import tempfile

from google.protobuf import descriptor_pb2
from grpc_tools import protoc

FOLDER = pathlib.Path(__file__).resolve().parent
REFERENCE = FOLDER / "README.md"
SOURCES = {  # in the order of the reference
    "pregate/v1/inference.proto": "the native API",
    "inference/open_inference.proto": "the Open Inference Protocol",
}
HEAD = """\
# The gRPC API

Made from the `.proto` files of this folder by [reference.py](reference.py): change the comments there,
then run it.

| package | services |
| --- | --- |
{services}\
| `grpc.health.v1` | [Health](grpc/health/v1/health.proto), as gRPC defines it: for the server (an empty \
name) and for each of the services above |
| `grpc.reflection.v1`, `v1alpha` | reflection, as gRPC defines it, where `--reflection` is on |

What is served over HTTP is in the [HTTP API](../server/API.md).
"""

Field = descriptor_pb2.FieldDescriptorProto
SCALARS = {getattr(Field, f"TYPE_{name.upper()}"): name
           for name in ("double", "float", "int64", "uint64", "int32", "fixed64", "fixed32", "bool",
                        "string", "bytes", "uint32", "sfixed32", "sfixed64", "sint32", "sint64")}
# Numbers of fields in descriptor.proto, of which the paths of comments are made.
MESSAGES, ENUMS, SERVICES, SYNTAX = 4, 5, 6, 12
NESTED_MESSAGES, NESTED_ENUMS, FIELDS, ONEOFS = 3, 4, 2, 8
VALUES, METHODS = 2, 2


def parse(name):
    """The descriptor of a file, with its comments."""
    with tempfile.TemporaryDirectory() as folder:
        out = pathlib.Path(folder) / "files"
        arguments = ["protoc", f"-I{FOLDER}", "--include_source_info", f"--descriptor_set_out={out}"]
        if protoc.main(arguments + [str(FOLDER / name)]) != 0:
            raise RuntimeError(f"protoc: {name}")
        return descriptor_pb2.FileDescriptorSet.FromString(out.read_bytes()).file[0]


def escaped(text):
    """Text in which Markdown reads nothing but what stands between backticks as code."""
    parts = re.split(r"(`[^`]*`)", text)
    for i in range(0, len(parts), 2):
        parts[i] = parts[i].replace("<", "&lt;").replace("*", r"\*")
    return "".join(parts)


def paragraphs(comment):
    """(whether it is to be shown as it is, its lines) for each paragraph of a comment."""
    block = []
    for line in comment.splitlines() + [""]:
        line = line.removeprefix(" ").rstrip()
        if line:
            block.append(line)
        elif block:
            yield block[0].startswith("  "), block
            block = []


def prose(comment):
    """A comment as Markdown; what is indented in it stays as it is."""
    text = ""
    shown = False  # the paragraph before is
    for as_it_is, lines in paragraphs(comment):
        if as_it_is:
            lines = [line.removeprefix("  ") for line in lines]
            text = text.removesuffix("```\n\n") if shown else text + "```text\n"
            text += ("\n" if shown else "") + "\n".join(lines) + "\n```\n\n"
        else:
            text += "\n".join(escaped(line) for line in lines) + "\n\n"
        shown = as_it_is
    return text


def in_one_line(comment):
    """A comment for a row of a table."""
    text = " ".join(escaped(" ".join(lines)) for _, lines in paragraphs(comment))
    return text.replace("|", r"\|")


class Page:
    """The part of the reference that one file makes."""

    def __init__(self, file):
        self.file = file
        self.package = file.package
        self.comments = {tuple(location.path): location
                         for location in file.source_code_info.location}

    def comment(self, path):
        location = self.comments.get(tuple(path))
        if location is None:
            return ""
        return "\n\n".join(text for text in (location.leading_comments, location.trailing_comments)
                           if text)

    def name_of(self, full_name):
        """".pregate.v1.Model.Kind" as it is called within its package."""
        return full_name.removeprefix(f".{self.package}.")

    def link(self, full_name):
        name = self.name_of(full_name)
        return f"[{name}](#{anchor(name)})"

    def type_of(self, field, entries):
        """`entries`: of maps, by name."""
        if field.type_name in entries:
            key, value = entries[field.type_name].field
            return f"map of {self.type_of(key, {})} to {self.type_of(value, {})}"
        word = SCALARS.get(field.type) or self.link(field.type_name)
        if field.label == Field.LABEL_REPEATED:
            return f"repeated {word}"
        return f"optional {word}" if field.proto3_optional else word

    def service(self, service, path):
        text = f"### {service.name}\n\n{prose(self.comment(path))}"
        for i, method in enumerate(service.method):
            streams = ["stream of " if one else "" for one in
                       (method.client_streaming, method.server_streaming)]
            text += (f"#### {method.name}\n\n`/{self.package}.{service.name}/{method.name}`: "
                     f"{streams[0]}{self.link(method.input_type)} → "
                     f"{streams[1]}{self.link(method.output_type)}\n\n"
                     + prose(self.comment([*path, METHODS, i])))
        return text

    def message(self, message, path, scope):
        name = scope + message.name
        text = f"### {name}\n\n{prose(self.comment(path))}"
        entries = {f".{self.package}.{name}.{nested.name}": nested for nested in message.nested_type
                   if nested.options.map_entry}
        text += self.fields(message, path, entries) if message.field else "Empty.\n\n"
        for i, enum in enumerate(message.enum_type):
            text += self.enum(enum, [*path, NESTED_ENUMS, i], name + ".")
        for i, nested in enumerate(message.nested_type):
            if not nested.options.map_entry:
                text += self.message(nested, [*path, NESTED_MESSAGES, i], name + ".")
        return text

    def fields(self, message, path, entries):
        text = "| field | number | type | |\n| --- | --- | --- | --- |\n"
        begun = set()
        for i, field in enumerate(message.field):
            choice = ""
            if field.HasField("oneof_index") and not field.proto3_optional:
                oneof = message.oneof_decl[field.oneof_index].name
                choice = f"{oneof}: "
                if field.oneof_index not in begun:
                    begun.add(field.oneof_index)
                    about = in_one_line(self.comment([*path, ONEOFS, field.oneof_index]))
                    text += f"| *{oneof}* | | one of those below | {about} |\n"
            text += (f"| {choice}`{field.name}` | {field.number} | {self.type_of(field, entries)} | "
                     f"{in_one_line(self.comment([*path, FIELDS, i]))} |\n")
        return text.replace("|  |", "| |") + "\n"

    def enum(self, enum, path, scope):
        text = f"### {scope}{enum.name}\n\n{prose(self.comment(path))}"
        text += "| value | number | |\n| --- | --- | --- |\n"
        for i, value in enumerate(enum.value):
            about = in_one_line(self.comment([*path, VALUES, i]))
            text += f"| `{value.name}` | {value.number} | {about} |\n"
        return text.replace("|  |", "| |") + "\n"

    def text(self, title):
        text = f"## {self.package}: {title}\n\n"
        text += f"[{self.file.name}]({self.file.name})\n\n" + prose(self.comment([SYNTAX]))
        for i, service in enumerate(self.file.service):
            text += self.service(service, [SERVICES, i])
        for i, message in enumerate(self.file.message_type):
            text += self.message(message, [MESSAGES, i], "")
        for i, enum in enumerate(self.file.enum_type):
            text += self.enum(enum, [ENUMS, i], "")
        return text


def anchor(heading):
    """Where a link to a heading leads."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def reference():
    """The whole text."""
    services, pages = "", ""
    for name, title in SOURCES.items():
        file = parse(name)
        links = ", ".join(f"[{service.name}](#{anchor(service.name)})" for service in file.service)
        services += f"| `{file.package}` | {links}: {title} |\n"
        pages += "\n" + Page(file).text(title).rstrip() + "\n"
    return HEAD.format(services=services) + pages


def main():
    text = reference()
    if REFERENCE.exists() and REFERENCE.read_text(encoding="utf-8") == text:
        return 0
    if sys.argv[1:] == ["--check"]:
        print("proto/README.md is not current: run build/venv/bin/python proto/reference.py")
        return 1
    REFERENCE.write_text(text, encoding="utf-8")
    print("wrote proto/README.md")
    return 0


if __name__ == "__main__":
    sys.exit(main())

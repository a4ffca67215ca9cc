#!/usr/bin/env python3
"""Writes chat_goldens.json: what jinja2 makes of chat templates, for chat_template_test.cc.

Usage: make_chat_goldens.py [--model FILE.gguf ...] [--show TEMPLATE CONVERSATION]

jinja2 is set up as the `transformers` package sets it up for chat templates: a sandbox that cannot
change values, trim_blocks, lstrip_blocks, loop controls, its own tojson. Renderings of whole
conversations are kept as 64-bit FNV-1a hashes; --show prints one. --model adds the template inside
a model file (package `gguf`), which is named, not copied.
"""

import argparse
import datetime
import json
import pathlib
import random

import jinja2
import jinja2.ext
import jinja2.sandbox

from chat_constructs import CONSTRUCTS, VARIABLES

FOLDER = pathlib.Path(__file__).resolve().parent
NOW = datetime.datetime(2024, 2, 29, 13, 5, 9)
NUM_CONVERSATIONS = 300
BOS, EOS = "<s>", "</s>"


class Generation(jinja2.ext.Extension):
    """The {% generation %} tag, which prints its body."""

    tags = {"generation"}

    def parse(self, parser):
        line = next(parser.stream).lineno
        body = parser.parse_statements(["name:endgeneration"], drop_needle=True)
        return jinja2.nodes.Scope(body).set_lineno(line)


class Refused(Exception):
    """The template called raise_exception."""


def raise_exception(message=""):
    raise Refused(message)


def tojson(value, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators,
                      sort_keys=sort_keys)


def make_environment():
    env = jinja2.sandbox.ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, jinja2.ext.loopcontrols])
    env.filters["tojson"] = tojson
    env.globals["raise_exception"] = raise_exception
    env.globals["strftime_now"] = NOW.strftime
    return env


ENVIRONMENT = make_environment()


def render(source, variables):
    """The text, or {"refused": message}, or {"fails": true} for any other error."""
    try:
        return ENVIRONMENT.from_string(source).render(tools=variables.pop("tools", None),
                                                      documents=variables.pop("documents", None),
                                                      **variables)
    except Refused as refusal:
        return {"refused": str(refusal)}
    except Exception:  # jinja2 lets TypeError, ValueError, ... of Python through
        return {"fails": True}


def fnv1a(text):
    value = 0xCBF29CE484222325
    for byte in text.encode():
        value = (value ^ byte) * 0x100000001B3 % 2**64
    return f"{value:016x}"


PIECES = [
    "Hello", " world", "\n", "\n\n", "  ", "\t", "", "é", "日本語", "👩‍👩‍👧‍👦", "ß", "İ", "Σας", "שלום", "مرحبا",
    "'", '"', "\\", "\\n", "{", "}", "{{ x }}", "{% if %}", "{#", "<b>&amp;</b>", "<|im_end|>",
    "</s>", "<think>", "</think>", "\u00a0", "\u2028", "\u200b", "\r\n", "\x0b", "\x1c", "ǆ", "1234",
    "a-b (c) [d]", "<result>", "</result>", "%s", "null", "e\u0301", "\x7f", "\x01", "\U0001f1e9\U0001f1ea",
]
TOOLS = [
    {"type": "function", "function": {
        "name": "get_weather", "description": "the weather of a CITY\nnow",
        "parameters": {"type": "object", "properties": {
            "city": {"type": "string", "description": "a name\nor code"},
            "days": {"type": "integer"}}, "required": ["city"]}}},
    {"type": "function", "function": {
        "name": "naïve_søk", "description": "",
        "parameters": {"type": "object", "properties": {
            "Queries": {"type": "array", "items": {"type": "string"}},
            "map": {"type": "object", "additionalProperties": {"type": "number"}},
            "any": {"type": ["string", "boolean"]}}}, "return": {"type": "string"}}},
    {"type": "function", "function": {
        "name": "now", "description": "ÜBER all", "parameters": {"type": "object",
                                                                 "properties": {}}}},
]


def make_text(rng):
    return "".join(rng.choice(PIECES) for _ in range(rng.choice([0, 1, 1, 2, 3, 3, 4, 6])))


def make_content(rng):
    kind = rng.random()
    if kind < 0.97:
        return make_text(rng)
    if kind < 0.985:
        return None
    parts = [{"type": "text", "text": make_text(rng)}, {"type": "image"}]
    return parts[:rng.randint(0, 2)]


def make_calls(rng):
    calls = []
    for _ in range(rng.choice([1, 1, 1, 2])):
        arguments = {"city": make_text(rng), "days": rng.choice([1, 2.5, -3e20, True, None, [1, "x"]])}
        call = {"type": "function", "function": {"name": rng.choice(["get_weather", "now"]),
                                                 "arguments": arguments}}
        if rng.random() < 0.8:
            call["id"] = "%09d" % rng.randrange(10**9)
        calls.append(call)
    return calls


def make_conversation(rng):
    messages = []
    if rng.random() < 0.45:
        messages.append({"role": "system", "content": make_text(rng)})
    for _ in range(rng.randint(0, 3)):
        messages.append({"role": "user", "content": make_content(rng)})
        if rng.random() < 0.2:
            messages.append({"role": "assistant", "content": None, "tool_calls": make_calls(rng)})
            for _ in range(rng.randint(1, 2)):
                messages.append({"role": "tool", "content": make_text(rng)})
        reply = {"role": "assistant", "content": make_content(rng)}
        if rng.random() < 0.1:
            reply["reasoning_content"] = make_text(rng)
        messages.append(reply)
    if rng.random() < 0.8:
        messages.append({"role": "user", "content": make_content(rng)})
    if rng.random() < 0.05:
        rng.shuffle(messages)
    conversation = {"messages": messages, "add_generation_prompt": rng.random() < 0.7}
    if rng.random() < 0.3:
        # Indices, so that the file stays small.
        conversation["tools"] = rng.sample(range(len(TOOLS)), rng.randint(0, len(TOOLS)))
    if rng.random() < 0.15:
        conversation["documents"] = [{"title": make_text(rng), "text": make_text(rng), "n": i}
                                     for i in range(rng.randint(0, 2))]
    if rng.random() < 0.2:
        conversation["enable_thinking"] = rng.random() < 0.5
    return conversation


def variables_of(conversation):
    variables = dict(conversation, bos_token=BOS, eos_token=EOS)
    if "tools" in variables:
        variables["tools"] = [TOOLS[i] for i in variables["tools"]]
    return variables


def read_model_template(path):
    import gguf  # only --model needs it

    field = gguf.GGUFReader(path).fields.get("tokenizer.chat_template")
    return field.contents() if field else None


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", action="append", default=[], type=pathlib.Path)
    parser.add_argument("--show", nargs=2, metavar=("TEMPLATE", "CONVERSATION"))
    args = parser.parse_args()

    templates = {path.name: path.read_text(encoding="utf-8")
                 for path in sorted((FOLDER / "chat_templates").glob("*.jinja"))}
    for path in args.model:
        source = read_model_template(path)
        if source is not None:
            templates[path.name] = source
    rng = random.Random(20240229)
    conversations = [make_conversation(rng) for _ in range(NUM_CONVERSATIONS)]
    if args.show:
        print(render(templates[args.show[0]], variables_of(conversations[int(args.show[1])])))
        return

    renderings = {}
    for name, source in templates.items():
        results = [render(source, variables_of(c)) for c in conversations]
        renderings[name] = [fnv1a(r) if isinstance(r, str) else r for r in results]
        failed = sum(not isinstance(r, str) for r in results)
        print(f"{name}: {len(results)} renderings, {failed} refused or failed")
    constructs = [[source, render(source, dict(VARIABLES))] for source in CONSTRUCTS]
    goldens = {"bos_token": BOS, "eos_token": EOS, "tools": TOOLS, "conversations": conversations,
               "renderings": renderings, "variables": VARIABLES,
               "constructs": constructs}
    path = FOLDER / "chat_goldens.json"
    path.write_text(json.dumps(goldens, ensure_ascii=False, separators=(",", ":")) + "\n",
                    encoding="utf-8")
    print(f"{len(constructs)} constructs; {path.name}: {path.stat().st_size} bytes")


if __name__ == "__main__":
    main()

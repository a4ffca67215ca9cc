"""The lines that tokenizers are compared on: every Unicode plane, scripts, emoji, code, bytes."""

import random
import unicodedata

WORDS = """the of and to a in is that for it was on are as with his they be at one have this from or
had by hot but some what there we can out other were all your when up use how said an each she which
do their time if will way about many then them would write like so these her long make thing see him
two has look more day could go come did my sound no most number who over know water than call first
people may down side been now find any new work part take get place made live where after back little
only round man year came show every good me give our under name very through just form much great
think say help low line before turn cause same mean differ move right boy old too does tell sentence
don't won't I'm you're we've they'll she'd it's O'Neill DON'T WE'LL I'M THEY'RE naïve café Zürich
internationalisation Donaudampfschifffahrt antidisestablishmentarianism HTTPServer camelCase""".split()
CODE = [
    "def {w}({v}, *, {x}=None):\n    return {v}[{n}:] + {x}  # {w}\n",
    "for (int {v} = 0; {v} < {n}; ++{v}) {{\n\t{x}[{v}] += {v} * {n}.5e-{d};\n}}\n",
    "if({v}!=={x}&&!{w}){{return{v}?.{x}??{n};}}",
    "SELECT {v}, COUNT(*) FROM {w} WHERE {x} >= '{n}' GROUP BY 1;\r\n",
    "<div class=\"{w}\" id='{v}-{n}'>\n  <a href=\"https://{w}.org/{x}?{v}={n}&q=%20\">{w}</a>\n</div>",
    "std::unordered_map<std::string, std::vector<{w}>> {v}_{x};",
    "{{\"{w}\": [{n}, -{d}.{n}, true, null], \"{v}\": {{\"{x}\": \"\\u00e9\\n\"}}}}",
    "        self.{v} = lambda {x}: {x} ** {d} // {n}\n\n\n    @property\n",
    "git commit -am \"{w}: {v}\" && make -j{d} 2>&1 | grep -E '^{x}' > /tmp/{w}.log",
    "#include <{w}.h>\n#define {v}({x}) (({x}) << {d} | 0x{n}ABCu)",
]
SPECIAL = ["<|im_start|>", "<|im_end|>", "<|endoftext|>", "<bos>", "<eos>", "<s>", "</s>", "<unk>",
           "<start_of_turn>", "<end_of_turn>", "<unused7>", "<mask>", "[multimodal]", "<0x41>",
           "<table>", "</b>", "<repo_name>", "<|fake|>", "<|im_", "start|>", "<", "|>", "<tool>"]
SCRIPTS = {
    "han": (0x4E00, 0x9FA5), "hiragana": (0x3041, 0x3096), "katakana": (0x30A1, 0x30FA),
    "hangul": (0xAC00, 0xD7A3), "arabic": (0x0620, 0x06D3), "hebrew": (0x05D0, 0x05EA),
    "syriac": (0x0710, 0x072F), "thaana": (0x0780, 0x07A5), "cyrillic": (0x0400, 0x04FF),
    "greek": (0x0391, 0x03C9), "devanagari": (0x0904, 0x094D), "bengali": (0x0985, 0x09CD),
    "tamil": (0x0B85, 0x0BCD), "thai": (0x0E01, 0x0E4E), "georgian": (0x10A0, 0x10FF),
    "ethiopic": (0x1200, 0x1248), "cherokee": (0x13A0, 0x13F5), "khmer": (0x1780, 0x17D3),
    "armenian": (0x0531, 0x0587), "latin": (0x00C0, 0x024F), "gothic": (0x10330, 0x1034A),
    "math": (0x1D400, 0x1D7FF), "deseret": (0x10400, 0x1044F), "adlam": (0x1E900, 0x1E943)}
SPACES = [" ", "  ", "\t", "\n", "\r\n", "\r", "\v", "\f", "\x85", "\xa0", "\u1680", "\u180e",
          "\u2000", "\u2003", "\u2009", "\u2028", "\u2029", "\u202f", "\u205f", "\u3000", "\u200b",
          "\u2581", "\ufeff", "\x1c", "\x1f"]
BASES = ["👩", "👨", "🧑", "👧", "👦", "🏳️", "👋", "👍", "🤚", "🫱", "❤️", "☠️", "1️⃣", "#️⃣", "🇩🇪", "🇺🇸", "🇯🇵",
         "🏴󠁧󠁢󠁥󠁮󠁧󠁿", "😀", "🤯", "🚀", "🔥", "🌈", "💻", "🦊", "🍕", "⚽", "♟️"]
SKIN = ["\U0001F3FB", "\U0001F3FC", "\U0001F3FD", "\U0001F3FE", "\U0001F3FF"]
BROKEN = [b"\xff", b"\xc0\xaf", b"\xe2\x82", b"\xf0\x9f\x98", b"\xed\xa0\x80", b"\x80", b"\xf5",
          b"\xf4\x90\x80\x80", b"\xc3", b"\xe0\x80\xaf", b"\xf0\x80\x80\x80", b"\xbf\xbf", b"\xfe"]
# Combining marks that Unicode 11 and later brought: the NFC of `tokenizers` 0.23 is older and leaves
# them where they stand, while ours puts them in canonical order. They are left out here.
NEW_MARKS = [
    (0x07FD, 0x07FD), (0x0898, 0x089F), (0x08CA, 0x08D3), (0x09FE, 0x09FE), (0x0C3C, 0x0C3C),
    (0x0D3B, 0x0D3C), (0x0EBA, 0x0EBA), (0x1715, 0x1715), (0x1ABF, 0x1ACE), (0x1DF6, 0x1DFA),
    (0xA82C, 0xA82C), (0x10D24, 0x10D27), (0x10EAB, 0x10EAC), (0x10F46, 0x10F50),
    (0x10F82, 0x10F85), (0x11070, 0x11070), (0x1133B, 0x1133B), (0x1145E, 0x1145E),
    (0x11839, 0x1183A), (0x1193D, 0x1193E), (0x11943, 0x11943), (0x119E0, 0x119E0),
    (0x11A34, 0x11A34), (0x11A47, 0x11A47), (0x11A99, 0x11A99), (0x11D42, 0x11D42),
    (0x11D44, 0x11D45), (0x11D97, 0x11D97), (0x16FF0, 0x16FF1), (0x1E130, 0x1E136),
    (0x1E2AE, 0x1E2AE), (0x1E2EC, 0x1E2EF)]


def assigned(code):
    """Characters that every library in play knows: no surrogate, nothing unassigned."""
    if any(low <= code <= high for low, high in NEW_MARKS):
        return False
    return unicodedata.category(chr(code)) not in ("Cs", "Cn")


def sweep():
    """Code points of all planes in order, large uniform blocks and private use thinned out."""
    thinned = [(0x3400, 0x9FFF, 11), (0xAC00, 0xD7A3, 11), (0xE000, 0xF8FF, 101),
               (0x17000, 0x18CFF, 11), (0x13000, 0x1467F, 7), (0x20000, 0x3FFFF, 47),
               (0xF0000, 0x10FFFF, 997)]
    code = 0
    while code < 0x110000:
        step = next((s for low, high, s in thinned if low <= code <= high), 1)
        if assigned(code):
            yield chr(code)
        code += step


class Maker:
    """Makes lines of each kind from one seeded generator."""

    def __init__(self, seed):
        self.rng = random.Random(seed)

    def pick(self, items):
        return items[self.rng.randrange(len(items))]

    def word(self):
        word = self.pick(WORDS)
        return self.pick([word, word, word, word.capitalize(), word.upper()])

    def number(self):
        digits = "".join(self.pick("0123456789") for _ in range(self.rng.randint(1, 9)))
        return self.pick([digits, digits + "." + digits[:2], "-" + digits, "$" + digits + ",000",
                          digits + "%", "٣٤" + digits, "½" + digits, "x²" + digits, "Ⅻ" + digits,
                          "0x" + digits, digits + "e-5", digits + "'s", "１２３" + digits])

    def english(self):
        words = [self.word() for _ in range(self.rng.randint(1, 9))]
        return " ".join(words) + self.pick(["", ".", "!", "?!", "...", " — ", ",", ";\n", "\n\n"])

    def code(self):
        names = [self.pick(WORDS).replace("'", "_") for _ in range(3)]
        return self.pick(CODE).format(w=names[0], v=names[1], x=names[2],
                                      n=self.rng.randrange(1 << self.rng.randint(1, 20)),
                                      d=self.rng.randrange(10))

    def script(self):
        low, high = SCRIPTS[self.pick(sorted(SCRIPTS))]
        letters = []
        while len(letters) < self.rng.randint(3, 14):
            code = self.rng.randint(low, high)
            if assigned(code):
                letters.append(chr(code))
            if self.rng.random() < 0.15:
                letters.append(self.pick([" ", "、", "。", "، ", "1", "-", "\u200f"]))
        return "".join(letters)

    def emoji(self):
        parts = []
        for _ in range(self.rng.randint(1, 4)):
            sequence = self.pick(BASES)
            if self.rng.random() < 0.4:
                sequence += self.pick(SKIN)
            while self.rng.random() < 0.4:
                sequence += "\u200d" + self.pick(BASES)
            parts.append(sequence + self.pick(["", " ", "!", "a", "\ufe0f", "\ufe0e"]))
        return "".join(parts)

    def combining(self):
        text = ""
        for _ in range(self.rng.randint(2, 8)):
            text += self.pick("aeionsAEIONSyzก한가") + "".join(
                chr(self.rng.randint(0x300, 0x36F)) for _ in range(self.rng.randint(0, 3)))
            text += self.pick(["", "", " ", "\u1161", "\u11a8", "\u0323\u0301", "ſ", "K", "Å"])
        return text

    def spaces(self):
        text = ""
        for _ in range(self.rng.randint(1, 6)):
            run = self.rng.randint(1, self.pick([2, 4, 40]))
            text += self.pick([" ", self.pick(SPACES)]) * run
            text += self.pick(["", self.word(), self.number(), ".", "!!", "\n"])
        return text

    def special(self):
        parts = [self.pick([self.pick(SPECIAL), self.pick(SPECIAL), self.word(), " ", "\n", "  "])
                 for _ in range(self.rng.randint(2, 6))]
        return "".join(parts)

    def mixed(self):
        kinds = [self.english, self.number, self.script, self.emoji, self.spaces, self.combining]
        return "".join(self.pick(kinds)()[:24] for _ in range(self.rng.randint(2, 3)))

    def contraction(self):
        suffix = self.pick(["'s", "'S", "'t", "'T", "'re", "'RE", "'Re", "'ve", "'m", "'ll", "'LL",
                            "'d", "'D", "'ſ", "’s", "'x", "''s", "'lL"])
        return self.pick(["", " ", "\n"]) + self.word() + suffix + self.pick(["", " ", "x", "1"])

    def broken(self):
        parts = [self.pick([self.word(), " ", self.script(), self.emoji()]).encode()[:20]
                 if self.rng.random() < 0.5 else self.pick(BROKEN)
                 for _ in range(self.rng.randint(1, 5))]
        return b"".join(parts)


def make_corpus(seed=20240607):
    """More than 20,000 lines (bytes); a line may hold line breaks."""
    maker = Maker(seed)
    characters = list(sweep())
    lines = ["", " ", "\n", "\0", "a", "\ufffd", "\ufffe", "\U0010ffff"]
    for start in range(0, len(characters), 12):
        chunk = characters[start:start + 12]
        lines.append("".join(chunk))
        lines.append("".join(maker.pick([c, " " + c, "a" + c, c + "1"]) for c in chunk))
    for kind, count in (("english", 2600), ("code", 1500), ("script", 1800), ("emoji", 1200),
                        ("combining", 1200), ("spaces", 1700), ("number", 1200), ("special", 900),
                        ("mixed", 1200), ("contraction", 500)):
        lines += [getattr(maker, kind)() for _ in range(count)]
    lines.append("a" * 3000 + " " * 3000 + "é" * 2000 + "\n" * 500)
    return [line.encode() for line in lines] + [maker.broken() for _ in range(1500)]

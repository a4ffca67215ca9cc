"""The references of the gRPC and of the HTTP API say what the .proto files and the code say."""

import json
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import unittest

import markdown_files
from markdown_files import ROOT, read

PROTOS = ("pregate/v1/inference.proto", "inference/open_inference.proto")
OPENAI = ROOT / "server/openai"
# Which files read the fields of which bodies, by the row of the table.
READERS = {
    "chat and completions": ("sampling_fields.cc",),
    "chat": ("chat_request.cc",),
    "completions": ("completion_request.cc",),
}
FIELD = r'(?:fields(?:\.|->)|of_stream\.)(?:Find|Text|Bool|Integer|Real|Seed)\("(\w+)"'
ROUTE_FILES = ("server/openai/openai_routes.cc", "server/openai/encoding_routes.cc",
               "server/openai/token_routes.cc", "server/http/health_routes.cc",
               "server/http/metrics_route.cc", "server/open_inference/http_routes.cc")


def check_current(folder):
    """proto/reference.py --check, of a copy of proto/."""
    return subprocess.run([sys.executable, folder / "reference.py", "--check"], capture_output=True,
                          text=True, check=False)


def table(text, heading):
    """The rows of the table below a heading, each a list of cells."""
    section = re.split(r"^## ", text.split(f"## {heading}\n")[1], flags=re.MULTILINE)[0]
    rows = re.findall(r"^\| (.*) \|$", section, re.MULTILINE)[2:]
    return [re.split(r" \| ", row) for row in rows]


def code(cell):
    return re.findall(r"`([^`]+)`", cell)


class GrpcReference(unittest.TestCase):
    def test_it_is_current(self):
        run = check_current(ROOT / "proto")
        self.assertEqual((run.returncode, run.stdout), (0, ""), run.stderr)

    def test_a_change_of_a_comment_a_number_or_a_name_makes_it_stale(self):
        for old, new in (("Continues a prompt.", "Goes on."), ("rpc Score(", "rpc Rate("),
                         ("string tenant = 10;", "string tenant = 30;")):
            with tempfile.TemporaryDirectory() as folder:
                copy = pathlib.Path(folder) / "proto"
                shutil.copytree(ROOT / "proto", copy)
                self.assertEqual(check_current(copy).returncode, 0)
                file = copy / PROTOS[0]
                text = file.read_text(encoding="utf-8")
                self.assertEqual(text.count(old), 1, old)
                file.write_text(text.replace(old, new), encoding="utf-8")
                self.assertEqual(check_current(copy).returncode, 1, old)

    def test_everything_of_the_files_is_there(self):
        reference = read("proto/README.md")
        headings = re.findall(r"^#+ (\S+)$", reference, re.MULTILINE)
        self.assertEqual(len(headings), len(set(headings)), "two headings, one anchor")
        wanted = 0
        for name in PROTOS:
            text = re.sub(r"//.*", "", read(f"proto/{name}"))
            for kind in ("service", "rpc", "message", "enum"):
                for found in re.findall(rf"\b{kind} (\w+)", text):
                    wanted += 1
                    self.assertTrue([heading for heading in headings
                                     if heading.split(".")[-1] == found], f"{kind} {found}")
            for field, number in re.findall(r"(\w+) = (\d+);", text):
                wanted += 1
                self.assertRegex(reference, rf"`{field}` \| {number} \|")
        self.assertGreater(wanted, 200)

    def test_what_is_marked_in_comments_stays_readable(self):
        reference = markdown_files.without_blocks(read("proto/README.md"))
        self.assertNotRegex(reference, r"<\w", "read as HTML")
        for line in reference.splitlines():
            if line.startswith("|"):
                cells = len(re.findall(r"(?<!\\)\|", line)) - 1
                self.assertIn(cells, (2, 3, 4), line)


class HttpReference(unittest.TestCase):
    API = read("server/API.md")

    def test_routes(self):
        listed = set()
        for routes, _ in table(self.API, "Routes"):
            for route in code(routes):
                listed.add(route.split()[-1])
        listed = {re.sub(r"\{\w+\}", "{}", route) for route in listed}
        written = set()
        for name in ROUTE_FILES:
            for route in re.findall(r'"(/[\w/{}.]*)"', read(name)):
                written.add(re.sub(r"\{[\w.]+\}", "{}", route))
        # Suffixes of a model's path, and the versions that the text names.
        model = "/v2/models/{}"
        for suffix in ("/ready", "/infer", "/generate", "/generate_stream"):
            written.discard(suffix)
            written.add(model + suffix)
        written.discard(model + "/versions/{}")
        self.assertIn("/versions/1", self.API)
        self.assertEqual(listed, written)

    def test_fields_that_are_served(self):
        rows = {row[0]: set(code(row[1])) for row in table(self.API, "Fields that are served")}
        for row, files in READERS.items():
            for name in files:
                for field in re.findall(FIELD, (OPENAI / name).read_text(encoding="utf-8")):
                    self.assertTrue(field in rows[row] or field in self.refused(), f"{row}: {field}")
        encodings = (OPENAI / "encoding_requests.cc").read_text(encoding="utf-8")
        embeddings, rerank = encodings.split("RerankRequest> ReadRerankRequest")
        shared = {"truncate", "truncate_prompt_tokens"}
        for row, text in (("embeddings", embeddings), ("rerank", rerank)):
            found = set(re.findall(FIELD, text)) | set(
                re.findall(r'ReadWord\(&fields, "(\w+)"', text)) | shared
            self.assertLessEqual(found, rows[row], row)
        # And nothing that no file reads.
        everything = "".join(path.read_text(encoding="utf-8") for path in OPENAI.glob("*.cc"))
        for row in rows.values():
            for field in row:
                self.assertIn(f'"{field}"', everything)

    def refused(self):
        """Fields and the values that ask for nothing, as the text has them."""
        text = re.search(r"<!-- refused -->\n(.*?)<!-- /refused -->", self.API, re.DOTALL)[1]
        found = {}
        for name, values in re.findall(r"`(\w+)`(?: \(but ([^)]*)\))?", text.replace("\n", " ")):
            found[name] = [json.loads(value) for value in code(values)]
        return found

    def test_fields_that_are_refused(self):
        source = (OPENAI / "unserved_fields.cc").read_text(encoding="utf-8")
        rows = re.findall(r'\{"(\w+)", (?:R"\((.*?)\)"|"(.*?)")\}', source)
        self.assertEqual(self.refused(), {name: json.loads(raw or plain) for name, raw, plain in rows})
        for name in ("encoding_requests.cc", "chat_request.cc"):
            lists = re.findall(r'\{((?:"\w+", )+"\w+")\}(?:\)| ?;)',
                               (OPENAI / name).read_text(encoding="utf-8"))
            for field in re.findall(r'"(\w+)"', " ".join(lists)):
                self.assertIn(f"`{field}`", self.API)

    def test_errors(self):
        rows = [row[0] for row in table(self.API, "Errors")]
        source = read("server/http/http_message.cc")
        codes = set(re.findall(r"return (\d{3});", source))
        for status in codes - {"200", "403", "409"}:  # 403 and 409: nothing gives these
            self.assertIn(status, ", ".join(rows))


class Links(unittest.TestCase):
    def test_they_lead_somewhere(self):
        run = subprocess.run(["git", "ls-files", "--cached", "--others", "--exclude-standard", "*.md"],
                             cwd=ROOT, capture_output=True, text=True, check=True)
        names = [name for name in run.stdout.split() if (ROOT / name).exists()]
        self.assertIn("deploy/GUIDE.md", names)
        self.assertEqual([link for name in names for link in markdown_files.broken_links(name)], [])


if __name__ == "__main__":
    unittest.main(verbosity=2)

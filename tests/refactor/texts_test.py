"""Texts: markup goes, licences go, no file is in both halves."""

import pathlib
import tempfile
import unittest

from refactor import texts


class ToTextTest(unittest.TestCase):

    def test_code_loses_its_licence_and_keeps_its_comments(self):
        self.assertEqual(
            texts.code("/* Copyright (C) 2020.\n   Free. */\n\n/* What it does. */\nint x;\n"),
            "/* What it does. */\nint x;\n")
        self.assertEqual(texts.code("#!/usr/bin/python3\n# All rights reserved.\n\nimport os\n"),
                         "import os\n")
        self.assertEqual(texts.code("#include <a.h>\n// (c) later\n"),
                         "#include <a.h>\n// (c) later\n")

    def test_pod_loses_commands_and_codes(self):
        self.assertEqual(
            texts.pod("=head1 NAME\n\nSee B<I<both>> and L<the page|perlfunc>, C<< a->b >>.\n\n"
                      "=over 4\n\n=item One\n\n1 E<lt> 2\n\n=back\n\n=cut\n"),
            "NAME\n\nSee both and the page, a->b.\n\nOne\n\n1 < 2\n")

    def test_page_loses_tags_and_navigation(self):
        self.assertEqual(
            texts.page('<html><head><title>t</title></head><body><div class="navheader"><table>'
                       "next</table></div><h1>Title</h1><p>a &lt; b</p></body></html>"),
            "Title\na < b\n")

    def test_sayings_are_separated_by_empty_lines(self):
        self.assertEqual(texts.sayings("One.\n%\nT_\bwo.\n%\n"), "One.\n\nTwo.\n\n")

    def test_pieces_hold_the_whole_text(self):
        text = "\n".join(f"word {i}\n" + "more\n" * 900 for i in range(40))
        pieces = texts.pieces(text)
        self.assertGreater(len(pieces), 2)
        self.assertEqual("\n".join(pieces), text)


class DomainTest(unittest.TestCase):

    def setUp(self):
        self.folder = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))

    def domain(self, name, files):
        (self.folder / name).mkdir()
        for i in range(files):
            (self.folder / name / f"{i}.txt").write_text(f"text {i:02} " * 50, encoding="utf-8")

    def test_halves_share_no_file_and_lose_none(self):
        self.domain("a", 40)
        domain = texts.load_domain(self.folder / "a")
        names = [name for name, _ in domain.training], [name for name, _ in domain.held_out]
        self.assertEqual(sorted(names[0] + names[1]), sorted(f"{i}.txt" for i in range(40)))
        self.assertEqual(len(names[1]), 2)  # 5 %, rounded up to whole files

    def test_digest_follows_content_and_names(self):
        self.domain("a", 3)
        first = texts.load_domain(self.folder / "a").digest
        self.assertEqual(texts.load_domain(self.folder / "a").digest, first)
        (self.folder / "a" / "2.txt").write_text("other", encoding="utf-8")
        second = texts.load_domain(self.folder / "a").digest
        (self.folder / "a" / "2.txt").rename(self.folder / "a" / "9.txt")
        self.assertEqual(len({first, second, texts.load_domain(self.folder / "a").digest}), 3)

    def test_bad_folders_are_refused(self):
        self.domain("a", 3)
        with self.assertRaisesRegex(ValueError, "must hold 2 to 64 domains; got 1"):
            texts.load_domains(self.folder)
        with self.assertRaisesRegex(ValueError, "--domains: must be folders of .*; got nowhere"):
            texts.load_domains(self.folder, ["a", "nowhere"])
        self.domain("b", 1)
        with self.assertRaisesRegex(ValueError, "must hold at least 2 .txt files; got 1"):
            texts.load_domains(self.folder)

    def test_a_tree_of_packages_becomes_domains(self):
        tree = self.folder / "tree/usr/lib/python3.11"
        tree.mkdir(parents=True)
        long_text = "import os  # what it does\n" * 100
        for name in ("one.py", "copy_of_one.py"):
            (tree / name).write_text(long_text, encoding="utf-8")
        (tree / "short.py").write_text("pass\n", encoding="utf-8")
        (tree / "other.txt").write_text(long_text, encoding="utf-8")
        found = texts.collect(self.folder / "tree", texts.DOMAINS["python"])
        self.assertEqual(list(found.values()), [long_text])

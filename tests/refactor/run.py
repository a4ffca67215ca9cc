"""Runs the tests of engine/refactor: run.py plain | torch [unittest arguments]

`torch` takes the interpreter of build/torch_venv when there is one, else this one; without PyTorch
it says so and exits with 77.
"""

import importlib.util
import os
import pathlib
import sys
import unittest

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
SKIPPED = 77  # ctest shows a test that exits so as skipped
NEEDED = ("torch", "gguf", "safetensors", "tokenizers")
SUITES = {"plain": ["texts_test", "masks_test", "fixture_test"],
          "torch": ["checkpoint_test", "recipe_test", "importing_test"]}


def main() -> None:
    suite = sys.argv[1]
    venv_python = ROOT / "build/torch_venv/bin/python"
    if suite == "torch":
        if venv_python.exists() and pathlib.Path(sys.executable) != venv_python:
            os.execv(venv_python, [str(venv_python), *sys.argv])
        missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
        if missing:
            print(f"SKIPPED: no {', '.join(missing)}; engine/refactor/make_venv.sh installs them")
            sys.exit(SKIPPED)
    sys.path[:0] = [str(HERE), str(ROOT / "engine")]
    unittest.main(module=None, argv=["run.py", *SUITES[suite], *sys.argv[2:]])


if __name__ == "__main__":
    main()

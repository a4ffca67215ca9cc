"""The command line: python -m refactor MODEL --texts FOLDER --out DIR [options]."""

import argparse
import pathlib
import sys

import torch

from refactor import recipe
from refactor.activations import SCORES
from refactor.export import DTYPES, FORMS


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m refactor",
        description="Turns a dense checkpoint of the Llama family into a Read-ME one.")
    add = parser.add_argument
    add("model", type=pathlib.Path, help="a GGUF file or a Hugging Face folder")
    add("--texts", type=pathlib.Path, required=True,
        help="a folder of folders of .txt files, one a domain (fetch_texts.sh makes one)")
    add("--out", type=pathlib.Path, required=True, help="the folder to write")
    add("--domains", nargs="+", metavar="NAME",
        help="one expert each (default: every folder of --texts)")
    add("--tokenizer", type=pathlib.Path, help="tokenizer.json, when MODEL has none that we read")
    add("--keep", type=float, default=0.5, help="share of the neurons that an expert owns")
    add("--score", choices=SCORES, default=SCORES[0], help="what ranks a domain's neurons")
    add("--tile", type=int, default=1,
        help="neurons that have the same owners together; 32, which must divide the width of the"
        " FFNs, is what the server reads at a time (default 1: each for itself, as in the paper)")
    add("--calibration-tokens", type=int, default=8192, help="of each domain, for the masks")
    add("--tokens", type=int, default=114688, help="in all, for labels and tuning")
    add("--held-out-tokens", type=int, default=4096, help="of each domain, for the report")
    add("--epochs", type=int, default=5, help="of the router")
    add("--embedding-dim", type=int, default=192, help="the router's width")
    add("--heads", type=int, default=4, help="the router's heads")
    add("--tune-minutes", type=float, default=0.0, help="tune the FFNs for so long (0: do not)")
    add("--tune-steps", type=int, help="or for so many steps, if that is less")
    add("--bfloat16", action="store_true", help="products in bfloat16, but for the losses")
    add("--forms", nargs="*", choices=FORMS, help="whole folders to write beside the overlay"
        " (default: masked when tuned, else none)")
    add("--dtype", choices=DTYPES, default="bfloat16", help="of the weights in whole folders")
    add("--seed", type=int, default=1)
    add("--threads", type=int, default=torch.get_num_threads())
    add("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    args = parser.parse_args(arguments)
    if args.forms is None:
        args.forms = ["masked"] if args.tune_minutes else []
    return args


def main(arguments: list[str] | None = None) -> int:
    args = parse(arguments)
    try:
        recipe.run(args)
    except ValueError as error:
        print(error, file=sys.stderr)
        return 1
    print(args.out / "report.md")
    return 0


if __name__ == "__main__":
    sys.exit(main())

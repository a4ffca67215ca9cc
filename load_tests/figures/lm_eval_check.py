#!/usr/bin/env python3
"""The same score as transformers, by an evaluation client that we did not write.

Usage: load_tests/figures/lm_eval_check.py --python VENV/bin/python [--folder FOLDER]

Lets lm-eval (EleutherAI's evaluation harness) score 200 questions with four answers each, made here
from arithmetic, series, opposites and capitals: once through `pregate serve MODEL --dtype float32
--kv-cache-dtype f32` and /v1/completions, with echo and log-probabilities, once through transformers on
the same file dequantised to float32. Each answer's log-likelihood is compared, and the scores. VENV has
lm-eval[api], torch, transformers, accelerate and gguf; nothing is fetched. Writes
load_tests/results/lm_eval.{md,json}. Exit status 1 if the scores differ by more than their error, or a
log-likelihood by more than 0.01. Some minutes; FOLDER keeps the dequantised model and the samples.
"""

import argparse
import json
import os
import pathlib
import random
import re
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "load_tests"))
import lab  # noqa: E402

TASK = "pregate_questions"
LARGEST_DIFFERENCE = 0.01  # of a log-likelihood

CAPITALS = """France Paris, Spain Madrid, Italy Rome, Germany Berlin, Japan Tokyo, Russia Moscow,
China Beijing, Egypt Cairo, Greece Athens, Austria Vienna, Portugal Lisbon, Ireland Dublin,
Norway Oslo, Sweden Stockholm, Finland Helsinki, Poland Warsaw, Hungary Budapest, Cuba Havana,
Canada Ottawa, Kenya Nairobi, Iran Tehran, Iraq Baghdad, Peru Lima, Chile Santiago"""
OPPOSITES = """hot cold, big small, up down, left right, day night, black white, fast slow, old young,
rich poor, open closed, happy sad, first last, early late, full empty, hard soft, high low, long short,
strong weak, wet dry, true false, light dark, begin end, buy sell, give take"""
SERIES = ["Monday Tuesday Wednesday Thursday Friday Saturday Sunday",
          "January February March April May June July August September October November December",
          "one two three four five six seven eight nine ten eleven twelve",
          "first second third fourth fifth sixth seventh eighth ninth tenth",
          "spring summer autumn winter", "A B C D E F G H I J K L M N O P Q R S T U V W X Y Z"]


def question(text, right, wrong, rng):
    """Four answers in any order, one of them right."""
    choices = [right, *rng.sample([w for w in wrong if w != right], 3)]
    rng.shuffle(choices)
    return {"question": text, "choices": choices, "answer": choices.index(right)}


def pairs(text):
    return [tuple(pair.split()) for pair in text.replace("\n", " ").split(",")]


def questions(count=200, seed=1):
    """Always the same ones."""
    rng = random.Random(seed)
    made = []
    while len(made) < count:
        kind = len(made) % 4
        if kind == 0:
            a, b = rng.randint(1, 20), rng.randint(1, 20)
            wrong = [str(a + b + d) for d in range(-5, 6) if d and a + b + d >= 0]
            made.append(question(f"{a} + {b} =", str(a + b), wrong, rng))
        elif kind == 1:
            words = rng.choice(SERIES).split()
            start = rng.randrange(len(words) - 3)
            made.append(question(", ".join(words[start:start + 3]) + ",", words[start + 3], words, rng))
        elif kind == 2:
            word, other = rng.choice(pairs(OPPOSITES))
            wrong = [o for _, o in pairs(OPPOSITES)]
            made.append(question(f"The opposite of {word} is", other, wrong, rng))
        else:
            country, city = rng.choice(pairs(CAPITALS))
            wrong = [c for _, c in pairs(CAPITALS)]
            made.append(question(f"The capital of {country} is", city, wrong, rng))
    return made


def write_task(folder):
    data = folder / "questions.json"
    data.write_text("\n".join(json.dumps(q) for q in questions()), encoding="utf-8")
    (folder / f"{TASK}.yaml").write_text(f"""task: {TASK}
dataset_path: json
dataset_kwargs:
  data_files:
    test: {data}
test_split: test
output_type: multiple_choice
doc_to_text: "{{{{question}}}}"
doc_to_choice: "{{{{choices}}}}"
doc_to_target: "{{{{answer}}}}"
metric_list:
  - metric: acc
    aggregation: mean
    higher_is_better: true
""", encoding="utf-8")


def dequantise(python, model, folder):
    """The model and its tokenizer as transformers read them from the GGUF file, in float32."""
    if (folder / "ready").exists():
        return
    subprocess.run([python, "-c", f"""
import torch, transformers
source = dict(pretrained_model_name_or_path={str(model.parent)!r}, gguf_file={model.name!r})
transformers.AutoTokenizer.from_pretrained(**source).save_pretrained({str(folder)!r})
model = transformers.AutoModelForCausalLM.from_pretrained(**source, dtype=torch.float32)
model.hf_quantizer = None  # what it was read from is no longer its format
model.config.__dict__.pop("quantization_config", None)
model.save_pretrained({str(folder)!r})
"""], check=True)
    (folder / "ready").touch()


def evaluate(python, folder, name, model_args):
    """lm-eval's results, and its samples by question: [(log-likelihood of each answer), ...]."""
    out = folder / f"out_{name.replace('-', '_')}"
    subprocess.run(
        [python, "-m", "lm_eval", "--model", name, "--model_args", model_args, "--tasks", TASK,
         "--include_path", str(folder), "--output_path", str(out), "--log_samples", "--device", "cpu",
         "--batch_size", "1" if name == "local-completions" else "8"],
        check=True, env={**os.environ, "HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1",
                         "HF_DATASETS_CACHE": str(folder / "cache"), "OPENAI_API_KEY": "none",
                         "TOKENIZERS_PARALLELISM": "false"})
    newest = max(out.rglob("results_*.json"), key=lambda path: path.stat().st_mtime)
    results = json.loads(newest.read_text(encoding="utf-8"))["results"][TASK]
    samples = max(out.rglob("samples_*.jsonl"), key=lambda path: path.stat().st_mtime)
    rows = [json.loads(line) for line in samples.read_text(encoding="utf-8").splitlines()]
    rows.sort(key=lambda row: row["doc_id"])
    return results, [[float(choice[0]) for choice in row["filtered_resps"]] for row in rows]


class Server:
    """`pregate serve` on any free ports."""

    def __init__(self, binary, model, log):
        self.log = log
        self.process = subprocess.Popen(
            [binary, "serve", model, "--served-model-name", "model", "--dtype", "float32",
             "--kv-cache-dtype", "f32", "--port", "0", "--grpc-port", "0", "--metrics-port", "0"],
            stderr=open(log, "w", encoding="utf-8"))

    def __enter__(self):
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and self.process.poll() is None:
            found = re.search(r"^HTTP +http://127\.0\.0\.1:(\d+)",
                              pathlib.Path(self.log).read_text(encoding="utf-8"), re.MULTILINE)
            if found:
                return int(found.group(1))
            time.sleep(0.1)
        raise RuntimeError(f"the server did not start: see {self.log}")

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait(30)


def compare(ours, theirs):
    (our_results, our_rows), (their_results, their_rows) = ours, theirs
    differences = [abs(a - b) for one, other in zip(our_rows, their_rows, strict=True)
                   for a, b in zip(one, other, strict=True)]
    best = [[max(range(4), key=row.__getitem__) for row in rows] for rows in (our_rows, their_rows)]
    return {"questions": len(our_rows), "answers": len(differences),
            "pregate": our_results["acc,none"], "transformers": their_results["acc,none"],
            "error": their_results["acc_stderr,none"],
            "largest_difference": max(differences),
            "mean_difference": sum(differences) / len(differences),
            "same_choice": sum(a == b for a, b in zip(*best))}


def report(found, about):
    return f"""# Scores beside transformers

`load_tests/figures/lm_eval_check.py`: lm-eval {about['lm_eval']} asks {found['questions']} questions
with four answers each through `/v1/completions` (echo, log-probabilities), and asks transformers on the
same file ({about['model']}) dequantised to float32.

| | pregate | transformers {about['transformers_version']} |
| --- | --- | --- |
| accuracy | {found['pregate']:.3f} | {found['transformers']:.3f} ± {found['error']:.3f} |

The {found['answers']} log-likelihoods differ by {found['largest_difference']:.1e} at most, \
{found['mean_difference']:.1e} in the mean; {found['same_choice']} of {found['questions']} questions have
the same answer.
"""


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--python", required=True, help="of a venv with lm-eval and transformers")
    parser.add_argument("--folder", type=pathlib.Path, help="default: a temporary one")
    parser.add_argument("--model", type=pathlib.Path, help="a GGUF file; default: the SmolLM2 sample")
    parser.add_argument("--pregate", default=ROOT / "build/release/pregate")
    arguments = parser.parse_args()
    model = arguments.model or pathlib.Path(lab.fetch_model("smollm2"))
    folder = (arguments.folder or pathlib.Path(tempfile.mkdtemp(prefix="lm-eval-"))).resolve()
    reference = folder / "reference"
    reference.mkdir(parents=True, exist_ok=True)
    write_task(folder)
    dequantise(arguments.python, model, reference)
    theirs = evaluate(arguments.python, folder, "hf", f"pretrained={reference},dtype=float32")
    with Server(arguments.pregate, model, folder / "serve.log") as port:
        ours = evaluate(arguments.python, folder, "local-completions",
                        f"model=model,base_url=http://127.0.0.1:{port}/v1/completions,"
                        f"num_concurrent=4,max_retries=1,tokenizer={reference},"
                        "tokenizer_backend=huggingface")
    found = compare(ours, theirs)
    versions = subprocess.run(
        [arguments.python, "-c", "import importlib.metadata as m; "
         "print(m.version('lm_eval'), m.version('transformers'))"],
        check=True, capture_output=True, text=True).stdout.split()
    about = {"lm_eval": versions[0], "transformers_version": versions[1], "model": model.name}
    (lab.RESULTS / "lm_eval.json").write_text(json.dumps({**about, **found}, indent=2) + "\n",
                                              encoding="utf-8")
    text = report(found, about)
    (lab.RESULTS / "lm_eval.md").write_text(text, encoding="utf-8")
    print(text)
    good = (abs(found["pregate"] - found["transformers"]) <= found["error"] and
            found["largest_difference"] <= LARGEST_DIFFERENCE)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())

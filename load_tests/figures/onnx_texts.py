"""How many texts a second onnxruntime reads: `onnx_texts.py MODEL.onnx THREADS SECONDS BATCHES < JSON`.

The JSON holds the ids of a text; batches are copies of it. Prints JSON as encode_bench does. Runs in a
virtual environment of its own, see embeddings.py.
"""

import json
import sys
import time

import numpy as np
import onnxruntime


def main():
    model, threads, seconds, batches = sys.argv[1], int(sys.argv[2]), float(sys.argv[3]), sys.argv[4]
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    ids = np.array(json.load(sys.stdin), dtype=np.int32)
    rows = []
    for batch in map(int, batches.split(",")):
        inputs = {"ids": np.tile(ids, (batch, 1)), "types": np.zeros((batch, len(ids)), np.int32)}
        vectors = session.run(None, inputs)[0]
        texts, start = 0, time.perf_counter()
        while time.perf_counter() - start < seconds:
            session.run(None, inputs)
            texts += batch
        rows.append({"batch": batch, "texts_per_s": texts / (time.perf_counter() - start)})
    print(json.dumps({"version": onnxruntime.__version__, "rows": rows,
                      "vector": [float(x) for x in vectors[0]]}))


if __name__ == "__main__":
    main()

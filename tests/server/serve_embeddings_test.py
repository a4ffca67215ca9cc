"""Embeddings and reranking of a real encoder, over gRPC, HTTP and by OpenAI's client."""

import base64
import json
import math
import shutil
import struct
import subprocess
import unittest
import urllib.error
import urllib.request

import grpc
import openai

from serve_harness import Server, greedy, pb, sample_model

TEXTS = ["A man is eating food.", "Someone eats a meal.", "The girl is carrying a baby.",
         "Two men pushed carts through the woods.", "A cheetah is running behind its prey."]
QUERY = "Which animal is fast?"


def encoder():
    return sample_model("all-MiniLM-L6-v2", "minilm")


def cosine(a, b):
    dot = sum(x * y for x, y in zip(a, b, strict=True))
    return dot / math.sqrt(sum(x * x for x in a) * sum(y * y for y in b))


class Embeddings(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.server = Server(model=encoder(), name="minilm")
        cls.url = f"http://127.0.0.1:{cls.server.http_port}"
        cls.client = openai.OpenAI(base_url=f"{cls.url}/v1", api_key="none", max_retries=0)

    @classmethod
    def tearDownClass(cls):
        status = cls.server.stop()
        if status != 0:
            raise AssertionError(f"exit status {status}:\n{cls.server.messages()}")

    def embed(self, *texts, **fields):
        reply = self.server.stub.Embed(
            pb.EmbedRequest(texts=[text.encode() for text in texts], **fields), timeout=60)
        return [list(one.values) for one in reply.embeddings]

    def post(self, path, **body):
        """The status and the body of a POST."""
        request = urllib.request.Request(self.url + path, json.dumps(body).encode(),
                                         {"Content-Type": "application/json"})
        try:
            with urllib.request.urlopen(request, timeout=60) as reply:
                return reply.status, json.load(reply)
        except urllib.error.HTTPError as error:
            return error.code, json.load(error)

    def test_texts_that_mean_the_same_are_near(self):
        vectors = self.embed(*TEXTS)
        self.assertEqual([len(vector) for vector in vectors], [384] * len(TEXTS))
        near = cosine(vectors[0], vectors[1])
        for other in vectors[2:]:
            self.assertGreater(near, cosine(vectors[0], other) + 0.2)

    def test_a_vector_depends_on_its_text_alone(self):
        together = self.embed(*TEXTS)
        for text, vector in zip(TEXTS, together, strict=True):
            self.assertEqual(self.embed(text)[0], vector)
        many = self.embed(*(TEXTS * 100))
        self.assertEqual(many, together * 100)

    def test_ids_give_what_their_text_gives(self):
        ids = self.server.stub.Tokenize(pb.TokenizeRequest(text=TEXTS[0].encode())).ids
        reply = self.server.stub.Embed(pb.EmbedRequest(token_ids=[pb.TokenIds(ids=ids)]))
        self.assertEqual(list(reply.embeddings[0].values), self.embed(TEXTS[0])[0])
        self.assertEqual(reply.usage.prompt, len(ids))
        self.assertEqual(reply.pooling, pb.POOLING_MEAN)

    def test_normalized_and_cut(self):
        whole = self.embed(TEXTS[0])[0]
        unit = self.embed(TEXTS[0], normalize=True)[0]
        self.assertAlmostEqual(sum(x * x for x in unit), 1, places=5)
        self.assertAlmostEqual(cosine(whole, unit), 1, places=6)
        self.assertEqual(self.embed(TEXTS[0], dimensions=7)[0], whole[:7])

    def test_openais_client(self):
        expected = self.embed(*TEXTS, normalize=True)
        reply = self.client.embeddings.create(model="minilm", input=TEXTS)  # asks for base64
        self.assertEqual([item.index for item in reply.data], list(range(len(TEXTS))))
        self.assertEqual([item.embedding for item in reply.data], expected)
        tokens = sum(len(self.server.stub.Tokenize(pb.TokenizeRequest(text=text.encode())).ids)
                     for text in TEXTS)
        self.assertEqual(reply.usage.prompt_tokens, tokens)
        self.assertEqual(reply.usage.total_tokens, tokens)
        plain = self.client.embeddings.create(model="minilm", input=TEXTS[0],
                                              encoding_format="float")
        for a, b in zip(plain.data[0].embedding, expected[0], strict=True):
            self.assertEqual(struct.pack("f", a), struct.pack("f", b))
        short = self.client.embeddings.create(model="minilm", input=TEXTS[0], dimensions=8)
        self.assertAlmostEqual(sum(x * x for x in short.data[0].embedding), 1, places=5)
        models = self.client.models.list().data
        self.assertEqual(models[0].capabilities, ["tokenize", "embed", "score"])

    def test_base64_is_little_endian_floats(self):
        code, body = self.post("/v1/embeddings", input=TEXTS[0], encoding_format="base64")
        self.assertEqual(code, 200)
        raw = base64.b64decode(body["data"][0]["embedding"])
        self.assertEqual(list(struct.unpack("<384f", raw)),
                         self.embed(TEXTS[0], normalize=True)[0])

    def test_what_is_wrong_is_said(self):
        long_text = "word " * 2000
        with self.assertRaises(openai.BadRequestError) as caught:
            self.client.embeddings.create(model="minilm", input=["a", long_text])
        self.assertIn("input[1]: must be at most", str(caught.exception))
        code, _ = self.post("/v1/embeddings", input=long_text, truncate=True)
        self.assertEqual(code, 200)
        with self.assertRaises(openai.NotFoundError):
            self.client.embeddings.create(model="other", input="a")
        with self.assertRaises(openai.BadRequestError):
            self.client.embeddings.create(model="minilm", input=[])
        code, body = self.post("/v1/embeddings", input=["a"] * 2049)
        self.assertEqual((code, body["error"]["param"]), (400, "input"))

    def test_an_encoder_does_not_generate(self):
        with self.assertRaises(openai.APIStatusError) as caught:
            self.client.completions.create(model="minilm", prompt="a")
        self.assertEqual(caught.exception.status_code, 501)
        self.assertIn("must generate text", str(caught.exception))
        with self.assertRaises(grpc.RpcError) as caught:
            list(self.server.stub.Generate(greedy()))
        self.assertEqual(caught.exception.code(), grpc.StatusCode.UNIMPLEMENTED)

    def test_rerank_by_the_cosine(self):
        code, body = self.post("/v1/rerank", model="minilm", query=QUERY, documents=TEXTS,
                               return_documents=True)
        self.assertEqual(code, 200, body)
        scores = [result["relevance_score"] for result in body["results"]]
        self.assertEqual(scores, sorted(scores, reverse=True))
        self.assertEqual(body["results"][0]["document"]["text"], TEXTS[4])
        query = self.embed(QUERY)[0]
        for result in body["results"]:
            expected = cosine(query, self.embed(TEXTS[result["index"]])[0])
            self.assertAlmostEqual(result["relevance_score"], expected, places=5)
        _, two = self.post("/v2/rerank", query=QUERY, top_n=2,
                           documents=[{"text": text} for text in TEXTS])
        self.assertEqual([r["index"] for r in two["results"]],
                         [r["index"] for r in body["results"][:2]])
        reply = self.server.stub.Score(pb.ScoreRequest(
            query=QUERY.encode(), documents=[text.encode() for text in TEXTS]))
        self.assertEqual(max(range(len(TEXTS)), key=reply.scores.__getitem__), 4)

    def test_a_long_document_has_the_score_of_its_best_piece(self):
        filler = "The committee met on Tuesday and discussed the budget at length. " * 60
        hidden = filler + TEXTS[4] + " " + filler
        documents = [filler, hidden]
        _, body = self.post("/v1/rerank", query=QUERY, documents=documents)
        self.assertEqual(body["results"][0]["index"], 1)
        _, cut = self.post("/v1/rerank", query=QUERY, documents=documents, truncate=True)
        a, b = (result["relevance_score"] for result in cut["results"])
        self.assertEqual(a, b)  # both begin alike


class GeneratingModel(unittest.TestCase):
    def test_a_model_that_generates_has_vectors_too(self):
        server = Server()
        self.addCleanup(server.stop)
        client = openai.OpenAI(base_url=f"http://127.0.0.1:{server.http_port}/v1", api_key="none",
                               max_retries=0)
        model = server.stub.ListModels(pb.ListModelsRequest()).models[0]
        self.assertEqual(list(model.capabilities),
                         ["generate", "tokenize", "chat", "embed", "score"])
        answer = server.stub.Generate(greedy(max_tokens=200, ignore_eos=True))
        next(answer)
        reply = client.embeddings.create(model="smollm2", input=TEXTS)
        tokens = [i for message in answer for i in message.token_ids]
        self.assertEqual(len(tokens), 199)
        vectors = [item.embedding for item in reply.data]
        self.assertEqual([len(vector) for vector in vectors], [model.embedding_size] * len(TEXTS))
        self.assertGreater(cosine(vectors[0], vectors[1]), cosine(vectors[0], vectors[3]))

    @unittest.skipUnless(shutil.which("curl"), "curl is not installed")
    def test_the_command_that_a_server_prints_works(self):
        for model, found in ((None, "choices"), (encoder(), "data")):
            server = Server(model=model)
            self.addCleanup(server.stop)
            command = server._wait_for(  # pylint: disable=protected-access
                r"^ask +(curl .*)$")
            reply = subprocess.run(command, shell=True, capture_output=True, check=True,
                                   timeout=120)
            self.assertTrue(json.loads(reply.stdout)[found])


if __name__ == "__main__":
    encoder()
    unittest.main(verbosity=2)

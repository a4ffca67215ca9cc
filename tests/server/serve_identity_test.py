"""Tokens and TLS: rows D6 and G of the bad-input matrix, each followed by ServedTest's check."""

import http.client
import os
import pathlib
import re
import signal
import socket
import ssl
import subprocess
import time
import unittest
import warnings

import grpc
from google.protobuf.descriptor_pool import DescriptorPool
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import (
    ProtoReflectionDescriptorDatabase)

import serve_harness
from certificates import Certificates
from serve_harness import BINARY, CLIENT, ServedTest, greedy, pb, pb_grpc, sample_model

TOKEN = "first-0123456789abcdef"
OTHER_TOKEN = "second-0123456789abcdef"
REFUSED = grpc.StatusCode.UNAUTHENTICATED
CLOSED = grpc.StatusCode.UNAVAILABLE  # no connection came about


class WithToken(grpc.UnaryUnaryClientInterceptor, grpc.UnaryStreamClientInterceptor,
                grpc.StreamStreamClientInterceptor):
    """Sends a token with each call."""

    def __init__(self, token):
        self.token = token

    def _intercept(self, proceed, details, request):
        metadata = [*(details.metadata or ()), ("authorization", f"Bearer {self.token}")]
        return proceed(details._replace(metadata=metadata), request)

    intercept_unary_unary = intercept_unary_stream = intercept_stream_stream = _intercept


class SecureServer(serve_harness.Server):
    """Clients of it have what SECRETS says: an authority, a certificate, a token."""

    secrets = {}

    def new_channel(self, *options, **secrets):
        secrets = {**self.secrets, **secrets}
        options = [("grpc.use_local_subchannel_pool", 1), *options]
        address = f"127.0.0.1:{self.grpc_port}"
        if secrets.get("authority"):
            credentials = grpc.ssl_channel_credentials(secrets["authority"], secrets.get("key"),
                                                       secrets.get("certificate"))
            channel = grpc.secure_channel(address, credentials, options)
        else:
            channel = grpc.insecure_channel(address, options)
        token = secrets.get("token")
        return grpc.intercept_channel(channel, WithToken(token)) if token else channel


class SecureTest(ServedTest):
    """Tests against a server with tokens or TLS."""

    @classmethod
    def serve(cls, **secrets):
        """Starts the server with FLAGS and takes the canary."""
        SecureServer.secrets = secrets
        serve_harness.Server, plain = SecureServer, serve_harness.Server
        try:
            super().setUpClass()
        finally:
            serve_harness.Server = plain

    def code(self, channel, counted=0, **call):
        """How a call of Tokenize over the channel ends; the channel is closed then. `counted`:
        refusals that the metrics will show."""
        type(self).expected_ends += counted
        try:
            pb_grpc.InferenceStub(channel).Tokenize(pb.TokenizeRequest(text=b"a"), timeout=10,
                                                    **call)
            return grpc.StatusCode.OK
        except grpc.RpcError as error:
            return error.code()
        finally:
            channel.close()

    def wait_for_note(self, pattern, count=1):
        """Waits until the log has `count` lines with the pattern."""
        deadline = time.monotonic() + 20
        while len(re.findall(pattern, self.server.messages())) < count:
            self.assertLess(time.monotonic(), deadline, self.server.messages())
            time.sleep(0.05)

    def failed_handshakes(self, listener="grpc"):
        return self.server.metrics()[f'pregate_tls_handshakes_failed_total{{listener="{listener}"}}']

    def wait_for_failed_handshakes(self, count):
        deadline = time.monotonic() + 10
        while self.failed_handshakes() < count:
            self.assertLess(time.monotonic(), deadline)
            time.sleep(0.1)


class Tokens(SecureTest):
    @classmethod
    def setUpClass(cls):
        cls.files = Certificates()
        cls.files.write("tokens", f"# callers\nfirst:{TOKEN}\n".encode())
        cls.FLAGS = ("--api-key-file", str(cls.files.path("tokens")))
        cls.serve(token=TOKEN)

    def plain(self):
        return self.server.new_channel(token=None)

    def unauthenticated(self):
        return self.server.metrics()['pregate_requests_rejected_total{reason="unauthenticated"}']

    def test_G1_calls_without_one_known_token(self):
        known = f"Bearer {TOKEN}"
        before = self.unauthenticated()
        cases = [[], [""], ["Bearer"], ["Bearer "], [f"Basic {TOKEN}"], [TOKEN], [known[:-1]],
                 [known + "x"], [f"Bearer {TOKEN.upper()}"], [known, known],
                 [known, "Bearer another-0123456789"], ["Bearer " + "a" * 4500]]
        for case in cases:
            metadata = [("authorization", value) for value in case]
            with self.plain() as channel:
                reply = self.ask(greedy(), counted=1, channel=channel, metadata=metadata)
            self.assertEqual(reply.code, REFUSED, case)
            self.assertEqual(reply.messages, [])
            self.assertEqual(reply.text_of_error, "authorization: must be one bearer token that this "
                             "server knows; got another or none")
        self.assertEqual(self.unauthenticated(), before + len(cases))
        for accepted in (known, f"bearer {TOKEN}", f"BEARER   {TOKEN}"):
            self.assertEqual(self.code(self.plain(), metadata=[("authorization", accepted)]),
                             grpc.StatusCode.OK)
        self.assertNotIn(TOKEN, self.server.messages())
        self.assertNotIn("another-0123456789", self.server.messages())

    def test_G1_token_of_a_mebibyte(self):
        code = self.code(self.plain(), metadata=[("authorization", "Bearer " + "a" * 2**20)])
        # The library refuses such a header before anybody sees it.
        self.assertIn(code, (grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.UNAVAILABLE,
                             grpc.StatusCode.INTERNAL))

    def test_G6_every_method_of_every_service(self):
        database = ProtoReflectionDescriptorDatabase(self.server.channel)
        pool = DescriptorPool(database)
        services = set(database.get_services())
        self.assertLessEqual({"pregate.v1.Inference", "inference.GRPCInferenceService",
                              "grpc.health.v1.Health", "grpc.reflection.v1.ServerReflection",
                              "grpc.reflection.v1alpha.ServerReflection"}, services)
        methods = 0
        for service in sorted(services - {"grpc.health.v1.Health"}):
            for method in pool.FindServiceByName(service).methods:
                methods += 1
                type(self).expected_ends += 1
                with self.plain() as channel:
                    code = self.call_with_nothing(channel, f"/{service}/{method.name}",
                                                  method.client_streaming, method.server_streaming)
                self.assertEqual(code, REFUSED, f"{service}/{method.name}")
        self.assertGreaterEqual(methods, 13)
        with self.plain() as channel:
            health = health_pb2_grpc.HealthStub(channel)
            for service in ("", "pregate.v1.Inference", "inference.GRPCInferenceService"):
                request = health_pb2.HealthCheckRequest(service=service)
                serving = health_pb2.HealthCheckResponse.SERVING
                self.assertEqual(health.Check(request, timeout=10).status, serving)
                watch = health.Watch(request, timeout=10)
                self.assertEqual(next(watch).status, serving)
                watch.cancel()

    @staticmethod
    def call_with_nothing(channel, path, client_streaming, server_streaming):
        """How a call with one empty message ends."""
        kind = {(False, False): channel.unary_unary, (False, True): channel.unary_stream,
                (True, False): channel.stream_unary, (True, True): channel.stream_stream}
        call = kind[client_streaming, server_streaming](path)
        try:
            reply = call(iter([b""]) if client_streaming else b"", timeout=10)
            if server_streaming:
                list(reply)
        except grpc.RpcError as error:
            return error.code()
        return grpc.StatusCode.OK

    def http(self, method, path, token=None):
        """Status of a request with an empty body."""
        connection = http.client.HTTPConnection("127.0.0.1", self.server.http_port, timeout=10)
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        connection.request(method, path, b"", {"Content-Type": "application/json", **headers})
        reply = connection.getresponse()
        page = reply.read()
        connection.close()
        self.assertEqual(b"must be one bearer token" in page, reply.status == 401, page)
        return reply.status

    def test_G6_http(self):
        model = "/v2/models/smollm2"
        gets = ["/v1/models", "/health", "/version", "/metrics", "/v2", "/v2/health/live",
                "/v2/health/ready", model, f"{model}/ready", f"{model}/versions/1"]
        posts = ["/v1/completions", "/v1/chat/completions", "/tokenize", "/detokenize",
                 f"{model}/infer", f"{model}/generate", f"{model}/generate_stream"]
        for method, paths in (("GET", gets), ("POST", posts)):
            for path in paths:
                type(self).expected_ends += 1
                self.assertEqual(self.http(method, path), 401, path)
        for path in gets:
            self.assertEqual(self.http("GET", path, TOKEN), 200, path)
        for path in ("/livez", "/readyz"):
            self.assertEqual(self.http("GET", path), 200)
        before = self.unauthenticated()
        for trick in ("//v1/models", "/v1/../v1/models", "/livez/../v1/models", "/V1/models",
                      "/v1/models/", "/livez/v1/models", "/%76%31/models", "/livez%2f..%2fv1/models"):
            self.assertIn(self.http("GET", trick), (400, 401, 404), trick)
        type(self).expected_ends += int(self.unauthenticated() - before)

    def test_D6_reloaded_tokens(self):
        stream = self.start(greedy(max_tokens=400, ignore_eos=True))
        tokens = len(next(stream).token_ids)
        self.files.write("tokens", f"second:{OTHER_TOKEN}\nfirst:{TOKEN}\n".encode())
        self.wait_for_note("tokens: reloaded")
        self.assertEqual(self.code(self.server.new_channel(token=OTHER_TOKEN)), grpc.StatusCode.OK)
        # What is wrong changes nothing, is said, and not shown.
        self.files.write("tokens", b"second:secret\n")
        self.server.signal(signal.SIGHUP)
        self.wait_for_note("tokens: not reloaded, the old ones stay: api-key-file: line 1")
        self.assertNotIn("secret", self.server.messages())
        self.assertEqual(self.code(self.server.new_channel(token=OTHER_TOKEN)), grpc.StatusCode.OK)
        self.files.write("tokens", f"first:{TOKEN}\n".encode())
        self.wait_for_note("tokens: reloaded", 2)
        self.assertEqual(self.code(self.server.new_channel(token=OTHER_TOKEN), counted=1), REFUSED)
        self.assertEqual(tokens + sum(len(message.token_ids) for message in stream), 400)

    def test_G7_lines_of_the_log_are_lines(self):
        request = greedy()
        request.request_id = "a\r\nrequest \x1b[31mforged"
        self.assertEqual(self.ask(request).code, grpc.StatusCode.OK)
        self.wait_for_note(r'request_id="a\\r\\nrequest \\x1b\[31mforged"')
        self.assertNotIn("\x1b", self.server.messages())
        forged = [line for line in self.server.messages().splitlines() if "forged" in line]
        self.assertEqual(len(forged), 1)
        self.assertTrue(forged[0].startswith("request time="))

    def test_client_with_a_token(self):
        def ask(*arguments, **environment):
            return subprocess.run(
                [CLIENT, "--target", f"127.0.0.1:{self.server.grpc_port}", "--text", "1, 2,",
                 "--max-tokens", "4", *arguments], capture_output=True, text=True, timeout=60,
                check=False, env={**os.environ, **environment})
        type(self).expected_ends += 3
        by_file = ask("--api-key-file", self.files.path("tokens"))
        self.assertEqual(by_file.returncode, 0, by_file.stderr)
        self.assertEqual(ask(PREGATE_API_KEY=TOKEN).stdout, by_file.stdout)
        refused = ask()
        self.assertEqual(refused.returncode, 1)
        self.assertIn("UNAUTHENTICATED", refused.stderr)


class Tls(SecureTest):
    @classmethod
    def setUpClass(cls):
        cls.files = Certificates()
        for name in ("authority", "stranger"):
            cls.files.authority(name)
        for name in ("server", "next"):
            cls.files.certificate(name, "authority")
        cls.files.certificate("foreign", "stranger")
        cls.files.certificate("old", "authority", days=-1)
        cls.install("server")
        cls.FLAGS = ("--ssl-certfile", str(cls.files.path("cert.pem")), "--ssl-keyfile",
                     str(cls.files.path("key.pem")), *cls.more_flags())
        cls.serve(**cls.secrets())

    @classmethod
    def install(cls, name):
        """Puts a certificate and its key where the server looks for them."""
        cls.files.put(f"{name}.pem", "cert.pem")
        cls.files.put(f"{name}.key", "key.pem")

    @classmethod
    def more_flags(cls):
        return ()

    @classmethod
    def secrets(cls):
        return {"authority": cls.files.read("authority.pem")}

    def certificate_seen(self, context=None):
        """What a client is shown: PEM."""
        context = context or self.context()
        with socket.create_connection(("127.0.0.1", self.server.grpc_port), 10) as plain:
            with context.wrap_socket(plain, server_hostname="localhost") as wrapped:
                return ssl.DER_cert_to_PEM_cert(wrapped.getpeercert(True))

    def context(self):
        """Of a client."""
        context = ssl.create_default_context(cafile=self.files.path("authority.pem"))
        context.set_alpn_protocols(["h2"])
        return context

    def shown(self, name):
        return self.files.read(f"{name}.pem").decode() == self.certificate_seen()

    def handshake(self, lowest, highest):
        """The version that a client within these bounds gets to."""
        context = self.context()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            context.minimum_version, context.maximum_version = lowest, highest
        context.set_ciphers("ALL:@SECLEVEL=0")
        with socket.create_connection(("127.0.0.1", self.server.grpc_port), 10) as plain:
            with context.wrap_socket(plain, server_hostname="localhost") as wrapped:
                return wrapped.version()

    def https(self, path="/readyz", context=None):
        """Status of a request over TLS."""
        connection = http.client.HTTPSConnection("127.0.0.1", self.server.http_port, timeout=10,
                                                 context=context or self.http_context())
        try:
            connection.request("GET", path)
            return connection.getresponse().status
        finally:
            connection.close()

    def http_context(self):
        context = self.context()
        context.set_alpn_protocols(["http/1.1"])
        return context

    def test_G3_https(self):
        for path in ("/readyz", "/v1/models", "/metrics"):
            self.assertEqual(self.https(path), 200)
        before = self.failed_handshakes("http")
        plain = http.client.HTTPConnection("127.0.0.1", self.server.http_port, timeout=10)
        with self.assertRaises((http.client.HTTPException, ConnectionError)):
            plain.request("GET", "/readyz")
            plain.getresponse()
        plain.close()
        with self.assertRaises(ssl.SSLError):
            self.https(context=ssl.create_default_context(cafile=self.files.path("stranger.pem")))
        deadline = time.monotonic() + 10
        while self.failed_handshakes("http") < before + 2:
            self.assertLess(time.monotonic(), deadline)
            time.sleep(0.1)

    def test_G3_versions(self):
        versions = ssl.TLSVersion
        self.assertEqual(self.handshake(versions.TLSv1_2, versions.TLSv1_2), "TLSv1.2")
        self.assertEqual(self.handshake(versions.TLSv1_3, versions.TLSv1_3), "TLSv1.3")
        before = self.failed_handshakes()
        for version in (versions.TLSv1, versions.TLSv1_1):
            with self.assertRaises((ssl.SSLError, ConnectionError)):
                self.handshake(version, version)
        self.wait_for_failed_handshakes(before + 2)

    def test_G3_clients_that_do_not_fit(self):
        before = self.failed_handshakes()
        self.assertEqual(self.code(self.server.new_channel(authority=None)), CLOSED)
        stranger = self.files.read("stranger.pem")
        self.assertEqual(self.code(self.server.new_channel(authority=stranger)), CLOSED)
        with self.assertRaises(ssl.SSLError):
            self.certificate_seen(ssl.create_default_context(cafile=self.files.path("stranger.pem")))
        self.wait_for_failed_handshakes(before + 2)
        other_name = ("grpc.ssl_target_name_override", "other.example")
        self.assertEqual(self.code(self.server.new_channel(other_name)), CLOSED)
        with socket.create_connection(("127.0.0.1", self.server.grpc_port), 10) as garbage:
            garbage.sendall(b"GET / HTTP/1.1\r\n\r\n" * 10)
            try:
                while garbage.recv(4096):
                    pass
            except ConnectionError:
                pass
        self.wait_for_failed_handshakes(before + 3)
        self.assertEqual(self.code(self.server.new_channel()), grpc.StatusCode.OK)

    def test_D6_reload_while_a_stream_runs(self):
        self.assertTrue(self.shown("server"))
        notes = self.server.messages().count("certificates: reloaded")
        stream = self.start(greedy(max_tokens=600, ignore_eos=True))
        tokens = len(next(stream).token_ids)
        self.install("next")
        self.server.signal(signal.SIGHUP)
        self.wait_for_note("certificates: reloaded, valid until 20", notes + 1)
        self.assertTrue(self.shown("next"))
        self.assertEqual(self.code(self.server.new_channel()), grpc.StatusCode.OK)
        # A key that has no certificate yet, one that has expired, and nothing at all.
        refused = self.server.messages().count("certificates: not reloaded")
        self.files.put("server.key", "key.pem")
        self.wait_for_note("certificates: not reloaded, the old ones stay: ssl-keyfile", 1)
        self.install("old")
        self.wait_for_note("stay: ssl-certfile: must not have expired", 1)
        self.files.write("cert.pem", b"")
        self.wait_for_note("stay: ssl-certfile: must hold a PEM certificate", 1)
        self.assertGreaterEqual(self.server.messages().count("certificates: not reloaded"),
                                refused + 3)
        self.assertTrue(self.shown("next"))
        self.install("server")
        self.wait_for_note("certificates: reloaded", notes + 2)
        self.assertTrue(self.shown("server"))
        self.assertEqual(tokens + sum(len(message.token_ids) for message in stream), 600)

    def test_expiry_is_a_metric(self):
        end = subprocess.run(["openssl", "x509", "-in", self.files.path("cert.pem"), "-noout",
                              "-enddate"], check=True, capture_output=True, text=True).stdout
        self.assertEqual(self.server.metrics()["pregate_tls_certificate_expiry_timestamp_seconds"],
                         ssl.cert_time_to_seconds(end.strip().removeprefix("notAfter=")))

    def client(self, *arguments):
        return subprocess.run(
            [CLIENT, "--target", f"127.0.0.1:{self.server.grpc_port}", "--text", "1, 2,",
             "--max-tokens", "4", "--wait", "2", *arguments], capture_output=True, text=True,
            timeout=60, check=False)

    def test_client_of_ours(self):
        type(self).expected_ends += 1
        good = self.client("--ssl-ca-certs", self.files.path("authority.pem"))
        self.assertEqual(good.returncode, 0, good.stderr)
        for bad in ((), ("--tls",), ("--ssl-ca-certs", self.files.path("stranger.pem"))):
            self.assertEqual(self.client(*bad).returncode, 1)


class MutualTls(Tls):
    @classmethod
    def more_flags(cls):
        cls.files.certificate("client", "authority")
        cls.files.certificate("expired", "authority", days=-1)
        cls.files.put("authority.pem", "ca.pem")
        return ("--ssl-ca-certs", str(cls.files.path("ca.pem")))

    @classmethod
    def secrets(cls):
        return {"authority": cls.files.read("authority.pem"), **cls.identity("client")}

    @classmethod
    def identity(cls, name):
        return {"certificate": cls.files.read(f"{name}.pem"), "key": cls.files.read(f"{name}.key")}

    def context(self):
        context = super().context()
        context.load_cert_chain(self.files.path("client.pem"), self.files.path("client.key"))
        return context

    def client(self, *arguments):
        if "--ssl-ca-certs" in arguments:
            arguments += ("--ssl-certfile", self.files.path("client.pem"), "--ssl-keyfile",
                          self.files.path("client.key"))
        return super().client(*arguments)

    def test_G4_clients_without_a_certificate_that_counts(self):
        before = self.failed_handshakes()
        channels = [self.server.new_channel(certificate=None, key=None),
                    self.server.new_channel(**self.identity("foreign")),
                    self.server.new_channel(**self.identity("expired"))]
        for channel in channels:
            self.assertEqual(self.code(channel), CLOSED)
        self.wait_for_failed_handshakes(before + 3)
        nameless = ssl.create_default_context(cafile=self.files.path("authority.pem"))
        with self.assertRaises((ssl.SSLError, ConnectionError)):
            self.https(context=nameless)

    def test_G4_revoked_by_a_reload(self):
        notes = self.server.messages().count("certificates: reloaded")
        stream = self.start(greedy(max_tokens=300, ignore_eos=True))
        tokens = len(next(stream).token_ids)
        self.files.put("stranger.pem", "ca.pem")
        self.wait_for_note("certificates: reloaded", notes + 1)
        self.assertEqual(self.code(self.server.new_channel()), CLOSED)
        self.assertEqual(self.code(self.server.new_channel(**self.identity("foreign"))),
                         grpc.StatusCode.OK)
        self.files.put("authority.pem", "ca.pem")
        self.wait_for_note("certificates: reloaded", notes + 2)
        self.assertEqual(self.code(self.server.new_channel()), grpc.StatusCode.OK)
        self.assertEqual(tokens + sum(len(message.token_ids) for message in stream), 300)


class Start(unittest.TestCase):
    """What the server says before it serves."""

    @classmethod
    def setUpClass(cls):
        cls.files = Certificates()
        cls.files.authority("authority")
        cls.files.certificate("server", "authority")
        cls.files.certificate("old", "authority", days=-1)
        cls.files.write("short", b"a:short\n")
        cls.files.write("tokens", f"first:{TOKEN}\n".encode())

    def serve(self, *flags):
        """Exit status and messages of a server that cannot come up."""
        run = subprocess.run([BINARY, "serve", sample_model(), "--port", "0", "--grpc-port",
                              "0", "--metrics-port", "0", *map(str, flags)], stderr=subprocess.PIPE,
                             text=True, timeout=60, check=False)
        return run.returncode, run.stderr

    def test_G5_what_cannot_be_used(self):
        path = self.files.path
        certificate, key = path("server.pem"), path("server.key")
        cases = [
            (("--ssl-certfile", certificate), "ssl-certfile, ssl-keyfile: must be given both"),
            (("--ssl-keyfile", key), "ssl-certfile, ssl-keyfile: must be given both"),
            (("--ssl-ca-certs", certificate), "ssl-ca-certs: must come with"),
            (("--ssl-certfile", certificate, "--ssl-keyfile", path("old.key")),
             "ssl-keyfile: must belong to the certificate"),
            (("--ssl-certfile", path("none"), "--ssl-keyfile", key),
             "ssl-certfile: must be a file that can be read"),
            (("--ssl-certfile", key, "--ssl-keyfile", key), "ssl-certfile: must hold a PEM"),
            (("--ssl-certfile", certificate, "--ssl-keyfile", key, "--ssl-ca-certs", key),
             "ssl-ca-certs: must hold PEM certificates"),
            (("--api-key-file", path("none")), "api-key-file: must be a file that can be read"),
            (("--api-key-file", path("short")), "api-key-file: line 1 must have a token"),
        ]
        for flags, message in cases:
            status, lines = self.serve(*flags)
            self.assertEqual(status, 2, lines)
            self.assertTrue(lines.startswith(f"pregate: {message}"), lines)
            self.assertEqual(lines.count("\n"), 1, lines)

    def test_warnings(self):
        # An address for documentation, which no machine has: nothing is ever listened on.
        elsewhere = ("--host", "192.0.2.1")
        status, lines = self.serve(*elsewhere)
        self.assertEqual(status, 1)
        self.assertIn("warning: no TLS", lines)
        self.assertIn("warning: no tokens", lines)
        self.files.path("tokens").chmod(0o644)
        _, lines = self.serve(*elsewhere, "--api-key-file", self.files.path("tokens"),
                              "--ssl-certfile", self.files.path("old.pem"), "--ssl-keyfile",
                              self.files.path("old.key"))
        self.assertNotIn("warning: no T", lines)
        self.assertNotIn("warning: no tokens", lines)
        self.assertIn("warning: every user of this machine can read", lines)
        self.assertIn("warning: the certificate of --ssl-certfile has expired", lines)


if __name__ == "__main__":
    sample_model()
    pathlib.Path(BINARY).resolve(strict=True)
    unittest.main(verbosity=2)

"""Authorities and certificates made for a test, with the openssl command."""

import pathlib
import subprocess
import tempfile


class Certificates:
    """A folder of them. Names are paths without .pem and .key."""

    def __init__(self):
        self.folder = tempfile.TemporaryDirectory(prefix="pregate-certificates-")

    def path(self, name):
        return pathlib.Path(self.folder.name) / name

    def read(self, name):
        return self.path(name).read_bytes()

    def authority(self, name):
        """Makes an authority."""
        self._openssl("req", "-x509", *self._new_key(name), "-out", self.path(f"{name}.pem"),
                      "-subj", f"/CN={name}", "-days", "2")

    def certificate(self, name, authority, days=2, hosts=()):
        """Makes a certificate of the authority for localhost, 127.0.0.1 and `hosts`; `days` below 0:
        it has expired."""
        self._openssl("req", "-new", *self._new_key(name), "-out", self.path(f"{name}.csr"),
                      "-subj", f"/CN={name}")
        names = ["DNS:localhost", "IP:127.0.0.1", *(f"DNS:{host}" for host in hosts)]
        self.path("names").write_text(f"subjectAltName={','.join(names)}\n")
        self._openssl("x509", "-req", "-in", self.path(f"{name}.csr"), "-out",
                      self.path(f"{name}.pem"), "-CA", self.path(f"{authority}.pem"), "-CAkey",
                      self.path(f"{authority}.key"), "-CAcreateserial", "-days", str(days),
                      "-extfile", self.path("names"))

    def put(self, source, target):
        """Replaces the file `target` by what `source` holds, at once."""
        self.write(target, self.read(source))

    def write(self, target, content):
        """Replaces a file by `content`, at once."""
        new = self.path("new")
        new.write_bytes(content)
        new.chmod(0o600)
        new.rename(self.path(target))

    def _new_key(self, name):
        return ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout",
                self.path(f"{name}.key")]

    @staticmethod
    def _openssl(*arguments):
        subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True)

"""The CUDA variant of the image, as image_test.py has the other: on a machine without a GPU, where it
must serve on the CPU and say why.
"""

import hashlib
import importlib.util
import json
import re
import tarfile
import unittest

from image_stages import BINARY, IMAGE, Entered, Guarded, Image, run_tests

MAX_BYTES = 720 << 20
BLAS = "libcublasLt.so.13"
MODULE = "usr/lib/pregate/libpregate_cuda.so"
LOADER = "/lib64/ld-linux-x86-64.so.2"
OBJECT = "kernels/cuda/CMakeFiles/kernels_cuda.dir/rope.cu.o"

image = Image(cuda=True)


def setUpModule():  # pylint: disable=invalid-name
    if not (BINARY.parent / "libpregate_cuda.so").exists():
        raise unittest.SkipTest("this build has no CUDA module (PREGATE_CUDA)")
    image.assemble()


def tearDownModule():  # pylint: disable=invalid-name
    image.folder.cleanup()


class Contents(Guarded, unittest.TestCase):
    rootfs = image.rootfs

    def test_its_size(self):
        sizes = {path: path.lstat().st_size for path in self.rootfs.rglob("*")}
        blas = next(path for path in sizes if path.name == BLAS)
        print(f"{sum(sizes.values()) / (1 << 20):.0f} MiB, of which {BLAS} "
              f"{sizes[blas] / (1 << 20):.0f}, the module "
              f"{sizes[self.rootfs / MODULE] / (1 << 20):.1f}", end=" ")
        self.assertLess(sum(sizes.values()), MAX_BYTES)
        # Of CUDA nothing else: the driver comes with the node, the runtime is in the module.
        self.assertEqual([path.name for path in sizes if re.match("lib(cu|nv)", path.name)], [BLAS])

    def test_the_bill_has_nvidias_wheels(self):
        text = (self.rootfs / "usr/share/pregate/sbom.cdx.json").read_text(encoding="utf-8")
        bill = json.loads(text)
        found = {one["name"]: one for one in bill["components"] if "pkg:pypi/" in one["purl"]}
        pinned = re.findall(r"^([a-z-]+)==(\S+) ", (IMAGE / "cuda_wheels.txt").read_text("utf-8"),
                            re.MULTILINE)
        self.assertEqual({(name, one["version"]) for name, one in found.items()}, set(pinned))
        self.assertEqual(found["nvidia-cublas"]["properties"][0]["value"], "file")
        self.assertEqual(found["nvidia-cuda-runtime"]["properties"][0]["value"], "compiled in")
        for name in found:
            licence = (self.rootfs / "usr/share/doc" / name / "copyright").read_text("utf-8")
            self.assertIn("NVIDIA", licence)
        *_, module = bill["metadata"]["component"]["components"]
        self.assertEqual(module["name"], f"/{MODULE}")
        self.assertEqual(module["hashes"][0]["content"],
                         hashlib.sha256((self.rootfs / MODULE).read_bytes()).hexdigest())
        if importlib.util.find_spec("cyclonedx") is None:
            self.skipTest("no cyclonedx-python-lib: tests/make_venv.sh")
        # pylint: disable=import-outside-toplevel
        from cyclonedx.schema import SchemaVersion
        from cyclonedx.validation.json import JsonStrictValidator
        self.assertIsNone(JsonStrictValidator(SchemaVersion.V1_5).validate_str(text))

    def test_the_archive_has_what_nvidias_runtime_reads(self):
        archive = image.work / "image.tar"
        digest = image.stage("deploy/image/oci.py", self.rootfs, archive, "TARGET=cuda")
        with tarfile.open(archive) as tar:
            def blob(described):
                return json.load(tar.extractfile("blobs/" + described["digest"].replace(":", "/")))
            (described,) = json.load(tar.extractfile("index.json"))["manifests"]
            manifest = blob(described)
            config = blob(manifest["config"])
            (layer,) = manifest["layers"]
            self.assertEqual(tar.getmember("blobs/" + layer["digest"].replace(":", "/")).size,
                             layer["size"])
        self.assertEqual(described["digest"], digest)
        self.assertEqual(config["config"]["Env"],
                         ["NVIDIA_VISIBLE_DEVICES=all", "NVIDIA_DRIVER_CAPABILITIES=compute,utility",
                          "LD_LIBRARY_PATH=/usr/local/nvidia/lib64"])
        self.assertEqual(config["config"]["Entrypoint"], ["/usr/bin/pregate"])
        self.assertEqual(config["config"]["User"], "65532:65532")
        labels = config["config"]["Labels"]
        self.assertEqual(labels["org.opencontainers.image.title"], "pregate")
        self.assertEqual(labels["org.opencontainers.image.licenses"],
                         "Apache-2.0 AND LicenseRef-NVIDIA-Proprietary")
        # By which it finds where libraries of the driver go.
        self.assertTrue((self.rootfs / "etc/debian_version").is_file())

    def test_the_same_again(self):
        again = image.work / "again"
        image.stage("deploy/image/assemble.sh", image.out, again)
        for path in sorted(self.rootfs.rglob("*")):
            other = again / path.relative_to(self.rootfs)
            self.assertEqual(path.lstat().st_mode, other.lstat().st_mode, path)
            if path.is_file() and not path.is_symlink():
                self.assertEqual(path.read_bytes(), other.read_bytes(), path)

    def test_the_same_kernel_again(self):
        # Of another folder the compiler would give kernels other names.
        one, other = image.objects(OBJECT, ("a", "a"))
        self.assertIn(b".nv_fatbin", one)
        self.assertEqual(one, other)

    def test_a_wheel_with_another_digest_is_refused(self):
        changed = image.work / "changed"
        changed.mkdir()
        script = (IMAGE / "cuda_toolkit.sh").read_text(encoding="utf-8")
        (changed / "cuda_toolkit.sh").write_text(script, encoding="utf-8")
        (changed / "cuda_toolkit.sh").chmod(0o755)
        crt = next(line for line in (IMAGE / "cuda_wheels.txt").read_text("utf-8").splitlines()
                   if line.startswith("nvidia-cuda-crt"))
        (changed / "cuda_wheels.txt").write_text(f"{crt[:-4]}beef\n", encoding="utf-8")
        with self.assertRaisesRegex(AssertionError, "DO NOT MATCH THE HASHES"):
            image.stage("cuda_toolkit.sh", changed / "toolkit", folder=changed)
        self.assertFalse((changed / "toolkit").exists())


class Served(Entered):
    """The image entered and run, where there is no GPU."""

    image = image

    def test_all_that_is_loaded_is_there(self):
        for file in (f"/{MODULE}", "/usr/bin/pregate", f"/lib/x86_64-linux-gnu/{BLAS}"):
            self.assertNotIn("not found", self.says(LOADER, "--list", file))
        # The library that the module loads by its name is found by its name.
        self.assertNotIn("cannot be preloaded",
                         self.says(LOADER, "--preload", BLAS, "/usr/bin/pregate", "--version"))
        self.assertIn("cannot be preloaded",
                      self.says(LOADER, "--preload", "lib0.so", "/usr/bin/pregate", "--version"))

    def test_without_a_gpu_it_says_so_and_serves(self):
        container = self.enter(*self.default_command())
        container.wait_for(r"metrics +http")
        # The module was loaded, and asked.
        self.assertRegex(container.messages(), r"device +CPU: no NVIDIA driver\n")
        answer = json.loads(container.ask(
            "http://127.0.0.1:8000/v1/completions",
            '{"prompt": "The capital of France is", "max_tokens": 4, "temperature": 0}'))
        self.assertIn("Paris", answer["choices"][0]["text"])
        self.assertEqual(container.stop(), 0, container.messages())

    def test_as_the_chart_has_it_run_it_refuses_the_cpu(self):
        container = self.enter(*self.default_command(), "--device=cuda")
        self.assertEqual(container.process.wait(60), 2, container.messages())
        self.assertIn("no NVIDIA driver", container.messages())


if __name__ == "__main__":
    run_tests()

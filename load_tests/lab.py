"""What the measuring scripts share: a quiet machine, a server to measure, words about both."""

import argparse
import contextlib
import json
import math
import os
import pathlib
import socket
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
RESULTS = ROOT / "load_tests/results"
BUSY_LIMIT = 0.1  # of the processor time
LATE = 3  # loadgen's exit status when it could not keep its own times


class OthersWatch:
    """How much of this machine's processor time somebody else uses, from now on."""

    def __init__(self):
        self.total, self.idle, self.ours = self._read()

    def share(self):
        """Own children count as ours once they have ended."""
        total, idle, ours = self._read()
        total -= self.total
        return max(0.0, 1 - (idle - self.idle + ours - self.ours) / total)

    @staticmethod
    def _read():
        first = pathlib.Path("/proc/stat").read_text(encoding="ascii").split("\n", 1)[0]
        ticks = [int(field) for field in first.split()[1:9]]
        seconds = [tick / os.sysconf("SC_CLK_TCK") for tick in ticks]
        own = os.times()
        return (sum(seconds), seconds[3] + seconds[4],  # idle and waiting for a disk
                own.user + own.system + own.children_user + own.children_system)


def require_quiet(allow_busy):
    """Leaves if much else runs here: programs that spin on locks collapse beside others."""
    watch = OthersWatch()
    time.sleep(2)
    if watch.share() > BUSY_LIMIT and not allow_busy:
        sys.exit(f"the machine is {100 * watch.share():.0f} % busy with something else, so figures "
                 "would not be comparable; wait, or try the script out with --busy, which keeps no "
                 "result")
    return OthersWatch()


class Pieces:
    """What a script measures, point by point; in several runs, if there is a file to keep them in.

    A run takes at least one point that is missing, and another if it is likely to end within the
    limit. A point that others' work has disturbed is not kept. Leaves with the status UNFINISHED
    while points are missing.
    """

    UNFINISHED = 75

    def __init__(self, path, limit, settings, busy):
        self.path, self.limit, self.busy = path, limit, busy
        self.begun = time.monotonic()
        self.taken = 0
        # Through JSON and back, as the file's are.
        self.data = {"settings": json.loads(json.dumps(settings)), "points": {}}
        if path and path.exists():
            data = json.loads(path.read_text(encoding="utf-8"))
            if data["settings"] != self.data["settings"]:
                sys.exit(f"{path} was begun with other settings: {data['settings']}")
            self.data = data

    def point(self, name, measure):
        """The point of this name: from the file, or by calling `measure`."""
        points = self.data["points"]
        while name not in points:
            self._leave_in_time()
            print(name, file=sys.stderr)
            begin, watch = time.monotonic(), OthersWatch()
            value = measure()
            self.taken += 1
            point = {"value": value, "seconds": time.monotonic() - begin,
                     "share_of_others": watch.share()}
            if point["share_of_others"] > BUSY_LIMIT and not self.busy and self.path:
                print(f"{name}: not kept, the machine was "
                      f"{100 * point['share_of_others']:.0f} % busy with other work",
                      file=sys.stderr)
                continue
            points[name] = point
            if self.path:
                self.path.write_text(json.dumps(self.data, indent=1) + "\n", encoding="utf-8")
        return points[name]["value"]

    def _leave_in_time(self):
        longest = max((point["seconds"] for point in self.data["points"].values()), default=0)
        left = self.limit - (time.monotonic() - self.begun)
        if not self.path or self.taken == 0 or longest < left:
            return
        print(f"{len(self.data['points'])} points so far, in {self.path}: run this again",
              file=sys.stderr)
        sys.exit(self.UNFINISHED)

    def share(self):
        """Of the processor time, what went to others while points were measured."""
        points = self.data["points"].values()
        seconds = sum(point["seconds"] for point in points)
        return sum(point["seconds"] * point["share_of_others"] for point in points) / seconds

    @staticmethod
    def add_flags(parser):
        parser.add_argument("--pieces", type=pathlib.Path, metavar="FILE",
                            help="keep each point here, so that several runs make one figure")
        parser.add_argument("--limit", type=float, default=math.inf, metavar="SECONDS",
                            help="with --pieces: begin no point that would end later than this")


def machine(watch):
    """What a figure needs beside it, at the end of a run; `watch` has seen others' share."""
    cpu = next(line.split(":", 1)[1].strip()
               for line in pathlib.Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
               if line.startswith("model name"))
    commit = subprocess.run(["git", "describe", "--always", "--dirty"], cwd=ROOT,
                            capture_output=True, text=True, check=True).stdout.strip()
    return {"cpu": cpu, "threads": threads(), "commit": commit, "date": time.strftime("%Y-%m-%d"),
            "share_of_others": round(watch.share(), 3)}


def machine_line(about):
    return (f"{about['cpu']}, {about['threads']} threads; commit {about['commit']}; "
            f"{about['date']}; {100 * about['share_of_others']:.0f} % of the processor time went "
            "to other work")


def threads():
    return len(os.sched_getaffinity(0))


def add_server_flags(parser):
    parser.add_argument("--model", help="a model's path; default: the SmolLM2 sample")
    parser.add_argument("--pregate", default=ROOT / "build/release/pregate")
    parser.add_argument("--loadgen", default=ROOT / "build/release/loadgen")
    parser.add_argument("--busy", action="store_true",
                        help="try it out on a busy machine; keeps no result")


def closed_loop_arguments(doc):
    """Command line of a script that puts closed loops on one server; `doc` is its docstring."""
    parser = argparse.ArgumentParser(description=doc,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--prompt-tokens", type=int, default=16)
    parser.add_argument("--max-tokens", type=int, default=64)
    add_server_flags(parser)
    args = parser.parse_args()
    args.model = args.model or fetch_model("smollm2")
    args.model_name = pathlib.Path(args.model).name
    return args


def fetch_model(name):
    return subprocess.run([ROOT / "deploy/fetch_model.sh", name], stdout=subprocess.PIPE,
                          text=True, check=True).stdout.strip()


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextlib.contextmanager
def running(*command):
    """A server for as long as the block runs; yields its process. Shows its log if that fails."""
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as log:
        server = subprocess.Popen(command, stdout=log, stderr=log)
        try:
            yield server
        except BaseException:
            log.seek(0)
            sys.stderr.write(log.read())
            raise
        finally:
            server.terminate()
            try:
                server.wait(timeout=60)
            except subprocess.TimeoutExpired:
                server.kill()
                server.wait()


@contextlib.contextmanager
def serving(binary, model, *flags):
    """A Pregate server on loopback for as long as the block runs; yields its address."""
    port = free_port()
    with running(binary, "serve", model, "--port", "0", "--grpc-port", str(port),
                 "--metrics-port", "0", *flags):
        yield f"127.0.0.1:{port}"


def run_loadgen(binary, address, *flags, tries=3):
    """One run's result. A run in which the generator was late is done again."""
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "result.json"
        for _ in range(tries):
            run = subprocess.run([binary, "--server", address, "--json", path, *flags],
                                 capture_output=True, text=True, check=False)
            if run.returncode != LATE:
                break
        if run.returncode != 0:
            sys.exit(f"loadgen failed ({run.returncode}):\n{run.stdout}{run.stderr}")
        return json.loads(path.read_text(encoding="utf-8"))


def spread(values, form="{:.1f}"):
    """Median and range, as a cell of a table."""
    return (f"{form.format(statistics.median(values))} ({form.format(min(values))}"
            f"–{form.format(max(values))})")


def report(name, text, data):
    """Prints a result; keeps it, if the machine was quiet enough for it to mean something."""
    print(text)
    if data["machine"]["share_of_others"] > BUSY_LIMIT:
        print("\nnot kept: the machine was busy with other work", file=sys.stderr)
        return False
    (RESULTS / name).parent.mkdir(parents=True, exist_ok=True)
    (RESULTS / f"{name}.md").write_text(text + "\n", encoding="utf-8")
    (RESULTS / f"{name}.json").write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")
    return True

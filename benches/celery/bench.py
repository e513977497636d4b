"""Celery on the lines of benches/redis, with the same checks. scripts/bench-redis calls it.

    python bench.py --url redis://127.0.0.1:6379/1 --lines a,b --repetitions 1

It starts workers and is the client. A repetition is timed from before the first submission until the last value is
in the client; canvases are made before. After it each value is compared with the right one, and the tasks that the
worker processes have run are counted: each exactly once, no others.

The default is the best of what was tried on two cores: one worker with a prefork pool of a process per core. Tasks per
second in a group of 10,000, and median ms of a round trip: prefork -c 2 750 and 1.8, two workers with the solo pool
670 to 880 and 1.3 to 1.8, threads -c 4 680 and 2.1; 500 chords of 10: prefork 690, solo 400 to 650, threads 640. A
prefetch of 64 for each process or of 1000 makes no difference that can be told from noise.
"""

import argparse
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path

parser = argparse.ArgumentParser()
parser.add_argument("--url", required=True)
parser.add_argument("--lines", default="")
parser.add_argument("--repetitions", type=int, default=1)
parser.add_argument("--workers", type=int, default=1)
parser.add_argument("--pool", default="prefork")
parser.add_argument("--concurrency", type=int, default=os.cpu_count())
parser.add_argument("--prefetch", type=int, default=64)
parser.add_argument("--timeout", type=float, default=120)
parser.add_argument("--json", action="store_true")
options = parser.parse_args()

LEDGER = Path(tempfile.mkdtemp(prefix="celery-bench-"))
os.environ.update(BENCH_REDIS=options.url, BENCH_LEDGER=str(LEDGER), BENCH_PREFETCH=str(options.prefetch))

import celery  # noqa: E402
import redis  # noqa: E402
from celery import chain, chord, group  # noqa: E402
from celery.result import ResultSet  # noqa: E402

from tasks import add, app, xsum  # noqa: E402


class Line:
    """What is submitted, run by run, and the values that must come. benches/redis/line.rs has the same."""

    def __init__(self, key, name, runs, steps, canvas, value, in_a_row=None):
        self.key, self.name, self.runs, self.steps = key, name, runs, steps
        self.canvas, self.value, self.in_a_row = canvas, value, in_a_row


def chain_of(first, length):
    return chain(add.s(first, 1), *(add.s(1) for _ in range(length - 1)))


def chord_of(run, length):
    return chord((add.s(run + i, i) for i in range(length)), xsum.s())


def nested(run):
    chains = group(chain_of(run + i, 5) for i in range(10))
    return chains | xsum.s() | group(add.s(i) for i in range(10)) | xsum.s()


LINES = [
    Line("a", "10,000 × add", 10_000, 1, lambda run: add.s(run, run), lambda run: 2 * run),
    Line("b", "chain of 200", 1, 200, lambda run: chain_of(run, 200), lambda run: run + 200, 200),
    Line("c", "100 × chain of 20", 100, 20, lambda run: chain_of(run, 20), lambda run: run + 20, 20),
    Line("d", "group of 10,000", 1, 10_000, lambda run: group(add.s(run + i, i) for i in range(10_000)),
         lambda run: [2 * i + run for i in range(10_000)]),
    Line("e", "chord of 1,000", 1, 1001, lambda run: chord_of(run, 1000), lambda run: 1000 * 999 + 1000 * run),
    Line("f", "chord of 10,000", 1, 10_001, lambda run: chord_of(run, 10_000),
         lambda run: 10_000 * 9999 + 10_000 * run),
    Line("g", "500 × chord of 10", 500, 11, lambda run: chord_of(run, 10), lambda run: 10 * 9 + 10 * run),
    Line("h", "50 × nested", 50, 62, nested, lambda run: 10 * (10 * run + 95) + 45),
    Line("i", "round trip, idle", 500, 1, lambda run: add.s(run, run), lambda run: 2 * run),
]


# What a line costs.

def stat(pid):
    """CPU seconds and parent of a process."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0, 0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK"), int(fields[1])


def family(pid):
    """A process and its children."""
    children = [int(p.name) for p in Path("/proc").iterdir() if p.name.isdigit() and stat(p.name)[1] == pid]
    return [pid, *children]


def peak_mb(pid):
    found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    return int(found[1]) * 1024 / 1e6 if found else 0.0


class Meter:
    def __init__(self, url, workers):
        self.redis = redis.Redis.from_url(url)
        self.pid = self.redis.info("server")["process_id"]
        self.workers = [pid for worker in workers for pid in family(worker.pid)]
        self.peak = 0
        threading.Thread(target=self.watch, daemon=True).start()

    def watch(self):
        connection = redis.Redis.from_url(options.url)
        while True:
            self.peak = max(self.peak, connection.info("memory")["used_memory"])
            time.sleep(0.1)

    def usage(self):
        stats = self.redis.info("commandstats")
        commands = {name[8:].replace("cmdstat_", ""): s for name, s in stats.items() if name != "cmdstat_info"}
        cpu = {"redis": stat(self.pid)[0], "client": sum(os.times()[:2]), "coordinator": 0.0}
        cpu["worker"] = sum(stat(pid)[0] for pid in self.workers)
        return {"cpu": cpu, "commands": {n: {"calls": s["calls"], "us": s["usec"]} for n, s in commands.items()}}

    def durability(self):
        setting = self.redis.config_get("append*")
        return setting["appendfsync"] if setting["appendonly"] == "yes" else "none"


def since(now, before):
    cpu = {role: now["cpu"][role] - before["cpu"][role] for role in now["cpu"]}
    commands = {}
    for name, command in now["commands"].items():
        then = before["commands"].get(name, {"calls": 0, "us": 0})
        if command["calls"] > then["calls"]:
            commands[name] = {what: command[what] - then[what] for what in ("calls", "us")}
    return {"cpu": cpu, "commands": commands}


# The checks.

def called():
    """How often each task was run, by id, since this was asked last."""
    calls = Counter()
    for path in LEDGER.iterdir():
        if path.name.isdigit():
            content = path.read_bytes()
            calls.update(content[i:i + 16] for i in range(0, len(content), 16))
            os.truncate(path, 0)
    return calls


def check(line, values):
    for run, value in enumerate(values):
        if value != line.value(run):
            raise SystemExit(f"{line.name}: run {run} is {str(value)[:200]}")
    calls, expected = called(), line.runs * line.steps
    if len(calls) != expected or sum(calls.values()) != expected:
        raise SystemExit(f"{line.name}: {sum(calls.values())} calls of {len(calls)} tasks, not {expected}")


def value_of(result):
    """Does not propagate failures, as a plain get would: for that it looks at each parent of the result whenever any
    message comes, so that a chord of 10,000 takes twenty seconds or two minutes. What fails differs from its value.
    """
    return result.get(timeout=options.timeout, propagate=False)


def run_all(line, canvases):
    """Submits and fetches all; ms of each run where they come one after the other."""
    if line.key == "i":
        values, took = [], []
        for canvas in canvases:
            start = time.perf_counter()
            values.append(value_of(canvas.apply_async()))
            took.append(1000 * (time.perf_counter() - start))
        return values, took
    results = [canvas.apply_async() for canvas in canvases]
    if len(results) == 1:
        return [value_of(results[0])], []
    # One subscription for all: a get for each would be slower.
    return ResultSet(results).join_native(timeout=options.timeout), []


def measure(line, meter):
    canvases = [line.canvas(run) for run in range(line.runs)]
    meter.peak = 0
    before = meter.usage()
    start = time.perf_counter()
    values, took = run_all(line, canvases)
    seconds = time.perf_counter() - start
    time.sleep(0.1)
    usage = since(meter.usage(), before)
    repetition = {"seconds": seconds, "usage": usage, "redis_mb": meter.peak / 1e6}
    check(line, values)
    # What is left of it in Redis; the worker's own keys (_kombu…) stay.
    for keys in meter.redis.scan_iter("celery-task-meta-*", 1000), meter.redis.scan_iter("chord-*", 1000):
        for key in keys:
            meter.redis.unlink(key)
    return repetition, took


def percentile(took, percent):
    return sorted(took)[(len(took) - 1) * percent // 100]


def measured(line, meter):
    repetitions, took = [], []
    for _ in range(options.repetitions):
        repetition, ms = measure(line, meter)
        repetitions.append(repetition)
        took += ms
    rates = sorted(line.runs * line.steps / r["seconds"] for r in repetitions)
    latency = [percentile(took, p) for p in (50, 95, 99)] if took else None
    if not options.json:
        steps = line.runs * line.steps * len(repetitions)
        cpu = {role: round(1e6 * sum(r["usage"]["cpu"][role] for r in repetitions) / steps)
               for role in ("redis", "client", "worker")}
        calls = sum(c["calls"] for r in repetitions for c in r["usage"]["commands"].values()) / steps
        rest = ", latency ms " + " ".join(f"{ms:.2f}" for ms in latency) if latency else ""
        print(f"{line.key} {line.name:18} {rates[len(rates) // 2]:7.0f} steps/s, {calls:.2f} commands per task, "
              f"CPU µs per task {cpu}{rest}", flush=True)
    return {"key": line.key, "name": line.name, "steps": line.runs * line.steps, "in_a_row": line.in_a_row,
            "repetitions": repetitions, "latency_ms": latency}


def start_workers(workers):
    """Fills the list, so that those who stop workers know them whatever happens here."""
    for number in range(options.workers):
        command = [sys.executable, "-m", "celery", "-A", "tasks", "worker", "--pool", options.pool, "--concurrency",
                   str(options.concurrency), "--hostname", f"bench{number}@%h", "--loglevel", "ERROR",
                   "--without-gossip", "--without-mingle", "--without-heartbeat"]
        # It warns when root runs it, as in a container.
        environment = os.environ | {"PYTHONWARNINGS": "ignore"}
        workers.append(subprocess.Popen(command, cwd=Path(__file__).parent, stdin=subprocess.DEVNULL, env=environment,
                                        stdout=subprocess.DEVNULL, start_new_session=True))
    deadline = time.monotonic() + 60
    while len(list(LEDGER.glob("ready-*"))) < len(workers):
        if time.monotonic() > deadline or any(worker.poll() is not None for worker in workers):
            raise SystemExit("the Celery worker does not start")
        time.sleep(0.05)


def stop(workers):
    """Ends the workers and the processes of their pools: each worker is a process group of its own."""
    for worker in workers:
        try:
            os.killpg(worker.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        worker.wait()
    shutil.rmtree(LEDGER, ignore_errors=True)


def main():
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    workers = []
    try:
        start_workers(workers)
        meter = Meter(options.url, workers)
        chosen = [key for key in options.lines.split(",") if key]
        # Connections and pools are in use before anything is measured.
        for warm in (Line("w", "warm-up", 200, 1, lambda run: add.s(run, run), lambda run: 2 * run),
                     Line("w", "warm-up", 10, 11, lambda run: chord_of(run, 10), lambda run: 90 + 10 * run)):
            measure(warm, meter)
        lines = [measured(line, meter) for line in LINES if not chosen or line.key in chosen]
        memory = {"client": [peak_mb(os.getpid())], "coordinator": [],
                  "worker": [peak_mb(pid) for pid in meter.workers]}
        name = f"Celery {celery.__version__}, {options.workers} worker(s) {options.pool} -c {options.concurrency}"
        report = {"system": name, "durability": meter.durability(), "lines": lines, "memory_mb": memory}
        if options.json:
            print(json.dumps(report))
        else:
            print("each task was run exactly once, and each value was right; peak memory in MB:", memory)
    finally:
        stop(workers)


main()

"""The same tasks as those of benches/redis, as a Celery app. The Redis comes in the environment.

Each worker process appends the id of each task that it runs to a file of its own, as 16 bytes: one write to the page
cache, some microseconds of a task's milliseconds. bench.py counts them.
"""

import os
import uuid

from celery import Celery, signals

url = os.environ.get("BENCH_REDIS", "redis://127.0.0.1:6379/1")
app = Celery("bench", broker=url, backend=url)
app.conf.update(
    task_ignore_result=False,
    task_acks_late=False,
    worker_prefetch_multiplier=int(os.environ.get("BENCH_PREFETCH", "64")),
    result_expires=3600,
    worker_hijack_root_logger=False,
    broker_connection_retry_on_startup=True,
)

ledger = {}


def note(task):
    pid = os.getpid()
    if pid not in ledger:
        path = os.path.join(os.environ["BENCH_LEDGER"], str(pid))
        ledger[pid] = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.write(ledger[pid], uuid.UUID(task.request.id).bytes)


@app.task(bind=True, name="bench.add")
def add(self, x, y):
    note(self)
    return x + y


@app.task(bind=True, name="bench.xsum")
def xsum(self, numbers):
    note(self)
    return sum(numbers)


@signals.worker_ready.connect
def say_ready(**_):
    open(os.path.join(os.environ["BENCH_LEDGER"], f"ready-{os.getpid()}"), "w").close()

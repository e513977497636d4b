"""Writes primitives/tests/golden/celery.json: canvases in the JSON form that Celery itself writes.

    python -m venv /tmp/golden && /tmp/golden/bin/pip install celery==5.7.0
    /tmp/golden/bin/python scripts/golden/capture.py

Ids are counted instead of drawn, so that the same Celery writes the same file again.
"""

import datetime
import decimal
import itertools
import json
import pathlib
import platform
import uuid

import celery
import celery.canvas
import kombu
from celery import Celery, chain, chord, chunks, group, signature
from celery.canvas import xmap, xstarmap
from kombu.utils.json import dumps

FILE = pathlib.Path(__file__).parents[2] / "primitives/tests/golden/celery.json"

ids = itertools.count(1)
celery.canvas.uuid = lambda: f"00000000-0000-4000-8000-{next(ids):012d}"


class App(Celery):
    thread_oid = "11111111-1111-4111-8111-111111111111"


app = App("golden", backend="cache+memory://", set_as_current=True)


@app.task(name="add")
def add(x, y, z=None):
    return x + y


@app.task(name="proj.tasks.mul")
def mul(x, y):
    return x * y


@app.task(name="tsum")
def tsum(numbers):
    return sum(numbers)


@app.task(name="identity")
def identity(x):
    return x


@app.task(name="eb")
def eb(task_id):
    return task_id


def with_links(canvas, *links, errbacks=()):
    for link in links:
        canvas.link(link)
    for errback in errbacks:
        canvas.link_error(errback)
    return canvas


def with_arguments(canvas, args, kwargs=None):
    """What clone() used to leave behind in a chain or group; 5.7.0 still writes it for a chord."""
    canvas.args = args
    canvas.kwargs.update(kwargs or {})
    return canvas


def frozen(canvas):
    canvas.freeze()
    return canvas


PAIRS = [(1, 1), (2, 2), (3, 3)]
NOON = datetime.datetime(2026, 2, 3, 12, 30, 15, 250000, tzinfo=datetime.timezone.utc)

CANVASES = {
    "signature": lambda: add.s(2, 2),
    "signature without arguments": lambda: add.s(),
    "signature by name": lambda: signature("tasks.add", (2, 2), {"debug": True}, countdown=10),
    "signature with options": lambda: add.s(1, z=3).set(queue="hi", priority=5, expires=30),
    "signature with many options": lambda: add.s(1).set(
        countdown=1.5, time_limit=30, soft_time_limit=20, ignore_result=True, serializer="json",
        compression="gzip", shadow="sum", headers={"tenant": "acme"}, routing_key="a.b", retry=False,
        retry_policy={"max_retries": 3, "interval_start": 0.2}, acks_late=True, tenant={"id": [1, None]},
    ),
    "signature with eta": lambda: add.s(1).set(eta=NOON, expires=NOON),
    "signature stamped": lambda: with_stamp(add.s(1, 1)),
    "signature immutable": lambda: add.si(2, 2),
    "signature immutable with keywords": lambda: add.si(2, y=2),
    "signature partial clone": lambda: add.s(2).clone((4,), {"z": 1}, queue="q"),
    "chain": lambda: add.s(2, 2) | mul.s(8),
    "chain empty": lambda: chain(),
    "chain of one": lambda: chain(add.s(1, 2)),
    "chain of a chain": lambda: chain(chain(add.s(1, 2))),
    "chain of a group": lambda: chain(group(add.s(1, 2), add.s(3, 4))),
    "chain immutable": lambda: (add.s(1, 2) | mul.s(8)).set(immutable=True),
    "chain with options": lambda: (add.s(1, 2) | mul.s(8)).set(queue="slow", priority=3),
    "chain with arguments": lambda: with_arguments(add.s(4) | mul.s(8), (16,)),
    "chain with keywords": lambda: with_arguments(add.s(4) | mul.s(8), (16,), {"z": 2}),
    "chain ending in a group": lambda: add.s(1, 2) | group(add.s(3), mul.s(2)),
    "chain of three groups": lambda: chain(*[group(tsum.s(), tsum.s())] * 3),
    "chain with a group in the middle": lambda: add.s(1, 2) | group(add.s(3), mul.s(2)) | tsum.s() | add.s(1),
    "group": lambda: group(add.s(1, 1), add.s(2, 2)),
    "group empty": lambda: group(),
    "group of one": lambda: group(add.s(1, 1)),
    "group of groups": lambda: group(group(add.s(1, 2), add.s(3, 4)), add.s(5, 6)),
    "group of chains": lambda: group(add.s(1, 1) | mul.s(2), chain(add.s(2, 2))),
    "group with options": lambda: group(add.s(1, 1), add.s(2, 2)).set(queue="q"),
    "group immutable": lambda: group(add.s(1, 1), add.s(2, 2)).set(immutable=True),
    "group skewed": lambda: group(add.s(i, i) for i in range(4)).skew(start=1, stop=3),
    "group of many": lambda: group(add.s(i, i) for i in range(100)),
    "chord of a list": lambda: chord([add.s(1, 1), add.s(2, 2)], tsum.s()),
    "chord of a group": lambda: chord(group(add.s(1, 1), add.s(2, 2)), tsum.s()),
    "chord by pipe": lambda: group(add.s(1, 1), add.s(2, 2)) | tsum.s(),
    "chord of a generator": lambda: chord((add.s(i, i) for i in range(3)), tsum.s()),
    "chord of a signature": lambda: chord(add.s(1, 2), identity.s()),
    "chord of a chain": lambda: chord(chain(add.s(1, 2), add.s(3, 4)), identity.s()),
    "chord of nothing": lambda: chord([], tsum.s()),
    "chord without body": lambda: chord([add.s(1, 1), add.s(2, 2)]),
    "chord with a chain body": lambda: chord([add.s(1, 1)], tsum.s() | add.s(1)),
    "chord with a group body": lambda: chord([add.s(1, 1)], group(tsum.s(), identity.s())),
    "chord with a chord body": lambda: chord([add.s(1, 1)], chord([tsum.s(), tsum.s()], tsum.s())),
    "chord with an immutable body": lambda: chord([add.s(1, 1)], tsum.si([9])),
    "chord in a chord header": lambda: chord([chord([add.s(1, 2)], tsum.s()), add.s(5, 6)], identity.s()),
    "chord nested both ways": lambda: chord(
        [group(add.s(1, 1), add.s(2, 2)), chain(add.s(3, 3), add.s(4))], tsum.s() | add.s(1)
    ),
    "chord cloned with arguments": lambda: chord([add.s(1), add.s(2)], tsum.s()).clone((10,)),
    "chord cloned with keywords": lambda: chord([add.s(1), add.s(2)], tsum.s()).clone((10,), {"z": 100}),
    "chord with options": lambda: chord([add.s(1, 1)], tsum.s()).set(queue="q", countdown=5),
    "group with keywords": lambda: with_arguments(group(add.s(1), add.s(2)), (10,), {"z": 100}),
    "map": lambda: identity.map([1, 2, 3]),
    "map of nothing": lambda: identity.map([]),
    "map of lists": lambda: tsum.map([[1, 2], [3, 4]]),
    "map of a bound signature": lambda: xmap(add.s(1).set(queue="q"), [1, 2]),
    "map with options": lambda: identity.map([1]).set(queue="q"),
    "starmap": lambda: add.starmap([(1, 1), (2, 2)]),
    "starmap of a bound signature": lambda: xstarmap(add.s(1), [(1,), (2,)]),
    "chunks": lambda: add.chunks(PAIRS, 2),
    "chunks of a zip": lambda: add.chunks(zip(range(10), range(10)), 3),
    "chunks as a group": lambda: add.chunks(PAIRS, 2).group(),
    "chunks with options": lambda: chunks(add.s(), PAIRS, 2).set(queue="q"),
    "chunks in a chain": lambda: add.s(1, 2) | add.chunks(PAIRS, 2) | identity.s(),
    "maps in a chord": lambda: group(identity.map([1, 2]), add.starmap([(1, 2), (3, 4)])) | identity.s(),
    "link and link_error": lambda: with_links(add.s(1, 1), mul.s(2), errbacks=[eb.s()]),
    "link as an option": lambda: add.signature((1, 1), link=mul.s(2), link_error=eb.si("x")),
    "link as a list": lambda: add.signature((1, 1), link=[mul.s(2), mul.s(3)], link_error=[eb.s()]),
    "link twice": lambda: with_links(add.s(1, 1), mul.s(2), mul.s(2), errbacks=[eb.s(), eb.s()]),
    "links of links": lambda: with_links(add.s(1, 1), with_links(mul.s(2), mul.s(3), errbacks=[eb.s()])),
    "links of every form": lambda: with_links(
        add.s(1, 1),
        mul.s(2) | mul.s(3),
        group(mul.s(4), mul.s(5)),
        chord([mul.s(6), mul.s(7)], tsum.s()),
        identity.map([1, 2]),
        add.chunks(PAIRS, 2),
        errbacks=[eb.s() | identity.s(), group(eb.s(), eb.si("x")), chord([eb.s()], identity.s())],
    ),
    "link on a chain": lambda: with_links(add.s(1, 1) | mul.s(2), mul.s(3), errbacks=[eb.s()]),
    "link on a group": lambda: with_links(group(add.s(1, 1), add.s(2, 2)), mul.s(3)),
    "link of a chain on a group": lambda: with_links(group(add.s(1, 1), add.s(2, 2)), mul.s(3) | mul.s(4)),
    "link_error on a group": lambda: with_links(group(add.s(1, 1), add.s(2, 2)), errbacks=[eb.s()]),
    "link on a chord": lambda: with_links(chord([add.s(1, 1)], tsum.s()), mul.s(3), errbacks=[eb.s()]),
    "link_error on a chord with chords in its header": lambda: with_links(
        chord([chord([add.s(1, 1)], tsum.s()), add.s(2, 2)], tsum.s()), errbacks=[eb.s()]
    ),
    "link on a map": lambda: with_links(identity.map([1]), mul.s(3), errbacks=[eb.s()]),
    "frozen signature": lambda: frozen(add.s(1, 1)),
    "frozen chain": lambda: frozen(add.s(1, 1) | mul.s(2)),
    "frozen group": lambda: frozen(group(add.s(1, 1), add.s(2, 2))),
    "frozen chord": lambda: frozen(chord([add.s(1, 1), add.s(2, 2)], tsum.s())),
    "frozen chord of groups": lambda: frozen(chord([group(add.s(1, 1), add.s(2, 2)), add.s(3, 3)], tsum.s())),
    "frozen chain of chords": lambda: frozen(
        chain(add.s(1, 1), group(add.s(2), add.s(3)), tsum.s(), group(add.s(1), add.s(2)))
    ),
    "stamped canvas": lambda: with_stamp(with_links(group(add.s(1, 1), add.s(2, 2)) | tsum.s(), mul.s(2))),
    "kombu values": lambda: add.s(
        NOON,
        NOON.date(),
        NOON.time(),
        uuid.UUID(int=7),
        b"\x00\xff bytes",
        decimal.Decimal("1.10"),
        when=NOON.replace(tzinfo=None),
    ),
    "big numbers": lambda: add.s(2**100, -(2**63), 2**64, 0.1, 1e300, -0.0, z=10**40),
    "unicode name": lambda: signature("größe.mal-2", (1,)),
    "unicode": lambda: add.s("größe", "日本語", "🥬", "\u2028\x00\"\\\n", z={"ключ": "😀"}),
    "json of every type": lambda: add.s(None, True, False, 0, "", [], {}, {"a": [{"b": [[]]}]}, (1, (2,))),
    "kwargs named like parts": lambda: add.s(tasks=[1], header=2, body=None, it=3, n=4, kwargs={"a": 1}),
}


def with_stamp(canvas):
    canvas.stamp(stamp="v")
    return canvas


def main():
    lines = []
    for name, build in CANVASES.items():
        lines.append(f"{json.dumps(name)}: {dumps(build())}")
    versions = {"celery": celery.__version__, "kombu": kombu.__version__, "python": platform.python_version()}
    body = ",\n".join(lines)
    FILE.write_text(f'{{"versions": {json.dumps(versions)},\n"canvases": {{\n{body}\n}}}}\n')
    print(f"{FILE}: {len(lines)} canvases of Celery {celery.__version__}")


if __name__ == "__main__":
    main()

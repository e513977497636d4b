"""Asserts that Celery reads the canvases that we write (primitives/tests/golden/ours.json).

    /tmp/golden/bin/python scripts/golden/check.py

Every canvas there has the name of one in capture.py, which builds the same with Celery itself.
"""

import json
import sys

sys.dont_write_bytecode = True

import celery
from capture import CANVASES, FILE
from celery import signature
from kombu.utils.json import dumps, loads

OURS = FILE.with_name("ours.json")


def plain(canvas):
    """A canvas as JSON values: tuples are lists, subclasses of dict are dicts."""
    return json.loads(dumps(canvas))


def main():
    wrong = 0
    ours = loads(OURS.read_text())
    for name, written in ours.items():
        # Read from its own text too: 5.7.0 loses the immutable flag of a chain there (chain.from_dict).
        read, expect = signature(written), signature(loads(dumps(CANVASES[name]())))
        if plain(read) != plain(expect) or type(read) is not type(expect):
            wrong += 1
            print(f"{name}:\n  ours   {dumps(read)}\n  celery {dumps(expect)}")
    print(f"Celery {celery.__version__} read {len(ours) - wrong} of {len(ours)} canvases as we meant them")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())

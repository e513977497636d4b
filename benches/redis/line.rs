//! What is measured: the canvases of each line, and the values that they must have.
//!
//! `benches/celery/bench.py` has the same lines under the same keys. Change both.

use std::ops::Range;

use celeriac::prelude::*;
use serde_json::{Value, json};

use crate::tasks::{add, xsum};

/// A line of the table: some runs of one kind of canvas.
pub(crate) struct Line {
    pub(crate) key: &'static str,
    pub(crate) name: &'static str,
    /// How many runs.
    pub(crate) runs: usize,
    /// How many of them are under way at the same time, at most.
    pub(crate) in_flight: usize,
    /// How many leaf tasks each run has.
    pub(crate) steps: usize,
    /// How many of those come one after the other, where the length of a step is of interest.
    pub(crate) in_a_row: Option<usize>,
    pub(crate) canvas: fn(usize) -> Canvas,
    pub(crate) value: fn(usize) -> Value,
}

impl Line {
    /// Leaf tasks of all runs.
    pub(crate) fn steps_in_all(&self) -> usize {
        self.runs * self.steps
    }

    /// Whether the time of each single run is what the line is for.
    pub(crate) fn is_latency(&self) -> bool {
        self.in_flight == 1 && self.runs > 1
    }
}

pub(crate) const LINES: &[Line] = &[
    Line {
        key: "a",
        name: "10,000 × add",
        runs: 10_000,
        in_flight: 1000,
        steps: 1,
        in_a_row: None,
        canvas: |run| plus(run, run),
        value: |run| json!(2 * run),
    },
    Line {
        key: "b",
        name: "chain of 200",
        runs: 1,
        in_flight: 1,
        steps: 200,
        in_a_row: Some(200),
        canvas: |run| chain_of(run, 200),
        value: |run| json!(run + 200),
    },
    Line {
        key: "c",
        name: "100 × chain of 20",
        runs: 100,
        in_flight: 100,
        steps: 20,
        in_a_row: Some(20),
        canvas: |run| chain_of(run, 20),
        value: |run| json!(run + 20),
    },
    Line {
        key: "d",
        name: "group of 10,000",
        runs: 1,
        in_flight: 1,
        steps: 10_000,
        in_a_row: None,
        canvas: |run| Canvas::group(doubles(run, 0..10_000)),
        value: |run| json!((0..10_000).map(|i| 2 * i + run).collect::<Vec<_>>()),
    },
    Line {
        key: "e",
        name: "chord of 1,000",
        runs: 1,
        in_flight: 1,
        steps: 1001,
        in_a_row: None,
        canvas: |run| chord_of(run, 1000),
        value: |run| json!(1000 * 999 + 1000 * run),
    },
    Line {
        key: "f",
        name: "chord of 10,000",
        runs: 1,
        in_flight: 1,
        steps: 10_001,
        in_a_row: None,
        canvas: |run| chord_of(run, 10_000),
        value: |run| json!(10_000 * 9999 + 10_000 * run),
    },
    Line {
        key: "g",
        name: "500 × chord of 10",
        runs: 500,
        in_flight: 500,
        steps: 11,
        in_a_row: None,
        canvas: |run| chord_of(run, 10),
        value: |run| json!(10 * 9 + 10 * run),
    },
    Line {
        key: "h",
        name: "50 × nested",
        runs: 50,
        in_flight: 50,
        steps: 10 * 5 + 1 + 10 + 1,
        in_a_row: None,
        canvas: nested,
        // Each chain ends with run + i + 5, their sum is 10 run + 95; ten times that, and 0 + 1 + … + 9.
        value: |run| json!(10 * (10 * run + 95) + 45),
    },
    Line {
        key: "i",
        name: "round trip, idle",
        runs: 500,
        in_flight: 1,
        steps: 1,
        in_a_row: None,
        canvas: |run| plus(run, run),
        value: |run| json!(2 * run),
    },
];

fn plus(x: usize, y: usize) -> Canvas {
    add.s((x as i64, y as i64)).untyped().expect("numbers have a JSON form")
}

fn plus_one() -> Canvas {
    add.s(1).untyped().expect("numbers have a JSON form")
}

fn sum() -> Canvas {
    xsum.s(()).untyped().expect("nothing has a JSON form")
}

/// `2 i + run` for each number.
fn doubles(run: usize, numbers: Range<usize>) -> impl Iterator<Item = Canvas> {
    numbers.map(move |i| plus(run + i, i))
}

/// From `first`, so many steps of one.
fn chain_of(first: usize, length: usize) -> Canvas {
    Canvas::chain(std::iter::once(plus(first, 1)).chain((1..length).map(|_| plus_one())))
}

fn chord_of(run: usize, length: usize) -> Canvas {
    Canvas::chord(doubles(run, 0..length), sum())
}

/// `group(10 chains of 5) | xsum | group(10) | xsum`.
fn nested(run: usize) -> Canvas {
    let chains = Canvas::group((0..10).map(|i| chain_of(run + i, 5)));
    let more = (0..10).map(|i| add.s(i).untyped().expect("numbers have a JSON form"));
    Canvas::chain([chains, sum(), Canvas::group(more), sum()])
}

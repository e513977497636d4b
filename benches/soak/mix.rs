//! What is run: canvases of each kind, with their values.

use std::time::Duration;

use celeriac::prelude::*;

use crate::tasks::{add, flaky, replaced, stray, xsum};

/// One run of a job.
pub(crate) struct Job {
    pub(crate) canvas: Canvas,
    /// What must come out.
    pub(crate) value: i64,
    /// The name it is submitted under.
    pub(crate) key: Option<String>,
    pub(crate) end: End,
}

/// What becomes of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// It is forgotten when its value is there.
    Forgotten,
    /// Its time after its end passes.
    Kept,
    /// It is forgotten at once, whatever it has come to.
    Abandoned,
}

/// How many queues each part has that no other has.
const QUEUES: usize = 5;

/// The queues that come with a part and go with it.
pub(crate) fn queues(part: usize) -> Vec<String> {
    (0..QUEUES).map(|i| format!("visit-{part}-{i}")).collect()
}

/// The runs of a job, one after the other.
pub(crate) fn job(part: usize, number: usize) -> Vec<Job> {
    let x = number as i64;
    let end = if number.is_multiple_of(3) { End::Kept } else { End::Forgotten };
    let run = |canvas: Canvas, value| Job { canvas, value, key: None, end };
    let chord = |members: Vec<Canvas>| Canvas::chord(members, plain(xsum.s(())));
    match number % 12 {
        0..4 => vec![run(chord((0..100).map(|i| sum(x, i)).collect()), 100 * x + 4950)],
        4 => {
            let next = (1..10).map(|_| plain(add.s(1)));
            vec![run(Canvas::chain(std::iter::once(sum(x, 0)).chain(next)), x + 9)]
        }
        5 => {
            let policy = RetryPolicy::new(2).after(Duration::from_millis(10));
            let again = |i| with(plain(flaky.s(x + i)), |options| options.with_retry(&policy));
            vec![run(chord((0..5).map(again).collect()), 5 * x + 10)]
        }
        6 => {
            let later = |i: i64| {
                with(sum(x, i), |options| options.with_countdown(Duration::from_millis(20 * i as u64)))
            };
            vec![run(chord((0..10).map(later).collect()), 10 * x + 45)]
        }
        // The same names again and again, each time for something else; more of them than jobs at a time.
        7 | 8 => {
            let again = |time| {
                let canvas = chord((0..5).map(|i| sum(x + time, i)).collect());
                let key = Some(format!("order-{}", number % 1024));
                Job { canvas, value: 5 * (x + time) + 10, key, end: End::Forgotten }
            };
            (0..3).map(again).collect()
        }
        9 => {
            let queue = &queues(part)[number / 12 % QUEUES];
            let there = |i| {
                with(sum(x, i), |options| options.with_queue(queue).expect("it is a good name of a queue"))
            };
            vec![run(chord((0..20).map(there).collect()), 20 * x + 190)]
        }
        10 => vec![run(chord((0..5).map(|i| plain(replaced.s(x + i))).collect()), 5 * x + 10)],
        _ => {
            let canvas = Canvas::group((0..20).map(|i| plain(stray.s(i))));
            vec![Job { canvas, value: 0, key: None, end: End::Abandoned }]
        }
    }
}

fn sum(x: i64, y: i64) -> Canvas {
    plain(add.s((x, y)))
}

fn plain<I, O>(flow: Flow<I, O>) -> Canvas {
    flow.untyped().expect("numbers have a JSON form")
}

fn with(mut canvas: Canvas, set: impl FnOnce(Options) -> Options) -> Canvas {
    *canvas.options_mut() = set(canvas.options().clone());
    canvas
}

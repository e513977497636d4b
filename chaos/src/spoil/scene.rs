//! What is under way when a fault is written: a run that has to do with the key, and nothing that others
//! have.

use std::time::Duration;

use celeriac::Canvas;
use celeriac::primitives::{Json, OptionError, Options, Signature, TaskName};

/// The runs that faults befall.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scene {
    /// A leaf, a chord, and a leaf.
    Small,
    /// More nodes than have their states in the hash, and a plan that is stored in parts.
    Wide,
    /// Values that are kept apart.
    Large,
    /// A leaf that is replaced by a canvas.
    Growing,
    /// Leaves that start later, or not at all.
    Timed,
    /// Leaves that come before others.
    Urgent,
    /// As the small one, and it is forgotten while it is under way.
    Forgotten,
}

/// How long the first leaf takes: while it runs, the fault is written.
pub(crate) const NAP: Duration = Duration::from_millis(150);

/// So many leaves are more than have their states in the hash.
const WIDE: i64 = 1030;

impl Scene {
    /// Its canvas in this queue, and its value.
    pub(crate) fn canvas(self, queue: &str) -> (Canvas, String) {
        let leaf = |task: &str, args: &[Json]| leaf(task, args, Options::new().with_queue(queue));
        let number = |number: i64| Json::from_compact(number.to_string());
        let nap = || leaf("nap", &[number(0), number(NAP.as_millis() as i64)]);
        let add = |n: i64| leaf("add", &[number(n)]);
        let sum = || leaf("sum", &[]);
        match self {
            Self::Small | Self::Forgotten => {
                let chord = Canvas::chord([add(1), add(2)], sum());
                (Canvas::chain([nap(), chord, add(3)]), "6".to_owned())
            }
            Self::Wide => {
                // Long arguments: with them the plan does not fit into the hash.
                let long = Json::string(&"x".repeat(300));
                let add = |n: i64| leaf("padded", &[number(n), long.clone()]);
                let chord = Canvas::chord((0..WIDE).map(add), sum());
                (Canvas::chain([nap(), chord]), (WIDE * (WIDE - 1) / 2).to_string())
            }
            Self::Large => {
                let text = Json::string(&"y".repeat(100_000));
                let measured = Canvas::chain([nap(), leaf("measure", &[text])]);
                let header = [leaf("swell", &[number(60_000)]), measured];
                (Canvas::chord(header, leaf("lengths", &[])), "160000".to_owned())
            }
            Self::Growing => {
                (Canvas::chain([leaf("become", &[Json::string(queue)]), add(1)]), "7".to_owned())
            }
            Self::Timed => {
                let options = Options::new().with_queue(queue);
                let timed = options.map(|options| {
                    options.with_countdown(Duration::from_millis(250)).with_expires(Duration::from_secs(60))
                });
                let later = self::leaf("nap", &[number(50)], timed);
                (Canvas::chain([nap(), later, add(2)]), "2".to_owned())
            }
            Self::Urgent => {
                let urgent = |task: &str, args: &[Json]| {
                    let options = Options::new().with_queue(queue);
                    self::leaf(task, args, options.and_then(|options| options.with_priority(9)))
                };
                let nap = urgent("nap", &[number(0), number(NAP.as_millis() as i64)]);
                let add = |n: i64| urgent("add", &[number(n)]);
                let chord = Canvas::chord([add(1), add(2)], urgent("sum", &[]));
                (Canvas::chain([nap, chord, add(3)]), "6".to_owned())
            }
        }
    }
}

/// What runs beside, in the default queue: a chain with a chord. Its value is [`CANARY_VALUE`].
pub(crate) fn canary() -> Canvas {
    let add = |n: i64| leaf("add", &[Json::from_compact(n.to_string())], Ok(Options::new()));
    let first = leaf("add", &["1", "1"].map(Json::from_compact), Ok(Options::new()));
    let chord = Canvas::chord([add(1), add(2)], leaf("sum", &[], Ok(Options::new())));
    Canvas::chain([first, chord, add(3)])
}

/// What comes out of a canary.
pub(crate) const CANARY_VALUE: &str = "10";

fn leaf(task: &str, args: &[Json], options: Result<Options, OptionError>) -> Canvas {
    let mut signature = Signature::of(TaskName::new(task).expect("these tasks have proper names"));
    signature.args.extend(args.iter().cloned());
    signature.options = options.expect("these options are good");
    signature.into()
}

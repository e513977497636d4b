//! What is run, and what must come out of it.

use std::collections::BTreeMap;

use celeriac::Canvas;
use celeriac::engine::eager::{EagerError, Evaluation, Leaf, Returned, eager};
use celeriac::primitives::{Json, Path, Segment, Signature, TaskError, TaskName};
use celeriac_conformance::random::{self, Rng, Shape};
use celeriac_conformance::tasks;

use crate::ledger::digest;

/// Calls by path and digest of the arguments, and how many leaves made them. A failure holds ids, and of several
/// failures which came first: the digest of an error callback is 0, and elsewhere that of the arguments without them.
pub(crate) type Calls = BTreeMap<(String, u64), usize>;

/// What the reference evaluator says.
#[derive(Debug)]
pub(crate) struct Expected {
    pub(crate) evaluation: Evaluation,
    pub(crate) calls: Calls,
}

/// The canvas of this place in the sequence of a seed.
pub(crate) fn canvas(seed: u64, place: u64) -> Canvas {
    let mut rng = Rng::new(seed.wrapping_mul(0x1_0000_0001) ^ (place << 20));
    match rng.below(60) {
        0..6 => wide(50 + rng.below(151)).then(tag(0)),
        6..9 => Canvas::chain((0..8 + rng.below(20)).map(tag)),
        // More first leaves than a submission queues itself.
        9..12 => wide(120 + rng.below(200)),
        12..15 => Canvas::chord(arms(&mut rng), tag(0)),
        // More nodes than have their states with the run, and more results than travel with a leaf.
        15 => wide(1030 + rng.below(100)).then(tag(0)),
        // A plan that is stored in parts, and arguments that do not travel with a leaf.
        16 | 17 => Canvas::chord((0..3).map(large), tag(0)),
        // Leaves that are replaced by canvases whose leaves are, too.
        21..24 => Canvas::chord((0..4 + rng.below(8)).map(down), tag(0)),
        // Leaves that add others, which add others.
        24 | 25 => Canvas::chord((0..3 + rng.below(6)).map(adding), tag(0)),
        18..21 => Canvas::chain([wide(10 + rng.below(30)).then(tag(1000)), wide(20), tag(2000)]),
        _ => random::canvas(rng.next_u64(), &Shape { depth_max: 5, ..Shape::default() }),
    }
}

/// A group of so many leaves.
fn wide(leaves: u32) -> Canvas {
    Canvas::group((1..=leaves).map(tag))
}

/// Chains of unequal length.
fn arms(rng: &mut Rng) -> Vec<Canvas> {
    let count = 4 + rng.below(10);
    (0..count).map(|arm| Canvas::chain((0..1 + rng.below(5)).map(|step| tag(1 + 100 * arm + step)))).collect()
}

/// A leaf that is replaced so often that it comes to this number.
fn down(number: u32) -> Canvas {
    let mut signature = signature("down");
    signature.args.push(Json::from_compact((number % 4).to_string()));
    signature.into()
}

/// A leaf that adds one that adds one, so often, and every other one that fails besides.
fn adding(number: u32) -> Canvas {
    (0..number % 3).fold(tag(number), |inner, level| {
        let mut signature = signature("adds");
        let mut added = vec![Json::from_compact(inner.to_json())];
        added.extend(
            (number % 5 == 4).then(|| Json::from_compact(Canvas::from(self::signature("fail")).to_json())),
        );
        signature.kwargs.insert("canvases".to_owned(), Json::list(&added));
        signature.kwargs.insert("tag".to_owned(), Json::from_compact((100 * level + number).to_string()));
        signature.into()
    })
}

/// A leaf that hands on 100 KB.
fn large(number: u32) -> Canvas {
    let mut signature = signature("echo");
    signature.args.push(Json::string(&number.to_string().repeat(100_000)));
    signature.into()
}

fn tag(number: u32) -> Canvas {
    let mut signature = signature("tag");
    signature.kwargs.insert("tag".to_owned(), Json::from_compact(number.to_string()));
    signature.into()
}

fn signature(task: &str) -> Signature {
    Signature::of(TaskName::new(task).expect("the suite's tasks have proper names"))
}

/// Evaluates a canvas.
///
/// # Errors
/// When it has no meaning.
pub(crate) fn expect(canvas: &Canvas) -> Result<Expected, EagerError> {
    let mut calls = Calls::new();
    let evaluation = eager(canvas, &mut |leaf| execute(leaf, &mut calls))?;
    Ok(Expected { evaluation, calls })
}

/// Runs a leaf as a worker does, noting each of its calls; of the same arguments in one leaf, one.
fn execute(leaf: &Leaf<'_>, calls: &mut Calls) -> Result<Returned, TaskError> {
    let mut seen = std::collections::BTreeSet::new();
    tasks::run_leaf_noting(leaf, |args| {
        let hash = digest(tasks::without_failures(&Json::list(args)).as_str());
        if seen.insert(hash) {
            *calls.entry(key(&leaf.path, hash)).or_default() += 1;
        }
    })
}

/// A call as [`Calls`] knows it.
pub(crate) fn key(path: &Path, hash: u64) -> (String, u64) {
    let is_errback = path.segments().iter().any(|segment| matches!(segment, Segment::LinkError(_)));
    (path.to_string(), if is_errback { 0 } else { hash })
}

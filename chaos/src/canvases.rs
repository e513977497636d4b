//! What is run, and what must come out of it.

use std::collections::{BTreeMap, BTreeSet};

use celeriac::Canvas;
use celeriac::engine::eager::{EagerError, Evaluation, Leaf, Returned, eager};
use celeriac::primitives::{
    Chain, Chord, Group, Json, OnFailure, Outcome, Path, Segment, Signature, TaskError, TaskName,
};
use celeriac_conformance::random::{self, Rng, Shape};
use celeriac_conformance::tasks;

use crate::app::FORGOTTEN;
use crate::ledger::digest;
use crate::options::{Ingredient, Ingredients};
use crate::rogues;

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
pub(crate) fn canvas(seed: u64, place: u64, with: &Ingredients) -> Canvas {
    let mut rng = Rng::new(seed.wrapping_mul(0x1_0000_0001) ^ (place << 20));
    let mut canvas = misbehaving(place, with, &mut rng).unwrap_or_else(|| well_behaved(&mut rng));
    if with.has(Ingredient::Once) && place.is_multiple_of(3) {
        at_most_once(&mut canvas, &mut rng);
    }
    canvas
}

/// Every so many places; among the first of them is one of each, which a short trial begins with.
const ROUND: u64 = 48;

/// The canvases with tasks that misbehave.
fn misbehaving(place: u64, with: &Ingredients, rng: &mut Rng) -> Option<Canvas> {
    let has = |ingredient| with.has(ingredient);
    let rogue = |task: &'static str, tag: u32| rogues::signature(task, &[("tag", number(tag))]);
    let killer = |always| {
        let always = Json::from_compact(if always { "true" } else { "false" });
        rogues::signature("kills", &[("always", always), ("tag", number(500))])
    };
    Some(match place % ROUND {
        1 | 25 if has(Ingredient::Killers) => beside(killer(false), 20, rng),
        6 if has(Ingredient::Killers) => beside(killer(true), 20, rng),
        2 | 26 if has(Ingredient::Hung) => beside(rogues::signature("hangs", &[]), 4, rng),
        8 | 32 if has(Ingredient::Hung) => {
            Canvas::chord((0..8).map(|i| Canvas::from(rogue("naps", i))), tag(0))
        }
        3 | 27 if has(Ingredient::Drops) => beside(rogues::signature("lingers", &[]), 6, rng),
        7 | 31 if has(Ingredient::Drops) => beside(rogues::signature("slips", &[]), 6, rng),
        4 if has(Ingredient::Large) => {
            let size = number(1_000_000 + rng.below(3_000_000));
            let large =
                |i| Canvas::from(rogues::signature("swells", &[("size", size.clone()), ("tag", number(i))]));
            Canvas::chord((0..4).map(large), tag(0))
        }
        _ => return None,
    })
}

/// One rogue among so many that are none, in one of several places.
fn beside(rogue: Signature, others: u32, rng: &mut Rng) -> Canvas {
    let rogue = match rng.below(3) {
        0 => Canvas::from(rogue),
        1 => tag(600).then(Canvas::from(rogue)),
        _ => Canvas::from(rogue).then(tag(601)),
    };
    let mut members: Vec<Canvas> = (0..others).map(tag).collect();
    members.insert(rng.below(others + 1) as usize, rogue);
    let mut canvas = match rng.below(2) {
        0 => Canvas::group(members),
        _ => Canvas::chord(members, tag(602)),
    };
    if rng.percent(60) {
        let policy = [OnFailure::Drop, OnFailure::Collect][rng.below(2) as usize];
        *canvas.options_mut() = canvas.options().clone().with_on_failure(policy);
    } else {
        canvas.link_error(tag(603));
        canvas.finally(tag(604));
    }
    canvas
}

/// Lets some of its leaves run at most once.
fn at_most_once(canvas: &mut Canvas, rng: &mut Rng) {
    match canvas {
        Canvas::Chain(Chain { steps: parts, .. }) | Canvas::Group(Group { members: parts, .. }) => {
            parts.iter_mut().for_each(|part| at_most_once(part, rng));
        }
        Canvas::Chord(Chord { header, body, .. }) => {
            let parts = header.iter_mut().chain(body.as_deref_mut());
            parts.for_each(|part| at_most_once(part, rng));
        }
        Canvas::Signature(_) | Canvas::Map(_) | Canvas::Chunks(_) => {
            if rng.percent(25) {
                *canvas.options_mut() = canvas.options().clone().with_acks_late(false);
            }
        }
    }
}

/// What runs under a key before it is forgotten and the key used again; its leaves say so.
pub(crate) fn first_under_a_key(seed: u64, place: u64) -> Canvas {
    let mut rng = Rng::new(seed ^ (place << 32));
    let forgotten = |number: u32| {
        let mut canvas = tag(1_000_000 + number);
        let options = canvas.options().clone().with_header(FORGOTTEN, &true);
        *canvas.options_mut() = options.expect("a flag has a JSON form");
        canvas
    };
    let mut replaced = signature("become");
    replaced
        .kwargs
        .insert("canvas".to_owned(), Json::from_compact(forgotten(1).then(forgotten(2)).to_json()));
    replaced.options = forgotten(0).options().clone();
    let wide = Canvas::group((3..20 + rng.below(150)).map(forgotten).chain([replaced.into()]));
    Canvas::chain([wide, forgotten(200), forgotten(201), forgotten(202)])
}

fn well_behaved(rng: &mut Rng) -> Canvas {
    match rng.below(60) {
        0..6 => wide(50 + rng.below(151)).then(tag(0)),
        6..9 => Canvas::chain((0..8 + rng.below(20)).map(tag)),
        // More first leaves than a submission queues itself.
        9..12 => wide(120 + rng.below(200)),
        12..15 => Canvas::chord(arms(rng), tag(0)),
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
    signature.kwargs.insert("tag".to_owned(), self::number(number));
    signature.into()
}

fn number(number: u32) -> Json {
    Json::from_compact(number.to_string())
}

fn signature(task: &str) -> Signature {
    Signature::of(TaskName::new(task).expect("the suite's tasks have proper names"))
}

/// Evaluates a canvas of which some leaves were lost with their workers, as they may be.
///
/// # Errors
/// When it has no meaning.
pub(crate) fn expect(canvas: &Canvas, lost: &BTreeSet<Path>) -> Result<Expected, EagerError> {
    let mut calls = Calls::new();
    let evaluation = eager(canvas, &mut |leaf| {
        if lost.contains(&leaf.path) {
            let lost = Outcome::WorkerLost { deliveries: 1 };
            return Err(lost.error().expect("it is a failure"));
        }
        execute(leaf, &mut calls)
    })?;
    Ok(Expected { evaluation, calls })
}

/// Runs a leaf as a worker does, noting each of its calls; of the same arguments in one leaf, one.
fn execute(leaf: &Leaf<'_>, calls: &mut Calls) -> Result<Returned, TaskError> {
    let mut seen = BTreeSet::new();
    let mut note = |args: &[Json]| {
        let hash = digest(tasks::without_failures(&Json::list(args)).as_str());
        if seen.insert(hash) {
            *calls.entry(key(&leaf.path, hash)).or_default() += 1;
        }
    };
    match rogues::run_leaf(leaf, &mut note) {
        Some(ended) => ended,
        None => tasks::run_leaf_noting(leaf, note),
    }
}

/// A call as [`Calls`] knows it.
pub(crate) fn key(path: &Path, hash: u64) -> (String, u64) {
    let is_errback = path.segments().iter().any(|segment| matches!(segment, Segment::LinkError(_)));
    (path.to_string(), if is_errback { 0 } else { hash })
}

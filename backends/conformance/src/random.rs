//! Random canvases, the same for the same seed, and smaller variants of one that made a test fail.
//!
//! ```
//! use celeriac_conformance::random::{Shape, canvas};
//!
//! let shape = Shape { fail_percent: 20, ..Shape::default() };
//! assert_eq!(canvas(7, &shape), canvas(7, &shape));
//! ```
//!
//! The leaves call the tasks of [`tasks`](crate::tasks). Every leaf has a number of its own that shows in its value
//! together with all its arguments, so a wrong order, a lost input or a second run changes what comes out.

use std::time::Duration;

use celeriac_primitives::{
    Canvas, Chain, Chord, Chunks, Group, Json, Map, MapKind, OnFailure, Options, RetryPolicy, Signature,
    TaskName,
};

use crate::tasks::{FAILS, FLAKY};

/// What the canvases are like.
#[derive(Clone, Debug)]
pub struct Shape {
    /// How deep canvases are nested, callbacks not counted.
    pub depth_max: u32,
    /// How many leaves a canvas has at most, those of callbacks and error callbacks included.
    pub leaves_max: u32,
    /// How many leaves in a hundred fail.
    pub fail_percent: u32,
    /// How many canvases in a hundred have a callback, how many an error callback, and how many a `finally`.
    pub callback_percent: u32,
    /// How many groups and chords in a hundred say what becomes of them when a member fails.
    pub policy_percent: u32,
    /// How many leaves in a hundred are replaced by a canvas when they run.
    pub replace_percent: u32,
    /// How many members of groups and headers in a hundred add others when they run.
    pub add_percent: u32,
    /// How many canvases in a hundred wait before they start, how many have a priority, and how many fail at first and are
    /// tried again: their leaves have a header that says how often ([`tasks::FAILS`](crate::tasks::FAILS)).
    pub option_percent: u32,
}

impl Default for Shape {
    fn default() -> Self {
        Self {
            depth_max: 6,
            leaves_max: 60,
            fail_percent: 5,
            callback_percent: 8,
            policy_percent: 40,
            replace_percent: 6,
            add_percent: 8,
            option_percent: 5,
        }
    }
}

/// The canvas of this seed.
pub fn canvas(seed: u64, shape: &Shape) -> Canvas {
    let mut rng = Rng::new(seed);
    // Mostly small ones: they run faster, and what goes wrong with them is easier to see.
    let leaves = 1 + rng.below(shape.leaves_max.max(1)).min(rng.below(shape.leaves_max.max(1)));
    Generator { rng, shape, leaves, tag: 0 }.canvas(shape.depth_max)
}

/// SplitMix64: one word of state, and every seed gives another sequence.
#[derive(Clone, Debug)]
pub struct Rng(u64);

impl Rng {
    /// The sequence of this seed.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number.
    pub fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `end`; 0 when `end` is.
    pub fn below(&mut self, end: u32) -> u32 {
        (self.next_u64() % u64::from(end.max(1))) as u32
    }

    /// True this often in a hundred.
    pub fn percent(&mut self, percent: u32) -> bool {
        self.below(100) < percent
    }
}

struct Generator<'a> {
    rng: Rng,
    shape: &'a Shape,
    /// How many more leaves there may be.
    leaves: u32,
    tag: u32,
}

impl Generator<'_> {
    fn canvas(&mut self, depth: u32) -> Canvas {
        let mut canvas = match self.rng.below(if depth == 0 { 46 } else { 100 }) {
            _ if self.leaves == 0 => Canvas::group([]),
            0..30 => self.signature(depth),
            30..38 => self.map(),
            38..46 => self.chunks(),
            46..66 => self.chain(depth - 1),
            66..84 => Canvas::group(self.members(depth - 1)),
            _ => self.chord(depth - 1),
        };
        if self.leaves > 0 && self.rng.percent(self.shape.callback_percent) {
            let callback = self.callback();
            // Celery hands the callback of a group or chord on to a part; its JSON may also have it on the whole.
            if self.rng.percent(50) {
                canvas.options_mut().add_link(callback);
            } else {
                canvas.link(callback);
            }
        }
        if self.leaves > 0 && self.rng.percent(self.shape.callback_percent) {
            canvas.link_error(self.callback());
        }
        if self.leaves > 0 && self.rng.percent(self.shape.callback_percent) {
            canvas.finally(self.callback());
        }
        if matches!(canvas, Canvas::Group(_) | Canvas::Chord(_))
            && self.rng.percent(self.shape.policy_percent)
        {
            let policy = [OnFailure::Drop, OnFailure::Collect, OnFailure::Fail][self.rng.below(3) as usize];
            *canvas.options_mut() = canvas.options().clone().with_on_failure(policy);
        }
        self.options(canvas.options_mut());
        canvas
    }

    /// Options that change when a canvas runs and how often, and nothing of what comes out.
    fn options(&mut self, options: &mut Options) {
        if self.rng.percent(self.shape.option_percent) {
            *options =
                std::mem::take(options).with_countdown(Duration::from_millis(self.rng.below(30).into()));
        }
        if self.rng.percent(self.shape.option_percent) {
            let priority = self.rng.below(10) as u8;
            *options = std::mem::take(options).with_priority(priority).expect("it is at most 9");
        }
        if self.rng.percent(self.shape.option_percent) {
            let (times, delay) = (1 + self.rng.below(2), Duration::from_millis(self.rng.below(20).into()));
            let policy = RetryPolicy::new(times).on([FLAKY]).after(delay);
            let options_then = std::mem::take(options).with_retry(&policy);
            *options = options_then.with_header(FAILS, &times).expect("a number has a JSON form");
        }
    }

    fn callback(&mut self) -> Canvas {
        let depth = self.rng.below(3);
        self.canvas(depth)
    }

    /// None, one, or a few.
    fn parts(&mut self, depth: u32) -> Vec<Canvas> {
        (0..self.count()).map(|_| self.canvas(depth)).collect()
    }

    /// The same, of which some add others.
    fn members(&mut self, depth: u32) -> Vec<Canvas> {
        (0..self.count()).map(|_| self.member(depth)).collect()
    }

    fn count(&mut self) -> u32 {
        [0, 1, 1, 2, 2, 2, 3, 3, 4, 5][self.rng.below(10) as usize]
    }

    fn member(&mut self, depth: u32) -> Canvas {
        if self.leaves == 0 || !self.rng.percent(self.shape.add_percent) {
            return self.canvas(depth);
        }
        let adder = self.adder(depth);
        // The last step is as much a member as the whole.
        if depth > 0 && self.rng.percent(30) { self.canvas(depth - 1).then(adder) } else { adder }
    }

    /// A leaf that adds canvases to the list that its value goes into; now and then it is replaced besides.
    fn adder(&mut self, depth: u32) -> Canvas {
        let tag = self.next_tag(1);
        let mut signature = Signature::of(name("adds"));
        if self.leaves > 0 && self.rng.percent(25) {
            signature = Signature::of(name("become"));
            signature.kwargs.insert("canvas".to_owned(), self.grown(depth));
        } else {
            signature.kwargs.insert("tag".to_owned(), number(tag));
        }
        let added: Vec<Json> = (0..1 + self.rng.below(2)).map(|_| self.grown(depth)).collect();
        signature.kwargs.insert("canvases".to_owned(), Json::list(&added));
        signature.into()
    }

    /// A canvas that a leaf comes up with.
    fn grown(&mut self, depth: u32) -> Json {
        Json::from_compact(self.canvas(depth.min(3).saturating_sub(1)).to_json())
    }

    fn chain(&mut self, depth: u32) -> Canvas {
        let (steps, immutable) = (self.parts(depth), self.rng.percent(10));
        Canvas::Chain(Chain { steps, immutable, options: Options::new() })
    }

    fn chord(&mut self, depth: u32) -> Canvas {
        // The body first: its leaves are spent on something that waits.
        let body = self.canvas(depth);
        let header = match self.rng.below(4) {
            0 if depth > 0 => vec![Canvas::group(self.members(depth - 1))],
            _ => self.members(depth),
        };
        Canvas::chord(header, body)
    }

    fn signature(&mut self, depth: u32) -> Canvas {
        let tag = self.next_tag(1);
        let mut signature = if self.leaves > 0 && self.rng.percent(self.shape.replace_percent) {
            let mut signature = Signature::of(name("become"));
            signature.kwargs.insert("canvas".to_owned(), self.grown(depth));
            signature
        } else {
            let mut signature = Signature::of(name(if self.fails() { "fail" } else { "tag" }));
            signature.kwargs.insert("tag".to_owned(), number(tag));
            signature
        };
        signature.args = (0..self.rng.below(3)).map(|_| number(self.rng.below(10))).collect();
        signature.immutable = self.rng.percent(20);
        signature.into()
    }

    fn map(&mut self) -> Canvas {
        let tag = self.next_tag(1);
        let (kind, task) = match self.rng.below(2) {
            0 => (MapKind::Map, if self.fails() { "fail" } else { "echo" }),
            _ => (MapKind::Starmap, "add"),
        };
        let count = self.rng.below(4);
        let items = match kind {
            MapKind::Map => (0..count).map(|i| number(100 * tag + i)).collect(),
            MapKind::Starmap => self.pairs(tag, count),
        };
        Canvas::Map(Map { kind, task: name(task), items, options: Options::new() })
    }

    fn chunks(&mut self) -> Canvas {
        let (size, parts) = (1 + self.rng.below(3), self.rng.below(4.min(self.leaves + 1)));
        let tag = self.next_tag(parts);
        let count = (parts * size).saturating_sub(self.rng.below(size));
        let items = self.pairs(tag, count);
        Canvas::Chunks(Chunks { task: name("add"), items, size: size as usize, options: Options::new() })
    }

    /// Arguments for `add`; a pair that fails adds a word to a number.
    fn pairs(&mut self, tag: u32, count: u32) -> Vec<Json> {
        let second = |fails: bool, i| if fails { Json::string("x") } else { number(i) };
        (0..count).map(|i| Json::list([number(100 * tag), second(self.fails(), i)])).collect()
    }

    fn fails(&mut self) -> bool {
        self.rng.percent(self.shape.fail_percent)
    }

    fn next_tag(&mut self, leaves: u32) -> u32 {
        self.leaves = self.leaves.saturating_sub(leaves);
        self.tag += 1;
        self.tag
    }
}

fn name(task: &str) -> TaskName {
    TaskName::new(task).expect("the suite's tasks have proper names")
}

fn number(number: u32) -> Json {
    Json::from_compact(number.to_string())
}

/// A small canvas for which `fails` still holds, found by taking away what is not needed for it.
pub fn minimise(mut canvas: Canvas, fails: &mut dyn FnMut(&Canvas) -> bool) -> Canvas {
    while let Some(smaller) = shrink(&canvas).into_iter().find(|smaller| fails(smaller)) {
        canvas = smaller;
    }
    canvas
}

/// Variants that are smaller by one thing: a part instead of the whole, a part, item or argument left out, a flag
/// taken off, or one of these changes inside a part. The boldest first.
pub fn shrink(canvas: &Canvas) -> Vec<Canvas> {
    let parts = parts(canvas);
    let mut smaller = parts.clone();
    for i in 0..parts.len() {
        let left = parts.iter().enumerate().map(|(at, part)| (at != i).then(|| part.clone()));
        smaller.extend(rebuild(canvas, left.collect()));
    }
    smaller.extend(barer(canvas));
    for (i, part) in parts.iter().enumerate() {
        for variant in shrink(part) {
            let mut changed: Vec<Option<Canvas>> = parts.iter().cloned().map(Some).collect();
            changed[i] = Some(variant);
            smaller.extend(rebuild(canvas, changed));
        }
    }
    smaller
}

/// The canvases directly inside one: its members, its body, its callbacks, its error callbacks and its `finally`.
fn parts(canvas: &Canvas) -> Vec<Canvas> {
    let (members, body) = match canvas {
        Canvas::Chain(chain) => (chain.steps.as_slice(), None),
        Canvas::Group(group) => (group.members.as_slice(), None),
        Canvas::Chord(chord) => (chord.header.as_slice(), chord.body.as_deref()),
        Canvas::Signature(_) | Canvas::Map(_) | Canvas::Chunks(_) => (&[][..], None),
    };
    let options = canvas.options();
    let callbacks = options.link().iter().chain(options.link_error()).chain(options.finally());
    members.iter().chain(body).chain(callbacks).cloned().collect()
}

/// The same canvas with other [`parts`]; `None` leaves one out. A body cannot be left out.
fn rebuild(canvas: &Canvas, parts: Vec<Option<Canvas>>) -> Option<Canvas> {
    let mut canvas = canvas.clone();
    let mut parts = parts.into_iter();
    let members = match &mut canvas {
        Canvas::Chain(Chain { steps: members, .. })
        | Canvas::Group(Group { members, .. })
        | Canvas::Chord(Chord { header: members, .. }) => Some(members),
        Canvas::Signature(_) | Canvas::Map(_) | Canvas::Chunks(_) => None,
    };
    if let Some(members) = members {
        *members = parts.by_ref().take(members.len()).flatten().collect();
    }
    if let Canvas::Chord(Chord { body: Some(body), .. }) = &mut canvas {
        **body = parts.next()??;
    }
    let options = canvas.options().clone();
    let mut fewer = Options::new();
    for (name, value) in options.values() {
        fewer.set(name, value.clone()).ok()?;
    }
    parts.by_ref().take(options.link().len()).flatten().for_each(|callback| fewer.add_link(callback));
    let errbacks = parts.by_ref().take(options.link_error().len());
    errbacks.flatten().for_each(|errback| fewer.add_link_error(errback));
    parts.flatten().for_each(|last| fewer.add_finally(last));
    *canvas.options_mut() = fewer;
    Some(canvas)
}

/// Variants without one argument, item or flag of the canvas itself.
fn barer(canvas: &Canvas) -> Vec<Canvas> {
    let mut variants = Vec::new();
    let mut add = |change: &dyn Fn(&mut Canvas)| {
        let mut variant = canvas.clone();
        change(&mut variant);
        variants.push(variant);
    };
    if let Some(values) = values(&mut canvas.clone()) {
        (0..values.len()).for_each(|i| add(&|variant| drop(self::values(variant).map(|v| v.remove(i)))));
    }
    if flag(&mut canvas.clone()).is_some_and(|immutable| *immutable) {
        add(&|variant| flag(variant).into_iter().for_each(|immutable| *immutable = false));
    }
    for name in ["countdown", "priority", "retry"] {
        if canvas.options().value(name).is_some() {
            let of_it = |other: &str| other == name || name == "retry" && other == "headers";
            add(&|variant| *variant.options_mut() = copied(variant.options(), |other| !of_it(other)));
        }
    }
    if canvas.options().on_failure().is_some() {
        add(&|variant| *variant.options_mut() = copied(variant.options(), |name| name != "on_failure"));
    }
    variants
}

/// The same options, of those with a value only some.
fn copied(options: &Options, keep: impl Fn(&str) -> bool) -> Options {
    let mut copy = Options::new();
    for (name, value) in options.values().filter(|(name, _)| keep(name)) {
        copy.set(name, value.clone()).expect("they were set before");
    }
    options.link().iter().for_each(|callback| copy.add_link(callback.clone()));
    options.link_error().iter().for_each(|errback| copy.add_link_error(errback.clone()));
    options.finally().iter().for_each(|last| copy.add_finally(last.clone()));
    copy
}

fn values(canvas: &mut Canvas) -> Option<&mut Vec<Json>> {
    match canvas {
        Canvas::Signature(signature) => Some(&mut signature.args),
        Canvas::Map(map) => Some(&mut map.items),
        Canvas::Chunks(chunks) => Some(&mut chunks.items),
        Canvas::Chain(_) | Canvas::Group(_) | Canvas::Chord(_) => None,
    }
}

fn flag(canvas: &mut Canvas) -> Option<&mut bool> {
    match canvas {
        Canvas::Signature(signature) => Some(&mut signature.immutable),
        Canvas::Chain(chain) => Some(&mut chain.immutable),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use celeriac_engine::eager::{Evaluation, eager};
    use celeriac_engine::{Plan, text};
    use celeriac_primitives::Segment;

    use super::*;
    use crate::tasks;

    /// Every canvas in a canvas, itself included, with its depth; callbacks start again at 0.
    fn walk(canvas: &Canvas, depth: u32, see: &mut dyn FnMut(&Canvas, u32)) {
        see(canvas, depth);
        let all = parts(canvas);
        let options = canvas.options();
        let callbacks = options.link().len() + options.link_error().len() + options.finally().len();
        let (inside, callbacks) = all.split_at(all.len() - callbacks);
        inside.iter().for_each(|part| walk(part, depth + 1, see));
        callbacks.iter().for_each(|part| walk(part, 0, see));
    }

    fn leaves(canvas: &Canvas) -> usize {
        let mut count = 0;
        walk(canvas, 0, &mut |part, _| {
            count += match part {
                Canvas::Signature(_) | Canvas::Map(_) => 1,
                Canvas::Chunks(chunks) => chunks.items.len().div_ceil(chunks.size),
                _ => 0,
            }
        });
        count
    }

    /// The evaluation, and how often each leaf ran, by path.
    fn run(canvas: &Canvas) -> (Evaluation, BTreeMap<celeriac_primitives::Path, u32>) {
        let mut ran = BTreeMap::new();
        let evaluation = eager(canvas, &mut |leaf| {
            *ran.entry(leaf.path.clone()).or_insert(0) += 1;
            tasks::run_leaf(leaf)
        });
        (evaluation.unwrap(), ran)
    }

    #[test]
    fn sizes_keep_to_the_shape_and_both_texts_read_back() {
        let shape = Shape::default();
        for seed in 0..500 {
            let canvas = canvas(seed, &shape);
            assert!(leaves(&canvas) <= 60, "seed {seed}: {canvas}");
            walk(&canvas, 0, &mut |_, depth| assert!(depth <= 6, "seed {seed}: {canvas}"));
            assert_eq!(Canvas::from_json(&canvas.to_json()).unwrap(), canvas, "seed {seed}");
            assert_eq!(text::parse(&canvas.to_string()).unwrap(), canvas, "seed {seed}");
        }
    }

    /// What one process has compiled, another reads.
    #[test]
    fn every_plan_is_read_back() {
        for seed in 0..3000 {
            let canvas = canvas(seed, &Shape::default());
            let plan = Plan::compile(&canvas).unwrap();
            match Plan::decode(&plan.encode()) {
                Ok(read) => assert_eq!(read, plan, "seed {seed}"),
                Err(error) => panic!("seed {seed}: {error}\n{canvas}\n{plan}"),
            }
        }
    }

    #[test]
    fn every_form_and_nesting_turns_up() {
        let mut seen = BTreeSet::new();
        let form = |canvas: &Canvas| match canvas {
            Canvas::Signature(_) => "signature",
            Canvas::Chain(_) => "chain",
            Canvas::Group(_) => "group",
            Canvas::Chord(_) => "chord",
            Canvas::Map(_) => "map",
            Canvas::Chunks(_) => "chunks",
        };
        for seed in 0..2000 {
            walk(&canvas(seed, &Shape::default()), 0, &mut |canvas, _| {
                let count = parts(canvas).len().min(2);
                seen.insert(format!("{} of {count}", form(canvas)));
                let mut canvas = canvas.clone();
                if flag(&mut canvas) == Some(&mut true) {
                    seen.insert(format!("immutable {}", form(&canvas)));
                }
                canvas.options().link().iter().for_each(|link| {
                    seen.insert(format!("{} linked to {}", form(&canvas), form(link)));
                });
                canvas.options().link_error().iter().for_each(|errback| {
                    seen.insert(format!("{} with errback {}", form(&canvas), form(errback)));
                });
                canvas.options().finally().iter().for_each(|last| {
                    seen.insert(format!("{} finally {}", form(&canvas), form(last)));
                });
                if let Some(policy) = canvas.options().on_failure() {
                    seen.insert(format!("{} {}", policy.as_str(), form(&canvas)));
                }
                if let Canvas::Chord(Chord { header, body: Some(body), .. }) = &canvas {
                    seen.insert(format!("body {}", form(body)));
                    header.iter().for_each(|member| {
                        seen.insert(format!("header {}", form(member)));
                    });
                }
            });
        }
        let forms = ["signature", "chain", "group", "chord", "map", "chunks"];
        for (one, other) in forms.iter().flat_map(|one| forms.iter().map(move |other| (one, other))) {
            assert!(seen.contains(&format!("{one} with errback {other}")), "{one} {other}");
            assert!(seen.contains(&format!("{one} linked to {other}")), "{one} {other}");
            assert!(seen.contains(&format!("{one} finally {other}")), "{one} {other}");
            assert!(seen.contains(&format!("header {one}")) && seen.contains(&format!("body {one}")));
        }
        for expect in ["chain of 0", "chain of 1", "group of 0", "group of 1", "group of 2"] {
            assert!(seen.contains(expect), "{expect}");
        }
        for policy in
            ["drop group", "collect group", "fail group", "drop chord", "collect chord", "fail chord"]
        {
            assert!(seen.contains(policy), "{policy}");
        }
        assert!(seen.contains("immutable signature") && seen.contains("immutable chain"));
    }

    #[test]
    fn every_leaf_runs_exactly_once_when_nothing_fails() {
        let shape = Shape { fail_percent: 0, ..Shape::default() };
        for seed in 0..500 {
            let canvas = canvas(seed, &shape);
            let (evaluation, ran) = run(&canvas);
            assert_eq!(evaluation.failures, [], "seed {seed}");
            assert!(evaluation.result.is_ok() && ran.values().all(|times| *times == 1), "seed {seed}");
            let of_errbacks = |path: &celeriac_primitives::Path| {
                path.segments().iter().any(|segment| matches!(segment, Segment::LinkError(_)))
            };
            assert!(!ran.keys().any(of_errbacks), "seed {seed}");
        }
    }

    #[test]
    fn failures_happen_and_the_first_is_the_result() {
        let shape = Shape { fail_percent: 10, policy_percent: 0, ..Shape::default() };
        let (mut failed, mut errbacks) = (0, 0);
        for seed in 0..500 {
            let (evaluation, ran) = run(&canvas(seed, &shape));
            failed += u32::from(evaluation.result.is_err());
            assert_eq!(evaluation.result.err().as_ref(), evaluation.failures.first(), "seed {seed}");
            errbacks += ran.keys().filter(|path| path.to_string().contains("link_error")).count();
        }
        assert!(failed > 100 && errbacks > 50, "{failed} {errbacks}");
    }

    #[test]
    fn failures_are_tolerated_and_something_runs_in_either_case() {
        let shape = Shape { fail_percent: 15, ..Shape::default() };
        let (mut tolerated, mut failed, mut finals) = (0, 0, 0);
        for seed in 0..500 {
            let (evaluation, ran) = run(&canvas(seed, &shape));
            match evaluation.result {
                Ok(_) => tolerated += u32::from(!evaluation.failures.is_empty()),
                Err(failure) => {
                    failed += 1;
                    assert!(evaluation.failures.contains(&failure), "seed {seed}");
                }
            }
            finals += ran.keys().filter(|path| path.to_string().contains("finally")).count();
        }
        assert!(tolerated > 30 && failed > 100 && finals > 100, "{tolerated} {failed} {finals}");
    }

    /// Pipes are associative: nested or spliced, a chain means the same.
    #[test]
    fn chains_mean_the_same_however_they_are_nested() {
        let shape = Shape { depth_max: 3, leaves_max: 12, ..Shape::default() };
        for seed in 0..500 {
            let [a, b, c] = [0, 1, 2].map(|i| canvas(3 * seed + i, &shape));
            let flat = Canvas::chain([a.clone(), b.clone(), c.clone()]);
            let left = Canvas::chain([Canvas::chain([a.clone(), b.clone()]), c.clone()]);
            let right = Canvas::chain([a, Canvas::chain([b, c])]);
            let [flat, left, right] = [flat, left, right].map(|canvas| {
                let (evaluation, ran) = run(&canvas);
                let result = evaluation.result.map(|value| tasks::without_failures(&value));
                (result.map_err(|failure| failure.error), ran.values().sum::<u32>())
            });
            assert_eq!((&flat, &flat), (&left, &right), "seed {seed}");
        }
    }

    #[test]
    fn variants_are_smaller_and_minimising_finds_the_core() {
        fn size(canvas: &Canvas) -> usize {
            let mut own = canvas.clone();
            let own = values(&mut own).map_or(0, |values| values.len())
                + usize::from(flag(&mut canvas.clone()).is_some_and(|flag| *flag))
                + canvas.options().values().count();
            1 + own + parts(canvas).iter().map(size).sum::<usize>()
        }
        let fails_in_a_body = |canvas: &Canvas| {
            let mut found = false;
            walk(canvas, 0, &mut |part, _| {
                found |= matches!(part, Canvas::Chord(Chord { body: Some(body), .. })
                    if body.to_string().contains("fail.s("));
            });
            found
        };
        let shape = Shape { fail_percent: 20, ..Shape::default() };
        let mut found = 0;
        for seed in 0..100 {
            let canvas = canvas(seed, &shape);
            assert!(shrink(&canvas).iter().all(|smaller| size(smaller) < size(&canvas)), "seed {seed}");
            if fails_in_a_body(&canvas) {
                found += 1;
                let small = minimise(canvas, &mut |canvas| fails_in_a_body(canvas)).to_string();
                let words: String = small.chars().filter(|c| !c.is_ascii_digit()).collect();
                assert_eq!(words, "chord([], fail.s(tag=))", "seed {seed}");
            }
        }
        assert!(found > 3);
    }
}

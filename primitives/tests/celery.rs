//! Canvases as Celery writes them are read, and written back as they were; and what we write, Celery reads.
//!
//! `golden/celery.json` is Celery's, captured by `scripts/golden/capture.py`. `golden/ours.json` is ours;
//! `scripts/golden/check.py` hands it to Celery. `BLESS=1 cargo test -p celeriac-primitives --test celery` writes the
//! latter anew.

use std::collections::BTreeMap;
use std::{env, fs};

use celeriac_primitives::{Canvas, Json, Kwargs, Signature, TaskName};
use serde::Deserialize;
use serde_json::value::RawValue;

const CELERY: &str = include_str!("golden/celery.json");
const OURS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/ours.json");

/// Where our form says in one way what Celery says in two.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Normalised {
    /// A callback that stands alone becomes a list of one.
    LoneCallback,
    /// The group that freezing makes of a header becomes a list again; the ids of that group are lost.
    FrozenHeader,
    /// What is bound to the task inside a map is dropped: Celery writes it and never reads it.
    BoundMap,
}
use Normalised::{BoundMap, FrozenHeader, LoneCallback};

/// All goldens that do not come back as they were, and why.
const NORMALISED: &[(&str, &[Normalised])] = &[
    ("map of a bound signature", &[BoundMap]),
    ("starmap of a bound signature", &[BoundMap]),
    ("link as an option", &[LoneCallback]),
    ("frozen chord", &[FrozenHeader]),
    ("frozen chord of groups", &[FrozenHeader]),
    ("frozen chain of chords", &[FrozenHeader]),
];

/// Goldens with arguments of the composite itself: they are bound to the leaves that would get them.
const BOUND: &[(&str, &str)] = &[
    ("chain with arguments", "add.s(16, 4) | proj.tasks.mul.s(8)"),
    ("chain with keywords", "add.s(16, 4, z=2) | proj.tasks.mul.s(8)"),
    ("group with keywords", "group(add.s(10, 1, z=100), add.s(10, 2, z=100))"),
    ("chord cloned with arguments", "chord([add.s(10, 1), add.s(10, 2)], tsum.s())"),
    ("chord cloned with keywords", "chord([add.s(10, 1, z=100), add.s(10, 2, z=100)], tsum.s())"),
];

/// JSON whose numbers stay text, so that no digit is lost in the comparison.
#[derive(Clone, Debug, PartialEq)]
enum Tree {
    Object(BTreeMap<String, Tree>),
    List(Vec<Tree>),
    Text(String),
    Plain(String),
}

impl Tree {
    fn parse(text: &str) -> Tree {
        fn parts<'a, T: Deserialize<'a>>(text: &'a str) -> T {
            serde_json::from_str(text).unwrap()
        }
        match text.as_bytes()[0] {
            b'{' => {
                let members: BTreeMap<String, &RawValue> = parts(text);
                Tree::Object(members.into_iter().map(|(key, raw)| (key, Tree::parse(raw.get()))).collect())
            }
            b'[' => {
                let items: Vec<&RawValue> = parts(text);
                Tree::List(items.into_iter().map(|raw| Tree::parse(raw.get())).collect())
            }
            b'"' => Tree::Text(parts(text)),
            _ => Tree::Plain(text.to_owned()),
        }
    }

    fn at(&mut self, key: &str) -> Option<&mut Tree> {
        match self {
            Tree::Object(members) => members.get_mut(key),
            _ => None,
        }
    }

    fn is(&mut self, key: &str, text: &str) -> bool {
        self.at(key).is_some_and(|value| *value == Tree::Text(text.to_owned()))
    }

    /// Brings Celery's form of a canvas into ours, noting what had to be changed.
    fn normalise(&mut self, changed: &mut Vec<Normalised>) {
        for key in ["link", "link_error"] {
            let Some(callbacks) = self.at("options").and_then(|options| options.at(key)) else { continue };
            if matches!(callbacks, Tree::Object(_)) {
                *callbacks = Tree::List(vec![callbacks.clone()]);
                changed.push(LoneCallback);
            }
            callbacks.normalise_all(changed);
        }
        let mapped = self.is("task", "celery.map") || self.is("task", "celery.starmap");
        let composite = self.at("subtask_type").is_some_and(|form| matches!(form, Tree::Text(_)));
        let Some(kwargs) = self.at("kwargs") else { return };
        if mapped && let Some(task) = kwargs.at("task") {
            let mut bare = task.clone();
            *bare.at("args").unwrap() = Tree::List(Vec::new());
            *bare.at("options").unwrap() = Tree::Object(BTreeMap::new());
            if bare != *task {
                *task = bare;
                changed.push(BoundMap);
            }
        } else if composite {
            if let Some(header @ Tree::Object(_)) = kwargs.at("header") {
                let members = header.at("kwargs").and_then(|kwargs| kwargs.at("tasks")).unwrap().clone();
                *header = members;
                changed.push(FrozenHeader);
            }
            ["tasks", "header"]
                .iter()
                .for_each(|key| kwargs.at(key).into_iter().for_each(|all| all.normalise_all(changed)));
            kwargs.at("body").into_iter().for_each(|body| body.normalise(changed));
        }
    }

    fn normalise_all(&mut self, changed: &mut Vec<Normalised>) {
        let Tree::List(items) = self else { panic!("not a list: {self:?}") };
        items.iter_mut().for_each(|item| item.normalise(changed));
    }
}

#[derive(Deserialize)]
struct Goldens {
    #[serde(rename = "versions")]
    _versions: BTreeMap<String, String>,
    canvases: BTreeMap<String, Json>,
}

fn goldens() -> BTreeMap<String, Json> {
    let goldens: Goldens = serde_json::from_str(CELERY).unwrap();
    assert!(goldens.canvases.len() > 80, "the file has lost its canvases");
    goldens.canvases
}

#[test]
fn what_celery_writes_is_read_and_written_back() {
    let mut all_changed = Vec::new();
    for (name, golden) in goldens() {
        let canvas = Canvas::from_json(golden.as_str()).unwrap_or_else(|error| panic!("{name}: {error}"));
        let again = Canvas::from_json(&canvas.to_json()).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(again, canvas, "{name}: our own form comes back");
        if BOUND.iter().any(|(bound, _)| *bound == name) {
            continue;
        }
        let (mut expect, mut changed) = (Tree::parse(golden.as_str()), Vec::new());
        expect.normalise(&mut changed);
        assert_eq!(Tree::parse(&canvas.to_json()), expect, "{name}");
        changed.sort();
        changed.dedup();
        if !changed.is_empty() {
            all_changed.push((name, changed));
        }
    }
    let mut expect: Vec<_> =
        NORMALISED.iter().map(|(name, changed)| ((*name).to_owned(), changed.to_vec())).collect();
    expect.sort();
    assert_eq!(all_changed, expect, "what is normalised is what is listed");
}

#[test]
fn arguments_of_a_composite_are_bound_to_its_leaves() {
    let goldens = goldens();
    for (name, text) in BOUND {
        let canvas = Canvas::from_json(goldens[*name].as_str()).unwrap();
        assert_eq!(canvas.to_string(), *text, "{name}");
    }
}

#[test]
fn the_form_is_recognised_not_only_kept() {
    #[track_caller]
    fn check(name: &str, expect: &str) {
        assert_eq!(Canvas::from_json(goldens()[name].as_str()).unwrap().to_string(), expect);
    }
    check("map", "identity.map([1, 2, 3])");
    check("starmap", "add.starmap([[1, 1], [2, 2]])");
    check("chunks", "add.chunks([[1, 1], [2, 2], [3, 3]], 2)");
    check("chunks as a group", "group(add.starmap([[1, 1], [2, 2]]), add.starmap([[3, 3]]))");
    check("chord without body", "chord([add.s(1, 1), add.s(2, 2)])");
    check("chain empty", "chain()");
    check("link on a group", "group(add.s(1, 1).link(proj.tasks.mul.si(3)), add.s(2, 2))");
    check("link on a chord", "chord([add.s(1, 1)], tsum.s().link(proj.tasks.mul.s(3)).link_error(eb.s()))");
}

fn name(task: &str) -> TaskName {
    TaskName::new(task).unwrap()
}

fn sig(task: &str, args: &[&str]) -> Canvas {
    let mut signature = Signature::of(name(task));
    signature.args = values(args);
    signature.into()
}

fn values(texts: &[&str]) -> Vec<Json> {
    texts.iter().map(|text| Json::parse(text).unwrap()).collect()
}

fn add(args: &[&str]) -> Canvas {
    sig("add", args)
}

fn mul(arg: &str) -> Canvas {
    sig("proj.tasks.mul", &[arg])
}

fn linked(mut canvas: Canvas, links: Vec<Canvas>, errbacks: Vec<Canvas>) -> Canvas {
    links.into_iter().for_each(|link| canvas.link(link));
    errbacks.into_iter().for_each(|errback| canvas.link_error(errback));
    canvas
}

fn with(mut canvas: Canvas, options: &[(&str, &str)]) -> Canvas {
    for (name, value) in options {
        canvas.options_mut().set(name, Json::parse(value).unwrap()).unwrap();
    }
    canvas
}

/// Built by hand, under the names that `capture.py` has for the same canvases.
fn ours() -> Vec<(&'static str, Canvas)> {
    let pairs = || values(&["[1,1]", "[2,2]", "[3,3]"]);
    let (tsum, identity, eb) = (sig("tsum", &[]), sig("identity", &[]), sig("eb", &[]));
    let mut keywords = Signature::of(name("add"));
    keywords.kwargs = Kwargs::from([("y".to_owned(), Json::new(&2).unwrap())]);
    keywords.args = values(&["2"]);
    vec![
        ("signature", add(&["2", "2"])),
        ("signature without arguments", add(&[])),
        ("signature immutable", add(&["2", "2"]).into_immutable()),
        ("signature immutable with keywords", Canvas::from(keywords).into_immutable()),
        ("chain", add(&["2", "2"]).then(mul("8"))),
        ("chain empty", Canvas::chain([])),
        ("chain of one", Canvas::chain([add(&["1", "2"])])),
        ("chain of a chain", Canvas::chain([Canvas::chain([add(&["1", "2"])])])),
        ("chain immutable", add(&["1", "2"]).then(mul("8")).into_immutable()),
        (
            "chain with options",
            with(add(&["1", "2"]).then(mul("8")), &[("queue", "\"slow\""), ("priority", "3")]),
        ),
        ("chain ending in a group", add(&["1", "2"]).then(Canvas::group([add(&["3"]), mul("2")]))),
        ("group", Canvas::group([add(&["1", "1"]), add(&["2", "2"])])),
        ("group empty", Canvas::group([])),
        ("group of one", Canvas::group([add(&["1", "1"])])),
        (
            "group of groups",
            Canvas::group([Canvas::group([add(&["1", "2"]), add(&["3", "4"])]), add(&["5", "6"])]),
        ),
        (
            "group with options",
            with(Canvas::group([add(&["1", "1"]), add(&["2", "2"])]), &[("queue", "\"q\"")]),
        ),
        ("group immutable", Canvas::group([add(&["1", "1"]), add(&["2", "2"])]).into_immutable()),
        ("chord of a list", Canvas::chord([add(&["1", "1"]), add(&["2", "2"])], tsum.clone())),
        ("chord of nothing", Canvas::chord([], tsum.clone())),
        ("chord with a chain body", Canvas::chord([add(&["1", "1"])], tsum.clone().then(add(&["1"])))),
        (
            "chord with a group body",
            Canvas::chord([add(&["1", "1"])], Canvas::group([tsum.clone(), identity.clone()])),
        ),
        (
            "chord with a chord body",
            Canvas::chord([add(&["1", "1"])], Canvas::chord([tsum.clone(), tsum.clone()], tsum.clone())),
        ),
        (
            "chord nested both ways",
            Canvas::chord(
                [Canvas::group([add(&["1", "1"]), add(&["2", "2"])]), add(&["3", "3"]).then(add(&["4"]))],
                tsum.clone().then(add(&["1"])),
            ),
        ),
        (
            "chord with options",
            with(Canvas::chord([add(&["1", "1"])], tsum.clone()), &[("queue", "\"q\""), ("countdown", "5")]),
        ),
        ("map", Canvas::map(name("identity"), values(&["1", "2", "3"]))),
        ("map of nothing", Canvas::map(name("identity"), [])),
        ("starmap", Canvas::starmap(name("add"), values(&["[1,1]", "[2,2]"]))),
        ("chunks", Canvas::chunks(name("add"), pairs(), 2)),
        ("chunks with options", with(Canvas::chunks(name("add"), pairs(), 2), &[("queue", "\"q\"")])),
        ("link and link_error", linked(add(&["1", "1"]), vec![mul("2")], vec![eb.clone()])),
        (
            "links of every form",
            linked(
                add(&["1", "1"]),
                vec![
                    mul("2").then(mul("3")),
                    Canvas::group([mul("4"), mul("5")]),
                    Canvas::chord([mul("6"), mul("7")], tsum.clone()),
                    Canvas::map(name("identity"), values(&["1", "2"])),
                    Canvas::chunks(name("add"), pairs(), 2),
                ],
                vec![
                    eb.clone().then(identity.clone()),
                    Canvas::group([eb.clone(), sig("eb", &["\"x\""]).into_immutable()]),
                    Canvas::chord([eb.clone()], identity.clone()),
                ],
            ),
        ),
        ("link on a chain", linked(add(&["1", "1"]).then(mul("2")), vec![mul("3")], vec![eb.clone()])),
        (
            "link on a group",
            linked(Canvas::group([add(&["1", "1"]), add(&["2", "2"])]), vec![mul("3")], vec![]),
        ),
        (
            "link of a chain on a group",
            linked(
                Canvas::group([add(&["1", "1"]), add(&["2", "2"])]),
                vec![mul("3").then(mul("4"))],
                vec![],
            ),
        ),
        ("link on a map", linked(Canvas::map(name("identity"), values(&["1"])), vec![mul("3")], vec![eb])),
        ("unicode name", sig("größe.mal-2", &["1"])),
    ]
}

#[test]
fn what_we_write_is_what_celery_was_shown() {
    let lines: Vec<_> = ours()
        .into_iter()
        .map(|(name, canvas)| format!("{}: {}", Json::string(name), canvas.to_json()))
        .collect();
    let text = format!("{{\n{}\n}}\n", lines.join(",\n"));
    if env::var_os("BLESS").is_some() {
        fs::write(OURS, &text).unwrap();
    }
    let kept = fs::read_to_string(OURS).expect("golden/ours.json; BLESS=1 writes it");
    assert!(kept == text, "what we write has changed: run with BLESS=1, then scripts/golden/check.py");
}

//! What `Display` prints is read back as the canvas it was.

use celeriac_primitives::{
    Canvas, Chain, Chord, Chunks, Group, Json, Map, MapKind, Options, Signature, TaskName,
};
use proptest::collection::{btree_map, vec};
use proptest::prelude::*;

use crate::text::{parse, parse_args, parse_value};

/// Task names, with words that mean something else in the language, and such as need quotes.
fn name() -> impl Strategy<Value = TaskName> {
    let odd = prop::sample::select(vec![
        "add",
        "proj.tasks.add",
        "a.s",
        "s",
        "s.si.set",
        "group",
        "chain.chord",
        "map.map",
        "not",
        "and.or",
        "lambda.in",
        "for",
        "in.x",
        "None",
        "true.x",
        "range",
        "r",
        "u",
        "b.f",
        "a-b",
        "größe.mal-2",
        "9lives",
        "_",
        "x.9",
        "nan",
        "is",
        "signature",
        "delay",
        "get.link",
        "if",
        "else.s",
        "-",
    ])
    .prop_map(str::to_owned);
    let random = "[a-zA-Z0-9_äß-]{1,5}(\\.[a-zA-Z0-9_äß-]{1,4}){0,2}";
    prop_oneof![odd, random].prop_map(|name| TaskName::new(name).unwrap())
}

fn text() -> impl Strategy<Value = String> {
    let odd = prop::sample::select(vec![
        "",
        "\"",
        "\\",
        "'''",
        "a b",
        "x=1",
        "\n",
        "\u{7f}\u{0}",
        "😀",
        "for",
        "**",
        "ü",
        "#",
    ])
    .prop_map(str::to_owned);
    prop_oneof!["[a-z_]{1,6}", odd, ".{0,8}"]
}

/// JSON as somebody may have written it: numbers and escapes keep their spelling.
fn json() -> impl Strategy<Value = Json> {
    let spelled = prop::sample::select(vec![
        "null",
        "true",
        "false",
        "0",
        "-0",
        "-1",
        "1.50",
        "-0.0",
        "1e400",
        "-1E+05",
        "1180591620717411303424",
        r#""\u00e9\/""#,
        r#""\ud800""#,
        r#""\ud83d\ude00""#,
        r#""''""#,
        r#"{"a":1,"a":2}"#,
        r#"{"\u0061":[]}"#,
    ])
    .prop_map(|json| Json::parse(json).unwrap());
    let leaf = prop_oneof![
        spelled,
        any::<i64>().prop_map(|number| Json::new(&number).unwrap()),
        any::<f64>().prop_filter_map("finite", |number| Json::new(&number).ok()),
        text().prop_map(|text| Json::string(&text)),
        "-?[1-9][0-9]{30,60}".prop_map(|digits| Json::parse(&digits).unwrap()),
    ];
    leaf.prop_recursive(3, 12, 4, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..4).prop_map(Json::list),
            vec((text(), inner), 0..3)
                .prop_map(|members| Json::object(members.iter().map(|(key, value)| (key.as_str(), value)))),
        ]
    })
}

/// Options without callbacks.
fn values() -> impl Strategy<Value = Options> {
    let known = prop::sample::select(vec![
        ("queue", r#""hi""#),
        ("priority", "3"),
        ("countdown", "1.5"),
        ("headers", r#"{"a":[1]}"#),
        ("expires", "null"),
        ("eta", r#""2026-01-01T00:00:00""#),
        ("args", "[1]"),
        ("for", "1"),
        ("a b", "{}"),
        ("", "0"),
        ("not", "[]"),
    ])
    .prop_map(|(name, value)| (name.to_owned(), Json::parse(value).unwrap()));
    let unknown = (text(), json()).prop_map(|(name, value)| (format!("x{name}"), value));
    vec(prop_oneof![known, unknown], 0..3).prop_map(|values| {
        let mut options = Options::new();
        for (name, value) in values {
            options.set(&name, value).unwrap();
        }
        options
    })
}

fn options(callbacks: BoxedStrategy<Vec<Canvas>>) -> BoxedStrategy<Options> {
    (values(), callbacks.clone(), callbacks.clone(), callbacks)
        .prop_map(|(mut options, link, link_error, finally)| {
            link.into_iter().for_each(|callback| options.add_link(callback));
            link_error.into_iter().for_each(|errback| options.add_link_error(errback));
            finally.into_iter().for_each(|last| options.add_finally(last));
            options
        })
        .boxed()
}

fn leaf(callbacks: BoxedStrategy<Vec<Canvas>>) -> BoxedStrategy<Canvas> {
    let signature = (
        name(),
        vec(json(), 0..3),
        btree_map(text(), json(), 0..3),
        options(callbacks.clone()),
        any::<bool>(),
    )
        .prop_map(|(task, args, kwargs, options, immutable)| {
            Canvas::Signature(Signature { task, args, kwargs, options, immutable })
        });
    let map = (any::<bool>(), name(), vec(json(), 0..3), options(callbacks.clone())).prop_map(
        |(star, task, items, options)| {
            let kind = if star { MapKind::Starmap } else { MapKind::Map };
            Canvas::Map(Map { kind, task, items, options })
        },
    );
    let chunks = (name(), vec(json(), 0..3), 1..5usize, options(callbacks))
        .prop_map(|(task, items, size, options)| Canvas::Chunks(Chunks { task, items, size, options }));
    prop_oneof![3 => signature, 1 => map, 1 => chunks].boxed()
}

/// Canvases of all forms, with callbacks that are canvases.
fn canvas() -> impl Strategy<Value = Canvas> {
    leaf(Just(Vec::new()).boxed()).prop_recursive(5, 24, 4, |inner| {
        let some = vec(inner.clone(), 0..4);
        let callbacks = prop_oneof![4 => Just(Vec::new()), 1 => vec(inner.clone(), 0..3)].boxed();
        let options = options(callbacks.clone());
        prop_oneof![
            1 => leaf(callbacks),
            2 => some.clone().prop_map(Canvas::chain),
            1 => (some.clone(), options.clone(), any::<bool>())
                .prop_map(|(steps, options, immutable)| Canvas::Chain(Chain { steps, options, immutable })),
            2 => (some.clone(), options.clone())
                .prop_map(|(members, options)| Canvas::Group(Group { members, options })),
            2 => (some, prop::option::of(inner), options).prop_map(|(header, body, options)| {
                Canvas::Chord(Chord { header, body: body.map(Box::new), options })
            }),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn a_printed_canvas_reads_back(canvas in canvas()) {
        let text = canvas.to_string();
        match parse(&text) {
            Ok(read) => prop_assert_eq!(read, canvas, "{}", text),
            Err(error) => prop_assert!(false, "{}\n{}", text, error),
        }
    }

    #[test]
    fn json_is_read_to_the_letter(json in json()) {
        prop_assert_eq!(parse_value(json.as_str()).unwrap(), json);
    }

    #[test]
    fn printed_arguments_read_back(
        args in vec(json(), 0..4),
        kwargs in btree_map("[a-z]{1,3}", json(), 0..3),
    ) {
        let mut parts: Vec<String> = args.iter().map(Json::to_string).collect();
        parts.extend(kwargs.iter().map(|(name, value)| format!("w{name} = {value}")));
        let expect = kwargs.into_iter().map(|(name, value)| (format!("w{name}"), value)).collect();
        prop_assert_eq!(parse_args(&parts.join(",\n")).unwrap(), (args, expect));
    }

    #[test]
    fn line_breaks_and_comments_change_nothing(canvas in canvas()) {
        let text = canvas.to_string();
        // Only outside of texts, and not inside of words: after commas and brackets that the printer writes.
        let spread = spread(&text);
        prop_assert_eq!(parse(&spread).unwrap(), parse(&text).unwrap(), "{}", spread);
    }
}

/// The text with a comment and a line break after every comma and opening bracket, and trailing commas.
fn spread(text: &str) -> String {
    let mut out = String::new();
    let (mut in_text, mut escaped) = (false, false);
    for character in text.chars() {
        out.push(character);
        match character {
            '\\' if in_text => escaped = !escaped,
            '"' if !escaped => in_text = !in_text,
            ',' | '(' | '[' | '{' | '|' if !in_text => out.push_str(" # ) \" '\n"),
            _ => {}
        }
        if character != '\\' {
            escaped = false;
        }
    }
    out
}

#[test]
fn a_canvas_at_the_depth_limit_reads_back() {
    // Two canvases and four brackets per level; a test thread's stack must be enough, in debug builds too.
    let leaf = || Canvas::from(Signature::new("a").unwrap().arg(vec![vec![vec![1]]]).unwrap());
    let mut canvas = leaf();
    for level in 0..32 {
        canvas = match level % 2 {
            0 => Canvas::chord([leaf().then(canvas)], leaf()),
            _ => Canvas::group([{
                let mut signature = leaf();
                signature.link(canvas);
                signature
            }]),
        };
    }
    assert_eq!(celeriac_primitives::Limits::default().check(&canvas), Ok(()));
    assert_eq!(parse(&canvas.to_string()).unwrap(), canvas);
}

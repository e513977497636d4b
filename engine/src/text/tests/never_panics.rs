//! Whatever stands in a text, the answer is a canvas or an error.

use celeriac_primitives::Limits;
use proptest::collection::vec;
use proptest::prelude::*;

use crate::text::{AnyName, TextError, parse, parse_args, parse_value, parse_with};

/// Reads a text in every way, and looks at the errors.
fn read(text: &str) {
    let limits = || Limits { nodes_max: 500, ..Limits::default() };
    let errors =
        [parse_with(text, &AnyName, &limits()).err(), parse_value(text).err(), parse_args(text).err()];
    for error in errors.into_iter().flatten() {
        check_place(text, &error);
    }
}

/// The place of an error is in the text or directly behind it.
fn check_place(text: &str, error: &TextError) {
    let line = text.split('\n').nth(error.line - 1).expect("the line is in the text");
    assert!(error.column <= line.chars().count() + 1, "{error}");
    assert_eq!(error.to_string().lines().count(), 3, "{error}");
}

/// Parts of valid texts, and parts that break them.
const PARTS: &[&str] = &[
    "add",
    "proj.tasks.add",
    ".s",
    ".si",
    "(",
    ")",
    "[",
    "]",
    "{",
    "}",
    ",",
    ":",
    ".",
    "|",
    "=",
    "==",
    "<",
    "+",
    "-",
    "*",
    "**",
    "//",
    "%",
    "/",
    " ",
    "\n",
    "#",
    "'",
    "\"",
    "\\",
    "\"\"\"",
    "group(",
    "chain(",
    "chord(",
    "signature(",
    "xmap(",
    "chunks(",
    ".map(",
    ".chunks(",
    ".group()",
    ".set(",
    ".link(",
    ".on_error(",
    ".clone(",
    "range(",
    "zip(",
    "list(",
    " for ",
    " in ",
    " if ",
    " not ",
    " and ",
    " or ",
    "i",
    "x",
    "1",
    "0",
    "-1",
    "2.5",
    "1e5",
    "10**12",
    "9223372036854775807",
    "170141183460469231731687303715884105727",
    "True",
    "null",
    "\"a\"",
    "'b'",
    "queue=",
    "immutable=",
    "link=",
    "priority=",
    "body=",
    "n=",
    "é",
    "\u{0}",
    "😀",
    "a.s(i) for i in range(3)",
    "add.s(2, 2)",
    "[1, 2]",
    "(1, 2)",
    "{\"a\": 1}",
    "[(1, 2), (3, 4)]",
    "i for i in [[i, i]]",
];

/// Texts to be mutated.
const VALID: &[&str] = &[
    "group(add.s(i, j=i * 2) for i in range(10) if i % 2 == 0) | xsum.s()",
    "chord([add.s(1, 1).set(queue=\"hi\", priority=5), mul.si(2)], xsum.s()).link_error(fail.s('x\\n'))",
    "add.chunks(zip(range(100), range(100)), 10).group() | (a.s() | b.s()).clone((4,), {\"z\": 5})",
    "signature(\"a-b\", args=[1, {\"k\": [None, true]}], kwargs={\"x\": -1e5}, immutable=true, countdown=10)",
    "chain(xmap(add.s(), [1, 2]), add.starmap([(1, 2)]), chord(add.s(a, b) for a, b in [(1, 2)])(t.s())) # end",
];

fn mutated() -> impl Strategy<Value = String> {
    let edit = (any::<prop::sample::Index>(), 0..4usize, prop::sample::select(PARTS));
    (prop::sample::select(VALID), vec(edit, 1..5)).prop_map(|(valid, edits)| {
        let mut characters: Vec<char> = valid.chars().collect();
        for (place, removed, part) in edits {
            let from = place.index(characters.len() + 1);
            let to = (from + removed).min(characters.len());
            characters.splice(from..to, part.chars());
        }
        characters.into_iter().collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn random_characters_give_an_answer(text in "\\PC{0,40}|[\\x00-\\x7f]{0,40}") {
        read(&text);
    }

    #[test]
    fn random_parts_give_an_answer(parts in vec(prop::sample::select(PARTS), 0..16)) {
        read(&parts.concat());
    }

    #[test]
    fn mutated_texts_give_an_answer(text in mutated()) {
        read(&text);
    }
}

#[test]
fn texts_that_are_cut_off_give_an_answer() {
    for valid in VALID {
        for (end, _) in valid.char_indices() {
            read(&valid[..end]);
        }
        assert!(parse(valid).is_ok(), "{:?}", parse(valid));
    }
}

/// What would make the stack or the memory end.
#[test]
fn texts_that_ask_for_too_much_are_refused() {
    let many = 1_000_000;
    for opening in [
        "(",
        "[",
        "{\"a\":",
        "add.s(",
        "add.s([",
        "group(",
        "chord([",
        "-",
        "not ",
        "a.s().link(",
        "2 ** ",
        "1 or 1 and 1 == 1 | 1 + 1 * (",
    ] {
        let text = opening.repeat(many);
        let error = parse(&text).unwrap_err();
        assert!(error.message.contains("nested more than 256 deep"), "{opening}: {}", error.message);
    }
    let limits = Limits { nodes_max: 10_000, ..Limits::default() };
    let callbacks: String = (0..5_000).map(|i| format!(".link(b.s({i}))")).collect();
    for text in [
        format!("a.s(){callbacks}").as_str(),
        "group(add.s(i) for i in range(10 ** 12))",
        "group(add.s(i) for i in range(10 ** 38))",
        "group(add.s(i) for i in range(0, -10 ** 38, -1))",
        "group(add.s(i) for i in range(-10 ** 38, 10 ** 38, 10 ** 30))",
        "group(add.s(i) for i in range(10001))",
        "group(group(add.s(i, j) for i in range(200)) for j in range(200))",
        "group(group() for i in range(200) for j in range(200) for k in range(200))",
        "group(add.s(i) for i in range(200) for j in range(200) for k in range(200) if false)",
        "group(add.chunks(a, 1) for a in [zip(range(2000))] for i in range(6))",
        "group(add.chunks(zip(range(2000)), 1).group() for i in range(6))",
        "group(group(add.s() for i in range(5000)).clone([1]).clone([1]).clone([1]).clone([1]) for i in range(4))",
        "add.map([[[i, j] for j in range(1000)] for i in range(1000)])",
        "add.map(zip(range(40000), range(40000)))",
        "add.s(1 in a for a in [range(2, 3000)] for b in range(1000))",
        "add.s(a == b for a in [range(3000)] for b in [range(3000)] for c in range(1000))",
        "add.s([[g, g] for a in [range(99)] for b in [[a] for i in range(99)] for c in [[b] for i in range(99)] \
         for d in [[c] for i in range(99)] for g in [[d] for i in range(99)]])",
        "add.s(x for a in ['0123456789abcdef'] for b in [a+a+a+a+a+a+a+a] for c in [b+b+b+b+b+b+b+b] \
         for d in [c+c+c+c+c+c+c+c] for e in [d+d+d+d+d+d+d+d] for f in [e+e+e+e+e+e+e+e] \
         for g in [f+f+f+f+f+f+f+f] for x in [g+g+g+g+g+g+g+g])",
    ] {
        let message = parse_with(text, &AnyName, &limits).unwrap_err().message;
        assert!(
            message.contains("too many") || message.contains("more than 10000 nodes"),
            "{text}: {message}"
        );
    }
}

/// The deepest texts that are read; a test thread's stack is enough for them, in debug builds too.
#[test]
fn texts_that_are_as_deep_as_allowed_are_read() {
    let deepest = |opening: &str, inside: &str, closing: &str, levels: usize| {
        format!("{}{inside}{}", opening.repeat(levels), closing.repeat(levels))
    };
    for value in [
        deepest("(", "1", ")", 255),
        deepest("[", "1", "]", 255),
        deepest("{'a': ", "1", "}", 255),
        deepest("-", "1", "", 255),
        deepest("not ", "1", "", 255),
        deepest("1 ** ", "1", "", 255),
        deepest("1 or 1 and 1 == 1 + 1 * (", "1", ")", 42),
        deepest("[x for x in ", "[1]", "]", 127),
        deepest("list(", "[1]", ")", 254),
    ] {
        assert!(parse_value(&value).is_ok(), "{:?}", parse_value(&value));
    }
    for canvas in [
        deepest("chain(", "a.s()", ")", 255),
        deepest("group([", "a.s()", "])", 127),
        deepest("chord(", "a.s()", ", b.s())", 255),
        deepest("a.s().link(", "a.s()", ")", 255),
        deepest("a.s() | (", "a.s()", ")", 127),
        deepest("group(chain(a.s() for i in [1]), ", "a.s()", ")", 250),
    ] {
        assert!(parse(&canvas).is_ok(), "{:?}", parse(&canvas));
    }
}

#[test]
fn long_flat_texts_are_read() {
    let many = 20_000;
    let pipe = vec!["a.s()"; many].join(" | ");
    let sum = format!("add.s({})", vec!["1"; many].join(" + "));
    let condition = format!("group(a.s() for i in [1] if {})", vec!["i"; many].join(" and "));
    let methods = format!("a.s(){}", ".set(queue=\"hi\")".repeat(many));
    let list = format!("group([{}])", vec!["a.s(1)"; many].join(","));
    let words = format!("{}.s()", vec!["a"; 100].join("."));
    for text in [pipe, sum, condition, methods, list, words] {
        assert!(parse(&text).is_ok(), "{:?}", parse(&text).map(|_| ()));
    }
}

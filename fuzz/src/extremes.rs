//! Inputs that are nested very deep or are very wide, one for each way to be so.
//!
//! The corpora hold them small, right above the limits; a test reads them large.

/// An input, with its target and its name.
pub type Extreme = (&'static str, String, Vec<u8>);

/// What stands before and after what is nested, in Celery's JSON.
const CANVASES: &[(&str, &str, &str)] = &[
    ("chain", r#"{"task":"celery.chain","kwargs":{"tasks":["#, r#"]},"subtask_type":"chain"}"#),
    ("group", r#"{"task":"celery.group","kwargs":{"tasks":["#, r#"]},"subtask_type":"group"}"#),
    ("header", r#"{"task":"celery.chord","kwargs":{"header":["#, r#"],"body":null},"subtask_type":"chord"}"#),
    (
        "header_object",
        r#"{"task":"celery.chord","kwargs":{"header":"#,
        r#","body":null},"subtask_type":"chord"}"#,
    ),
    ("header_old", r#"{"task":"celery.chord","kwargs":{"header":"#, r#","body":null}}"#),
    ("body", r#"{"task":"celery.chord","kwargs":{"header":[],"body":"#, r#"},"subtask_type":"chord"}"#),
    ("link", r#"{"task":"a","options":{"link":["#, "]}}"),
    ("link_object", r#"{"task":"a","options":{"link":"#, "}}"),
    ("link_error", r#"{"task":"a","options":{"link_error":["#, "]}}"),
    ("finally", r#"{"task":"a","options":{"finally":"#, "}}"),
    ("chord_option", r#"{"task":"a","options":{"chord":"#, "}}"),
    ("kwargs", r#"{"task":"a","kwargs":{"inner":"#, "}}"),
    (
        "chord_kwargs",
        r#"{"task":"celery.chord","kwargs":{"header":[],"kwargs":{"inner":"#,
        r#"}},"subtask_type":"chord"}"#,
    ),
    ("mapped", r#"{"task":"celery.map","kwargs":{"task":"#, r#","it":[]}}"#),
    ("items", r#"{"task":"celery.map","kwargs":{"task":{"task":"a"},"it":["#, "]}}"),
    ("stamps", r#"{"task":"a","options":{"stamps":{"order":"#, "}}}"),
    ("headers", r#"{"task":"a","options":{"headers":{"order":"#, "}}}"),
];

/// Places in a signature for a value that is no canvas.
const VALUES: &[(&str, &str, &str)] = &[
    ("args", r#"{"task":"a","args":["#, "]}"),
    ("option", r#"{"task":"a","options":{"queue":"#, "}}"),
    ("task", r#"{"task":"#, "}"),
    ("unknown", r#"{"task":"a","unknown":"#, "}"),
];

/// The same in operator text.
const TEXTS: &[(&str, &str, &str)] = &[
    ("brackets", "(", ")"),
    ("chain", "chain(", ")"),
    ("group", "group(", ")"),
    ("chord", "chord([", "], b.s())"),
    ("body", "chord([b.s()], ", ")"),
    ("link", "b.s().link(", ")"),
    ("lists", "b.s([", "])"),
    ("objects", "b.s({'k': ", "})"),
    ("generators", "group(", " for i in range(1))"),
    ("not", "not ", ""),
    ("minus", "-", ""),
    ("pipes", "b.s() | ", ""),
    ("plus", "1 + ", ""),
    ("powers", "2 ** ", ""),
    ("methods", "", ".clone()"),
];

/// Lists of so many, in Celery's JSON.
const WIDE: &[(&str, &str, &str)] = &[
    ("tasks", r#"{"task":"celery.group","kwargs":{"tasks":["#, r#"]},"subtask_type":"group"}"#),
    ("steps", r#"{"task":"celery.chain","kwargs":{"tasks":["#, r#"]},"subtask_type":"chain"}"#),
    (
        "header",
        r#"{"task":"celery.chord","kwargs":{"header":["#,
        r#"],"body":{"task":"b"}},"subtask_type":"chord"}"#,
    ),
    ("links", r#"{"task":"a","options":{"link":["#, "]}}"),
    ("errbacks", r#"{"task":"a","options":{"link_error":["#, "]}}"),
    ("last", r#"{"task":"a","options":{"finally":["#, "]}}"),
];

/// Nested so deep.
pub fn deep(depth: usize) -> Vec<Extreme> {
    let nested = |before: &str, inner: &str, after: &str| {
        [before.repeat(depth).as_str(), inner, after.repeat(depth).as_str()].concat().into_bytes()
    };
    let mut all = Vec::new();
    for (name, before, after) in CANVASES {
        all.push(("canvas_json", format!("deep_{name}"), nested(before, r#"{"task":"a"}"#, after)));
    }
    for (name, before, after) in VALUES {
        for (kind, open, inner, close) in [("list", "[", "", "]"), ("object", r#"{"k":"#, "1", "}")] {
            let value = nested(open, inner, close);
            let input = [before.as_bytes(), &value, after.as_bytes()].concat();
            all.push(("canvas_json", format!("deep_{name}_{kind}"), input));
        }
    }
    for (name, before, after) in TEXTS {
        let inner = if matches!(*name, "not" | "minus" | "plus" | "powers") { "1" } else { "a.s()" };
        all.push(("text", format!("deep_{name}"), nested(before, inner, after)));
    }
    // Lists of one, maps of one, and newtypes of an enum, as MessagePack.
    for (name, byte) in [("lists", 0x91), ("maps", 0x81), ("extensions", 0xc7), ("long_lists", 0xdd)] {
        for target in ["message", "plan"] {
            // After each version and length that a format may begin with.
            for first in 0..4 {
                let input = [vec![first], vec![byte; depth]].concat();
                all.push((target, format!("deep_{name}_{first}"), input));
            }
        }
    }
    all
}

/// So many beside each other.
pub fn wide(count: usize) -> Vec<Extreme> {
    let mut all = Vec::new();
    for (name, before, after) in WIDE {
        let same = vec![r#"{"task":"a"}"#.to_owned(); count].join(",");
        let different: Vec<String> = (0..count).map(|i| format!(r#"{{"task":"a","args":[{i}]}}"#)).collect();
        for (kind, items) in [("same", same), ("different", different.join(","))] {
            let input = [before, items.as_str(), after].concat().into_bytes();
            all.push(("canvas_json", format!("wide_{name}_{kind}"), input));
        }
    }
    let keys: Vec<String> = (0..count).map(|i| format!(r#""k{i}":{i}"#)).collect();
    let keys = keys.join(",");
    for (name, input) in [
        ("kwargs", format!(r#"{{"task":"a","kwargs":{{{keys}}}}}"#)),
        ("options", format!(r#"{{"task":"a","options":{{{keys}}}}}"#)),
        ("headers", format!(r#"{{"task":"a","options":{{"headers":{{{keys}}}}}}}"#)),
        ("keys", format!(r#"{{"task":"a",{keys}}}"#)),
    ] {
        all.push(("canvas_json", format!("wide_{name}"), input.into_bytes()));
    }
    for (name, input) in [
        ("pipes", ["a.s()"; 1].repeat(count).join(" | ")),
        ("links", format!("a.s(){}", ".link(b.s())".repeat(count))),
        ("members", format!("group({})", vec!["a.s()"; count].join(","))),
        ("arguments", format!("a.s({})", vec!["1"; count].join(","))),
        ("sum", vec!["1"; count].join(" + ")),
        ("text", format!("a.s('{}')", "ü".repeat(count))),
        ("open", format!("a.s('{}", "\\".repeat(count))),
    ] {
        all.push(("text", format!("wide_{name}"), input.into_bytes()));
    }
    all
}

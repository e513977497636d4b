//! What a node does, in one line: `add.s(n1, 8) after n2`.

use std::collections::BTreeMap;
use std::fmt::{Display, Write as _};

use celeriac_primitives::{Call, Json, NodeNo};
use serde_json::value::RawValue;

use super::scopes::Scopes;
use crate::plan::{After, Leaf, NodeKind, Plan, ScopeNo, Value};

/// How many characters of the bound arguments are shown.
const ARGUMENTS_CHARS: usize = 60;

/// How many items of a longer list are shown before its last one.
const ITEMS_SHOWN: usize = 3;

/// Writes the calls of a plan.
pub(super) struct Labels<'p> {
    plan: &'p Plan,
    scopes: &'p Scopes,
}

impl<'p> Labels<'p> {
    pub(super) fn new(plan: &'p Plan, scopes: &'p Scopes) -> Self {
        Self { plan, scopes }
    }

    /// The call of a leaf, or what a join collects, and what it waits for besides.
    pub(super) fn call(&self, number: NodeNo) -> String {
        let node = self.plan.node(number).expect("only nodes of the plan are drawn");
        let mut label = String::new();
        match &node.kind {
            NodeKind::Join => {
                label.push_str("join(");
                node.input.iter().for_each(|input| self.value(&mut label, input));
                label.push(')');
            }
            NodeKind::Leaf(leaf) => self.leaf(&mut label, number, leaf, node.input.as_ref()),
        }
        self.after(&mut label, &node.after);
        label
    }

    /// What the run yields.
    pub(super) fn output(&self) -> String {
        let mut label = String::new();
        self.value(&mut label, self.plan.output());
        label
    }

    /// What has to fail to close a scope.
    pub(super) fn failure(&self, scope: ScopeNo) -> String {
        match &self.scopes.place(scope).covers {
            Some(path) => format!("failure of {path}"),
            None => format!("failure of s{}", scope.index()),
        }
    }

    fn leaf(&self, label: &mut String, number: NodeNo, leaf: &Leaf, input: Option<&Value>) {
        let task = self.plan.task(number).expect("a leaf has a task");
        let (method, open, close) = match leaf.call {
            Call::Once => ("s", "", ""),
            Call::Map => ("map", "[", "]"),
            Call::Starmap => ("starmap", "[", "]"),
        };
        push(label, format_args!("{task}.{method}({open}"));
        let mut comma = "";
        if let Some(input) = input {
            self.value(label, input);
            comma = ", ";
        }
        if !leaf.args.is_empty() {
            push(label, format_args!("{comma}{}", spaced(&leaf.args)));
            comma = ", ";
        }
        if &*leaf.kwargs != "{}" {
            push(label, format_args!("{comma}{}", keywords(&leaf.kwargs)));
            comma = ", ";
        }
        if leaf.is_apart() {
            push(label, format_args!("{comma}… {} bytes", leaf.bytes()));
        }
        push(label, format_args!("{close})"));
        if let Some(queue) = self.plan.queue(number) {
            push(label, format_args!(".set(queue={})", spaced(Json::string(queue).as_str())));
        }
    }

    fn value(&self, label: &mut String, value: &Value) {
        match value {
            Value::Node(node) => push(label, format_args!("n{node}")),
            Value::Apart(stored) => push(label, format_args!("… {} bytes", stored.bytes)),
            Value::Failure(scope) => label.push_str(&self.failure(*scope)),
            Value::Entry(node, _) => push(label, format_args!("entry of n{node}")),
            Value::Kept(node, _) => push(label, format_args!("n{node}?")),
            Value::Const(known) => {
                let (json, after) = &**known;
                label.push_str(&spaced(json.as_str()));
                self.after(label, after);
            }
            Value::List(items) => {
                label.push('[');
                some(label, items, |label, item| self.value(label, item));
                label.push(']');
            }
        }
    }

    fn after(&self, label: &mut String, after: &After) {
        if !after.nodes.is_empty() {
            label.push_str(" after ");
            some(label, &after.nodes, |label, node| push(label, format_args!("n{node}")));
        }
        if let Some(gate) = after.gate {
            push(label, format_args!(" after {}", self.failure(gate)));
        }
    }
}

/// Items with commas; of a long list only the first few and the last.
fn some<T>(label: &mut String, items: &[T], mut write: impl FnMut(&mut String, &T)) {
    let hidden = items.len().saturating_sub(ITEMS_SHOWN + 1);
    let skip = if hidden < 2 { 0..0 } else { ITEMS_SHOWN..ITEMS_SHOWN + hidden };
    for (i, item) in items.iter().enumerate() {
        if skip.contains(&i) {
            if i == skip.start {
                push(label, format_args!(", … {} more", thousands(hidden)));
            }
            continue;
        }
        if i > 0 {
            label.push_str(", ");
        }
        write(label, item);
    }
}

/// Keyword arguments as one writes them: `z=5, **{"a b": 1}`.
fn keywords(object: &str) -> String {
    let Ok(members) = serde_json::from_str::<BTreeMap<String, &RawValue>>(object) else {
        return format!("**{}", spaced(object));
    };
    let is_word = |name: &String| {
        name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
            && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
    };
    if !members.keys().all(is_word) {
        return format!("**{}", spaced(object));
    }
    let members = members.iter().map(|(name, value)| format!("{name}={}", spaced(value.get())));
    shortened(&members.collect::<Vec<_>>().join(", "))
}

/// Compact JSON with a space after commas and colons, shortened, and with nothing in it that a terminal would obey.
fn spaced(json: &str) -> String {
    let mut out = String::new();
    let (mut in_text, mut escaped) = (false, false);
    for character in json.chars().take(ARGUMENTS_CHARS + 1) {
        push_visible(&mut out, character);
        match character {
            '"' if !escaped => in_text = !in_text,
            ',' | ':' if !in_text => out.push(' '),
            _ => {}
        }
        escaped = in_text && !escaped && character == '\\';
    }
    shortened(&out)
}

fn shortened(text: &str) -> String {
    match text.char_indices().nth(ARGUMENTS_CHARS) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

fn push_visible(out: &mut String, character: char) {
    // Beside control characters those that turn the direction of writing.
    let hidden =
        character.is_control() || matches!(character, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    if hidden {
        push(out, character.escape_unicode());
    } else {
        out.push(character);
    }
}

pub(super) fn push(out: &mut String, text: impl Display) {
    write!(out, "{text}").expect("a String takes all text");
}

/// A number with a comma after every third digit: `9,990`.
pub(super) fn thousands(number: usize) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped_by_thousands() {
        for (number, expect) in [(0, "0"), (999, "999"), (1000, "1,000"), (1_234_567, "1,234,567")] {
            assert_eq!(thousands(number), expect);
        }
    }

    #[test]
    fn json_is_spaced_shortened_and_harmless() {
        #[track_caller]
        fn check(json: &str, expect: &str) {
            assert_eq!(spaced(json), expect);
        }
        check(r#"1,[2,3],{"a":"x,y:z"}"#, r#"1, [2, 3], {"a": "x,y:z"}"#);
        check(r#""\",",1"#, r#""\",", 1"#);
        check("\"\u{9b}31m\u{202e}\"", r#""\u{9b}31m\u{202e}""#);
        check(&format!("\"{}\"", "é".repeat(100)), &format!("\"{}…", "é".repeat(59)));
    }

    #[test]
    fn keywords_are_written_as_such_when_they_can_be() {
        assert_eq!(keywords(r#"{"y":"a,b","z":[1,2]}"#), r#"y="a,b", z=[1, 2]"#);
        assert_eq!(keywords(r#"{"a b":1}"#), r#"**{"a b": 1}"#);
    }
}

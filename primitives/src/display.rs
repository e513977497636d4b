//! Operator text: a canvas as a Celery user would write it.
//!
//! The text parser (`celeriac-engine`) reads every canvas back from what is printed here.

use std::fmt::{self, Display, Formatter, Write};

use crate::{Canvas, Chord, Json, Kwargs, MapKind, TaskName};

/// Words that cannot stand as a plain name in operator text.
const RESERVED: &[&str] = &["for", "in", "if", "else", "None", "True", "False", "null", "true", "false"];

/// A canvas that is not too deep for the stack.
pub(crate) fn write_canvas(f: &mut Formatter<'_>, canvas: &Canvas) -> fmt::Result {
    match canvas {
        Canvas::Signature(signature) => {
            let method = if signature.immutable { "si" } else { "s" };
            if is_plain(signature.task.as_str()) {
                write!(f, "{}.{method}(", signature.task)?;
                write_call(f, &signature.args, &signature.kwargs)?;
            } else {
                write!(f, "signature({}", Json::string(signature.task.as_str()))?;
                write!(f, ", args={}", Spaced(&Json::list(&signature.args)))?;
                let kwargs =
                    Json::object(signature.kwargs.iter().map(|(name, value)| (name.as_str(), value)));
                write!(f, ", kwargs={}", Spaced(&kwargs))?;
                if signature.immutable {
                    f.write_str(", immutable=true")?;
                }
            }
            f.write_str(")")?;
        }
        Canvas::Chain(chain) => {
            let plain = chain.steps.len() > 1
                && chain.options.is_empty()
                && !chain.immutable
                && !chain.steps.iter().any(|step| matches!(step, Canvas::Chain(_)));
            if plain {
                return write_separated(f, &chain.steps, " | ");
            }
            f.write_str("chain(")?;
            write_separated(f, &chain.steps, ", ")?;
            f.write_str(")")?;
            if chain.immutable {
                f.write_str(".set(immutable=true)")?;
            }
        }
        Canvas::Group(group) => {
            f.write_str("group(")?;
            write_separated(f, &group.members, ", ")?;
            f.write_str(")")?;
        }
        Canvas::Chord(chord) => {
            f.write_str("chord([")?;
            write_separated(f, &chord.header, ", ")?;
            f.write_str("]")?;
            if let Some(body) = &chord.body {
                f.write_str(", ")?;
                write_canvas(f, body)?;
            }
            f.write_str(")")?;
        }
        Canvas::Map(map) => {
            let (method, function) = match map.kind {
                MapKind::Map => ("map", "xmap"),
                MapKind::Starmap => ("starmap", "xstarmap"),
            };
            write_mapped(f, &map.task, method, function, &map.items)?;
            f.write_str(")")?;
        }
        Canvas::Chunks(chunks) => {
            write_mapped(f, &chunks.task, "chunks", "chunks", &chunks.items)?;
            write!(f, ", {})", chunks.size)?;
        }
    }
    write_options(f, canvas)
}
fn write_separated(f: &mut Formatter<'_>, canvases: &[Canvas], separator: &str) -> fmt::Result {
    for (i, canvas) in canvases.iter().enumerate() {
        if i > 0 {
            f.write_str(separator)?;
        }
        write_canvas(f, canvas)?;
    }
    Ok(())
}

/// `name.method(items`, or `function(signature("name", …), items` for a name that cannot stand alone.
fn write_mapped(
    f: &mut Formatter<'_>,
    task: &TaskName,
    method: &str,
    function: &str,
    items: &[Json],
) -> fmt::Result {
    if is_plain(task.as_str()) {
        write!(f, "{task}.{method}(")?;
    } else {
        write!(f, "{function}(signature({}), ", Json::string(task.as_str()))?;
    }
    Spaced(&Json::list(items)).fmt(f)
}

fn write_call(f: &mut Formatter<'_>, args: &[Json], kwargs: &Kwargs) -> fmt::Result {
    let mut comma = "";
    for arg in args {
        write!(f, "{comma}{}", Spaced(arg))?;
        comma = ", ";
    }
    write_keywords(f, comma, kwargs.iter().map(|(name, value)| (name.as_str(), value)))
}

/// `name=value` for names that are words, and one `**{…}` for the others.
fn write_keywords<'a>(
    f: &mut Formatter<'_>,
    mut comma: &'static str,
    keywords: impl Iterator<Item = (&'a str, &'a Json)>,
) -> fmt::Result {
    let (words, others): (Vec<_>, Vec<_>) = keywords.partition(|(name, _)| is_word(name));
    for (name, value) in words {
        write!(f, "{comma}{name}={}", Spaced(value))?;
        comma = ", ";
    }
    if !others.is_empty() {
        write!(f, "{comma}**{}", Spaced(&Json::object(others)))?;
    }
    Ok(())
}

fn write_options(f: &mut Formatter<'_>, canvas: &Canvas) -> fmt::Result {
    let options = canvas.options();
    if options.values().next().is_some() {
        f.write_str(".set(")?;
        write_keywords(f, "", options.values())?;
        f.write_str(")")?;
    }
    // `.link(…)` hands the callback on to the first member of a group and to the body of a chord: what such a
    // canvas itself has is printed as an option.
    let hands_on = matches!(canvas, Canvas::Group(_) | Canvas::Chord(Chord { body: Some(_), .. }));
    if hands_on && !options.link().is_empty() {
        f.write_str(".set(link=[")?;
        write_separated(f, options.link(), ", ")?;
        f.write_str("])")?;
    } else {
        write_callbacks(f, "link", options.link())?;
    }
    write_callbacks(f, "link_error", options.link_error())?;
    write_callbacks(f, "finally", options.finally())
}

fn write_callbacks(f: &mut Formatter<'_>, method: &str, callbacks: &[Canvas]) -> fmt::Result {
    for callback in callbacks {
        write!(f, ".{method}(")?;
        write_canvas(f, callback)?;
        f.write_str(")")?;
    }
    Ok(())
}

/// Whether a task name can stand before `.s(`.
fn is_plain(name: &str) -> bool {
    name.split('.').all(is_word)
}

fn is_word(word: &str) -> bool {
    word.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && word.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
        && !RESERVED.contains(&word)
}

/// JSON with a space after commas and colons, as Python prints it.
struct Spaced<'a>(&'a Json);

impl Display for Spaced<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let (mut in_string, mut escaped) = (false, false);
        for character in self.0.as_str().chars() {
            f.write_char(character)?;
            match (in_string, escaped, character) {
                (true, false, '\\') => escaped = true,
                (true, false, '"') => in_string = false,
                (true, ..) => escaped = false,
                (false, _, '"') => in_string = true,
                (false, _, ',' | ':') => f.write_char(' ')?,
                (false, ..) => {}
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Signature;

    #[track_caller]
    fn check(canvas: impl Into<Canvas>, expect: &str) {
        assert_eq!(canvas.into().to_string(), expect);
    }

    fn add(x: i64) -> Signature {
        Signature::new("add").unwrap().arg(x).unwrap()
    }

    #[test]
    fn canvases_print_as_a_celery_user_writes_them() {
        check(add(2).kwarg("z", [1, 2]).unwrap(), "add.s(2, z=[1, 2])");
        check(add(2).immutable().kwarg("a b", 1).unwrap(), "add.si(2, **{\"a b\": 1})");
        check(Canvas::from(add(1)).then(add(2)), "add.s(1) | add.s(2)");
        check(Canvas::chord([add(1).into()], add(2)), "chord([add.s(1)], add.s(2))");
        check(Canvas::group([Canvas::from(add(1)).then(add(2))]), "group(add.s(1) | add.s(2))");
        check(Canvas::map(add(0).task, [Json::null()]), "add.map([null])");
        check(Canvas::chunks(add(0).task, [Json::parse("[1,1]").unwrap()], 2), "add.chunks([[1, 1]], 2)");
        check(Signature::new("a-b.c").unwrap(), "signature(\"a-b.c\", args=[], kwargs={})");
    }

    #[test]
    fn options_follow_as_calls() {
        let mut canvas = Canvas::from(add(1));
        canvas.options_mut().set("queue", Json::string("hi")).unwrap();
        canvas.link(add(2).into());
        canvas.link_error(add(3).into());
        canvas.finally(add(4).into());
        check(canvas, "add.s(1).set(queue=\"hi\").link(add.s(2)).link_error(add.s(3)).finally(add.s(4))");
    }

    #[test]
    fn callbacks_that_link_would_hand_on_are_printed_as_options() {
        let mut group = Canvas::group([add(1).into()]);
        group.options_mut().add_link(add(2).into());
        check(group, "group(add.s(1)).set(link=[add.s(2)])");
        let mut chord = Canvas::chord([add(1).into()], add(2));
        chord.options_mut().add_link(add(3).into());
        check(chord, "chord([add.s(1)], add.s(2)).set(link=[add.s(3)])");
    }

    #[test]
    fn chains_that_pipes_would_splice_are_spelled_out() {
        let inner = Canvas::from(add(1)).then(add(2));
        check(Canvas::chain([inner]), "chain(add.s(1) | add.s(2))");
        check(Canvas::chain([]), "chain()");
    }
}

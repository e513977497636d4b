//! Celery's JSON form of a canvas.
//!
//! A signature is a dictionary with six keys (Celery's `canvas.py`, class `Signature`); chains, groups and
//! chords keep their parts in `kwargs`. Every part is read from its own slice of the text, so numbers and
//! unknown options come through as they were written.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::json::write_string;
use crate::{
    Canvas, Chain, Chord, Chunks, Group, Json, JsonError, Kwargs, Limits, Map, MapKind, NameError, Options,
    Path, Segment, Signature, TaskName,
};

/// A JSON text that is no canvas.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CeleryError {
    /// Not JSON, or a part of the wrong type.
    #[error("{path}: {what} should be {expected}: {source}")]
    Type {
        /// The canvas that has the part.
        path: Path,
        /// The part.
        what: &'static str,
        /// What to write.
        expected: &'static str,
        /// What the JSON reader says.
        source: JsonError,
    },
    /// A part that must be there.
    #[error("{path}: {what} is missing")]
    Missing {
        /// The canvas that lacks it.
        path: Path,
        /// The part.
        what: &'static str,
    },
    /// A key that signatures do not have.
    #[error(
        "{path}: a signature has no key {key:?}; its keys are task, args, kwargs, options, subtask_type and immutable"
    )]
    UnknownKey {
        /// The canvas that has it.
        path: Path,
        /// The key.
        key: String,
    },
    /// A task name that is none.
    #[error("{path}: {source}")]
    Name {
        /// The canvas that has it.
        path: Path,
        /// What is wrong with it.
        source: NameError,
    },
    /// A `subtask_type` other than chain, group and chord.
    #[error("{path}: subtask_type {found:?} is unknown; it is \"chain\", \"group\", \"chord\" or null")]
    SubtaskType {
        /// The canvas that has it.
        path: Path,
        /// What stood there.
        found: String,
    },
    /// Nested too deep to be read safely.
    #[error("{path}: canvases are nested more than {max} deep")]
    Depth {
        /// Where the limit was passed.
        path: Path,
        /// The limit.
        max: usize,
    },
}

type Result<T> = std::result::Result<T, CeleryError>;

/// A dictionary whose values are still text.
type RawMap<'a> = BTreeMap<Cow<'a, str>, &'a RawValue>;

/// The six keys of a signature.
#[derive(Deserialize)]
struct Raw<'a> {
    #[serde(borrow)]
    task: Option<Cow<'a, str>>,
    #[serde(borrow)]
    args: Option<&'a RawValue>,
    #[serde(borrow)]
    kwargs: Option<&'a RawValue>,
    #[serde(borrow)]
    options: Option<&'a RawValue>,
    #[serde(borrow)]
    subtask_type: Option<Cow<'a, str>>,
    immutable: Option<bool>,
    /// Written by Celery 4; it can be derived.
    #[serde(rename = "chord_size")]
    _chord_size: Option<serde::de::IgnoredAny>,
}

impl Canvas {
    /// Reads Celery's JSON form: what `json.dumps(signature)` or kombu's serialiser writes.
    ///
    /// Frozen ids and other unknown options are kept as options; partial arguments of a chain, group or chord
    /// are bound to the leaves that would get them.
    ///
    /// # Errors
    /// [`CeleryError`], with the path of the part that is wrong.
    pub fn from_json(text: &str) -> Result<Canvas> {
        read(&Path::root(), 0, text)
    }

    /// Writes Celery's JSON form, compact; `celery.canvas.signature` reads it back.
    pub fn to_json(&self) -> String {
        let mut out = String::new();
        write(&mut out, self);
        out
    }
}

impl serde::Serialize for Canvas {
    /// Celery's JSON form.
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        Json::from_compact(self.to_json()).serialize(serializer)
    }
}

impl<'de> serde::Deserialize<'de> for Canvas {
    /// Celery's JSON form.
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        let json = Json::deserialize(deserializer)?;
        Canvas::from_json(json.as_str()).map_err(serde::de::Error::custom)
    }
}

/// Reads a canvas that stands in so many others.
fn read(path: &Path, depth: usize, text: &str) -> Result<Canvas> {
    let max = Limits::default().depth_max;
    if depth > max {
        return Err(CeleryError::Depth { path: path.clone(), max });
    }
    let raw: Raw<'_> = parse(path, "a canvas", "an object with task, args, kwargs and options", text)?;
    let keys: BTreeMap<Cow<'_, str>, serde::de::IgnoredAny> = parse(path, "a canvas", "an object", text)?;
    let known = ["task", "args", "kwargs", "options", "subtask_type", "immutable", "chord_size"];
    if let Some(key) = keys.into_keys().find(|key| !known.contains(&key.as_ref())) {
        return Err(CeleryError::UnknownKey { path: path.clone(), key: key.into_owned() });
    }
    let task = raw.task.ok_or_else(|| CeleryError::Missing { path: path.clone(), what: "task" })?;
    let args = read_list(path, "args", raw.args)?;
    let kwargs = read_map(path, "kwargs", raw.kwargs)?;
    let options = read_options(path, depth, raw.options)?;
    let immutable = raw.immutable.unwrap_or(false);

    let form = match raw.subtask_type.as_deref() {
        None => task.strip_prefix("celery.").unwrap_or_default(),
        Some(form @ ("chain" | "group" | "chord")) => form,
        Some(other) => {
            return Err(CeleryError::SubtaskType { path: path.clone(), found: other.to_owned() });
        }
    };
    let mut canvas = match form {
        "chain" => Canvas::Chain(Chain {
            steps: read_parts(path, depth, &kwargs, "tasks", Segment::Chain)?,
            options,
            immutable,
        }),
        "group" => Canvas::Group(Group {
            members: read_parts(path, depth, &kwargs, "tasks", Segment::Group)?,
            options,
        }),
        "chord" => Canvas::Chord(Chord {
            header: read_header(path, depth, &kwargs)?,
            body: read_body(path, depth, &kwargs)?,
            options,
        }),
        "map" | "starmap" => Canvas::Map(Map {
            kind: if form == "map" { MapKind::Map } else { MapKind::Starmap },
            task: read_mapped(path, &kwargs)?,
            items: read_items(path, &kwargs)?,
            options,
        }),
        "chunks" => Canvas::Chunks(Chunks {
            task: read_mapped(path, &kwargs)?,
            items: read_items(path, &kwargs)?,
            size: parse(path, "n", "a whole number above 0", take(path, &kwargs, "n")?.get())?,
            options,
        }),
        _ => {
            let task = read_name(path, task)?;
            return Ok(Canvas::Signature(Signature {
                task,
                args,
                kwargs: owned(&kwargs),
                options,
                immutable,
            }));
        }
    };
    // Arguments of a clone: the other keys of `kwargs` (a chord has a dictionary of its own for them).
    let parts = ["tasks", "header", "body", "task", "it", "n", "kwargs"];
    let mut call = owned(&kwargs);
    call.retain(|name, _| !parts.contains(&name.as_str()));
    if form == "chord" {
        call.extend(owned(&read_map(path, "the chord's kwargs", kwargs.get("kwargs").copied())?));
    }
    canvas.bind(&args, &call);
    Ok(canvas)
}

fn parse<'a, T: Deserialize<'a>>(
    path: &Path,
    what: &'static str,
    expected: &'static str,
    text: &'a str,
) -> Result<T> {
    serde_json::from_str(text).map_err(|error| CeleryError::Type {
        path: path.clone(),
        what,
        expected,
        source: error.into(),
    })
}

fn take<'a>(path: &Path, kwargs: &RawMap<'a>, what: &'static str) -> Result<&'a RawValue> {
    kwargs.get(what).copied().ok_or_else(|| CeleryError::Missing { path: path.clone(), what })
}

fn read_list(path: &Path, what: &'static str, raw: Option<&RawValue>) -> Result<Vec<Json>> {
    let raw: Vec<&RawValue> = raw.map_or(Ok(Vec::new()), |raw| parse(path, what, "a list", raw.get()))?;
    Ok(raw.into_iter().map(Json::from_raw).collect())
}

fn read_map<'a>(path: &Path, what: &'static str, raw: Option<&'a RawValue>) -> Result<RawMap<'a>> {
    raw.map_or(Ok(RawMap::new()), |raw| parse(path, what, "an object", raw.get()))
}

fn owned(map: &RawMap<'_>) -> Kwargs {
    map.iter().map(|(name, value)| (name.clone().into_owned(), Json::from_raw(value))).collect()
}

fn read_name(path: &Path, name: Cow<'_, str>) -> Result<TaskName> {
    TaskName::new(name.into_owned()).map_err(|source| CeleryError::Name { path: path.clone(), source })
}

fn read_parts(
    path: &Path,
    depth: usize,
    kwargs: &RawMap<'_>,
    key: &'static str,
    segment: fn(u32) -> Segment,
) -> Result<Vec<Canvas>> {
    let raw: Vec<&RawValue> = parse(path, key, "a list of canvases", take(path, kwargs, key)?.get())?;
    read_all(path, depth, raw, segment)
}

fn read_all(
    path: &Path,
    depth: usize,
    all: Vec<&RawValue>,
    segment: fn(u32) -> Segment,
) -> Result<Vec<Canvas>> {
    let numbered = all.into_iter().enumerate();
    numbered.map(|(i, part)| read(&path.child(segment(i as u32)), depth + 1, part.get())).collect()
}

/// A header is a list, or, once the chord was frozen, a group.
fn read_header(path: &Path, depth: usize, kwargs: &RawMap<'_>) -> Result<Vec<Canvas>> {
    let raw = take(path, kwargs, "header")?;
    if !raw.get().starts_with('{') {
        return read_parts(path, depth, kwargs, "header", Segment::Header);
    }
    let mut header = read(path, depth + 1, raw.get())?;
    match &mut header {
        Canvas::Group(group) => Ok(std::mem::take(&mut group.members)),
        _ => Ok(vec![header]),
    }
}

fn read_body(path: &Path, depth: usize, kwargs: &RawMap<'_>) -> Result<Option<Box<Canvas>>> {
    match kwargs.get("body") {
        Some(raw) if raw.get() != "null" => {
            Ok(Some(Box::new(read(&path.child(Segment::Body), depth + 1, raw.get())?)))
        }
        _ => Ok(None),
    }
}

fn read_mapped(path: &Path, kwargs: &RawMap<'_>) -> Result<TaskName> {
    #[derive(Deserialize)]
    struct Mapped<'a> {
        #[serde(borrow)]
        task: Cow<'a, str>,
    }
    let mapped: Mapped<'_> =
        parse(path, "task", "the signature of a task", take(path, kwargs, "task")?.get())?;
    read_name(&path.child(Segment::Mapped), mapped.task)
}

fn read_items(path: &Path, kwargs: &RawMap<'_>) -> Result<Vec<Json>> {
    read_list(path, "it", Some(take(path, kwargs, "it")?))
}

fn read_options(path: &Path, depth: usize, raw: Option<&RawValue>) -> Result<Options> {
    let mut options = Options::new();
    for (name, value) in read_map(path, "options", raw)? {
        match name.as_ref() {
            "link" => {
                for callback in read_callbacks(path, depth, "link", value, Segment::Link)? {
                    options.add_link(callback);
                }
            }
            "link_error" => {
                for errback in read_callbacks(path, depth, "link_error", value, Segment::LinkError)? {
                    options.add_link_error(errback);
                }
            }
            "finally" => {
                for last in read_callbacks(path, depth, "finally", value, Segment::Finally)? {
                    options.add_finally(last);
                }
            }
            _ => options.insert_unchecked(name.into_owned(), Json::from_raw(value)),
        }
    }
    Ok(options)
}

/// Celery's `maybe_list`: one callback may stand without a list, and none may be null.
fn read_callbacks(
    path: &Path,
    depth: usize,
    what: &'static str,
    raw: &RawValue,
    segment: fn(u32) -> Segment,
) -> Result<Vec<Canvas>> {
    let list: Vec<&RawValue> = match raw.get() {
        "null" => Vec::new(),
        text if text.starts_with('{') => vec![raw],
        text => parse(path, what, "a list of canvases", text)?,
    };
    read_all(path, depth, list, segment)
}

/// What is still to be written.
enum Todo<'a> {
    Text(&'static str),
    Canvas(&'a Canvas),
    Options(&'a Options),
    /// The keys after the options.
    End(Option<&'static str>, bool),
}

/// Does not recurse, whatever the depth.
fn write(out: &mut String, canvas: &Canvas) {
    // Backwards: what comes next is last.
    let mut todo = vec![Todo::Canvas(canvas)];
    while let Some(next) = todo.pop() {
        match next {
            Todo::Text(text) => out.push_str(text),
            Todo::Canvas(canvas) => write_canvas(out, canvas, &mut todo),
            Todo::Options(options) => write_options(out, options, &mut todo),
            Todo::End(form, immutable) => {
                out.push_str(",\"subtask_type\":");
                match form {
                    Some(form) => write_string(out, form),
                    None => out.push_str("null"),
                }
                write!(out, ",\"immutable\":{immutable}}}").expect("a String takes all text");
            }
        }
    }
}

fn write_canvas<'a>(out: &mut String, canvas: &'a Canvas, todo: &mut Vec<Todo<'a>>) {
    let (form, immutable) = match canvas {
        Canvas::Signature(signature) => (None, signature.immutable),
        Canvas::Chain(chain) => (Some("chain"), chain.immutable),
        Canvas::Group(_) => (Some("group"), false),
        Canvas::Chord(_) => (Some("chord"), false),
        Canvas::Map(_) | Canvas::Chunks(_) => (None, true),
    };
    todo.extend([Todo::End(form, immutable), Todo::Options(canvas.options())]);
    match canvas {
        Canvas::Signature(signature) => {
            write_head(out, signature.task.as_str(), &signature.args);
            let kwargs = signature.kwargs.iter().map(|(name, value)| (name.as_str(), value));
            out.push_str(Json::object(kwargs).as_str());
        }
        Canvas::Chain(chain) => {
            write_head(out, "celery.chain", &[]);
            out.push_str("{\"tasks\":");
            todo.push(Todo::Text("}"));
            push_list(todo, &chain.steps);
        }
        Canvas::Group(group) => {
            write_head(out, "celery.group", &[]);
            out.push_str("{\"tasks\":");
            todo.push(Todo::Text("}"));
            push_list(todo, &group.members);
        }
        Canvas::Chord(chord) => {
            write_head(out, "celery.chord", &[]);
            out.push_str("{\"kwargs\":{},\"header\":");
            todo.push(Todo::Text("}"));
            todo.push(chord.body.as_deref().map_or(Todo::Text("null"), Todo::Canvas));
            todo.push(Todo::Text(",\"body\":"));
            push_list(todo, &chord.header);
        }
        Canvas::Map(map) => {
            let task = match map.kind {
                MapKind::Map => "celery.map",
                MapKind::Starmap => "celery.starmap",
            };
            write_head(out, task, &[]);
            write_mapped(out, &map.task, &map.items);
            out.push('}');
        }
        Canvas::Chunks(chunks) => {
            write_head(out, "celery.chunks", &[]);
            write_mapped(out, &chunks.task, &chunks.items);
            write!(out, ",\"n\":{}}}", chunks.size).expect("a String takes all text");
        }
    }
}

fn write_head(out: &mut String, task: &str, args: &[Json]) {
    out.push_str("{\"task\":");
    write_string(out, task);
    out.push_str(",\"args\":");
    out.push_str(Json::list(args).as_str());
    out.push_str(",\"kwargs\":");
}

fn push_list<'a>(todo: &mut Vec<Todo<'a>>, canvases: &'a [Canvas]) {
    todo.push(Todo::Text("]"));
    for (i, canvas) in canvases.iter().enumerate().rev() {
        todo.push(Todo::Canvas(canvas));
        if i > 0 {
            todo.push(Todo::Text(","));
        }
    }
    todo.push(Todo::Text("["));
}

/// The task and items of a map; the closing brace is the caller's.
fn write_mapped(out: &mut String, task: &TaskName, items: &[Json]) {
    out.push_str("{\"task\":");
    write(out, &Canvas::Signature(Signature::of(task.clone())));
    out.push_str(",\"it\":");
    out.push_str(Json::list(items).as_str());
}

fn write_options<'a>(out: &mut String, options: &'a Options, todo: &mut Vec<Todo<'a>>) {
    out.push_str(",\"options\":{");
    let mut comma = "";
    for (name, value) in options.values() {
        out.push_str(comma);
        write_string(out, name);
        out.push(':');
        out.push_str(value.as_str());
        comma = ",";
    }
    todo.push(Todo::Text("}"));
    let callbacks = [
        ("\"finally\":", options.finally()),
        ("\"link_error\":", options.link_error()),
        ("\"link\":", options.link()),
    ];
    let mut kinds = callbacks.into_iter().filter(|(_, callbacks)| !callbacks.is_empty()).peekable();
    while let Some((name, callbacks)) = kinds.next() {
        push_list(todo, callbacks);
        todo.push(Todo::Text(name));
        todo.push(Todo::Text(if kinds.peek().is_some() { "," } else { comma }));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn refuse(text: &str, expect: &str) {
        let error = Canvas::from_json(text).unwrap_err().to_string();
        assert!(error.starts_with(expect), "{error}");
    }

    #[test]
    fn errors_name_the_place_and_what_to_write() {
        refuse("3", "canvas: a canvas should be an object with task");
        refuse("{}", "canvas: task is missing");
        refuse(r#"{"task":"a b"}"#, "canvas: \"a b\" is not a task name");
        refuse(r#"{"task":"a","arg":[1]}"#, "canvas: a signature has no key \"arg\"");
        refuse(r#"{"task":"a","args":{}}"#, "canvas: args should be a list");
        refuse(r#"{"task":"a","subtask_type":"choir"}"#, "canvas: subtask_type \"choir\" is unknown");
        refuse(
            r#"{"task":"celery.chain","kwargs":{"tasks":[{"task":"a"},{"task":""}]},"subtask_type":"chain"}"#,
            "chain[1]: \"\" is not a task name",
        );
        refuse(
            r#"{"task":"celery.chunks","kwargs":{"task":{"task":"a"},"it":[],"n":-1}}"#,
            "canvas: n should be",
        );
        refuse(r#"{"task":"a","args":[NaN]}"#, "canvas: a canvas should be");
    }

    #[test]
    fn keys_other_than_task_may_be_missing() {
        let canvas = Canvas::from_json(r#"{"task":"a"}"#).unwrap();
        assert_eq!(canvas, Signature::new("a").unwrap().into());
    }

    #[test]
    fn deep_nesting_is_refused_before_the_stack_ends() {
        let mut text = r#"{"task":"a"}"#.to_owned();
        for _ in 0..100 {
            text =
                format!(r#"{{"task":"celery.chain","kwargs":{{"tasks":[{text}]}},"subtask_type":"chain"}}"#);
        }
        assert!(matches!(Canvas::from_json(&text), Err(CeleryError::Depth { max: 64, .. })));
    }

    #[test]
    fn headers_that_are_canvases_of_their_own_count_as_levels() {
        let mut text = r#"{"task":"a"}"#.to_owned();
        for _ in 0..5_000 {
            text = format!(r#"{{"task":"celery.chord","kwargs":{{"header":{text},"body":null}}}}"#);
        }
        assert!(matches!(Canvas::from_json(&text), Err(CeleryError::Depth { max: 64, .. })));
    }

    #[test]
    fn all_callbacks_are_written_in_their_order() {
        let leaf = |name: &str| Canvas::from(Signature::new(name).unwrap());
        let mut canvas = leaf("a");
        ["b", "c"].into_iter().for_each(|name| canvas.options_mut().add_link(leaf(name)));
        ["d", "e"].into_iter().for_each(|name| canvas.options_mut().add_finally(leaf(name)));
        for queue in [false, true] {
            if queue {
                canvas.options_mut().set("queue", Json::string("q")).unwrap();
            }
            assert_eq!(Canvas::from_json(&canvas.to_json()).unwrap(), canvas);
            canvas.options_mut().add_link_error(leaf("f"));
            assert_eq!(Canvas::from_json(&canvas.to_json()).unwrap(), canvas);
        }
        let places: Vec<_> = ["queue", "link\"", "\"b", "\"c", "link_error", "\"f", "finally", "\"d", "\"e"]
            .map(|key| canvas.to_json().find(key).unwrap())
            .to_vec();
        assert!(places.is_sorted(), "{places:?}");
    }

    #[test]
    fn arguments_of_a_cloned_chain_are_bound_to_its_first_task() {
        let canvas = Canvas::from_json(
            r#"{"task":"celery.chain","args":[1],"kwargs":{"tasks":[{"task":"a","args":[2]},{"task":"b"}],"z":3},
                "options":{},"subtask_type":"chain","immutable":false}"#,
        );
        assert_eq!(canvas.unwrap().to_string(), "a.s(1, 2, z=3) | b.s()");
    }
}

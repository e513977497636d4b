//! The bodies of the targets.

use celeriac_engine::Plan;
use celeriac_engine::text::{AnyName, TextError, parse_args, parse_value, parse_with};
use celeriac_primitives::{Canvas, Completion, Json, Limits, Options, TaskMessage};

use crate::Outcome;

/// Operator text: what is read prints, and what it prints reads back.
pub fn text(data: &[u8]) -> Outcome {
    let Ok(text) = std::str::from_utf8(data) else { return refused(data, "not UTF-8") };
    let value = parse_value(text);
    if let Ok(json) = &value {
        read_back(json.as_str(), parse_value(json.as_str()), json);
    }
    let arguments = parse_args(text);
    if let Ok((args, _)) = &arguments {
        let list = Json::list(args);
        read_back(list.as_str(), parse_value(list.as_str()), &list);
    }
    let canvas = parse_with(text, &AnyName, &limits());
    for error in [value.err(), arguments.err(), canvas.as_ref().err().cloned()].iter().flatten() {
        assert_eq!(error.to_string().lines().count(), 3, "an error has three lines: {error}");
        let line = text.split('\n').nth(error.line - 1).expect("the line of an error is in the text");
        assert!(error.column <= line.chars().count() + 1, "the column of an error is in its line: {error}");
    }
    match canvas {
        Ok(canvas) => {
            check_text(&canvas);
            accepted(&canvas)
        }
        Err(error) => refused(data, &format!("{} {}", error.message, error.help)),
    }
}

/// Celery's JSON form: what is read is written, and reads back; its operator text does too, and it compiles or is
/// refused.
pub fn canvas_json(data: &[u8]) -> Outcome {
    let Ok(text) = std::str::from_utf8(data) else { return refused(data, "not UTF-8") };
    match Canvas::from_json(text) {
        Ok(canvas) => {
            let json = canvas.to_json();
            assert_eq!(
                Canvas::from_json(&json).as_ref().ok(),
                Some(&canvas),
                "what is written reads back: {json}"
            );
            if limits().check(&canvas).is_ok() {
                check_text(&canvas);
                if let Ok(compiled) = Plan::compile_within(&canvas, &limits()) {
                    check_plan(&compiled);
                }
            }
            accepted(&canvas)
        }
        Err(error) => refused(data, &error.to_string()),
    }
}

/// The binary form of messages and completions: what decodes encodes to an equal value.
pub fn message(data: &[u8]) -> Outcome {
    if let Ok(message) = TaskMessage::decode(data) {
        let again = TaskMessage::decode(&message.encode());
        assert_eq!(again.as_ref().ok(), Some(&message), "a message that decodes encodes: {again:?}");
        return Outcome { accepted: true, kind: format!("message {:?}", message.call) };
    }
    match Completion::decode(data) {
        Ok(completion) => {
            let again = Completion::decode(&completion.encode());
            assert_eq!(
                again.as_ref().ok(),
                Some(&completion),
                "a completion that decodes encodes: {again:?}"
            );
            let kind = format!("completion {}", completion.outcome.state());
            Outcome { accepted: true, kind }
        }
        Err(error) => refused(data, &error.to_string()),
    }
}

/// The binary form of plans: what decodes encodes to the same plan.
pub fn plan(data: &[u8]) -> Outcome {
    match Plan::decode(data) {
        Ok(plan) => {
            check_plan(&plan);
            Outcome { accepted: true, kind: format!("plan of 2^{} nodes", plan.len().max(1).ilog2()) }
        }
        Err(error) => refused(data, &error.to_string()),
    }
}

/// Small enough for many runs per second.
fn limits() -> Limits {
    let mut limits = Limits::default();
    limits.nodes_max = 2_000;
    limits
}

fn check_plan(plan: &Plan) {
    let bytes = plan.encode();
    match Plan::decode(&bytes) {
        Ok(again) => assert_eq!(again.encode(), bytes, "a plan encodes to the same bytes again"),
        Err(error) => panic!("a plan that decodes encodes: {error}"),
    }
}

/// What a canvas prints is read as the same canvas.
fn check_text(canvas: &Canvas) {
    // Too deep, too large, or an option of the wrong type: such a canvas is refused wherever it is used.
    if limits().check(canvas).is_ok() {
        let text = canvas.to_string();
        read_back(&text, parse_with(&text, &AnyName, &Limits::default()), canvas);
    }
}

fn read_back<T: PartialEq + std::fmt::Debug>(text: &str, read: Result<T, TextError>, expect: &T) {
    match read {
        Ok(read) => assert_eq!(read, *expect, "what is printed reads back: {text}"),
        // Values may nest as deep as the text of a canvas around them leaves room for, and chunks of size 0 are
        // refused when a canvas is compiled.
        Err(error) if error.message.contains("nested more than") => {}
        Err(error) if error.message.contains("the size of chunks") => {}
        Err(error) => panic!("what is printed reads back:\n{text}\n{error}"),
    }
}

fn accepted(canvas: &Canvas) -> Outcome {
    let mut forms = String::new();
    let mut todo = vec![canvas];
    while let Some(canvas) = todo.pop() {
        let form = match canvas {
            Canvas::Signature(signature) if signature.immutable => 'i',
            Canvas::Signature(signature) if !signature.kwargs.is_empty() => 'k',
            Canvas::Signature(_) => 's',
            Canvas::Chain(chain) => {
                todo.extend(&chain.steps);
                if chain.immutable { 'I' } else { 'C' }
            }
            Canvas::Group(group) => {
                todo.extend(&group.members);
                'G'
            }
            Canvas::Chord(chord) => {
                todo.extend(&chord.header);
                todo.extend(chord.body.as_deref());
                if chord.body.is_some() { 'H' } else { 'h' }
            }
            Canvas::Map(_) => 'm',
            Canvas::Chunks(_) => 'c',
        };
        let options: &Options = canvas.options();
        todo.extend(options.link());
        todo.extend(options.link_error());
        todo.extend(options.finally());
        for (mark, is_there) in [
            (form, true),
            ('o', options.values().next().is_some()),
            ('l', !options.link().is_empty()),
            ('e', !options.link_error().is_empty()),
            ('f', !options.finally().is_empty()),
        ] {
            if is_there && !forms.contains(mark) {
                forms.push(mark);
            }
        }
    }
    Outcome { accepted: true, kind: format!("accepted {forms}") }
}

/// The error without what it quotes from the input, so that there are not too many kinds.
fn refused(data: &[u8], error: &str) -> Outcome {
    let input = String::from_utf8_lossy(data);
    let is_ours = |word: &&str| {
        word.chars().all(|c| c.is_ascii_alphabetic() || matches!(c, '.' | ',' | ':' | ';' | '(' | ')'))
            && (word.len() < 3 || !input.contains(*word))
    };
    let kind: Vec<&str> = error.split_whitespace().filter(is_ours).collect();
    Outcome { accepted: false, kind: kind.join(" ") }
}

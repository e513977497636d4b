//! What is set for the tasks of a canvas that a task asks for: it travels with the canvas.
//!
//! A coordinator compiles such a canvas and knows no tasks; the worker that ran the leaf knows its app. So the worker adds
//! what the tasks of the canvas were declared with and where they are routed to:
//!
//! ```text
//! {"task": "celeriac.declared", "canvas": {"task": "celery.chain", …}, "tasks": {"proj.mul": {"queue": "quick", …}}}
//! ```

use std::collections::BTreeMap;
use std::convert::Infallible;

use celeriac_engine::plan::RunOptions;
use celeriac_primitives::{Canvas, Json, Outcome, Own, TaskName};
use serde::Deserialize;

use crate::Registry;

/// How a canvas begins with which something travels.
const BEGINNING: &str = r#"{"task":"celeriac.declared","#;

/// What is set for tasks, by their names.
pub(crate) type Declared = BTreeMap<TaskName, RunOptions>;

#[derive(Deserialize)]
struct Written {
    canvas: Json,
    tasks: Declared,
}

/// The outcome with what is set for the tasks of the canvases in it.
pub(crate) fn attach(registry: &Registry, outcome: Outcome) -> Outcome {
    if !registry.has_options() {
        return outcome;
    }
    match outcome {
        Outcome::Replace(canvas) => Outcome::Replace(write(registry, canvas)),
        Outcome::Add(mut addition) => {
            if let Own::Canvas(canvas) = &mut addition.own {
                *canvas = write(registry, canvas.clone());
            }
            addition.added.iter_mut().for_each(|canvas| *canvas = write(registry, canvas.clone()));
            Outcome::Add(addition)
        }
        outcome => outcome,
    }
}

fn write(registry: &Registry, canvas: Json) -> Json {
    // What cannot be read is for the coordinator to refuse.
    let Ok(mut read) = Canvas::from_json(canvas.as_str()) else { return canvas };
    let mut tasks = Declared::new();
    let note = &mut |name: &TaskName| {
        if !tasks.contains_key(name) {
            let options = registry.options_of(name);
            if options != RunOptions::default() {
                tasks.insert(name.clone(), options);
            }
        }
        Ok::<TaskName, Infallible>(name.clone())
    };
    let Ok(()) = read.rename(note);
    if tasks.is_empty() {
        return canvas;
    }
    let tasks = Json::new(&tasks).expect("options have a JSON form");
    Json::from_compact(format!(r#"{BEGINNING}"canvas":{canvas},"tasks":{tasks}}}"#))
}

/// The canvas, and what travelled with it.
pub(crate) fn read(canvas: &Json) -> (Json, Declared) {
    let written = canvas.as_str().starts_with(BEGINNING).then(|| canvas.to::<Written>().ok()).flatten();
    written.map_or_else(|| (canvas.clone(), Declared::new()), |written| (written.canvas, written.tasks))
}

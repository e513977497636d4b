//! What is set for the tasks of a canvas that a task asks for: it travels with the canvas.
//!
//! A coordinator compiles such a canvas and knows no tasks; the worker that ran the leaf knows its app.
//! So the worker adds what the tasks of the canvas were declared with and where they are routed to:
//!
//! ```text
//! {"task": "celeriac.declared", "canvas": {"task": "celery.chain", …}, "tasks": {"proj.mul": {"queue": "quick", …}}}
//! ```

use std::collections::{BTreeMap, BTreeSet};

use celeriac_engine::plan::RunOptions;
use celeriac_primitives::{Addition, Canvas, Json, OptionError, Options, Outcome, Own, TaskError, TaskName};
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

/// The outcome with what is set for the tasks of the canvases in it. The canvases have brought these
/// declarations along.
pub(crate) fn attach(
    registry: &Registry,
    outcome: Outcome,
    declared: &BTreeMap<TaskName, &'static Options>,
) -> Outcome {
    if !registry.has_options() && declared.is_empty() {
        return outcome;
    }
    let write = |canvas: Json| write(registry, canvas, declared);
    let written = match outcome {
        Outcome::Replace(canvas) => write(canvas).map(Outcome::Replace),
        Outcome::Add(addition) => {
            let own = match addition.own {
                Own::Canvas(canvas) => write(canvas).map(Own::Canvas),
                own => Ok(own),
            };
            let added: Result<_, _> = addition.added.into_iter().map(write).collect();
            own.and_then(|own| Ok(Outcome::Add(Box::new(Addition { own, added: added? }))))
        }
        outcome => Ok(outcome),
    };
    written.unwrap_or_else(|error| Outcome::Failed(TaskError::new("FlowError", error.to_string())))
}

fn write(
    registry: &Registry,
    canvas: Json,
    declared: &BTreeMap<TaskName, &'static Options>,
) -> Result<Json, OptionError> {
    // What cannot be read is for the coordinator to refuse.
    let Ok(read) = Canvas::from_json(canvas.as_str()) else { return Ok(canvas) };
    let names: BTreeSet<&TaskName> = read.calls().map(|(name, _)| name).collect();
    let mut tasks = Declared::new();
    for name in names {
        let options = registry.options_of(name, declared.get(name).copied())?;
        if options != RunOptions::default() {
            tasks.insert(name.clone(), options);
        }
    }
    if tasks.is_empty() {
        return Ok(canvas);
    }
    let tasks = Json::new(&tasks).expect("options have a JSON form");
    Ok(Json::from_compact(format!(r#"{BEGINNING}"canvas":{canvas},"tasks":{tasks}}}"#)))
}

/// The canvas, and what travelled with it.
pub(crate) fn read(canvas: &Json) -> (Json, Declared) {
    let written = canvas.as_str().starts_with(BEGINNING).then(|| canvas.to::<Written>().ok()).flatten();
    written.map_or_else(|| (canvas.clone(), Declared::new()), |written| (written.canvas, written.tasks))
}

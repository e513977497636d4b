//! `ls`: lists runs.

use std::fmt::Write as _;

use celeriac_primitives::{RunId, TaskState};
use celeriac_runtime::{App, RunReport, UnreadableRun};
use serde::Serialize;

use crate::args::{GlobalArgs, ListForm, LsArgs};
use crate::exit::{Exit, Stop};
use crate::io::{Io, harmless_json, one_line};
use crate::{backend, find};

/// How many runs are asked for in one step.
const PAGE: usize = 100;

pub(crate) async fn ls(app: &App, global: &GlobalArgs, args: &LsArgs, io: &mut Io<'_>) -> Result<Exit, Stop> {
    let app = backend::shared(app, global).await?;
    let mut before = match &args.before {
        Some(text) => Some(find::find(&app, text).await?),
        None => None,
    };
    let mut left = args.max;
    let mut list = match args.output {
        ListForm::Table => format!("{:36}  {:7}  DONE\n", "ID", "STATE"),
        ListForm::Json => String::new(),
    };
    while left > 0 {
        let page = if args.state.is_some() { PAGE } else { left.min(PAGE) };
        let runs = app.runs(before, page).await?;
        let Some(last) = runs.last() else { break };
        before = Some(last.as_ref().map_or_else(|unreadable| unreadable.id, |run| run.id));
        for run in &runs {
            let is_asked_for = match run {
                Ok(run) => args.state.is_none_or(|state| state.is(run.state)),
                // Nobody knows in which state it is.
                Err(_) => args.state.is_none(),
            };
            if left > 0 && is_asked_for {
                list.push_str(&match run {
                    Ok(run) => line(run, args.output),
                    Err(unreadable) => line_of_unreadable(unreadable, args.output),
                });
                left -= 1;
            }
        }
        // One page at a time goes out: whoever filters among many runs sees what is there.
        io.print(&std::mem::take(&mut list))?;
    }
    io.print(&list)
}

/// A run, for programs. The names are stable; later versions may add others.
#[derive(Serialize)]
struct Row {
    id: RunId,
    state: TaskState,
    /// Leaves that have ended, and how many there are.
    done: u32,
    total: u32,
    /// Whether nothing is left to do, callbacks included.
    ended: bool,
}

/// A run that cannot be read, for programs.
#[derive(Serialize)]
struct UnreadableRow {
    id: RunId,
    error: String,
}

fn line_of_unreadable(unreadable: &UnreadableRun, form: ListForm) -> String {
    let (id, error) = (unreadable.id, unreadable.error.to_string());
    let mut line = match form {
        ListForm::Table => format!("{id}  ?        {}", one_line(&error)),
        ListForm::Json => {
            let row = serde_json::to_string(&UnreadableRow { id, error });
            harmless_json(&row.expect("a row holds texts only")).into_owned()
        }
    };
    writeln!(line).expect("a String takes all text");
    line
}

fn line(run: &RunReport, form: ListForm) -> String {
    let RunReport { id, state, status, .. } = *run;
    let (done, total) = (status.done, status.total());
    let mut line = match form {
        ListForm::Table => format!("{id}  {state:7}  {done}/{total}"),
        ListForm::Json => {
            let row = Row { id, state, done, total, ended: status.ended() };
            serde_json::to_string(&row).expect("a row holds numbers and texts only")
        }
    };
    writeln!(line).expect("a String takes all text");
    line
}

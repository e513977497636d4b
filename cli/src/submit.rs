//! `submit`: stores a canvas as a new run and prints its id.

use std::sync::Arc;

use celeriac_primitives::{Json, RunId};
use celeriac_runtime::{App, Handle};

use crate::args::{GlobalArgs, SubmitArgs};
use crate::backend;
use crate::exit::{Exit, Stop};
use crate::io::Io;

pub(crate) async fn submit(
    app: &App,
    global: &GlobalArgs,
    args: &SubmitArgs,
    io: &mut Io<'_>,
) -> Result<Exit, Stop> {
    let plan = Arc::new(args.canvas.compile(app, io.stdin)?);
    let app = backend::shared(app, global).await?;
    let chosen = args.id.or_else(|| args.key.as_deref().map(RunId::from_key));
    let run: Handle<Json> = match chosen {
        None => app.submit_plan(plan).await?,
        Some(id) => app.submit_plan_as(id, plan).await.map_err(|error| explain(args, id, error.into()))?,
    };
    io.print(&format!("{}\n", run.id()))
}

/// A conflict in terms of what was written.
fn explain(args: &SubmitArgs, id: RunId, stop: Stop) -> Stop {
    let taken = match &args.key {
        Some(key) => format!("the key {key:?} is taken"),
        None => "this id is taken".to_owned(),
    };
    match stop.exit {
        Exit::Conflict => Stop::new(stop.exit, format!("{taken}: the run {id} has another canvas")),
        _ => stop,
    }
}

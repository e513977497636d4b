//! `submit`: stores a canvas as a new run and prints its id.

use celeriac_primitives::RunId;
use celeriac_runtime::App;

use crate::args::{GlobalArgs, SubmitArgs};
use crate::backend;
use crate::canvas::note_unplaced;
use crate::exit::{Exit, Stop};
use crate::io::Io;

pub(crate) async fn submit(
    app: &App,
    global: &GlobalArgs,
    args: &SubmitArgs,
    io: &mut Io<'_>,
) -> Result<Exit, Stop> {
    let chosen = args.id.or_else(|| args.key.as_deref().map(RunId::from_key));
    let compiled = args.canvas.compile(app, chosen, io.stdin)?;
    let app = backend::shared(app, global).await?;
    note_unplaced(&compiled.unplaced(), io);
    let run = compiled.on(&app).await.map_err(|error| explain(args, chosen, error.into()))?;
    io.print(&format!("{}\n", run.id()))
}

/// A conflict in terms of what was written.
fn explain(args: &SubmitArgs, chosen: Option<RunId>, stop: Stop) -> Stop {
    let taken = match (&args.key, chosen) {
        _ if stop.exit != Exit::Conflict => return stop,
        (Some(key), Some(id)) => format!("the key {key:?} is taken: the run {id}"),
        (None, Some(id)) => format!("this id is taken: the run {id}"),
        (_, None) => "the task_id of this canvas is taken: its run".to_owned(),
    };
    Stop::new(stop.exit, format!("{taken} has another canvas"))
}

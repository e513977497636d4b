//! `run`: runs a canvas and prints its result.

use celeriac_runtime::{App, GetError};

use crate::args::{GlobalArgs, RunArgs};
use crate::backend;
use crate::canvas::note_unplaced;
use crate::exit::{Exit, Stop};
use crate::io::{Io, harmless_json};
use crate::watch::{Watch, explain};

pub(crate) async fn run(
    app: &App,
    global: &GlobalArgs,
    args: &RunArgs,
    io: &mut Io<'_>,
) -> Result<Exit, Stop> {
    if app.registry().is_empty() && !app.has_backend() && global.url().is_none() {
        return Err(Stop::usage(
            "this program has no tasks to run; make one with celeriac::cli::main(app), or write --url URL where \
             workers have them",
        ));
    }
    let compiled = args.canvas.compile(app, None, io.stdin)?;
    let app = &backend::anywhere(app, global).await?;
    note_unplaced(&compiled.unplaced(), io);
    let run = compiled.on(app).await?;
    let watch = Watch::new(app, &run, io.shows_progress, args.timeout);

    let exit = match watch.wait(&mut io.signals, run.get_json(None)).await? {
        Ok(value) => watch.progress.aside(|| io.print(&format!("{}\n", harmless_json(value.as_str())))),
        Err(GetError::Failed(failure)) => {
            watch.progress.aside(|| io.complain(&explain(app, &failure)));
            Ok(Exit::Failed)
        }
        Err(error) => Err(error.into()),
    };
    if !app.is_embedded() {
        return exit;
    }
    // Known, and told. What is left of the run is done in this process, and would end with it.
    let ended = match watch.wait(&mut io.signals, run.ended()).await {
        Ok(ended) => ended.map_err(Stop::from),
        Err(stop) => Err(stop),
    };
    match (exit, ended) {
        (exit, Ok(())) => exit,
        (Ok(Exit::Failed), Err(stop)) => Err(Stop { exit: Exit::Failed, ..stop }),
        (_, Err(stop)) => Err(stop),
    }
}

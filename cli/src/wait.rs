//! `wait` and `result`: what becomes of a run.

use celeriac_engine::RunOutcome;
use celeriac_runtime::{App, GetError};

use crate::args::{GlobalArgs, ResultArgs, WaitArgs};
use crate::exit::{Exit, Stop};
use crate::io::{Io, harmless_json};
use crate::watch::{Watch, explain};
use crate::{backend, find};

pub(crate) async fn wait(
    app: &App,
    global: &GlobalArgs,
    args: &WaitArgs,
    io: &mut Io<'_>,
) -> Result<Exit, Stop> {
    let app = &backend::shared(app, global).await?;
    let run = find::run(app, &args.id).await?;
    let watch = Watch::new(app, &run, io.shows_progress, args.timeout);
    watch.wait(&mut io.signals, run.ended()).await??;
    match run.get_json(None).await {
        Ok(_) => Ok(Exit::Ok),
        Err(error) => Err(told(app, error)),
    }
}

pub(crate) async fn result(
    app: &App,
    global: &GlobalArgs,
    args: &ResultArgs,
    io: &mut Io<'_>,
) -> Result<Exit, Stop> {
    let app = &backend::shared(app, global).await?;
    let run = find::run(app, &args.id).await?;
    if args.no_wait {
        let status = run.status().await?;
        if status.outcome == RunOutcome::Undecided {
            let (done, total) = (status.done, status.total());
            return Err(Stop::new(
                Exit::Timeout,
                format!("there is no result yet: {done} of {total} leaves have ended"),
            ));
        }
    }
    let watch = Watch::new(app, &run, io.shows_progress, args.timeout);
    match watch.wait(&mut io.signals, run.get_json(None)).await? {
        Ok(value) => watch.progress.aside(|| io.print(&format!("{}\n", harmless_json(value.as_str())))),
        Err(error) => Err(told(app, error)),
    }
}

fn told(app: &App, error: GetError) -> Stop {
    match error {
        GetError::Failed(failure) => Stop::new(Exit::Failed, explain(app, &failure)),
        error => error.into(),
    }
}

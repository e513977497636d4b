//! `forget`: removes a run.

use celeriac_runtime::App;

use crate::args::{ForgetArgs, GlobalArgs};
use crate::exit::{Exit, Stop};
use crate::io::Io;
use crate::{backend, find};

pub(crate) async fn forget(
    app: &App,
    global: &GlobalArgs,
    args: &ForgetArgs,
    _: &mut Io<'_>,
) -> Result<Exit, Stop> {
    let app = backend::shared(app, global).await?;
    let run = find::run(&app, &args.id).await?;
    if let Some(origin) = app.backend().origin(run.run()).await? {
        // Its leaf would wait for ever.
        let message = format!("{} runs in the place of a leaf of {}; forget that run", run.id(), origin.root);
        return Err(Stop::new(Exit::Conflict, message));
    }
    if !args.force && !run.status().await?.ended() {
        let message = format!("the run {} has not ended; wait for it, or write --force", run.id());
        return Err(Stop::new(Exit::Conflict, message));
    }
    run.forget().await?;
    Ok(Exit::Ok)
}

//! `show` and `graph`: a run with the state of every node.

use std::fmt::Write as _;
use std::time::Duration;

use celeriac_engine::view::Standing;
use celeriac_engine::{RunOutcome, render};
use celeriac_primitives::Json;
use celeriac_runtime::{App, GetError, Handle, NodeReport};

use crate::args::{Form, GlobalArgs, GraphArgs, ShowArgs};
use crate::exit::{Exit, Stop};
use crate::io::Io;
use crate::watch::explain;
use crate::{backend, find};

/// How long one wait for a change lasts. Longer waits are made of several.
const POLL: Duration = Duration::from_secs(10);

/// Changes that come closer together are read at once.
const PAUSE: Duration = Duration::from_millis(100);

pub(crate) async fn show(
    app: &App,
    global: &GlobalArgs,
    args: &ShowArgs,
    io: &mut Io<'_>,
) -> Result<Exit, Stop> {
    let app = backend::shared(app, global).await?;
    let run = find::run(&app, &args.id).await?;
    // Read before the nodes: what changes in between is seen once more.
    let mut status = run.status().await?;
    let mut nodes = run.nodes().await?;
    let title = title(&run).await?;
    io.print(&(title + &picture(&run, &nodes, Form::Tree, args.all)))?;
    while args.follow && !status.ended() {
        let changed = async {
            tokio::time::sleep(PAUSE).await;
            run.changed(status.version, POLL).await
        };
        status = tokio::select! {
            biased;
            signal = io.signals.next() => {
                return Err(Stop::new(signal.exit(), format!("{signal}; the run goes on")));
            }
            changed = changed => changed?,
        };
        let now = run.nodes().await?;
        io.print(&changes(&nodes, &now))?;
        nodes = now;
        if status.ended() {
            io.print(&self::title(&run).await?)?;
        }
    }
    if let RunOutcome::Failed(_) = status.outcome
        && let Err(GetError::Failed(failure)) = run.get_json(Some(Duration::ZERO)).await
    {
        io.print(&format!("{}\n", explain(&app, &failure)))?;
    }
    Ok(Exit::Ok)
}

pub(crate) async fn graph(
    app: &App,
    global: &GlobalArgs,
    args: &GraphArgs,
    io: &mut Io<'_>,
) -> Result<Exit, Stop> {
    let app = backend::shared(app, global).await?;
    let run = find::run(&app, &args.id).await?;
    io.print(&picture(&run, &run.nodes().await?, args.output, args.all))
}

/// `run 0198f0c2-…  STARTED  3/10`
async fn title(run: &Handle<Json>) -> Result<String, Stop> {
    let status = run.status().await?;
    Ok(format!("run {}  {}  {}/{}\n", run.id(), run.state().await?, status.done, status.total()))
}

fn picture(run: &Handle<Json>, nodes: &[NodeReport], form: Form, all: bool) -> String {
    let standings: Vec<Standing> = nodes.iter().map(|node| node.standing).collect();
    form.draw(run.plan(), Some(&standings), if all { usize::MAX } else { render::FOLD_ABOVE })
}

/// A line for each node that stands otherwise than before: `n3 succeeded  header[1] proj.tasks.add`.
fn changes(before: &[NodeReport], now: &[NodeReport]) -> String {
    let mut lines = String::new();
    for (_, node) in before.iter().zip(now).filter(|(before, now)| before.standing != now.standing) {
        let standing = match node.standing {
            Standing::Waiting => "waits".to_owned(),
            Standing::Open => "open".to_owned(),
            Standing::Replaced => "replaced".to_owned(),
            Standing::Succeeded => "succeeded".to_owned(),
            Standing::Failed => "failed".to_owned(),
            Standing::Blocked(by) => format!("blocked by n{by}"),
            Standing::NotNeeded => "not needed".to_owned(),
        };
        let task = node.task.as_ref().map_or("join", |task| task.as_str());
        writeln!(lines, "n{} {standing}  {} {task}", node.node, node.path).expect("a String takes all text");
    }
    lines
}

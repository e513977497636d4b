//! From the command line to a compiled canvas.

use std::fs::File;
use std::io::{ErrorKind, Read};

use celeriac_backends::DEFAULT_QUEUE;
use celeriac_dsl::Flow;
use celeriac_engine::Plan;
use celeriac_engine::text::{self, AnyName, Names, Resolver, UnknownTask};
use celeriac_primitives::{Canvas, Json, Kwargs, RunId, TaskName};
use celeriac_runtime::{App, Compiled};

use crate::args::CanvasArgs;
use crate::exit::{Exit, Stop};
use crate::io::Io;

/// No file is read any further than this.
const BYTES_MAX: u64 = 256 << 20;

impl CanvasArgs {
    /// Reads, binds, checks and compiles the canvas, under an id if there is one. Nothing has started when this
    /// fails.
    pub(crate) fn compile(
        &self,
        app: &App,
        id: Option<RunId>,
        stdin: &mut dyn Read,
    ) -> Result<Compiled<Json>, Stop> {
        let names = app.registry().names();
        // A program without tasks has nothing to check names against; it can still draw.
        let any = app.registry().is_empty();
        let mut canvas = self.canvas(app, if any { &AnyName } else { &names }, stdin)?;
        let (args, kwargs) = self.arguments()?;
        canvas.bind(&args, &kwargs);
        let mut submission = app.submission(Flow::<(), Json>::assume(canvas));
        if let Some(id) = id {
            submission = submission.id(id);
        }
        let compiled = submission.compile()?;
        if !any {
            check_tasks(compiled.plan(), &names)?;
        }
        Ok(compiled)
    }

    fn canvas(&self, app: &App, names: &dyn Resolver, stdin: &mut dyn Read) -> Result<Canvas, Stop> {
        match (&self.text, &self.file) {
            (_, Some(path)) if path.as_os_str() != "-" => {
                let place = path.display().to_string();
                let text =
                    File::open(path).and_then(read_text).map_err(|error| unreadable(&place, &error))?;
                parse(&text, app, names).map_err(|error| Stop::usage(format!("{place}: {error}")))
            }
            (Some(text), None) if text != "-" => parse(text, app, names).map_err(Stop::usage),
            _ => {
                let text = read_text(stdin).map_err(|error| unreadable("stdin", &error))?;
                parse(&text, app, names).map_err(|error| Stop::usage(format!("stdin: {error}")))
            }
        }
    }

    /// What `--args` and `--kwargs` bind.
    fn arguments(&self) -> Result<(Vec<Json>, Kwargs), Stop> {
        let wrong = |option: &'static str| move |error| Stop::usage(format!("{option}: {error}"));
        let (args, mut kwargs) = match &self.args {
            Some(args) => text::parse_args(args).map_err(wrong("--args"))?,
            None => Default::default(),
        };
        if let Some(dict) = &self.kwargs {
            let value = text::parse_value(dict).map_err(wrong("--kwargs"))?;
            let more: Kwargs = value.to().map_err(|_| {
                Stop::usage(format!("--kwargs: write a dictionary, such as '{{\"z\": 5}}', not {dict}"))
            })?;
            for (name, value) in more {
                if kwargs.insert(name.clone(), value).is_some() {
                    return Err(Stop::usage(format!("{name} stands both in --args and in --kwargs")));
                }
            }
        }
        Ok((args, kwargs))
    }
}

/// So many tasks are named of which nobody knows where they run.
const NAMED_MAX: usize = 5;

/// Says on stderr which leaves go to the default queue because this program knows nothing of their tasks.
pub(crate) fn note_unplaced(tasks: &[TaskName], io: &mut Io<'_>) {
    if tasks.is_empty() {
        return;
    }
    let names: Vec<&str> = tasks.iter().take(NAMED_MAX).map(TaskName::as_str).collect();
    let more = match tasks.len().saturating_sub(NAMED_MAX) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    io.say(&format!(
        "note: this program does not have {}{more}, so their leaves go to the queue {DEFAULT_QUEUE}; where their workers \
         serve another, write .set(queue=\"…\")\n",
        names.join(", "),
    ));
}

fn read_text(source: impl Read) -> std::io::Result<String> {
    let mut text = String::new();
    if source.take(BYTES_MAX + 1).read_to_string(&mut text)? as u64 > BYTES_MAX {
        let message = format!("it has more than {} MiB", BYTES_MAX >> 20);
        return Err(std::io::Error::new(ErrorKind::FileTooLarge, message));
    }
    Ok(text)
}

fn unreadable(place: &str, error: &std::io::Error) -> Stop {
    match error.kind() {
        ErrorKind::InvalidData => Stop::usage(format!("{place}: this is no text in UTF-8")),
        _ => Stop::new(Exit::Io, format!("{place} cannot be read: {error}")),
    }
}

/// Reads JSON when the text begins with a brace, as no operator text does.
fn parse(text: &str, app: &App, names: &dyn Resolver) -> Result<Canvas, String> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    if text.trim_start().starts_with('{') {
        return Canvas::from_json(text).map_err(|error| error.to_string());
    }
    text::parse_with(text, names, app.limits()).map_err(|error| error.to_string())
}

/// JSON names its tasks in full; operator text was checked when it was read.
fn check_tasks(plan: &Plan, names: &Names) -> Result<(), Stop> {
    let unknown = |task: &&TaskName| names.resolve(task.as_str()).ok().as_ref() != Some(task);
    let Some(task) = plan.tasks().iter().find(unknown) else { return Ok(()) };
    let mut nodes = plan.nodes().map(|(node, _)| node);
    let node =
        nodes.find(|node| plan.task(*node) == Some(task)).expect("a plan names only tasks that it calls");
    let help = match names.resolve(task.as_str()) {
        Ok(full) => format!("write the full name, {full}"),
        Err(UnknownTask { suggestions, .. }) if suggestions.is_empty() => {
            "the command tasks lists what it has".to_owned()
        }
        Err(UnknownTask { suggestions, .. }) => {
            let names: Vec<&str> = suggestions.iter().map(TaskName::as_str).collect();
            format!("did you mean {}?", names.join(" or "))
        }
    };
    Err(Stop::usage(format!("{}: this app has no task {:?}; {help}", plan.path(node), task.as_str())))
}

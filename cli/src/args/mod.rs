//! The command line.

mod acl;
mod process;
mod runs;

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::backend::Url;
use crate::exit::Stop;
use crate::{exit, timeout};

pub(crate) use acl::{AclArgs, AclForm, AclRole};
pub(crate) use process::{
    CoordinateArgs, CoordinatorArgs, HealthArgs, HealthPlaces, ProcessArgs, UpArgs, WorkArgs, WorkerArgs,
};
pub(crate) use runs::{
    DeadArgs, DeadCommand, ForgetArgs, GraphArgs, Id, LettersArgs, ListForm, LsArgs, ResultArgs, ShowArgs,
    SubmitArgs, WaitArgs,
};

const EXAMPLES: &str = "\
Examples:
  run 'add.s(4, 4) | mul.s(8)'                     run a canvas, print its result
  run 'group(add.s(i) for i in range(10))' --args 10
  run -f canvas.json --timeout 2m                  Celery's JSON, or operator text
  plan 'chord([add.s(1, 1), add.s(2, 2)], xsum.s())'
  tasks                                            what can be called

With a backend that processes share, --url redis://localhost:6379 or CELERIAC_URL:
  up                                               a worker and a coordinator, until SIGTERM
  submit 'add.s(4, 4) | mul.s(8)'                  prints the id of the run
  result ID                                        waits, prints 64

Exit codes:
";

/// Runs canvases of this app's tasks.
#[derive(Debug, Parser)]
#[command(name = "celeriac", version, after_help = [EXAMPLES, exit::table!()].concat())]
#[command(disable_help_subcommand = true, subcommand_required = true)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: GlobalArgs,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run a canvas and print its result, as one line of JSON.
    Run(RunArgs),
    /// Compile a canvas and draw it; nothing is run.
    Plan(PlanArgs),
    /// List the app's tasks.
    Tasks,
    /// Run leaves, until it is told to stop.
    Worker(WorkerArgs),
    /// Advance runs, until it is told to stop.
    Coordinator(CoordinatorArgs),
    /// A worker and a coordinator in one process.
    Up(UpArgs),
    /// Store a canvas as a new run and print its id.
    Submit(SubmitArgs),
    /// Wait until a run has ended.
    Wait(WaitArgs),
    /// Print the result of a run, as one line of JSON.
    Result(ResultArgs),
    /// List runs, the newest first.
    Ls(LsArgs),
    /// Draw a run with the state of every node.
    Show(ShowArgs),
    /// Draw a run for other programs.
    Graph(GraphArgs),
    /// Remove a run and all that belongs to it.
    Forget(ForgetArgs),
    /// List what nobody could read or handle, requeue it or drop it.
    Dead(DeadArgs),
    /// Ask whether a process is healthy.
    Health(HealthArgs),
    /// Print what a Redis user needs for its role, as rules of an ACL.
    Acl(AclArgs),
}

impl Command {
    /// Whether it runs until it is told to stop.
    pub(crate) fn is_process(&self) -> bool {
        matches!(self, Self::Worker(_) | Self::Coordinator(_) | Self::Up(_))
    }
}

/// Options that every command has.
#[derive(Debug, Args)]
#[command(next_help_heading = "Global options")]
pub(crate) struct GlobalArgs {
    /// Where runs are kept: redis://host:6379/0, rediss://…, unix:///run/redis.sock, redis-cluster://…,
    /// redis-sentinel://host:26379/mymaster, memory:
    // The environment and its password are not shown.
    #[arg(long, global = true, value_name = "URL", env = "CELERIAC_URL", hide_env_values = true)]
    url: Option<Url>,
    /// A file with the URL in it, as secrets are mounted. An error when there is a URL besides.
    #[arg(long, global = true, value_name = "FILE", env = "CELERIAC_URL_FILE", hide_env_values = true)]
    url_file: Option<PathBuf>,
    /// What all keys of the backend begin with [default: celeriac].
    #[arg(long, global = true, value_name = "PREFIX", env = "CELERIAC_PREFIX", hide_env_values = true)]
    prefix: Option<String>,
    /// What is logged to stderr: off, error, warn, info, debug [default: info in processes, else off].
    #[arg(long, global = true, value_name = "FILTER", env = "CELERIAC_LOG", hide_env_values = true)]
    pub(crate) log: Option<String>,
    /// How it is logged.
    #[arg(long, global = true, value_name = "FORM", env = "CELERIAC_LOG_FORMAT", hide_env_values = true)]
    #[arg(value_enum, default_value_t)]
    pub(crate) log_format: LogFormat,
}

impl GlobalArgs {
    /// Reads the URL from the file that has it.
    pub(crate) fn read_url(&mut self) -> Result<(), Stop> {
        let file = self.url_file.as_ref().filter(|file| !file.as_os_str().is_empty());
        let Some(file) = file else { return Ok(()) };
        let wrong = |what: &str| Stop::usage(format!("--url-file (CELERIAC_URL_FILE): {what}"));
        if self.url().is_some() {
            return Err(wrong("there is a URL besides, from --url or CELERIAC_URL; give one of the two"));
        }
        let text = std::fs::read_to_string(file);
        let file = file.display();
        let text = text.map_err(|error| wrong(&format!("{file}: {error}")))?;
        let url: Url = text.parse().unwrap_or_else(|never| match never {});
        if url.is_empty() {
            return Err(wrong(&format!("{file} is empty; it has to hold a URL")));
        }
        self.url = Some(url);
        Ok(())
    }

    /// The URL; an empty one is none, as in an environment that has emptied the variable.
    pub(crate) fn url(&self) -> Option<&Url> {
        self.url.as_ref().filter(|url| !url.is_empty())
    }

    /// The prefix, likewise.
    pub(crate) fn prefix(&self) -> Option<&str> {
        self.prefix.as_deref().filter(|prefix| !prefix.is_empty())
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    // No descriptions: with one, every --help would be twice as long.
    #[default]
    Text,
    Json,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  run 'add.s(2, 2)'                                4
  run 'chord((add.s(i, i) for i in range(10)), xsum.s())'
  run 'add.s(4) | mul.s(8)' --args 4               64
  run 'add.s(1)' --args 2 --kwargs '{\"z\": 3}'
  echo 'add.s(2, 2)' | run -
  run -f canvas.json --timeout 90s
  run 'add.s(2, 2)' --url redis://localhost:6379   submits it and waits

In this process, it returns when nothing is left to do, callbacks included. A failed run names the node, its task and the error.")]
pub(crate) struct RunArgs {
    #[command(flatten)]
    pub(crate) canvas: CanvasArgs,
    /// Give up after this time: 30 (seconds), 1.5, 500ms, 2m, 1h.
    #[arg(long, value_name = "TIME", value_parser = timeout::parse)]
    pub(crate) timeout: Option<Duration>,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  plan 'add.s(4, 4) | mul.s(8)'
  plan -f canvas.json -o dot | dot -Tsvg > canvas.svg
  plan 'group(add.s(i, i) for i in range(1000))' --all")]
pub(crate) struct PlanArgs {
    #[command(flatten)]
    pub(crate) canvas: CanvasArgs,
    /// How to draw it.
    #[arg(short, long, value_name = "FORM", value_enum, default_value_t = Form::Tree)]
    pub(crate) output: Form,
    /// Draw every node of a tree, also of long runs that look alike.
    #[arg(long)]
    pub(crate) all: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Form {
    /// For the terminal.
    Tree,
    /// For Graphviz.
    Dot,
    /// For Markdown.
    Mermaid,
    /// For programs.
    Json,
}

#[derive(Debug, Args)]
pub(crate) struct CanvasArgs {
    /// The canvas: operator text, such as 'add.s(4, 4) | mul.s(8)', or Celery's JSON; - reads stdin.
    #[arg(required_unless_present = "file", conflicts_with = "file")]
    pub(crate) text: Option<String>,
    /// Read the canvas from a file.
    #[arg(short, long, value_name = "PATH")]
    pub(crate) file: Option<PathBuf>,
    /// Arguments for the first tasks, put before their own: '10, z=5'.
    #[arg(long, value_name = "ARGS", allow_hyphen_values = true)]
    pub(crate) args: Option<String>,
    /// Keyword arguments for the first tasks: '{"z": 5}'.
    #[arg(long, value_name = "DICT")]
    pub(crate) kwargs: Option<String>,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }
}

//! The options of commands about what is stored: `wait`, `result`, `ls`, `show`, `graph`, `forget`, `dead`.

use std::time::Duration;

use celeriac_backends::LetterId;
use celeriac_primitives::{RunId, TaskState};
use clap::{Args, Subcommand, ValueEnum};

use super::{CanvasArgs, Form};
use crate::timeout;

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  submit 'add.s(4, 4) | mul.s(8)'                  0198f0c2-7b1d-7c3e-9a52-4d8f00000000
  submit -f canvas.json --key order-4711           once, however often it is repeated
  result $(submit 'add.s(2, 2)')                   4

When the id is printed, the run is stored. The same canvas under the same id or key again is the same run; another
canvas is a conflict (7).")]
pub(crate) struct SubmitArgs {
    #[command(flatten)]
    pub(crate) canvas: CanvasArgs,
    /// The run's id, a UUID that ends in eight zeros, instead of a fresh one.
    #[arg(long, value_name = "ID")]
    pub(crate) id: Option<RunId>,
    /// A key that stands for the run's id: any text, such as order-4711.
    #[arg(long, value_name = "KEY", conflicts_with = "id")]
    pub(crate) key: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Id {
    /// The run: its id, the beginning of it, or the id of one of its tasks.
    #[arg(value_name = "ID")]
    pub(crate) text: String,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  wait 0198f0c2-7b1d-7c3e-9a52-4d8f00000000
  wait 0198f0c2-7b1d --timeout 10m && result 0198f0c2-7b1d

It returns when nothing of the run is left to do, callbacks included, and prints nothing; a run that has failed ends
it with 4.")]
pub(crate) struct WaitArgs {
    #[command(flatten)]
    pub(crate) id: Id,
    /// Give up after this time: 30 (seconds), 1.5, 500ms, 2m, 1h.
    #[arg(long, value_name = "TIME", value_parser = timeout::parse)]
    pub(crate) timeout: Option<Duration>,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  result 0198f0c2-7b1d-7c3e-9a52-4d8f00000000      waits, prints 64
  result 0198f0c2-7b1d --timeout 10m
  result 0198f0c2-7b1d --no-wait                   6 when there is none yet

A failed run names the node, its task and the error.")]
pub(crate) struct ResultArgs {
    #[command(flatten)]
    pub(crate) id: Id,
    /// Give up after this time: 30 (seconds), 1.5, 500ms, 2m, 1h.
    #[arg(long, value_name = "TIME", value_parser = timeout::parse)]
    pub(crate) timeout: Option<Duration>,
    /// Do not wait for it.
    #[arg(long, conflicts_with = "timeout")]
    pub(crate) no_wait: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  ls
  ls -n 100 --state failure
  ls --before 0198f0c2-7b1d-7c3e-9a52-4d8f00000000 the page after the one that ends with this
  ls -o json | jq -r 'select(.ended) | .id'

Runs that were submitted under a key come last, in no order.")]
pub(crate) struct LsArgs {
    /// How many runs.
    #[arg(short = 'n', long = "max", value_name = "MAX", default_value_t = 20)]
    pub(crate) max: usize,
    /// Only runs older than this one: its id, or the beginning of it.
    #[arg(long, value_name = "ID")]
    pub(crate) before: Option<String>,
    /// Only runs in this state.
    #[arg(long, value_name = "STATE", ignore_case = true, value_enum)]
    pub(crate) state: Option<State>,
    /// How to print them.
    #[arg(short, long, value_name = "FORM", value_enum, default_value_t = ListForm::Table)]
    pub(crate) output: ListForm,
}

/// The states a run may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum State {
    Pending,
    Started,
    Success,
    Failure,
    Revoked,
}

impl State {
    pub(crate) fn is(self, state: TaskState) -> bool {
        match self {
            Self::Pending => state == TaskState::Pending,
            Self::Started => state == TaskState::Started,
            Self::Success => state == TaskState::Success,
            Self::Failure => state == TaskState::Failure,
            Self::Revoked => state == TaskState::Revoked,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ListForm {
    /// For the terminal.
    Table,
    /// For programs: an object on each line.
    Json,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  show 0198f0c2-7b1d-7c3e-9a52-4d8f00000000
  show 0198f0c2-7b1d --follow                      then a line for every node that moves on

✓ succeeded, ✗ failed, ▶ open (queued or running), ○ waiting, ⊘ blocked, – not needed")]
pub(crate) struct ShowArgs {
    #[command(flatten)]
    pub(crate) id: Id,
    /// Draw every node, also of long runs that look alike.
    #[arg(long)]
    pub(crate) all: bool,
    /// Go on with what changes, until the run has ended.
    #[arg(long)]
    pub(crate) follow: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  graph 0198f0c2-7b1d -o dot | dot -Tsvg > run.svg
  graph 0198f0c2-7b1d -o json | jq '.nodes[] | select(.standing == \"failed\")'")]
pub(crate) struct GraphArgs {
    #[command(flatten)]
    pub(crate) id: Id,
    /// How to draw it.
    #[arg(short, long, value_name = "FORM", value_enum, default_value_t = Form::Tree)]
    pub(crate) output: Form,
    /// Draw every node of a tree, also of long runs that look alike.
    #[arg(long)]
    pub(crate) all: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  forget 0198f0c2-7b1d-7c3e-9a52-4d8f00000000
  forget 0198f0c2-7b1d --force

What has not started of a run that is forgotten by force never starts; what runs already goes on, for nobody.")]
pub(crate) struct ForgetArgs {
    #[command(flatten)]
    pub(crate) id: Id,
    /// Also a run that has not ended.
    #[arg(long)]
    pub(crate) force: bool,
}

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
#[command(after_help = "\
Examples:
  dead                                             what was set aside, and why
  dead -o json | jq -r .reason
  dead requeue 1764500000000-0                     back where it came from
  dead drop --all

Entries that are no leaf, report or submission, and events of runs that cannot be advanced. There is room for the last 1,000.")]
pub(crate) struct DeadArgs {
    #[command(subcommand)]
    pub(crate) command: Option<DeadCommand>,
    /// How many dead letters, the oldest first.
    #[arg(short = 'n', long = "max", value_name = "MAX", default_value_t = 100)]
    pub(crate) max: usize,
    /// How to print them.
    #[arg(short, long, value_name = "FORM", value_enum, default_value_t = ListForm::Table)]
    pub(crate) output: ListForm,
}

#[derive(Debug, Subcommand)]
pub(crate) enum DeadCommand {
    /// Put dead letters back where they came from.
    Requeue(LettersArgs),
    /// Remove dead letters.
    Drop(LettersArgs),
}

#[derive(Debug, Args)]
pub(crate) struct LettersArgs {
    /// The dead letters: their ids.
    #[arg(value_name = "ID", required_unless_present = "all", conflicts_with = "all")]
    pub(crate) ids: Vec<LetterId>,
    /// All that are there.
    #[arg(long)]
    pub(crate) all: bool,
}

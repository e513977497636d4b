//! `plan`: draws a canvas and runs nothing.

use celeriac_engine::view::Standing;
use celeriac_engine::{Plan, render};
use celeriac_runtime::App;

use crate::args::{Form, PlanArgs};
use crate::exit::{Exit, Stop};
use crate::io::{Io, harmless_json};

pub(crate) fn plan(app: &App, args: &PlanArgs, io: &mut Io<'_>) -> Result<Exit, Stop> {
    let compiled = args.canvas.compile(app, None, io.stdin)?;
    let fold_above = if args.all { usize::MAX } else { render::FOLD_ABOVE };
    io.print(&args.output.draw(compiled.plan(), None, fold_above))
}

impl Form {
    /// The plan in this form, with how its nodes stand where that is known.
    pub(crate) fn draw(self, plan: &Plan, standings: Option<&[Standing]>, fold_above: usize) -> String {
        match self {
            Self::Tree => render::tree(plan, standings, fold_above),
            Self::Dot => render::dot(plan, standings),
            Self::Mermaid => render::mermaid(plan, standings),
            Self::Json => harmless_json(&render::json(plan, standings)).into_owned() + "\n",
        }
    }
}

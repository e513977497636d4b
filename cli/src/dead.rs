//! `dead`: what nobody could read or handle.

use std::fmt::Write as _;

use celeriac_backends::{DeadLetter, LetterId, Requeued};
use celeriac_runtime::App;
use serde::Serialize;

use crate::args::{DeadArgs, DeadCommand, GlobalArgs, LettersArgs, ListForm};
use crate::backend;
use crate::exit::{Exit, Stop};
use crate::io::{Io, harmless_json};

/// How many letters are asked for in one step.
const PAGE: usize = 100;

/// So many characters of where a letter came from, and of a reason, stand in the table: a line has 80.
const FROM_WIDTH: usize = 16;
const REASON_WIDTH: usize = 37;

pub(crate) async fn dead(
    app: &App,
    global: &GlobalArgs,
    args: &DeadArgs,
    io: &mut Io<'_>,
) -> Result<Exit, Stop> {
    let app = backend::shared(app, global).await?;
    match &args.command {
        None => list(&app, args, io).await,
        Some(DeadCommand::Requeue(which)) => requeue(&app, which, io).await,
        Some(DeadCommand::Drop(which)) => drop_letters(&app, which, io).await,
    }
}

async fn list(app: &App, args: &DeadArgs, io: &mut Io<'_>) -> Result<Exit, Stop> {
    let (mut after, mut left) = (None, args.max);
    let mut list = match args.output {
        ListForm::Table => format!("{:16}  {:FROM_WIDTH$}  {:>5}  REASON\n", "ID", "FROM", "TIMES"),
        ListForm::Json => String::new(),
    };
    while left > 0 {
        let letters = app.backend().dead_letters(after, left.min(PAGE)).await?;
        let Some(last) = letters.last() else { break };
        (after, left) = (Some(last.id), left - letters.len());
        letters.iter().for_each(|letter| list.push_str(&line(letter, args.output)));
        io.print(&std::mem::take(&mut list))?;
    }
    io.print(&list)
}

async fn requeue(app: &App, which: &LettersArgs, io: &mut Io<'_>) -> Result<Exit, Stop> {
    let (mut exit, mut count) = (Exit::Ok, 0);
    for id in chosen(app, which).await? {
        match app.backend().requeue(id).await? {
            Requeued::Yes => count += 1,
            Requeued::Unknown if which.all => {}
            Requeued::Unknown => exit = missing(id, io),
            _ => {
                io.complain(&format!(
                    "{id} cannot be requeued: it is not whole, or does not say where it came from"
                ));
                exit = Exit::Conflict;
            }
        }
    }
    io.say(&format!("{count} requeued\n"));
    Ok(exit)
}

async fn drop_letters(app: &App, which: &LettersArgs, io: &mut Io<'_>) -> Result<Exit, Stop> {
    let (mut exit, mut count) = (Exit::Ok, 0);
    for id in chosen(app, which).await? {
        if app.backend().drop_letter(id).await? {
            count += 1;
        } else if !which.all {
            exit = missing(id, io);
        }
    }
    io.say(&format!("{count} dropped\n"));
    Ok(exit)
}

fn missing(id: LetterId, io: &mut Io<'_>) -> Exit {
    io.complain(&format!("there is no dead letter {id}"));
    Exit::NotFound
}

/// Those that are named, or all that are there now.
async fn chosen(app: &App, which: &LettersArgs) -> Result<Vec<LetterId>, Stop> {
    if !which.all {
        return Ok(which.ids.clone());
    }
    let mut all: Vec<LetterId> = Vec::new();
    loop {
        let page = app.backend().dead_letters(all.last().copied(), PAGE).await?;
        if page.is_empty() {
            return Ok(all);
        }
        all.extend(page.iter().map(|letter| letter.id));
    }
}

/// A dead letter, for programs. The names are stable; later versions may add others.
#[derive(Serialize)]
struct Row<'l> {
    id: String,
    from: String,
    /// Its id where it was.
    entry: &'l str,
    deliveries: u32,
    reason: &'l str,
    bytes: u64,
    /// Whether all of it is here, so that it can be requeued.
    whole: bool,
    /// Field and value of each; bytes that are not printable ASCII as \xNN.
    fields: Vec<[String; 2]>,
}

fn line(letter: &DeadLetter, form: ListForm) -> String {
    let from = letter.from.as_ref().map_or_else(|| "?".to_owned(), ToString::to_string);
    let mut line = match form {
        ListForm::Table => {
            let reason = one_line(&letter.reason, REASON_WIDTH);
            let (id, from) = (letter.id.to_string(), one_line(&from, FROM_WIDTH));
            format!("{id:16}  {from:FROM_WIDTH$}  {:>5}  {reason}", letter.deliveries)
        }
        ListForm::Json => {
            let text = |bytes: &[u8]| bytes.escape_ascii().to_string();
            let row = Row {
                id: letter.id.to_string(),
                from,
                entry: &letter.entry,
                deliveries: letter.deliveries,
                reason: &letter.reason,
                bytes: letter.bytes,
                whole: letter.is_whole,
                fields: letter.fields.iter().map(|(field, value)| [text(field), text(value)]).collect(),
            };
            harmless_json(&serde_json::to_string(&row).expect("a row holds numbers and texts only"))
                .into_owned()
        }
    };
    writeln!(line).expect("a String takes all text");
    line
}

/// A text on one line, cut when it is longer.
fn one_line(text: &str, width: usize) -> String {
    let text = crate::io::one_line(text);
    if text.chars().count() <= width {
        return text;
    }
    text.chars().take(width - 1).chain(['…']).collect()
}

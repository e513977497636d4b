//! From what people write to a run: an id, the beginning of one, or the id of a task.

use celeriac_primitives::{IdError, Json, RunId, TaskId};
use celeriac_runtime::{App, Handle};

use crate::args::Id;
use crate::exit::{Exit, Stop};

/// Hexadecimal digits of a UUID.
const DIGITS: usize = 32;

/// The run that somebody means.
pub(crate) async fn run(app: &App, id: &Id) -> Result<Handle<Json>, Stop> {
    let id = find(app, &id.text).await?;
    app.run(id).await?.ok_or_else(|| {
        Stop::new(Exit::NotFound, format!("there is no run {id}; the command ls lists those there are"))
    })
}

/// The id that somebody means; whether there is such a run is known only of one that was abbreviated.
pub(crate) async fn find(app: &App, text: &str) -> Result<RunId, Stop> {
    match text.parse() {
        Ok(id) => Ok(id),
        Err(IdError::NotARun(uuid)) => Ok(TaskId::from_uuid(uuid).map_err(Stop::usage)?.run()),
        Err(error) => {
            let digits = text.replace('-', "");
            match u128::from_str_radix(&digits, 16) {
                Ok(beginning) if digits.len() < DIGITS && !digits.starts_with('+') => {
                    begins_with(app, text, beginning, digits.len()).await
                }
                _ => Err(Stop::usage(error)),
            }
        }
    }
}

async fn begins_with(app: &App, text: &str, beginning: u128, digits: usize) -> Result<RunId, Stop> {
    let open = 4 * (DIGITS - digits) as u32;
    let (first, last) = (beginning << open, (beginning << open) | ((1 << open) - 1));
    // Ids are listed from the greatest down, and those below a run id: the next one that could be one.
    let above = ((last >> 32) + 1).checked_mul(1 << 32);
    let above = above.and_then(|above| RunId::from_uuid(uuid::Uuid::from_u128(above)).ok());
    let found = app.backend().list(above, 2).await?;
    let found: Vec<RunId> = found.into_iter().filter(|id| id.uuid().as_u128() >= first).collect();
    match found[..] {
        [id] => Ok(id),
        [] => Err(Stop::new(
            Exit::NotFound,
            format!("there is no run whose id begins with {text}; the command ls lists those there are"),
        )),
        [one, other, ..] => Err(Stop::usage(format!(
            "{text} begins several ids, such as {one} and {other}; write more of it"
        ))),
    }
}

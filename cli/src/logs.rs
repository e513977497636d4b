//! Logs: one line per event, on stderr.

use std::io::IsTerminal as _;

use tracing_subscriber::EnvFilter;

use crate::args::{GlobalArgs, LogFormat};
use crate::exit::Stop;

/// Starts logging in this process. An app that logs already goes on as it does.
pub(crate) fn start(global: &GlobalArgs, is_process: bool) -> Result<(), Stop> {
    let filter = global.log.as_deref().unwrap_or(if is_process { "info" } else { "off" });
    let filter = EnvFilter::try_new(filter).map_err(|error| Stop::usage(format!("--log: {error}")))?;
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal());
    // An error means that there is a subscriber: the app's own.
    let _ = match global.log_format {
        LogFormat::Text => lines.try_init(),
        LogFormat::Json => lines.json().flatten_event(true).try_init(),
    };
    Ok(())
}

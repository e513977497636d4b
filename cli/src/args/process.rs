//! The options of processes: `worker`, `coordinator`, `up`, and of `health`, which looks at them.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use celeriac_primitives::{OptionError, Options};
use clap::Args;

use crate::timeout;

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  worker --url redis://localhost:6379
  worker -c 8 -Q mails,reports -n mailer
  worker --health 8080                             http://127.0.0.1:8080 answers 200 or 503

SIGTERM or Ctrl-C: takes no more leaves, finishes those that run within --grace, gives the others back. A second one:
cuts off what runs and gives it back, and ends at once.")]
pub(crate) struct WorkerArgs {
    #[command(flatten)]
    pub(crate) work: WorkArgs,
    #[command(flatten)]
    pub(crate) process: ProcessArgs,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  coordinator --url redis://localhost:6379
  coordinator --sweep 1s --deliveries-max 3

Any number of them may run. It needs none of the app's tasks: the celeriac command has it, too.")]
pub(crate) struct CoordinatorArgs {
    #[command(flatten)]
    pub(crate) coordinate: CoordinateArgs,
    #[command(flatten)]
    pub(crate) process: ProcessArgs,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  up --url redis://localhost:6379
  up -c 8 -Q celery,reports --sweep 1s --grace 1m")]
pub(crate) struct UpArgs {
    #[command(flatten)]
    pub(crate) work: WorkArgs,
    #[command(flatten)]
    pub(crate) coordinate: CoordinateArgs,
    #[command(flatten)]
    pub(crate) process: ProcessArgs,
}

#[derive(Debug, Args)]
pub(crate) struct WorkArgs {
    /// How many leaves it runs at the same time.
    #[arg(short, long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) concurrency: u32,
    /// The queues it takes leaves from, with commas; the first has precedence.
    #[arg(short = 'Q', long, value_name = "NAMES", value_delimiter = ',', default_value = celeriac_backends::DEFAULT_QUEUE)]
    #[arg(value_parser = queue)]
    pub(crate) queues: Vec<String>,
    /// How many leaves it holds besides those it runs; by default what it is likely to begin within 10 ms.
    #[arg(long, value_name = "N")]
    pub(crate) prefetch: Option<u32>,
    /// How many threads it has for blocking tasks, those that hang past their time limit included [default:
    /// one for each leaf it runs, as many to spare, 448 at most].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=4000))]
    pub(crate) threads: Option<u32>,
}

#[derive(Debug, Args)]
pub(crate) struct CoordinateArgs {
    /// How often it looks for leaves whose worker went away.
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = timeout::parse_positive)]
    pub(crate) sweep: Duration,
    /// After how many deliveries a leaf whose workers go away fails.
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) deliveries_max: u32,
}

#[derive(Debug, Args)]
pub(crate) struct ProcessArgs {
    /// What the process is called in logs; something unique is added [default: host and process id].
    #[arg(short, long, value_name = "NAME", value_parser = name)]
    pub(crate) name: Option<String>,
    /// How long it may hold what it took without renewing: so late others notice when it dies.
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = timeout::parse_positive)]
    pub(crate) lease: Duration,
    /// How long running leaves may take to finish after SIGTERM or Ctrl-C.
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = timeout::parse)]
    pub(crate) grace: Duration,
    #[command(flatten)]
    pub(crate) health: HealthPlaces,
}

/// Where a process says whether it is healthy.
#[derive(Debug, Args)]
pub(crate) struct HealthPlaces {
    /// Answer HTTP here, 200 or 503; a port alone is one of 127.0.0.1.
    #[arg(long, value_name = "ADDR", env = "CELERIAC_HEALTH", hide_env_values = true, value_parser = address)]
    pub(crate) health: Option<SocketAddr>,
    /// Write "green" or "red: …" to this file, every second.
    #[arg(long, value_name = "PATH", env = "CELERIAC_HEALTH_FILE", hide_env_values = true)]
    pub(crate) health_file: Option<PathBuf>,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  health --health 8080
  health --health-file /run/celeriac/health
  CELERIAC_HEALTH=8080 health                      with the environment of the process

It ends with 0 when the process is green, with 1 when it is red, does not answer, or is not there.")]
pub(crate) struct HealthArgs {
    /// Ask the process that was started with --health ADDR.
    #[arg(long, value_name = "ADDR", env = "CELERIAC_HEALTH", hide_env_values = true, value_parser = address)]
    pub(crate) health: Option<SocketAddr>,
    /// Read what the process wrote that was started with --health-file PATH.
    #[arg(long, value_name = "PATH", env = "CELERIAC_HEALTH_FILE", hide_env_values = true)]
    pub(crate) health_file: Option<PathBuf>,
    /// Take this long for red.
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = timeout::parse_positive)]
    pub(crate) timeout: Duration,
}

fn address(text: &str) -> Result<SocketAddr, String> {
    let with_host = if text.contains(':') { text.to_owned() } else { format!("127.0.0.1:{text}") };
    with_host.parse().map_err(|_| "write 8080, 127.0.0.1:8080, 0.0.0.0:8080 or [::1]:8080".to_owned())
}

fn name(text: &str) -> Result<String, &'static str> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "._-@".contains(c);
    match text.chars().all(plain) && (1..=64).contains(&text.len()) {
        true => Ok(text.to_owned()),
        false => Err("write up to 64 letters, digits and ._-@"),
    }
}

/// A name that a leaf can name.
fn queue(name: &str) -> Result<String, OptionError> {
    Options::new().with_queue(name).map(|_| name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_alone_is_one_of_loopback() {
        assert_eq!(address("8080"), Ok(([127, 0, 0, 1], 8080).into()));
        assert_eq!(address("0.0.0.0:80"), Ok(([0, 0, 0, 0], 80).into()));
        assert!(address("[::1]:80").is_ok());
        for wrong in ["", "localhost", "70000", "1.2.3.4", "::1"] {
            assert!(address(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_name_has_nothing_in_it_that_a_log_or_a_key_could_stumble_over() {
        assert_eq!(name("mailer@host-1"), Ok("mailer@host-1".to_owned()));
        for wrong in ["", "a b", "a\nb", "ä", &"x".repeat(65)] {
            assert!(name(wrong).is_err(), "{wrong:?}");
        }
    }
}

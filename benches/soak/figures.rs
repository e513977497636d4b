//! What is looked at while everybody rests, and whether it has grown.

use std::collections::BTreeMap;
use std::error::Error;
use std::fmt;
use std::process::Command;
use std::time::Duration;

use crate::crew::Crew;

/// Looks at the processes and at Redis.
pub(crate) struct Figures {
    connection: redis::Connection,
}

/// One look, by the names of the figures.
pub(crate) type Look = BTreeMap<Figure, u64>;

/// What is looked at; all but the numbers of keys and commands are bytes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Figure {
    Process(String),
    RedisMemory,
    Keys,
    /// In a second without work.
    Commands,
}

/// By how much a figure may grow: so many in a hundred, and so much besides.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    pub(crate) percent: u64,
    pub(crate) mb: u64,
    pub(crate) keys: u64,
    pub(crate) commands: u64,
}

/// All looks.
#[derive(Debug, Default)]
pub(crate) struct Table(Vec<(String, Look)>);

const MB: u64 = 1 << 20;

impl Figures {
    pub(crate) fn new(url: &str) -> Result<Self, Box<dyn Error>> {
        Ok(Self { connection: redis::Client::open(url)?.get_connection()? })
    }

    /// Takes all figures; the commands are counted for so long.
    pub(crate) fn look(&mut self, crew: &Crew, idle: Duration) -> Result<Look, Box<dyn Error>> {
        let mut look = Look::new();
        let before = self.info("stats", "total_commands_processed")?;
        std::thread::sleep(idle);
        let commands = self.info("stats", "total_commands_processed")? - before;
        // One of them was the question.
        let per_second = (commands - 1) as f64 / idle.as_secs_f64();
        look.insert(Figure::Commands, per_second.round() as u64);
        for member in crew.members() {
            look.insert(Figure::Process(member.name.clone()), resident(member.pid())?);
        }
        look.insert(Figure::RedisMemory, self.info("memory", "used_memory")?);
        look.insert(Figure::Keys, redis::cmd("DBSIZE").query(&mut self.connection)?);
        Ok(look)
    }

    fn info(&mut self, section: &str, name: &str) -> Result<u64, Box<dyn Error>> {
        let info: String = redis::cmd("INFO").arg(section).query(&mut self.connection)?;
        let line = info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        Ok(line.ok_or_else(|| format!("INFO {section} has no {name}"))?.trim().parse()?)
    }
}

/// The resident memory of a process, in bytes.
fn resident(pid: u32) -> Result<u64, Box<dyn Error>> {
    let output = Command::new("ps").args(["-o", "rss=", "-p", &pid.to_string()]).output()?;
    let kb: u64 = String::from_utf8(output.stdout)?.trim().parse()?;
    Ok(kb * 1024)
}

impl Table {
    pub(crate) fn push(&mut self, name: String, look: Look) {
        self.0.push((name, look));
    }

    /// The figures that are higher at the last look than at the first, by more than they may.
    pub(crate) fn grown(&self, bounds: &Bounds) -> Vec<String> {
        let (Some((_, first)), Some((_, last))) = (self.0.first(), self.0.last()) else { return Vec::new() };
        let grown = last.iter().filter(|(figure, last)| {
            let besides = match figure {
                Figure::Process(_) | Figure::RedisMemory => bounds.mb * MB,
                Figure::Keys => bounds.keys,
                Figure::Commands => bounds.commands,
            };
            let first = first.get(*figure).copied().unwrap_or_default();
            **last > first + first * bounds.percent / 100 + besides
        });
        grown.map(|(figure, _)| figure.to_string()).collect()
    }
}

impl fmt::Display for Figure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Process(name) => write!(f, "{name}, MB"),
            Self::RedisMemory => f.write_str("Redis, MB"),
            Self::Keys => f.write_str("keys"),
            Self::Commands => f.write_str("commands per idle second"),
        }
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:26}", "")?;
        self.0.iter().try_for_each(|(name, _)| write!(f, "{name:>10}"))?;
        writeln!(f)?;
        let Some((_, first)) = self.0.first() else { return Ok(()) };
        for figure in first.keys() {
            write!(f, "{:26}", figure.to_string())?;
            for (_, look) in &self.0 {
                match (figure, look[figure]) {
                    (Figure::Keys | Figure::Commands, count) => write!(f, "{count:>10}")?,
                    (_, bytes) => write!(f, "{:>10.1}", bytes as f64 / MB as f64)?,
                }
            }
            writeln!(f)?;
        }
        Ok(())
    }
}

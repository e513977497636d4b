//! What can be chosen, and the times that everything else goes by.

use std::time::Duration;

use celeriac_testkit::Fsync;
use clap::{Parser, Subcommand, ValueEnum};

use crate::spoil::options::SpoilOptions;

/// How long processes hold what they took; short, so that the dead are noticed soon.
pub(crate) const LEASE: Duration = Duration::from_millis(1500);

/// How often coordinators look for the dead.
pub(crate) const SWEEP: Duration = Duration::from_millis(500);

/// How long running leaves may take to finish after SIGTERM. No leaf takes so long.
pub(crate) const GRACE: Duration = Duration::from_secs(8);

/// After the last fault a run has to reach its end within this time, and the next one again: lease and sweep,
/// and what has to be run. For a task that kills its workers that often over.
const SETTLE: Duration = Duration::from_secs(15);

/// All of them within four times that.
const SETTLE_MAX: u32 = 4;

/// How long a task that kills its workers may take for one of them: lease and sweep, and what runs beside it.
const DEATH: Duration = Duration::from_secs(5);

/// Kills and restarts coordinators, workers and Redis under random canvases, and counts what was lost,
/// doubled or stuck.
#[derive(Clone, Debug, Parser)]
#[command(name = "scripts/chaos", args_conflicts_with_subcommands = true)]
pub(crate) struct Options {
    /// How many processes are killed with SIGKILL, for each appendfsync.
    #[arg(long, default_value_t = 300)]
    pub(crate) kills: usize,
    /// Decides the canvases and the order of the faults; by default from the clock.
    #[arg(long)]
    pub(crate) seed: Option<u64>,
    /// When Redis brings its append-only file to the disk.
    #[arg(long, value_enum, default_value = "both")]
    pub(crate) fsync: Modes,
    /// Who is killed, with commas.
    #[arg(long, value_enum, value_delimiter = ',', default_value = "coordinators,workers,redis")]
    pub(crate) victims: Vec<Victim>,
    /// What there is besides kills and pauses, with commas.
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = Ingredient::ALL)]
    pub(crate) with: Vec<Ingredient>,
    /// After how many deliveries that were begun a leaf fails whose workers go away.
    #[arg(long, default_value_t = 6)]
    pub(crate) deliveries_max: u32,
    /// No more kills after so many minutes, for each appendfsync; too few of them are a failure.
    #[arg(long, default_value_t = 8.0)]
    pub(crate) minutes: f64,
    /// How many runs are under way at the same time.
    #[arg(long, default_value_t = 16)]
    pub(crate) canvases: usize,
    /// The mean time between two faults, in milliseconds.
    #[arg(long, default_value_t = 350)]
    pub(crate) every_ms: u32,
    #[arg(long, default_value_t = 2)]
    pub(crate) coordinators: usize,
    #[arg(long, default_value_t = 3)]
    pub(crate) workers: usize,
    /// On a Cluster of three masters, which are killed one at a time or together.
    #[arg(long)]
    pub(crate) cluster: bool,
    /// Each of them with a replica, which takes over.
    #[arg(long, requires = "cluster")]
    pub(crate) replicas: bool,
    /// Nine kills with each appendfsync.
    #[arg(long, conflicts_with = "kills")]
    short: bool,
    /// Keeps the ledger, the logs and the files of Redis also when nothing is wrong.
    #[arg(long)]
    pub(crate) keep: bool,
    #[command(subcommand)]
    pub(crate) mode: Option<Mode>,
}

/// What else this program does.
#[derive(Clone, Debug, Subcommand)]
pub(crate) enum Mode {
    Spoil(SpoilOptions),
}

/// Which `appendfsync` to try.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Modes {
    Always,
    Everysec,
    Both,
}

/// Who can be killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(crate) enum Victim {
    Coordinators,
    Workers,
    Redis,
}

/// What makes it harder.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(crate) enum Ingredient {
    /// Tasks that abort their process, once or always.
    Killers,
    /// Tasks that block their thread past their time limit, and some that block for a moment.
    Hung,
    /// Tasks whose futures panic when they are dropped, at the time limit or after returning.
    Drops,
    /// Leaves that run at most once.
    Once,
    /// Keys that are used again while leaves of the first run are under way.
    Keys,
    /// A second SIGTERM.
    Terms,
    /// A Redis that is full, and then is not.
    Full,
    /// Results of megabytes.
    Large,
    /// On a Cluster, slots that move all the time; none by default.
    Slots,
    /// Nothing.
    None,
}

/// A choice of them.
#[derive(Clone, Debug)]
pub(crate) struct Ingredients(Vec<Ingredient>);

impl Ingredient {
    const ALL: [Self; 8] = [
        Self::Killers,
        Self::Hung,
        Self::Drops,
        Self::Once,
        Self::Keys,
        Self::Terms,
        Self::Full,
        Self::Large,
    ];
}

impl Ingredients {
    pub(crate) fn has(&self, ingredient: Ingredient) -> bool {
        self.0.contains(&ingredient)
    }
}

impl Options {
    /// With what was left open.
    pub(crate) fn completed(mut self) -> Self {
        if self.short {
            (self.kills, self.deliveries_max) = (9, 3);
        }
        let since_1970 = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        self.seed.get_or_insert_with(|| since_1970.unwrap_or_default().as_millis() as u64 % 1_000_000);
        self
    }

    /// The seed.
    pub(crate) fn seed(&self) -> u64 {
        self.seed.expect("completed() has chosen one")
    }

    pub(crate) fn with(&self) -> Ingredients {
        Ingredients(self.with.clone())
    }

    /// How long nothing may end after the last fault.
    pub(crate) fn settle(&self) -> Duration {
        match self.with.contains(&Ingredient::Killers) {
            true => SETTLE + DEATH * self.deliveries_max,
            false => SETTLE,
        }
    }

    /// How long something may not have ended after the last fault.
    pub(crate) fn settle_max(&self) -> Duration {
        self.settle() * SETTLE_MAX
    }

    /// The line that repeats this trial.
    pub(crate) fn replay(&self, fsync: Fsync) -> String {
        let list =
            |words: &mut dyn Iterator<Item = String>| words.collect::<Vec<_>>().join(",").to_lowercase();
        format!(
            "scripts/chaos{}{} --seed {} --kills {} --fsync {} --victims {} --with {} --deliveries-max {} --canvases {} \
             --every-ms {}",
            if self.cluster { " --cluster" } else { "" },
            if self.replicas { " --replicas" } else { "" },
            self.seed(),
            self.kills,
            word(fsync),
            list(&mut self.victims.iter().map(|victim| format!("{victim:?}"))),
            list(&mut self.with.iter().map(|ingredient| format!("{ingredient:?}"))),
            self.deliveries_max,
            self.canvases,
            self.every_ms
        )
    }
}

impl Modes {
    /// One after the other.
    pub(crate) fn modes(self) -> &'static [Fsync] {
        match self {
            Self::Always => &[Fsync::Always],
            Self::Everysec => &[Fsync::EverySecond],
            Self::Both => &[Fsync::Always, Fsync::EverySecond],
        }
    }
}

/// As Redis calls it.
pub(crate) fn word(fsync: Fsync) -> &'static str {
    match fsync {
        Fsync::Always => "always",
        Fsync::EverySecond => "everysec",
        Fsync::No => "no",
    }
}

//! What can be chosen of the faults.

use std::time::Duration;

use clap::Args;

/// How long processes hold what they took.
pub(crate) const LEASE: Duration = Duration::from_secs(1);

/// How often coordinators look for what lost its owner.
pub(crate) const SWEEP: Duration = Duration::from_millis(250);

/// After so many deliveries an event is given up.
pub(crate) const DELIVERIES_MAX: u32 = 2;

/// A canary ends in this time; beside other tests, in four times that.
const CANARY: Duration = Duration::from_secs(5);

/// So long it may take until it shows what becomes of a run: all deliveries of an event and those that
/// try to end its run, each after a lease and a sweep.
const FATE: Duration = Duration::from_secs(16);

/// Writes faults into every kind of key of a live system, one at a time, and looks what becomes of
/// each.
#[derive(Args, Clone, Debug)]
pub(crate) struct SpoilOptions {
    /// So many faults that are drawn.
    #[arg(long, default_value_t = 10_000)]
    pub(crate) random: u64,
    /// So many faults in turn: each that is known, in each kind of key.
    #[arg(long, default_value_t = 2_000)]
    pub(crate) aimed: u64,
    /// Decides all faults; by default from the clock.
    #[arg(long)]
    pub(crate) seed: Option<u64>,
    /// The number of the first fault.
    #[arg(long, default_value_t = 0)]
    pub(crate) from: u64,
    /// Only the faults of these numbers, with commas.
    #[arg(long, value_delimiter = ',')]
    pub(crate) only: Vec<u64>,
    /// Only in kinds of keys that have this text in their names, such as "events}:stream".
    #[arg(long)]
    pub(crate) kinds: Option<String>,
    /// Only those with this text in what is done, such as "Retype".
    #[arg(long)]
    pub(crate) deeds: Option<String>,
    /// On a Cluster of three instead of one server.
    #[arg(long)]
    pub(crate) cluster: bool,
    /// So many faults between two looks at who spins, what is left, and who is red.
    #[arg(long, default_value_t = 96)]
    pub(crate) round: usize,
    /// An entry that was taken away, or an owner, is to be found missing: its run has to end.
    #[arg(long)]
    pub(crate) lost_is_wrong: bool,
    /// Forty faults, half of them aimed, on a machine that is busy with other tests.
    #[arg(long)]
    pub(crate) short: bool,
    /// Keeps the logs also when nothing is wrong.
    #[arg(long)]
    pub(crate) keep: bool,
}

impl SpoilOptions {
    /// With what was left open.
    pub(crate) fn completed(mut self) -> Self {
        if self.short {
            (self.random, self.aimed, self.round) = (20, 20, 40);
        }
        let since_1970 = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        self.seed.get_or_insert_with(|| since_1970.unwrap_or_default().as_millis() as u64 % 1_000_000);
        self
    }

    pub(crate) fn seed(&self) -> u64 {
        self.seed.expect("completed() has chosen one")
    }

    /// How long a canary may take.
    pub(crate) fn canary(&self) -> Duration {
        if self.short { 4 * CANARY } else { CANARY }
    }

    /// How long it may take until it shows what becomes of a run.
    pub(crate) fn fate(&self) -> Duration {
        if self.short { FATE / 2 } else { FATE }
    }

    /// The numbers of the faults, in order.
    pub(crate) fn numbers(&self) -> Vec<u64> {
        match self.only.is_empty() {
            true => (self.from..self.aimed + self.random).collect(),
            false => self.only.clone(),
        }
    }

    /// The line that repeats these faults.
    pub(crate) fn replay(&self, numbers: &[u64]) -> String {
        let list: Vec<String> = numbers.iter().map(u64::to_string).collect();
        let kinds = self.kinds.as_ref().map_or_else(String::new, |kinds| format!(" --kinds '{kinds}'"));
        let deeds = self.deeds.as_ref().map_or_else(String::new, |deeds| format!(" --deeds '{deeds}'"));
        format!(
            "scripts/chaos spoil --seed {} --aimed {}{}{kinds}{deeds} --only {}",
            self.seed(),
            self.aimed,
            if self.cluster { " --cluster" } else { "" },
            list.join(",")
        )
    }
}

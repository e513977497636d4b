//! The results: as a table for people, as JSON for `scripts/bench-redis`.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::line::Line;
use crate::meter::Usage;

/// One repetition of a line.
#[derive(Debug, Serialize)]
pub(crate) struct Repetition {
    /// From before the first submission until the last value is in the client.
    pub(crate) seconds: f64,
    pub(crate) usage: Usage,
    /// The most memory of Redis, data of other repetitions excluded.
    pub(crate) redis_mb: f64,
    /// How long each run took, in ms, in ascending order.
    #[serde(skip)]
    pub(crate) runs_ms: Vec<f64>,
}

/// All repetitions of a line.
#[derive(Debug, Serialize)]
pub(crate) struct Measured {
    pub(crate) key: &'static str,
    pub(crate) name: &'static str,
    pub(crate) steps: usize,
    pub(crate) in_a_row: Option<usize>,
    pub(crate) repetitions: Vec<Repetition>,
    /// Median, p95 and p99 of a run in ms, where a single run is of interest.
    pub(crate) latency_ms: Option<[f64; 3]>,
}

/// Everything, as the script reads it.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    pub(crate) system: String,
    pub(crate) durability: String,
    pub(crate) lines: Vec<Measured>,
    pub(crate) memory_mb: BTreeMap<&'static str, Vec<f64>>,
}

impl Measured {
    pub(crate) fn new(line: &Line, repetitions: Vec<Repetition>) -> Self {
        let mut runs: Vec<f64> =
            repetitions.iter().flat_map(|repetition| repetition.runs_ms.clone()).collect();
        runs.sort_by(f64::total_cmp);
        let at = |percent: usize| runs[(runs.len() - 1) * percent / 100];
        Self {
            key: line.key,
            name: line.name,
            steps: line.steps_in_all(),
            in_a_row: line.in_a_row,
            latency_ms: line.is_latency().then(|| [at(50), at(95), at(99)]),
            repetitions,
        }
    }

    /// Steps per second: the median, the smallest and the largest.
    fn rates(&self) -> [f64; 3] {
        let mut rates: Vec<f64> =
            self.repetitions.iter().map(|repetition| self.steps as f64 / repetition.seconds).collect();
        rates.sort_by(f64::total_cmp);
        [rates[rates.len() / 2], rates[0], rates[rates.len() - 1]]
    }

    /// The mean over all steps of all repetitions.
    fn per_step(&self, what: impl Fn(&Repetition) -> f64) -> f64 {
        self.repetitions.iter().map(what).sum::<f64>() / (self.steps * self.repetitions.len()) as f64
    }

    /// Prints the line of the table.
    pub(crate) fn print(&self) {
        let [median, min, max] = self.rates();
        let range = format!("({min:.0}..{max:.0})");
        let row = self.in_a_row.map(|row| format!("{:.2}", 1000.0 * self.steps as f64 / median / row as f64));
        let cpu = |of: fn(&Usage) -> f64| 1e6 * self.per_step(|repetition| of(&repetition.usage));
        let largest = self.repetitions.iter().map(|repetition| repetition.redis_mb).fold(0.0, f64::max);
        println!(
            "{} {:18} {:>6} {median:>8.0} {range:16} {:>8} {:>9.2} {:>7.0} {:>7.0} {:>7.0} {:>7.0} {largest:>9.1}",
            self.key,
            self.name,
            self.steps,
            row.unwrap_or_default(),
            self.per_step(|repetition| repetition.usage.calls() as f64),
            cpu(|usage| usage.cpu.redis),
            cpu(|usage| usage.cpu.client),
            cpu(|usage| usage.cpu.coordinator),
            cpu(|usage| usage.cpu.worker),
        );
        if let Some([median, p95, p99]) = self.latency_ms {
            println!("  one run: median {median:.2} ms, p95 {p95:.2} ms, p99 {p99:.2} ms");
        }
    }

    /// Prints what Redis was busy with, the most expensive first.
    pub(crate) fn print_commands(&self) {
        let count = (self.steps * self.repetitions.len()) as f64;
        let mut commands = BTreeMap::<&str, (u64, u64)>::new();
        let mut traffic = BTreeMap::<&str, u64>::new();
        for Repetition { usage, .. } in &self.repetitions {
            for (name, command) in &usage.commands {
                let sum = commands.entry(name).or_default();
                *sum = (sum.0 + command.calls, sum.1 + command.us);
            }
            usage.traffic.iter().for_each(|(name, number)| *traffic.entry(name).or_default() += number);
        }
        let mut commands: Vec<_> = commands.into_iter().collect();
        commands.sort_by_key(|(_, (_, us))| std::cmp::Reverse(*us));
        for (name, (calls, us)) in commands.into_iter().take(16) {
            let (calls, us) = (calls as f64, us as f64);
            println!(
                "    {name:16} {:7.3} per leaf {:9.2} µs each {:8.2} µs per leaf",
                calls / count,
                us / calls,
                us / count
            );
        }
        let traffic = traffic.iter().map(|(name, number)| {
            let name = name.trim_start_matches("total_").replace('_', " ");
            format!("{name} {:.2}", *number as f64 / count)
        });
        println!("    per leaf: {}\n", traffic.collect::<Vec<_>>().join(", "));
    }
}

/// What stands above the table.
pub(crate) fn print_head() {
    println!(
        "{:20} {:>6} {:>8} {:16} {:>8} {:>9} {:>31} {:>9}",
        "", "", "", "", "ms per", "commands", "CPU µs per leaf", "Redis"
    );
    println!(
        "{:20} {:>6} {:>8} {:16} {:>8} {:>9} {:>7} {:>7} {:>7} {:>7} {:>9}",
        "",
        "steps",
        "steps/s",
        "(min..max)",
        "step",
        "per leaf",
        "Redis",
        "client",
        "coord.",
        "worker",
        "MB at most"
    );
}

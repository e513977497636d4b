//! What the bench prints.

use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::tasks::{Entry, Ledger};

/// One line of the table.
#[derive(Debug)]
pub(crate) struct Line {
    label: String,
    lanes: (f64, u64),
    /// From queued to begun, when a lane was free and when none was; from ended to the next one begun.
    waits: [Waits; 3],
    /// Leaves of huge runs.
    beside: Option<usize>,
}

/// Times, sorted, in milliseconds.
#[derive(Debug)]
struct Waits(Vec<f64>);

impl Line {
    pub(crate) fn new(label: String, ledger: &Ledger, beside: Option<usize>) -> Result<Self, Box<dyn Error>> {
        ledger.check()?;
        let read = |number: &std::sync::atomic::AtomicU64| number.load(Ordering::SeqCst);
        let of = |is_counted: &dyn Fn(&Entry) -> bool| {
            let leaves = ledger.leaves.iter().filter(|leaf| is_counted(leaf));
            Waits::new(leaves.map(|leaf| read(&leaf.begun).saturating_sub(read(&leaf.queued))))
        };
        let through = ledger.leaves.iter().filter(|leaf| read(&leaf.next_begun) > 0);
        let [samples, sum, most] = ledger.lanes_seen.each_ref().map(read);
        Ok(Self {
            label,
            lanes: (sum as f64 / samples.max(1) as f64, most),
            waits: [
                of(&|leaf| read(&leaf.was_free) == 1),
                of(&|leaf| read(&leaf.was_free) == 2),
                Waits::new(through.map(|leaf| read(&leaf.next_begun).saturating_sub(read(&leaf.ended)))),
            ],
            beside,
        })
    }

    pub(crate) fn print_head() {
        println!(
            "{:38} {:>11}  {:^32}  {:^32}  {:^32}",
            "", "lanes", "a lane free: queued to begun", "none free", "ended to next begun"
        );
        let part = format!("{:>7} {:>7} {:>7} {:>8}", "n", "p50", "p99", "max");
        println!("{:38} {:>5} {:>5}  {part}  {part}  {part}", "", "mean", "max");
    }

    pub(crate) fn print(&self) {
        let [free, full, through] = self.waits.each_ref().map(Waits::text);
        let (mean, most) = self.lanes;
        println!("{:38} {mean:5.0} {most:5}  {free}  {full}  {through}", self.label);
        if let Some(leaves) = self.beside {
            println!("{:38} {leaves} leaves of huge runs meanwhile", "");
        }
    }
}

impl Waits {
    fn new(micros: impl Iterator<Item = u64>) -> Self {
        let mut all: Vec<f64> = micros.map(|time| time as f64 / 1000.0).collect();
        all.sort_unstable_by(f64::total_cmp);
        Self(all)
    }

    fn text(&self) -> String {
        let at = |part: f64| self.0.get(((self.0.len() as f64 * part) as usize).min(self.0.len() - 1));
        if self.0.is_empty() {
            return format!("{:>7} {:>7} {:>7} {:>8}", 0, "-", "-", "-");
        }
        let [p50, p99, most] = [0.5, 0.99, 1.0].map(|part| at(part).copied().unwrap_or_default());
        format!("{:7} {p50:7.1} {p99:7.1} {most:8.1}", self.0.len())
    }
}

/// Looks every ten milliseconds how many lanes are in use.
pub(crate) async fn watch_lanes(ledger: Arc<Ledger>) {
    let mut often = tokio::time::interval(Duration::from_millis(10));
    loop {
        often.tick().await;
        let running = ledger.running() as u64;
        let [samples, sum, most] = &ledger.lanes_seen;
        samples.fetch_add(1, Ordering::Relaxed);
        sum.fetch_add(running, Ordering::Relaxed);
        most.fetch_max(running, Ordering::Relaxed);
    }
}

//! What has become of the faults, counted.

use std::collections::BTreeMap;
use std::fmt;

use super::deed::Deed;
use super::kind::Kind;

/// What became of one fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Fate {
    /// What it belongs to ended right.
    Harmless,
    /// Its run failed, and says why.
    Failed,
    /// It is a dead letter.
    Dead,
    /// The key or the run is named: in the log and by health, or by the error of who asks for it.
    Named,
    /// What stood there afterwards was a value like any other, and the run has ended with it.
    Changed,
    /// What was taken away left nothing behind that anybody could read.
    Lost,
    Wrong,
}

impl Fate {
    const ALL: [Self; 7] =
        [Self::Harmless, Self::Failed, Self::Dead, Self::Named, Self::Changed, Self::Lost, Self::Wrong];
}

/// All of them, by kind of key.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    by_kind: BTreeMap<String, BTreeMap<Fate, u64>>,
    by_deed: BTreeMap<String, BTreeMap<Fate, u64>>,
    pub(crate) canaries: u64,
    pub(crate) slowest_ms: u64,
    pub(crate) runs: u64,
}

impl Tally {
    pub(crate) fn count(&mut self, kind: &Kind, deed: Deed, fate: Fate) {
        let place = match kind.of {
            super::kind::Of::Channel => "channels".to_owned(),
            of => format!("{of:?}:{}", kind.place).to_lowercase(),
        };
        *self.by_kind.entry(place).or_default().entry(fate).or_default() += 1;
        let deed = format!("{deed:?}");
        let deed = deed.split('(').next().unwrap_or_default().to_lowercase();
        *self.by_deed.entry(deed).or_default().entry(fate).or_default() += 1;
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut all: BTreeMap<Fate, u64> = BTreeMap::new();
        let heads: Vec<String> =
            Fate::ALL.iter().map(|fate| format!("{:>9}", format!("{fate:?}").to_lowercase())).collect();
        let line = |name: &str, fates: &BTreeMap<Fate, u64>| {
            let counts = Fate::ALL.iter().map(|fate| format!("{:>9}", fates.get(fate).copied().unwrap_or(0)));
            format!("{name:24}{}", counts.collect::<String>())
        };
        writeln!(f, "{:24}{}", "", heads.concat())?;
        for (kind, fates) in &self.by_kind {
            writeln!(f, "{}", line(kind, fates))?;
            fates.iter().for_each(|(fate, count)| *all.entry(*fate).or_default() += count);
        }
        writeln!(f)?;
        for (deed, fates) in &self.by_deed {
            writeln!(f, "{}", line(deed, fates))?;
        }
        writeln!(f, "\n{}", line(&format!("all {}", all.values().sum::<u64>()), &all))?;
        write!(
            f,
            "{} canaries, the slowest took {} ms; {} runs were under way when a fault was written",
            self.canaries, self.slowest_ms, self.runs
        )
    }
}

//! What comes, and when.

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use celeriac::prelude::*;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::Instant;

use crate::tasks::{self, Ledger};

/// How long leaves take, and how many of a hundred do.
const MIX: [(u64, u64); 3] = [(1, 80), (100, 15), (5000, 5)];

/// Runs, each with the moment at which it comes, in order.
#[derive(Debug)]
pub(crate) struct Arrivals(Vec<(Duration, u64, bool)>);

/// Numbers that look random, from a seed (SplitMix64).
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Between 0 and 1, and never 0.
    fn fraction(&mut self) -> f64 {
        ((self.next() >> 11) + 1) as f64 / (1_u64 << 53) as f64
    }
}

impl Arrivals {
    /// Arrivals for so long that keep so many lanes busy, on average.
    pub(crate) fn new(seed: u64, busy: f64, time: Duration) -> Self {
        let mean: f64 = MIX.iter().map(|(ms, share)| (ms * share) as f64 / 100.0).sum();
        let mean_pause = mean / 1000.0 / busy.max(0.001);
        let (mut dice, mut at, mut all) = (Dice(seed), 0.0, Vec::new());
        loop {
            at -= dice.fraction().ln() * mean_pause;
            if at >= time.as_secs_f64() {
                return Self(all);
            }
            let mut share = dice.next() % 100;
            let fits = |(_, part): &&(u64, u64)| {
                let is_here = share < *part;
                share = share.saturating_sub(*part);
                is_here
            };
            let (ms, _) = MIX.iter().find(fits).expect("the shares make a hundred");
            all.push((Duration::from_secs_f64(at), *ms, dice.next() % 2 == 0));
        }
    }

    pub(crate) fn count(&self) -> usize {
        self.0.len()
    }

    /// Submits them when they come, whether or not those before are through.
    pub(crate) async fn send(&self, app: &App, ledger: &Arc<Ledger>) -> Result<(), Box<dyn Error>> {
        let start = Instant::now();
        let mut submissions = JoinSet::new();
        for (number, (at, ms, is_blocking)) in self.0.iter().enumerate() {
            tokio::time::sleep_until(start + *at).await;
            let canvas = tasks::canvas(number, *ms, *is_blocking)?;
            let (app, ledger) = (app.clone(), ledger.clone());
            ledger.comes(number);
            submissions.spawn(async move {
                let run = app.submit(canvas).await;
                ledger.is_queued(number);
                run.map(drop)
            });
        }
        while let Some(submitted) = submissions.join_next().await {
            submitted??;
        }
        Ok(())
    }
}

/// Starts one huge run after the other, and returns when leaves of the first have begun.
pub(crate) async fn huge(
    app: App,
    nodes: usize,
    ledger: &Arc<Ledger>,
) -> Result<JoinHandle<()>, Box<dyn Error>> {
    let canvas = move || group((0..nodes).map(|number| tasks::one_of_many.s(number)));
    let runs = tokio::spawn(async move {
        loop {
            let ended = async {
                let run = app.submit(canvas()).await?;
                run.ended().await?;
                run.forget().await?;
                Ok::<_, Box<dyn Error + Send + Sync>>(())
            };
            if let Err(error) = ended.await {
                eprintln!("the huge run: {error}");
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        }
    });
    let end = Instant::now() + Duration::from_secs(300);
    while ledger.huge_leaves() == 0 {
        if Instant::now() > end {
            return Err("the huge run does not begin".into());
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    Ok(runs)
}

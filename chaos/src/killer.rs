//! Who is killed next, and when.

use std::time::{Duration, Instant};

use celeriac_conformance::random::Rng;

use crate::crew::{Crew, Target};
use crate::faults::Kind;
use crate::options::{Ingredient, LEASE, Options, Victim};

/// The share of the kills, in a hundred, in which only victims of one kind are chosen, for each kind. Alone,
/// they show what would be excused by the others: a coordinator that dies must not make a leaf run twice.
const ALONE_PERCENT: usize = 15;

/// Kills until there were enough kills or the time is over. Returns whether there were enough.
pub(crate) fn run(crew: &mut Crew, options: &Options) -> bool {
    let mut rng = Rng::new(options.seed() ^ 0x0bad_cafe);
    let deadline = Instant::now() + Duration::from_secs_f64(options.minutes * 60.0);
    let mut next = Instant::now() + Duration::from_millis(500);
    loop {
        let kills = crew.faults.count(Kind::Kill, None);
        if kills >= options.kills || Instant::now() > deadline {
            return kills >= options.kills;
        }
        crew.tend();
        if Instant::now() >= next {
            strike(crew, options, &mut rng, kills);
            let mean = options.every_ms.max(4);
            next = Instant::now() + Duration::from_millis(u64::from(mean / 4 + rng.below(mean * 3 / 2)));
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn strike(crew: &mut Crew, options: &Options, rng: &mut Rng, kills: usize) {
    let (how, with) = (rng.below(100), options.with());
    let alone = options.victims.get(kills * 100 / (options.kills * ALONE_PERCENT).max(1));
    let kinds = alone.map_or(options.victims.as_slice(), std::slice::from_ref);
    // Once at least, in a short trial as well.
    let is_due =
        |kind, ingredient, from| with.has(ingredient) && kills >= from && crew.faults.count(kind, None) == 0;
    let (cut, fill) = (is_due(Kind::Cut, Ingredient::Terms, 2), is_due(Kind::Full, Ingredient::Full, 4));
    let Some((kind, target)) = choose(crew, rng, if cut { &[Victim::Workers] } else { kinds }) else {
        return;
    };
    match how {
        _ if fill => crew.fill(Duration::from_millis(1500)),
        _ if cut && !crew.is_paused(target) => {
            crew.stop(target, Some(Duration::from_millis(50)));
        }
        0..12 if !crew.is_paused(target) => {
            let time = match kind {
                Victim::Redis => Duration::from_millis(u64::from(100 + rng.below(700))),
                // Mostly past the lease, so that what it holds is given to others, and then it is back.
                _ => LEASE / 2 + LEASE * rng.below(150) / 100,
            };
            crew.pause(target, time);
        }
        12..22 if kind != Victim::Redis && !crew.is_paused(target) => {
            let again = with.has(Ingredient::Terms) && rng.percent(50);
            let again = again.then(|| Duration::from_millis(u64::from(20 + rng.below(400))));
            crew.stop(target, again);
        }
        22..28 if kind == Victim::Redis && with.has(Ingredient::Full) => {
            crew.fill(Duration::from_millis(u64::from(500 + rng.below(2000))));
        }
        _ => {
            crew.kill(target, away(crew, kind, rng));
            // Sometimes a second one with it.
            if how >= 88
                && kills + 1 < options.kills
                && let Some((kind, target)) = choose(crew, rng, kinds)
            {
                crew.kill(target, away(crew, kind, rng));
            }
        }
    }
}

/// How long who is killed is away. A node of a Cluster now and then so long that the others hold it for
/// down, and its replica, if it has one, takes over.
fn away(crew: &Crew, kind: Victim, rng: &mut Rng) -> Duration {
    let is_long = kind == Victim::Redis && crew.is_cluster() && rng.percent(40);
    Duration::from_millis(u64::from(if is_long { 2500 + rng.below(1500) } else { rng.below(400) }))
}

/// A kind first, then one of it.
fn choose(crew: &Crew, rng: &mut Rng, kinds: &[Victim]) -> Option<(Victim, Target)> {
    let kind = kinds[rng.below(kinds.len() as u32) as usize];
    let targets = crew.targets(kind);
    let target = *targets.get(rng.below(targets.len() as u32) as usize)?;
    Some((kind, target))
}

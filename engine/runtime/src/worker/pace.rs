//! How many leaves a worker holds besides those it runs.
//!
//! A lane that ends has the next leaf at once when some lie in reserve. But what lies there, no other worker
//! can run: so it is no more than what the lanes begin within [`RESERVE`]. Two things say how many that are,
//! and the smaller counts: how long leaves took lately, and how many were begun lately (of leaves that do not
//! end, nobody knows yet how long they take). Both look back; [`Pace::slow_down`] is for what has turned out
//! otherwise.

use std::time::Duration;

use tokio::time::Instant;

/// A worker holds what it is likely to begin within this time.
pub(super) const RESERVE: Duration = Duration::from_millis(10);

/// Of leaves that take no longer, a lane does many while another one starts.
const QUICK: Duration = Duration::from_micros(100);

/// One leaf in so many is timed, and the first few.
const TIMED: u64 = 8;

/// How fast a worker's lanes work.
#[derive(Debug)]
pub(super) struct Pace {
    concurrency: usize,
    /// What the user wants in reserve.
    fixed: Option<usize>,
    /// How long a leaf ran lately, on average.
    took: Option<Duration>,
    /// How many leaves were begun.
    begun: u64,
    /// When `lately` was counted, and how many were begun by then.
    counted: Option<(Instant, u64)>,
    /// How many leaves were begun within [`RESERVE`], when that was counted last.
    lately: u64,
}

impl Pace {
    pub(super) fn new(concurrency: usize, fixed: Option<usize>) -> Self {
        Self { concurrency, fixed, took: None, begun: 0, counted: None, lately: 0 }
    }

    /// A leaf begins; whether to time it.
    pub(super) fn begin(&mut self) -> bool {
        self.begun += 1;
        self.begun.is_multiple_of(TIMED) || self.begun < TIMED
    }

    /// How many leaves were begun.
    pub(super) fn begun(&self) -> u64 {
        self.begun
    }

    /// A leaf that was timed has ended.
    pub(super) fn note(&mut self, took: Duration) {
        self.took = Some(self.took.map_or(took, |lately| (lately * 15 + took) / 16));
    }

    /// How many leaves to hold besides those that run.
    pub(super) fn reserve(&mut self, now: Instant) -> usize {
        if let Some(fixed) = self.fixed {
            return fixed;
        }
        let (since, before) = *self.counted.get_or_insert((now, self.begun));
        let (passed, begun) = (now - since, self.begun - before);
        if passed >= RESERVE {
            self.lately = (begun as f64 * RESERVE.as_secs_f64() / passed.as_secs_f64()) as u64;
            self.counted = Some((now, self.begun));
        }
        let Some(took) = self.took else { return 0 };
        let by_time = RESERVE.as_secs_f64() / took.as_secs_f64().max(1e-6) * self.concurrency as f64;
        let by_count = self.lately.max(begun) as usize;
        (by_time as usize).min(by_count).min(self.concurrency)
    }

    /// Only so many leaves were begun within [`RESERVE`] although more were at hand.
    pub(super) fn slow_down(&mut self, begun: u64) {
        let lanes_per_leaf = self.concurrency as f64 / begun.max(1) as f64;
        // Half a leaf when there was none: the reserve is empty until leaves end that are quick.
        let slow = RESERVE.mul_f64(if begun == 0 { self.concurrency as f64 * 2.0 } else { lanes_per_leaf });
        self.took = Some(self.took.map_or(slow, |took| took.max(slow)));
    }

    /// Whether leaves were so quick lately that a lane for each costs more than it brings.
    pub(super) fn is_quick(&self) -> bool {
        self.took.is_some_and(|took| took < QUICK)
    }

    /// Whether what lies in reserve is the worker's own choice.
    pub(super) fn is_free(&self) -> bool {
        self.fixed.is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    /// A worker of 64 lanes that has begun so many leaves of `took` within the last 10 ms.
    fn worked(took: Duration, begun: u64) -> (Pace, Instant) {
        let (mut pace, start) = (Pace::new(64, None), Instant::now());
        pace.reserve(start);
        for _ in 0..begun {
            pace.begin();
            pace.note(took);
        }
        (pace, start + ms(10))
    }

    #[test]
    fn the_reserve_is_what_is_begun_within_ten_milliseconds() {
        for (took, begun, reserve) in [
            (Duration::from_micros(10), 100_000, 64),
            (ms(1), 640, 64),
            (ms(20), 32, 32),
            (ms(100), 6, 6),
            (ms(4000), 1, 0),
            // Sixty-three lanes are stuck, and one is quick.
            (ms(1), 10, 10),
            // All are.
            (ms(1), 0, 0),
        ] {
            let (mut pace, now) = worked(took, begun);
            assert_eq!(pace.reserve(now), reserve, "{begun} leaves of {took:?}");
        }
    }

    #[test]
    fn a_worker_that_knows_nothing_holds_nothing_besides() {
        assert_eq!(Pace::new(64, None).reserve(Instant::now()), 0);
    }

    #[test]
    fn one_slow_leaf_among_quick_ones_is_enough_to_count_on_more() {
        let (mut pace, _) = worked(Duration::from_micros(10), 100_000);
        assert!(pace.is_quick());
        pace.note(ms(5));
        assert!(!pace.is_quick());
        assert!(!Pace::new(64, None).is_quick(), "nobody knows yet");
    }

    #[test]
    fn what_the_user_wants_in_reserve_is_that() {
        let (mut pace, now) = (Pace::new(64, Some(7)), Instant::now());
        pace.note(ms(100_000));
        pace.slow_down(0);
        assert_eq!(pace.reserve(now), 7);
    }

    #[test]
    fn who_was_wrong_holds_nothing_until_leaves_are_quick_again() {
        let (mut pace, now) = worked(ms(1), 640);
        pace.slow_down(0);
        assert_eq!(pace.reserve(now), 0);
        for _ in 0..640 {
            if pace.begin() {
                pace.note(ms(1));
            }
        }
        assert!(pace.reserve(now + ms(10)) > 32);
    }
}

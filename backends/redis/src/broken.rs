//! Keys that hold something else than what is kept there. Each is passed over, said now and then, and told by
//! the health of the process; nothing else is held up by it.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// One that was not come across for so long has been mended.
const SEEN_FOR: Duration = Duration::from_secs(30);

/// What is wrong with one is said again after so long.
const SAID_EVERY: Duration = Duration::from_secs(60);

/// So many are known one by one.
const KNOWN_MAX: usize = 100;

/// Those that were come across lately. Cheap to clone: clones share them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Broken(Arc<Mutex<BTreeMap<String, Times>>>);

/// When it was come across last, and when that was said.
#[derive(Clone, Copy, Debug)]
struct Times {
    seen: Instant,
    said: Instant,
}

impl Broken {
    /// That a key cannot be read or written.
    pub(crate) fn note(&self, key: &str, what: impl fmt::Display) {
        let now = Instant::now();
        {
            let mut known = self.known();
            if let Some(times) = known.get_mut(key) {
                times.seen = now;
                if now.duration_since(times.said) < SAID_EVERY {
                    return;
                }
                times.said = now;
            } else if known.len() < KNOWN_MAX {
                known.insert(key.to_owned(), Times { seen: now, said: now });
            } else {
                return;
            }
        }
        tracing::error!(key, %what, "a key is broken and is passed over: mend it, or delete it");
    }

    /// What is broken now, in words.
    pub(crate) fn strain(&self) -> Option<String> {
        let mut known = self.known();
        known.retain(|_, times| times.seen.elapsed() < SEEN_FOR);
        let first = known.keys().next()?;
        let count = if known.len() < KNOWN_MAX { String::new() } else { " or more".to_owned() };
        Some(format!(
            "{}{count} keys are broken and are passed over, the first is {first:?}: mend them, or delete them",
            known.len()
        ))
    }

    fn known(&self) -> MutexGuard<'_, BTreeMap<String, Times>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_is_broken_is_told_until_it_was_not_come_across_for_a_while() {
        let broken = Broken::default();
        assert_eq!(broken.strain(), None);
        for number in 0..2 * KNOWN_MAX {
            broken.note(&format!("key {number:03}"), "WRONGTYPE");
        }
        let told = broken.strain().unwrap();
        assert!(told.starts_with("100 or more keys") && told.contains("\"key 000\""), "{told}");
        tokio::time::advance(SEEN_FOR - Duration::from_secs(1)).await;
        broken.note("key 007", "WRONGTYPE");
        tokio::time::advance(Duration::from_secs(1)).await;
        let told = broken.strain().unwrap();
        assert!(told.starts_with("1 keys") && told.contains("\"key 007\""), "{told}");
        tokio::time::advance(SEEN_FOR).await;
        assert_eq!(broken.strain(), None);
    }
}

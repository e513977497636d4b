//! What is there and on no list: the lists went back to an older state, or somebody removed them.
//!
//! Each sweep looks at a few keys, so it takes a while until all were seen. A run that is not on the list
//! of runs is put there, and what it owes is found as that of any other; a queue is noted again.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use celeriac_backends::{BackendError, ErrorKind};
use celeriac_primitives::{RunId, RunRef};

use crate::RedisBackend;
use crate::error::corrupt;
use crate::keys::write_run;
use crate::meta::Meta;
use crate::queues::{Named, Place};

/// About so many keys are looked at each time.
const KEYS: usize = 100;

/// How far all keys were seen.
#[derive(Debug, Default)]
pub(crate) struct Unlisted(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// On each server, by its address.
    cursors: HashMap<Arc<str>, String>,
    turn: usize,
}

impl RedisBackend {
    /// Looks at some keys, and lists what should be on a list and is not. These queues are noted.
    pub(crate) async fn find_unlisted(&self, named: &[Named]) -> Result<(), BackendError> {
        let link = self.link();
        let servers = link.servers().await;
        let (server, cursor) = {
            let mut state = self.unlisted().0.lock().unwrap_or_else(PoisonError::into_inner);
            state.cursors.retain(|server, _| servers.contains(server));
            state.turn = state.turn.wrapping_add(1);
            let Some(server) = servers.get(state.turn % servers.len().max(1)) else { return Ok(()) };
            (server.clone(), state.cursors.get(server).cloned().unwrap_or_else(|| "0".to_owned()))
        };
        let mut cmd = redis::cmd("SCAN");
        cmd.arg(&cursor).arg("MATCH").arg(link.keys.of_slots()).arg("COUNT").arg(KEYS);
        let answer = match link.ask_server("sweep", &server, &cmd).await {
            // Who may not see the names of all keys finds nothing, and all else goes on.
            Err(error) if error.kind == ErrorKind::Denied => return Ok(()),
            answer => answer?,
        };
        let (next, keys): (String, Vec<Vec<u8>>) =
            redis::from_redis_value(answer).map_err(|error| corrupt("sweep", error))?;
        {
            let mut state = self.unlisted().0.lock().unwrap_or_else(PoisonError::into_inner);
            state.cursors.insert(server, next);
        }
        let keys: Vec<&str> = keys.iter().filter_map(|key| std::str::from_utf8(key).ok()).collect();
        self.list_runs(keys.iter().filter_map(|key| link.keys.run_of(key)).collect()).await?;
        let is_noted = |(queue, lane): &Place| {
            named.iter().any(|named| named.name == *queue && named.lanes.contains(lane))
        };
        let places = keys.iter().filter_map(|key| link.keys.place_beside(key));
        let unknown = places.filter(|place| !is_noted(place)).collect();
        self.queues().note_now(link, "sweep", &unknown, 0).await
    }

    async fn list_runs(&self, ids: Vec<RunId>) -> Result<(), BackendError> {
        let link = self.link();
        let looks = ids.iter().map(|id| async move {
            let mut cmd = redis::cmd("HMGET");
            cmd.arg(link.keys.run(*id).hash()).arg("m").arg("u");
            link.ask::<(Option<Vec<u8>>, Option<Vec<u8>>)>("sweep", &cmd).await
        });
        let mut runs: Vec<RunRef> = Vec::new();
        for (id, found) in ids.iter().zip(futures::future::join_all(looks).await) {
            // What cannot be read is told of by whoever needs it; a segment is on no list.
            let Ok((Some(meta), None)) = found else { continue };
            let Ok(meta) = Meta::unpack("sweep", &meta) else { continue };
            runs.push(id.incarnation(meta.incarnation));
        }
        if runs.is_empty() {
            return Ok(());
        }
        let mut cmd = redis::cmd("ZMSCORE");
        cmd.arg(link.keys.runs());
        runs.iter().for_each(|run| {
            cmd.arg(&write_run(*run)[..]);
        });
        let listed: Vec<Option<f64>> = link.ask("sweep", &cmd).await?;
        let unlisted = runs.iter().zip(listed).filter(|(_, listed)| listed.is_none()).map(|(run, _)| *run);
        for run in unlisted {
            tracing::warn!(%run, "a run was on no list, and is listed again");
            link.write::<()>("sweep", "ZADD", link.keys.runs(), (0, &write_run(run)[..])).await?;
            // It may just have been forgotten: who does so takes it off the list after that.
            if self.meta_of(run, "sweep").await?.is_none() {
                self.drop_from_list(run).await?;
            }
        }
        Ok(())
    }
}

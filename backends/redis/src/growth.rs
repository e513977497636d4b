//! Segments: what a run owns besides itself.
//!
//! A segment is stored like any run, but for its place in the list of runs. The outermost run knows all of
//! its segments before they are stored, so forgetting it forgets them; on a Cluster they are in other slots.

use celeriac_backends::{BackendError, Grown, Origin};
use celeriac_primitives::{RunId, RunRef};

use crate::RedisBackend;
use crate::error::corrupt;
use crate::keys::write_incarnation;
use crate::scripts::{GROW, SEGMENTS, SLICE};
use crate::store::{id_of, meta_of};

impl RedisBackend {
    pub(crate) async fn note_segment(
        &self,
        root: RunRef,
        segment: RunId,
        nodes: usize,
        nodes_max: usize,
    ) -> Result<Grown, BackendError> {
        let keys = self.link().keys.run(root.id);
        let noted: i64 = self
            .link()
            .run("grow", &GROW, |script| {
                script.key(keys.hash()).key(keys.segments());
                script.arg(&segment.uuid().as_bytes()[..]).arg(nodes).arg(nodes_max);
                script.arg(&write_incarnation(root.incarnation)[..]);
            })
            .await?;
        match noted {
            1 => Ok(Grown::Noted),
            0 => Ok(Grown::Full),
            _ => Ok(Grown::Unknown),
        }
    }

    pub(crate) async fn segments_of(&self, run: RunRef) -> Result<Vec<RunId>, BackendError> {
        self.segments_when(run, false).await
    }

    /// The segments of a run that is being forgotten.
    pub(crate) async fn segments_marked(&self, run: RunRef) -> Result<Vec<RunId>, BackendError> {
        self.segments_when(run, true).await
    }

    async fn segments_when(&self, run: RunRef, marked: bool) -> Result<Vec<RunId>, BackendError> {
        let keys = self.link().keys.run(run.id);
        let (mut cursor, mut segments) = ("0".to_owned(), Vec::new());
        loop {
            type Page = (Option<Vec<u8>>, Option<Vec<u8>>, String, Vec<Vec<u8>>);
            let (meta, mark, next, fields): Page = self
                .link()
                .run("segments", &SEGMENTS, |script| {
                    script.key(keys.hash()).key(keys.segments()).arg(&cursor).arg(SLICE);
                })
                .await?;
            let is_this = match marked {
                true => mark.is_some_and(|mark| mark == write_incarnation(run.incarnation)),
                false => meta_of(run, "segments", meta)?.is_some(),
            };
            if !is_this {
                return Ok(Vec::new());
            }
            // Besides the ids there is a count.
            segments.extend(fields.chunks(2).filter_map(|field| id_of(&field[0])));
            cursor = next;
            if cursor == "0" {
                break;
            }
        }
        segments.sort_unstable();
        segments.dedup();
        Ok(segments)
    }

    pub(crate) async fn origin_of(&self, run: RunRef) -> Result<Option<Origin>, BackendError> {
        let fields = self.fields::<Vec<u8>>(run, "origin", vec!["u".to_owned()]).await?;
        let origin = fields.and_then(|(_, fields)| fields.into_iter().next().flatten());
        let read = |bytes: Vec<u8>| {
            rmp_serde::from_slice(&bytes).map_err(|error| corrupt("origin", run).source(error))
        };
        origin.map(read).transpose()
    }

    /// What failed inside a segment is the end of its leaf; what goes on there all the same is not cut off.
    pub(crate) async fn have_ended(&self, segments: &[RunRef]) -> Result<bool, BackendError> {
        for slice in segments.chunks(SLICE) {
            let metas = slice.iter().map(|segment| self.meta_of(*segment, "sweep"));
            let metas = futures::future::try_join_all(metas).await?;
            if metas.into_iter().flatten().any(|meta| meta.open > 0) {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

//! Run ids, node numbers and task ids.
//!
//! A run id is a UUIDv7 whose low 32 bits are zero; the task id of a node is its run id with the node number in those
//! bits. So the way from a task id to (run, node) and back is arithmetic, ids sort by time, and Celery sees ordinary
//! UUIDs. Node numbers start at 1: number 0 would be the run itself.
//!
//! A run that was submitted under a key has a UUIDv8 instead, which depends on the key alone:
//!
//! ```text
//!                 48 bits          4   12 bits  2   30 bits          32 bits
//! from_parts      unix time in ms  7   chance   10  chance           0
//! from_key        00 and hash      8   hash     10  hash             0
//! ```
//!
//! Its first byte is zero, as in no time since 2004: such runs sort before all others.
//!
//! What runs in the place of a leaf is a run, too, a *segment*: its id is a UUIDv5 that depends on the leaf, the attempt and
//! the incarnation alone, so whoever expands the leaf a second time comes to the same run.
//!
//! An id may be used again when its run was forgotten, and then it is another run's. What tells the two apart is the
//! *incarnation*, by which all that is sent, stored or kept for one of them is known: see [`RunRef`].

use std::fmt;
use std::num::NonZeroU32;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// The number of a node in its plan: 1, 2, 3, …, in the order of lowering.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct NodeNo(NonZeroU32);

impl NodeNo {
    /// The node at this place of a plan's list of nodes (place 0 is number 1).
    pub fn from_index(index: usize) -> Self {
        let number = u32::try_from(index + 1).expect("plans are limited to fewer than 2^32 nodes");
        Self(NonZeroU32::new(number).expect("an index plus one is not zero"))
    }

    /// The node with this number; `None` for 0.
    pub fn new(number: u32) -> Option<Self> {
        NonZeroU32::new(number).map(Self)
    }

    /// The number: 1, 2, 3, …
    pub fn number(self) -> u32 {
        self.0.get()
    }

    /// The place in the plan's list of nodes: 0, 1, 2, …
    pub fn index(self) -> usize {
        self.0.get() as usize - 1
    }
}

impl fmt::Debug for NodeNo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "n{}", self.0)
    }
}

impl fmt::Display for NodeNo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The id of one execution of a plan.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "Uuid", into = "Uuid")]
pub struct RunId(Uuid);

/// Which of the runs that ever had an id: a number by chance, chosen by whoever submits the run. What runs in the place
/// of leaves has that of the run it belongs to. 0 stands for none: it was not said.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Incarnation(u64);

/// One run: its id, and which of the runs that ever had the id it is.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct RunRef {
    /// The id.
    pub id: RunId,
    /// Which of its runs.
    pub incarnation: Incarnation,
}

/// The id of one node of one run, as Celery's tools see it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "Uuid", into = "Uuid")]
pub struct TaskId(Uuid);

/// A text or number that is no run id or task id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum IdError {
    /// Not a UUID at all.
    #[error("{0:?} is not a UUID; an id looks like 0198f0c2-7b1d-7c3e-9a52-4d8f00000000")]
    NotAUuid(String),
    /// The low 32 bits of a run id are zero.
    #[error("{0} is a task id, not a run id: a run id ends in eight zeros")]
    NotARun(Uuid),
    /// The low 32 bits of a task id hold its node number.
    #[error("{0} is a run id, not a task id: it ends in eight zeros")]
    NotATask(Uuid),
}

const NODE_BITS: u128 = 0xffff_ffff;

/// What keys are hashed with, so that their ids are not those of other programs.
const KEYS: Uuid = Uuid::from_u128(0x1fa0_2c31_75c5_4b6e_9d39_5b8a_6c2e_07d4);

/// The same for segments.
const SEGMENTS: Uuid = Uuid::from_u128(0x83f4_5f0d_92a5_4c86_b1c7_d2f0_6d1b_55e9);

impl RunId {
    /// A run id from a moment in milliseconds since 1970 and random bits, of which 42 are used.
    pub fn from_parts(unix_ms: u64, random: u64) -> Self {
        let rand_a = (random & 0xfff) as u128;
        let rand_b = ((random >> 12) & 0x3fff_ffff) as u128;
        let time = (unix_ms as u128 & 0xffff_ffff_ffff) << 80;
        Self(Uuid::from_u128(time | (0x7 << 76) | (rand_a << 64) | (0b10 << 62) | (rand_b << 32)))
    }

    /// The run id that belongs to a key of the caller's choice, such as `order-4711`; the same key always has the same.
    ///
    /// It is the UUIDv5 of the key in a namespace of celeriac's, marked as a UUIDv8, with its first byte and its low
    /// 32 bits set to zero. 82 bits of the hash are left, so among a billion keys two are alike with a chance of one in
    /// eight million.
    pub fn from_key(key: &str) -> Self {
        const VERSION: u128 = 0xf << 76;
        let hash = Uuid::new_v5(&KEYS, key.as_bytes()).as_u128();
        Self(Uuid::from_u128((hash << 8 >> 8) & !NODE_BITS & !VERSION | (0x8 << 76)))
    }

    /// Whether it may be the id of a segment. What somebody submits under a UUIDv5 of their own looks the same.
    pub fn is_segment(self) -> bool {
        self.0.get_version_num() == 5
    }

    /// The run id in a UUID.
    ///
    /// # Errors
    /// [`IdError::NotARun`] when its low 32 bits are not zero.
    pub fn from_uuid(uuid: Uuid) -> Result<Self, IdError> {
        if uuid.as_u128() & NODE_BITS == 0 { Ok(Self(uuid)) } else { Err(IdError::NotARun(uuid)) }
    }

    /// The task id of one of this run's nodes.
    pub fn task(self, node: NodeNo) -> TaskId {
        TaskId(Uuid::from_u128(self.0.as_u128() | u128::from(node.number())))
    }

    /// The id as a UUID.
    pub fn uuid(self) -> Uuid {
        self.0
    }

    /// The run of this id and incarnation.
    pub fn incarnation(self, incarnation: Incarnation) -> RunRef {
        RunRef { id: self, incarnation }
    }
}

impl Incarnation {
    /// The incarnation with this number.
    pub fn new(number: u64) -> Self {
        Self(number)
    }

    /// The number.
    pub fn number(self) -> u64 {
        self.0
    }
}

impl RunRef {
    /// The task id of one of the run's nodes.
    pub fn task(self, node: NodeNo) -> TaskId {
        self.id.task(node)
    }

    /// What runs in the place of a leaf of this run that was replaced in this attempt.
    pub fn segment(self, node: NodeNo, attempt: u32) -> Self {
        let mut name = self.task(node).0.as_bytes().to_vec();
        name.extend_from_slice(&attempt.to_be_bytes());
        name.extend_from_slice(&self.incarnation.0.to_be_bytes());
        let id = RunId(Uuid::from_u128(Uuid::new_v5(&SEGMENTS, &name).as_u128() & !NODE_BITS));
        Self { id, ..self }
    }
}

impl fmt::Debug for Incarnation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl fmt::Debug for RunRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}~{:?}", self.id, self.incarnation)
    }
}

/// The id alone: that is what people know a run by.
impl fmt::Display for RunRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.id.fmt(f)
    }
}

impl TaskId {
    /// The task id in a UUID.
    ///
    /// # Errors
    /// [`IdError::NotATask`] when its low 32 bits are zero.
    pub fn from_uuid(uuid: Uuid) -> Result<Self, IdError> {
        if uuid.as_u128() & NODE_BITS == 0 { Err(IdError::NotATask(uuid)) } else { Ok(Self(uuid)) }
    }

    /// The run this task belongs to.
    pub fn run(self) -> RunId {
        RunId(Uuid::from_u128(self.0.as_u128() & !NODE_BITS))
    }

    /// The node of the run's plan.
    pub fn node(self) -> NodeNo {
        NodeNo::new((self.0.as_u128() & NODE_BITS) as u32).expect("a task id holds a node number")
    }

    /// The id as a UUID.
    pub fn uuid(self) -> Uuid {
        self.0
    }
}

impl FromStr for RunId {
    type Err = IdError;
    fn from_str(text: &str) -> Result<Self, IdError> {
        Self::from_uuid(parse_uuid(text)?)
    }
}

impl FromStr for TaskId {
    type Err = IdError;
    fn from_str(text: &str) -> Result<Self, IdError> {
        Self::from_uuid(parse_uuid(text)?)
    }
}

fn parse_uuid(text: &str) -> Result<Uuid, IdError> {
    Uuid::try_parse(text).map_err(|_| IdError::NotAUuid(text.chars().take(80).collect()))
}

impl TryFrom<Uuid> for RunId {
    type Error = IdError;
    fn try_from(uuid: Uuid) -> Result<Self, IdError> {
        Self::from_uuid(uuid)
    }
}

impl TryFrom<Uuid> for TaskId {
    type Error = IdError;
    fn try_from(uuid: Uuid) -> Result<Self, IdError> {
        Self::from_uuid(uuid)
    }
}

impl From<RunId> for Uuid {
    fn from(run: RunId) -> Uuid {
        run.0
    }
}

impl From<TaskId> for Uuid {
    fn from(task: TaskId) -> Uuid {
        task.0
    }
}

macro_rules! print_as_uuid {
    ($($id:ty),*) => {$(
        impl fmt::Debug for $id {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
        impl fmt::Display for $id {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    )*};
}
print_as_uuid!(RunId, TaskId);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Json;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_task_id_leads_back_to_its_run_and_node(ms in 0u64..1 << 48, random: u64, number in 1u32..) {
            let run = RunId::from_parts(ms, random);
            let node = NodeNo::new(number).unwrap();
            let task = run.task(node);
            prop_assert_eq!((task.run(), task.node()), (run, node));
            prop_assert_eq!(run.uuid().get_version_num(), 7);
            prop_assert_eq!(task.uuid().get_variant(), uuid::Variant::RFC4122);
            prop_assert_eq!(run.to_string().parse::<RunId>().unwrap(), run);
            prop_assert_eq!(task.to_string().parse::<TaskId>().unwrap(), task);
        }

        #[test]
        fn run_ids_sort_by_time(a in 0u64..1 << 48, b in 0u64..1 << 48, r1: u64, r2: u64) {
            prop_assume!(a < b);
            prop_assert!(RunId::from_parts(a, r1) < RunId::from_parts(b, r2));
        }
    }

    #[test]
    fn a_key_has_one_id_for_ever() {
        let run = RunId::from_key("order-4711");
        assert_eq!(run.to_string(), "00a5584a-6e04-8bb5-a00a-dd6200000000");
        assert_eq!((run.uuid().get_version_num(), run.uuid().get_variant()), (8, uuid::Variant::RFC4122));
        assert_eq!(run.to_string().parse(), Ok(run));
        assert!(run < RunId::from_parts(1 << 40, 0), "keyed runs sort before those of our time");
        let others = ["", "order-4712", "Order-4711", " order-4711"].map(RunId::from_key);
        assert!(!others.contains(&run));
    }

    #[test]
    fn a_segment_has_an_id_of_its_own_for_each_leaf_and_attempt() {
        let run = RunId::from_parts(1, 2).incarnation(Incarnation::new(3));
        let segment = |number, attempt| run.segment(NodeNo::new(number).unwrap(), attempt).id;
        assert_eq!(segment(1, 1), segment(1, 1));
        assert_eq!(segment(1, 1).to_string().parse(), Ok(segment(1, 1)));
        assert!(segment(1, 1).is_segment() && !run.id.is_segment() && !RunId::from_key("k").is_segment());
        assert!(![segment(2, 1), segment(1, 2)].contains(&segment(1, 1)));
    }

    #[test]
    fn runs_of_one_id_are_told_apart_and_have_the_same_task_ids() {
        let id = RunId::from_key("order-4711");
        let [one, two] = [1, 2].map(|number| id.incarnation(Incarnation::new(number)));
        let node = NodeNo::from_index(0);
        assert!(one != two && one.task(node) == two.task(node) && one.to_string() == id.to_string());
        assert_eq!(one.segment(node, 1).incarnation, one.incarnation);
        assert_ne!(one.segment(node, 1).id, two.segment(node, 1).id);
    }

    #[test]
    fn a_task_id_is_no_run_id_and_the_other_way_round() {
        let run = RunId::from_parts(1, 2);
        let task = run.task(NodeNo::new(7).unwrap());
        assert!(matches!(task.to_string().parse::<RunId>(), Err(IdError::NotARun(_))));
        assert!(matches!(run.to_string().parse::<TaskId>(), Err(IdError::NotATask(_))));
        assert!(matches!("x".parse::<RunId>(), Err(IdError::NotAUuid(_))));
        let json = |id: &str| Json::string(id);
        assert!(
            json(&task.to_string()).to::<RunId>().is_err() && json(&run.to_string()).to::<TaskId>().is_err()
        );
        assert_eq!(json(&task.to_string()).to::<TaskId>().unwrap(), task);
    }
}

//! The Lua scripts: constant text; data only in their arguments.
//!
//! Each is one atomic step with bounded work. When Redis has lost a script (it restarted, or somebody flushed them),
//! the call loads it again.

use std::sync::LazyLock;

use redis::Script;

/// How many entries one script handles at most: about 5 ms of work, during which Redis does nothing else.
pub(crate) const SLICE: usize = 500;

macro_rules! scripts {
    ($($name:ident $file:literal)*) => {
        $(pub(crate) static $name: LazyLock<Script> =
            LazyLock::new(|| Script::new(include_str!(concat!("scripts/", $file))));)*
    };
}

scripts! {
    INTEND "intend.lua"
    SUBMIT "submit.lua"
    PUBLISH "publish.lua"
    ANNOUNCE "announce.lua"
    OVERDUE "overdue.lua"
    SETTLE "settle.lua"
    DISPATCH "dispatch.lua"
    FORGET "forget.lua"
    TAKE "take.lua"
    HAND_BACK "hand_back.lua"
    RENEW "renew.lua"
    FINISH "finish.lua"
    ACKNOWLEDGE "acknowledge.lua"
    RETIRE "retire.lua"
    SWEEP "sweep.lua"
}

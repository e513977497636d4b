//! What a Redis user needs for each role: the rules of an ACL, complete and no wider than that.
//!
//! Keys and channels are those of one prefix; commands are named one by one, since a category of Redis has
//! more of them with each version. A script runs with the rights of the user who calls it, so what it calls
//! stands here, too. Keys are given to read and to write: Redis asks for both of whoever runs a script, which
//! commands alone then narrow.

use std::collections::BTreeSet;

use celeriac_backends::BackendError;

use crate::keys::check_prefix;

/// What a program does with the Redis of an app.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Role {
    /// Takes leaves, runs them, and reports how they ended.
    Worker,
    /// Advances runs, and looks after all that is kept.
    Coordinator,
    /// Submits runs, waits for them, forgets them, and requeues or drops dead letters.
    Client,
    /// Looks at runs and dead letters, and waits for results.
    ReadOnly,
}

/// Connecting, finding the node of a key, running scripts, and hearing hints. `INFO` may be left out.
const ALL: &str = "ping role select cluster|slots asking info time eval evalsha subscribe unsubscribe publish pubsub|numsub type rename xinfo|stream";

/// The same for who changes nothing.
const LOOKING: &str = "ping role select cluster|slots asking info time eval evalsha subscribe unsubscribe";

const READ_ONLY: &str = "get getrange hget hmget hscan strlen xrange zrevrangebylex";

const CLIENT: &str = "append exists expire get getrange hdel hexists hget hlen hmget hscan hset persist sadd \
     set smismember srandmember srem strlen unlink xadd xdel xlen xrange xrevrange zadd zcard zmscore zpopmin zrem zrevrangebylex \
     zscan zscore";

const WORKER: &str = "exists expire hget hlen hmget hset lindex llen lpop lpush memory|usage persist sadd scard \
     smismember srem unlink xack xadd xclaim xdel xgroup|create xgroup|delconsumer xinfo|consumers \
     xinfo|groups xlen xpending xrange xreadgroup xtrim zadd zcard zmscore zpopmin zrem zremrangebyscore zscore";

const COORDINATOR: &str = "append exists expire get getrange hdel hexists hget hlen hmget hscan hset lindex llen \
     lpop lpush memory|usage persist rpush sadd scan scard set setrange smembers smismember srandmember srem sscan \
     strlen unlink xack xadd xclaim xdel xgroup|create xgroup|delconsumer xinfo|consumers xinfo|groups xlen \
     xpending xrange xreadgroup xrevrange xtrim zadd zcard zmscore zpopmin zrange zrangebyscore zrem \
     zremrangebyscore zrevrangebylex zscan zscore";

impl Role {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Worker, Self::Coordinator, Self::Client, Self::ReadOnly];

    fn commands(self) -> impl Iterator<Item = &'static str> {
        let (all, own) = match self {
            Self::Worker => (ALL, WORKER),
            Self::Coordinator => (ALL, COORDINATOR),
            Self::Client => (ALL, CLIENT),
            Self::ReadOnly => (LOOKING, READ_ONLY),
        };
        all.split_whitespace().chain(own.split_whitespace())
    }
}

/// The rules of a user who has these roles under this prefix, as `ACL SETUSER` and the lines of an ACL file
/// take them. They take away all that the user had besides, and leave passwords as they are.
///
/// # Errors
/// [`Denied`](celeriac_backends::ErrorKind::Denied) when the prefix is none: with a star in it, others' keys
/// would be meant.
pub fn rules(prefix: &str, roles: &[Role]) -> Result<String, BackendError> {
    check_prefix(prefix)?;
    let mut rules = vec!["resetkeys".to_owned(), "resetchannels".to_owned(), "-@all".to_owned()];
    // With the brace, and with what follows the last colon: another prefix may begin with this one.
    rules.push(format!("~{prefix}:{{*"));
    for channels in ["{*", "wake:[0-9a-f]*", "changed:[0-9d]*"] {
        rules.push(format!("&{prefix}:{channels}"));
    }
    let commands: BTreeSet<&str> = roles.iter().flat_map(|role| role.commands()).collect();
    rules.extend(commands.into_iter().map(|command| format!("+{command}")));
    Ok(rules.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::denied::commands_in;
    use crate::invocation::Script;
    use crate::scripts::{self, *};

    /// Which scripts a role runs, and which commands it sends besides.
    fn needs(role: Role) -> (Vec<&'static Script>, &'static str) {
        let reading: [&Script; 3] = [&PLAN, &STATES, &SEGMENTS];
        let client: [&Script; 12] = [
            &INTEND,
            &SUBMIT,
            &SUBMIT_SEGMENT,
            &PUBLISH,
            &STAGE,
            &ANNOUNCE,
            &NOTE,
            &FORGET,
            &BURY,
            &UNSET,
            &WRITE,
            &PASS_ON,
        ];
        let worker: [&Script; 15] = [
            &TAKE, &HAND_BACK, &RENEW, &FINISH, &POSTPONE, &RETIRE, &BEGIN, &ONCE, &PROGRESS, &KEEP,
            &DISCARD, &NOTE, &WRITE, &PASS_ON, &LETTER,
        ];
        let coordinator: [&Script; 27] = [
            &AGE,
            &HEADS,
            &LOST,
            &CLOCK,
            &DATE,
            &SETTLE,
            &DISPATCH,
            &CLAIM,
            &ENQUEUE,
            &OVERDUE,
            &FIRE,
            &DUE,
            &QUIET,
            &DROP,
            &UNNOTE,
            &LIFT,
            &GROW,
            &ACKNOWLEDGE,
            &TIDY,
            &LOOK,
            &SWEEP,
            &GATHER,
            &STAGE_SEGMENT,
            &PUBLISH_SEGMENT,
            &DISCARD,
            &TAKE,
            &LETTER,
        ];
        match role {
            Role::ReadOnly => (reading.into(), "hget hmget getrange xrange zrevrangebylex"),
            Role::Client => (
                [&reading[..], &client].concat(),
                "hget hmget getrange xrange xdel zrevrangebylex zrem zscore smismember unlink exists sadd",
            ),
            Role::Worker => (worker.into(), "hget hmget smismember exists xrange zrem"),
            Role::Coordinator => (
                [&reading[..], &client, &worker, &coordinator].concat(),
                "hget hmget getrange scan xrange xinfo|consumers zrange zrangebyscore zrevrangebylex zrem zscore zadd sadd srem \
                 smembers smismember sscan exists unlink",
            ),
        }
    }

    fn called(script: &Script) -> BTreeSet<String> {
        let text = scripts::text_of(script.digest()).expect("it is one of ours");
        // What is called by another name.
        let looks = |line: &str| {
            ["xlen", "zcard"]
                .into_iter()
                .filter(|c| line.contains(&format!("'{}'", c.to_uppercase())))
                .map(str::to_owned)
                .collect::<Vec<_>>()
        };
        text.lines().flat_map(|line| [commands_in(line), looks(line)].concat()).collect()
    }

    #[test]
    fn a_role_has_what_its_scripts_call_and_it_sends_itself_and_no_more() {
        for role in Role::ALL {
            let (scripts, plain) = needs(role);
            let mut needed: BTreeSet<String> = scripts.iter().flat_map(|script| called(script)).collect();
            let base = if role == Role::ReadOnly { LOOKING } else { ALL };
            if role != Role::ReadOnly {
                needed.extend(called(&ASIDE));
            }
            needed.extend(plain.split_whitespace().chain(base.split_whitespace()).map(str::to_owned));
            let permitted: BTreeSet<String> = role.commands().map(str::to_owned).collect();
            assert_eq!(permitted, needed, "{role:?}: permitted, and needed");
        }
    }

    #[test]
    fn no_command_that_this_crate_uses_is_in_no_role() {
        let mut used: BTreeSet<String> = scripts::hashes()
            .flat_map(|hash| {
                let text = scripts::text_of(hash).expect("it is one of ours");
                text.lines().flat_map(commands_in).collect::<Vec<_>>()
            })
            .collect();
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
        for entry in std::fs::read_dir(folder).expect("there is a folder") {
            let path = entry.expect("it can be read").path();
            if path.extension().is_none_or(|end| end != "rs") {
                continue;
            }
            let text = std::fs::read_to_string(&path).expect("it can be read");
            let text = text.split("#[cfg(test)]\nmod tests").next().unwrap_or_default();
            for start in ["redis::cmd(\"", ".write(\"", ".write::<()>(\""] {
                for (at, found) in text.match_indices(start) {
                    let rest = &text[at + found.len()..];
                    let name = rest.split('"').nth(if start.contains("write") { 2 } else { 0 });
                    used.extend(name.map(str::to_ascii_lowercase));
                }
            }
        }
        let of_roles: BTreeSet<&str> = Role::ALL.into_iter().flat_map(Role::commands).collect();
        for name in used {
            // Asked of those alone who connect as nobody of their own, or of sentinels.
            let is_known = ["config", "sentinel"].contains(&name.as_str())
                || of_roles.iter().any(|known| *known == name || known.starts_with(&format!("{name}|")));
            assert!(is_known, "{name} is in no role");
        }
    }

    #[test]
    fn rules_are_for_one_prefix_and_for_no_other_that_begins_with_it() {
        let rules = super::rules("a:b", &[Role::ReadOnly]).expect("a prefix");
        let expect =
            "resetkeys resetchannels -@all ~a:b:{* &a:b:{* &a:b:wake:[0-9a-f]* &a:b:changed:[0-9d]* +asking ";
        assert!(rules.starts_with(expect), "{rules}");
        for prefix in ["", "*", "a*", "a?", "[ab]", "a b", "a\\", "a{b"] {
            assert!(super::rules(prefix, &Role::ALL).is_err(), "{prefix}");
        }
        let both = super::rules("a", &[Role::Worker, Role::Client]).expect("a prefix");
        assert!(both.contains(" +xreadgroup ") && both.contains(" +zrevrangebylex "), "{both}");
        assert!(!both.contains('@') || both.matches('@').count() == 1, "categories: {both}");
    }
}

//! What Redis answers, as the errors of all backends.

use celeriac_backends::{BackendError, ErrorKind};
use redis::{RedisError, ServerErrorKind};
use std::sync::Arc;

use crate::denied::{self, is_denied};
use crate::source::Lost;
use crate::wire::TooLarge;

/// An operation that Redis did not do.
pub(crate) fn refused(operation: &'static str) -> impl Fn(RedisError) -> BackendError {
    move |error| BackendError::new(kind(operation, &error), operation).context(advice(&error)).source(error)
}

/// Something stored that cannot be read.
pub(crate) fn corrupt(operation: &'static str, what: impl ToString) -> BackendError {
    BackendError::new(ErrorKind::Corrupt, operation).context(what)
}

/// Something stored that a later version has written.
pub(crate) fn later(operation: &'static str, what: impl ToString) -> BackendError {
    BackendError::new(ErrorKind::Later, operation).context(what)
}

/// Of several things that are done one after the other, whatever becomes of the others, the first that was
/// not.
#[derive(Debug, Default)]
pub(crate) struct First(Option<BackendError>);

impl First {
    /// What was done, or nothing.
    pub(crate) fn of<T: Default>(&mut self, done: Result<T, BackendError>) -> T {
        done.unwrap_or_else(|error| {
            self.0.get_or_insert(error);
            T::default()
        })
    }

    pub(crate) fn into_result(self) -> Result<(), BackendError> {
        self.0.map_or(Ok(()), Err)
    }
}

/// What the client library says when each node of a Cluster has refused who connects: then that is no code of
/// an error.
const NO_NODE_LETS_IN: [&str; 2] = ["AuthenticationFailed", "Authentication required"];

fn lets_nobody_in(error: &RedisError) -> bool {
    let says = |words: &&str| error.detail().is_some_and(|detail| detail.contains(words));
    error.kind() == redis::ErrorKind::AuthenticationFailed || NO_NODE_LETS_IN.iter().any(says)
}

/// What Redis says of a database that its configuration does not have.
const NO_DATABASE: &str = "DB index is out of range";

/// What a sentinel says when it is asked for a database.
const NO_DATABASES: &str = "unknown command 'SELECT'";
pub(crate) const SENTINEL: &str = "this is a sentinel: write redis-sentinel:// with the name of the primary, as in \
                                   redis-sentinel://host:26379/mymaster";

/// What Redis says within a script of a key that has moved to another node, while the slot is between them.
const AWAY_IN_A_SCRIPT: &str = "access a non local key";

fn kind(operation: &str, error: &RedisError) -> ErrorKind {
    match error.code() {
        // New runs are refused; what belongs to those that are there may pass.
        Some("OOM") if operation == "submit" => return ErrorKind::Full,
        Some("NOAUTH" | "WRONGPASS" | "NOPERM") => return ErrorKind::Denied,
        Some("WRONGTYPE" | "CORRUPT") => return ErrorKind::Corrupt,
        Some("LATER") => return ErrorKind::Later,
        Some(_) | None => {}
    }
    let says = |text| error.detail().is_some_and(|detail| detail.contains(text));
    let is_none = says(NO_DATABASE) || says(NO_DATABASES);
    if inner::<Lost>(error).is_some_and(Lost::is_denied) {
        return ErrorKind::Denied;
    }
    if tls_error(error).is_some() || is_none || lets_nobody_in(error) || error.detail().is_some_and(is_denied)
    {
        return ErrorKind::Denied;
    }
    if is_too_large(error) {
        return ErrorKind::TooLarge;
    }
    let passes = ["max number of clients", AWAY_IN_A_SCRIPT];
    if error.detail().is_some_and(|detail| passes.iter().any(|words| detail.contains(words))) {
        return ErrorKind::Unavailable;
    }
    match error.kind() {
        redis::ErrorKind::AuthenticationFailed | redis::ErrorKind::InvalidClientConfig => ErrorKind::Denied,
        // Our own scripts were refused as such: they or the data they found are broken.
        redis::ErrorKind::Server(ServerErrorKind::ResponseError | ServerErrorKind::CrossSlot)
        | redis::ErrorKind::UnexpectedReturnType
        | redis::ErrorKind::Parse => ErrorKind::Corrupt,
        // Connections that were lost, and LOADING, BUSY, TRYAGAIN, OOM, MISCONF, READONLY, … all pass.
        _ => ErrorKind::Unavailable,
    }
}

/// What is wrong with a certificate: waiting does not mend it.
fn tls_error(error: &RedisError) -> Option<&rustls::Error> {
    inner(error)
}

/// Whether a certificate is wrong, here or there.
pub(crate) fn is_of_tls(error: &RedisError) -> bool {
    tls_error(error).is_some()
}

/// What a connection says went wrong, when it is this.
fn inner<E: std::error::Error + 'static>(error: &RedisError) -> Option<&E> {
    let source = std::error::Error::source(error)?;
    let source = source.downcast_ref::<Arc<dyn std::error::Error + Send + Sync>>()?;
    source.downcast_ref::<std::io::Error>()?.get_ref()?.downcast_ref()
}

/// Not sent, or refused by Redis' own limits: the same again would be, too.
fn is_too_large(error: &RedisError) -> bool {
    let says = |text| error.detail().is_some_and(|detail| detail.contains(text));
    inner::<TooLarge>(error).is_some() || says("exceeds maximum allowed size") || says("invalid bulk length")
}

/// What to do about it, where that is known.
fn advice(error: &RedisError) -> String {
    if tls_error(error).is_some() {
        return format!("check the certificates: ca, and cert with key, in the URL; {error}");
    }
    let advice = match error.code() {
        Some("OOM") => "Redis is out of memory: raise maxmemory",
        Some("MISCONF") => "Redis cannot save to its disk: look at its log",
        Some("NOREPLICAS") => "too few replicas are connected to Redis",
        Some("READONLY" | "MASTERDOWN") => "this Redis is a replica: name the primary in the URL",
        Some("LOADING") => "Redis is loading its data",
        Some("BUSY") => "Redis is busy with a script",
        Some("NOAUTH" | "WRONGPASS") => "check user and password in the URL",
        Some("NOPERM") => return refusal(error),
        _ if error.detail().is_some_and(is_denied) => return refusal(error),
        _ if error.detail().is_some_and(|detail| detail.contains(NO_DATABASE)) => {
            "Redis has no database of this number: write another one in the URL"
        }
        _ if error.detail().is_some_and(|detail| detail.contains(NO_DATABASES)) => SENTINEL,
        // Of the handshake of a new connection, in the client library's words.
        _ if lets_nobody_in(error) => "check user and password in the URL",
        _ => match (inner::<TooLarge>(error), inner::<Lost>(error)) {
            (Some(too_large), _) => return too_large.to_string(),
            (None, Some(lost)) => return lost.to_string(),
            (None, None) => return error.to_string(),
        },
    };
    format!("{advice}; {error}")
}

/// What this user may not do.
fn refusal(error: &RedisError) -> String {
    format!("{}; {error}", denied::advice(error.detail().unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use celeriac_backends::ErrorKind::{Corrupt, Denied, Later, TooLarge, Unavailable};

    #[track_caller]
    fn check(reply: &str, expect: ErrorKind) {
        let error = redis::parse_redis_value(format!("-{reply}\r\n").as_bytes())
            .and_then(|value| value.extract_error())
            .expect_err("the reply is an error");
        assert_eq!(refused("settle")(error).kind, expect, "{reply}");
    }

    #[test]
    fn what_passes_may_be_tried_again_and_the_rest_may_not() {
        for reply in [
            "LOADING Redis is loading the dataset in memory",
            "BUSY Redis is busy running a script",
            "TRYAGAIN Multiple keys request during rehashing of slot",
            "CLUSTERDOWN The cluster is down",
            "MASTERDOWN Link with MASTER is down",
            "OOM command not allowed when used memory > 'maxmemory'",
            "MISCONF Redis is configured to save RDB snapshots",
            "READONLY You can't write against a read only replica",
            "NOREPLICAS Not enough good replicas to write",
            "ERR max number of clients reached",
            "ERR Script attempted to access a non local key in a cluster node script: 1234",
        ] {
            check(reply, Unavailable);
        }
        let error =
            redis::parse_redis_value(b"-OOM command not allowed\r\n").and_then(|value| value.extract_error());
        assert_eq!(refused("submit")(error.expect_err("it is an error")).kind, ErrorKind::Full);
        check("WRONGTYPE Operation against a key holding the wrong kind of value", Corrupt);
        check("CORRUPT the run has format 1 script: 1234", Corrupt);
        check("LATER the run has format 9 script: 1234", Later);
        check("ERR user_script:7: attempt to index a nil value", Corrupt);
        check("ERR string exceeds maximum allowed size (proto-max-bulk-len)", TooLarge);
        check("ERR Protocol error: invalid bulk length", TooLarge);
        check("NOAUTH Authentication required.", Denied);
        check("WRONGPASS invalid username-password pair", Denied);
        check("NOPERM this user has no permissions", Denied);
        check("ERR DB index is out of range", Denied);
        let in_a_script =
            "ERR ACL failure in script: User limited has no permissions to run the 'xadd' command";
        check(in_a_script, Denied);
        for what in
            ["run this command or subcommand", "access at least one of the keys", "publish to the channel"]
        {
            check(
                &format!("ERR The user executing the script can't {what} mentioned in the command"),
                Denied,
            );
        }
    }

    #[test]
    fn a_handshake_that_was_refused_says_what_to_check() {
        let error = (redis::ErrorKind::AuthenticationFailed, "Password authentication failed");
        let error = refused("settle")(error.into());
        assert_eq!(error.kind, Denied);
        assert!(error.to_string().contains("check user and password"), "{error}");
    }
}

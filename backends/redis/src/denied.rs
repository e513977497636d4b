//! What Redis refuses to this user, in words that say what to permit.
//!
//! From outside a script Redis names the command, and so it does inside since version 7.2. Before that it
//! says only in which line of which script it was; what stands there is looked up.

use crate::scripts;

/// How it is said of commands within scripts before version 7.2, and since.
const IN_A_SCRIPT: [&str; 2] = ["The user executing the script can't", "ACL failure in script"];

/// Whether Redis refuses something to this user: within a script it is no code of an error.
pub(crate) fn is_denied(text: &str) -> bool {
    text.contains("NOPERM") || IN_A_SCRIPT.iter().any(|words| text.contains(words))
}

/// What to permit, when an error of this text came up.
pub(crate) fn advice(text: &str) -> String {
    let what = if text.contains("channel") {
        "use one of the channels".to_owned()
    } else if text.contains("key") {
        "use one of the keys".to_owned()
    } else {
        match &commands(text)[..] {
            [] => "run one of the commands".to_owned(),
            commands => format!("run {}", commands.join(" or ")),
        }
    };
    format!("this Redis user may not {what}; `celeriac acl` prints what each role needs")
}

/// The commands of which one is refused.
fn commands(text: &str) -> Vec<String> {
    if let Some((_, rest)) = text.split_once("run the '") {
        return rest.split('\'').next().map(|name| format!("'{name}'")).into_iter().collect();
    }
    let Some(line) = line_of(text) else { return Vec::new() };
    let mut found = commands_in(&line);
    found.dedup();
    found.iter().map(|command| format!("'{command}'")).collect()
}

/// The line of a script that an error names.
fn line_of(text: &str) -> Option<String> {
    let (hash, rest) = text.split_once("script: ")?.1.split_once(", on @user_script:")?;
    let digits = rest.split(|c: char| !c.is_ascii_digit()).next()?;
    scripts::text_of(hash)?.lines().nth(digits.parse::<usize>().ok()?.checked_sub(1)?).map(str::to_owned)
}

/// The commands that a line of Lua calls, as an ACL names them.
pub(crate) fn commands_in(line: &str) -> Vec<String> {
    let line = line.split("--").next().unwrap_or_default();
    let calls = line.match_indices("call('").map(|(at, found)| &line[at + found.len()..]);
    let name = |call: &str| {
        let (name, rest) = call.split_once('\'')?;
        let name = name.to_ascii_lowercase();
        if !["memory", "pubsub", "xgroup", "xinfo"].contains(&&*name) {
            return Some(name);
        }
        let part = rest.strip_prefix(", '")?.split('\'').next()?;
        Some(format!("{name}|{}", part.to_ascii_lowercase()))
    };
    calls.filter_map(name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expect: &str) {
        let advice = advice(text);
        assert!(advice.contains(&format!("may not {expect}; `celeriac acl`")), "{advice}");
    }

    #[test]
    fn what_is_refused_is_named_however_redis_says_it() {
        check("this user has no permissions to run the 'xgroup|create' command", "run 'xgroup|create'");
        check("NOPERM User me has no permissions to run the 'hget' command", "run 'hget'");
        check(
            "ERR ACL failure in script: User me has no permissions to run the 'xadd' command",
            "run 'xadd'",
        );
        check(
            "this user has no permissions to access one of the keys used as arguments",
            "use one of the keys",
        );
        check("No permissions to access a channel", "use one of the channels");
        let before = "ERR The user executing the script can't";
        check(
            &format!("{before} publish to the channel mentioned in the command"),
            "use one of the channels",
        );
        check(&format!("{before} access at least one of the keys mentioned"), "use one of the keys");
        check(&format!("{before} run this command or subcommand"), "run one of the commands");
    }

    #[test]
    fn a_command_that_is_refused_in_a_script_is_found_by_its_line() {
        let hash = scripts::RENEW.digest();
        let text = scripts::text_of(hash).expect("it is one of ours");
        let line = text.lines().position(|line| line.contains("'XCLAIM'")).expect("it claims") + 1;
        let said = format!(
            "ERR The user executing the script can't run this command or subcommand script: {hash}, on \
             @user_script:{line}."
        );
        check(&said, "run 'xclaim'");
    }

    #[test]
    fn the_commands_of_a_line_are_named_as_an_acl_names_them() {
        let line = "if redis.call('GET', 'a') == redis.pcall('XINFO', 'GROUPS', k) then -- redis.call('SET')";
        assert_eq!(commands_in(line), ["get", "xinfo|groups"]);
    }
}

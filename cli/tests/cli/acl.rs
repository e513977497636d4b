//! `acl`: the rules of a role, in both forms, and what is refused.

use super::*;

#[test]
fn the_rules_of_a_role_are_printed_for_redis_cli_or_for_a_file() {
    let rules = "on resetkeys resetchannels -@all ~celeriac:{* &celeriac:{* &celeriac:wake:[0-9a-f]* \
                 &celeriac:changed:[0-9d]* +";
    let printed = celeriac(&["acl", "read-only"]).stdout;
    assert!(printed.starts_with(&format!("ACL SETUSER celeriac-read-only {rules}")), "{printed}");
    assert!(printed.ends_with(" +zrevrangebylex\n") && printed.lines().count() == 1, "{printed}");
    let printed = celeriac(&["acl", "worker", "client", "--user", "both", "-o", "file"]).stdout;
    assert!(printed.starts_with(&format!("user both {rules}")), "{printed}");
    assert!(printed.contains(" +xreadgroup ") && printed.contains(" +zrevrangebylex "), "{printed}");
    let printed = celeriac(&["acl", "client", "coordinator", "--prefix", "a:b"]).stdout;
    assert!(printed.starts_with("ACL SETUSER celeriac-client-coordinator on "), "{printed}");
    assert!(printed.contains(" ~a:b:{* &a:b:{* "), "{printed}");
}

#[test]
fn rules_that_would_mean_something_else_are_not_printed() {
    for args in [
        &["acl"][..],
        &["acl", "everybody"],
        &["acl", "worker", "--prefix", "a*"],
        &["acl", "worker", "--prefix", "a b"],
        &["acl", "worker", "--user", "a b"],
        &["acl", "worker", "--user", ""],
    ] {
        let said = celeriac(args);
        assert_eq!((said.exit, said.stdout.as_str()), (Exit::Usage, ""), "{args:?}: {}", said.stderr);
    }
}

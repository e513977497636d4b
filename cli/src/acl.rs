//! `acl`: what a Redis user needs for what it does.

use crate::args::{AclArgs, AclForm, GlobalArgs};
use crate::exit::{Exit, Stop};
use crate::io::Io;

/// As of [`GlobalArgs::prefix`], when none is given.
const PREFIX: &str = "celeriac";

/// Prints the rules; asks no Redis.
pub(crate) fn acl(global: &GlobalArgs, args: &AclArgs, io: &mut Io<'_>) -> Result<Exit, Stop> {
    let prefix = global.prefix().unwrap_or(PREFIX);
    let rules = rules(prefix, args)?;
    let user = args.user.clone().unwrap_or_else(|| {
        let roles: Vec<&str> = args.roles.iter().map(|role| role.name()).collect();
        format!("celeriac-{}", roles.join("-"))
    });
    io.print(&match args.output {
        AclForm::Setuser => format!("ACL SETUSER {user} on {rules}\n"),
        AclForm::File => format!("user {user} on {rules}\n"),
    })
}

#[cfg(feature = "redis")]
fn rules(prefix: &str, args: &AclArgs) -> Result<String, Stop> {
    use celeriac_redis::acl::{Role, rules};

    use crate::args::AclRole;

    let role = |role: &AclRole| match role {
        AclRole::Worker => Role::Worker,
        AclRole::Coordinator => Role::Coordinator,
        AclRole::Client => Role::Client,
        AclRole::ReadOnly => Role::ReadOnly,
    };
    let roles: Vec<Role> = args.roles.iter().map(role).collect();
    rules(prefix, &roles).map_err(|error| Stop::usage(error.context.unwrap_or_default()))
}

#[cfg(not(feature = "redis"))]
fn rules(_: &str, _: &AclArgs) -> Result<String, Stop> {
    Err(Stop::usage("acl: this program was built without the feature redis"))
}

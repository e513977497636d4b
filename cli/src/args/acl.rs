//! The options of `acl`.

use clap::{Args, ValueEnum};

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  acl worker                                       ACL SETUSER celeriac-worker on resetkeys …
  acl worker | redis-cli                           and then: ACL SETUSER celeriac-worker '>password'
  acl worker coordinator --user up                 for one process that is both
  acl client --prefix reports
  acl read-only -o file >> /etc/redis/users.acl    add the password to the line: >password, or #sha256

Without a password nobody can log in as the user. Who has these rules can use the keys and channels of the prefix alone,
and the commands that its role needs; all other rules of the user are taken away, and passwords stay. They are for
Redis 7 and later. INFO may be left out: how safe the data is, and when Redis is full, is unknown then.")]
pub(crate) struct AclArgs {
    /// What the user is for; several may be.
    #[arg(required = true, value_name = "ROLE", value_enum)]
    pub(crate) roles: Vec<AclRole>,
    /// The name of the user [default: celeriac-ROLE].
    #[arg(long, value_name = "NAME", value_parser = user)]
    pub(crate) user: Option<String>,
    /// How to print it.
    #[arg(short, long, value_name = "FORM", value_enum, default_value_t = AclForm::Setuser)]
    pub(crate) output: AclForm,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum AclRole {
    /// Runs leaves.
    Worker,
    /// Advances runs.
    Coordinator,
    /// Submits, waits, forgets; requeues and drops dead letters.
    Client,
    /// Looks: ls, show, graph, wait, result, dead.
    ReadOnly,
}

impl AclRole {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Worker => "worker",
            Self::Coordinator => "coordinator",
            Self::Client => "client",
            Self::ReadOnly => "read-only",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum AclForm {
    /// A command for redis-cli.
    Setuser,
    /// A line of an ACL file.
    File,
}

/// A name that Redis takes, and that is one word of its line.
fn user(text: &str) -> Result<String, &'static str> {
    let fits = |c: char| c.is_ascii_graphic() && !"\"'\\".contains(c);
    if !text.is_empty() && text.chars().all(fits) {
        return Ok(text.to_owned());
    }
    Err("write ASCII letters, digits and signs, without spaces, quotes and backslashes")
}

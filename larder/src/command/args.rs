//! The command line.

use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use larder::{Expiry, Key};

const AFTER_HELP: &str = "\
URLs:
  memory:                        gone when the command ends; for trying out
  file:DIR                       a directory, one file per entry
  file:FILE.json                 one JSON snapshot file
  sqlite:FILE.db                 an SQLite database
  postgres://USER:PASSWORD@HOST/DB
  redis://HOST[:PORT][/DB]       rediss:// with TLS; redis-cluster://, redis-sentinel://
  mongodb://HOST[:PORT][/DB]
  env:NAME                       the URL in the environment variable NAME, so that a
                                 password is not in the list of processes

Options of a store follow as ?name=value&name=value; an unknown one is answered
with the list of the known ones. ?layout=grammy reads and writes what grammY's own
storage adapters store.

Exit codes:
  0  done
  1  not found; not every entry was copied; the stores differ
  2  wrong use: the command line, a URL, an option
  3  the store cannot be reached just now: trying again may work
  4  any other failure";

const EXAMPLES: &str = "\
Examples:
  larder copy 'file:sessions?layout=grammy' sqlite:sessions.db
  larder copy --verify redis://localhost env:DATABASE_URL
  larder copy --resume redis://localhost env:DATABASE_URL     (after it was cut off)";

/// Looks after the sessions in any store: lists, reads, writes, deletes, and moves them from one
/// store to another.
#[derive(Debug, Parser)]
#[command(name = "larder", version, after_help = AFTER_HELP, arg_required_else_help = true)]
pub(super) struct Arguments {
    #[command(subcommand)]
    pub(super) command: Command,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// List keys, one a line
    Ls(List),
    /// Print the value under a key, as it is stored
    Get(Get),
    /// Write a value under a key
    Put(Put),
    /// Delete entries
    Rm(Remove),
    /// Print or change the time that an entry has left
    Ttl(Ttl),
    /// Copy entries from one store to another
    ///
    /// Streams, in constant memory. Each entry keeps the time to live that it has left. Entries
    /// of the target under other keys stay as they are. An entry that cannot be copied is
    /// reported on standard error, the others are copied, and the exit code is 1.
    #[command(after_help = EXAMPLES)]
    Copy(Copy),
}

#[derive(Debug, Args)]
pub(super) struct List {
    /// The store
    pub(super) url: String,
    /// Only keys that begin with this, byte for byte
    #[arg(long, default_value = "")]
    pub(super) prefix: String,
    /// One JSON object a line: key, bytes, ttl_ms (null: does not expire)
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Debug, Args)]
pub(super) struct Get {
    /// The store
    pub(super) url: String,
    /// The key
    #[arg(required_unless_present = "prefix", conflicts_with = "prefix", allow_negative_numbers = true)]
    pub(super) key: Option<Key>,
    /// Instead of a key: every entry whose key begins with this (needs --json)
    #[arg(long, requires = "json")]
    pub(super) prefix: Option<String>,
    /// One JSON object a line: key, ttl_ms, and value; a value that is not JSON comes as
    /// `value_base64`
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Debug, Args)]
pub(super) struct Put {
    /// The store
    pub(super) url: String,
    /// The key
    #[arg(allow_negative_numbers = true)]
    pub(super) key: Key,
    /// The value; from standard input if it is left out
    pub(super) value: Option<String>,
    /// Expire after this time, such as 90s, 12h or 30days; without it the entry stays
    #[arg(long, value_parser = duration)]
    pub(super) ttl: Option<Duration>,
    /// Only if there is no entry under the key yet (else exit code 1)
    #[arg(long)]
    pub(super) if_absent: bool,
}

#[derive(Debug, Args)]
pub(super) struct Remove {
    /// The store
    pub(super) url: String,
    /// The keys; exit code 1 if there was none of them
    #[arg(required_unless_present = "prefix", conflicts_with = "prefix", allow_negative_numbers = true)]
    pub(super) keys: Vec<Key>,
    /// Instead of keys: every entry whose key begins with this; "" deletes all
    #[arg(long)]
    pub(super) prefix: Option<String>,
    /// Print {"deleted": n}
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Debug, Args)]
pub(super) struct Ttl {
    /// The store
    pub(super) url: String,
    /// The key
    #[arg(allow_negative_numbers = true)]
    pub(super) key: Key,
    /// Expire after this time from now, such as 90s or 12h, or `never`
    #[arg(long, value_parser = expiry)]
    pub(super) set: Option<Expiry>,
    /// Print {"key": ..., "ttl_ms": ...} (null: does not expire)
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Debug, Args)]
pub(super) struct Copy {
    /// The store to read
    pub(super) from: String,
    /// The store to write
    pub(super) to: String,
    /// Only keys that begin with this, byte for byte
    #[arg(long, default_value = "")]
    pub(super) prefix: String,
    /// Take up a copy that was cut off: do not write what the target holds already
    #[arg(long)]
    pub(super) resume: bool,
    /// Afterwards read both stores and compare every entry (exit code 1 if they differ)
    #[arg(long)]
    pub(super) verify: bool,
    /// Copy entries that expire into a store with no expiry, where they stay for ever
    #[arg(long)]
    pub(super) drop_ttl: bool,
    /// Print the report as one JSON object
    #[arg(long)]
    pub(super) json: bool,
}

fn duration(text: &str) -> Result<Duration, humantime::DurationError> {
    humantime::parse_duration(text)
}

fn expiry(text: &str) -> Result<Expiry, humantime::DurationError> {
    if text == "never" { Ok(Expiry::Never) } else { duration(text).map(Expiry::After) }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        super::Arguments::command().debug_assert();
    }
}

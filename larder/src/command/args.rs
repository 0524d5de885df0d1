//! The command line.

use std::{ffi::OsString, time::Duration};

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
  env:NAME                       the URL in the environment variable NAME, which keeps a
                                 password out of the list of processes
  env:NAME?OPTIONS               the same, with options added to it

Options of a store follow as ?name=value&name=value. The error for an unknown option names
the known ones. ?layout=grammy reads and writes what grammY's own storage adapters store.

Only `put` and the target of `copy` make a store that is not there. `ls`, `get`, `ttl`,
`rm` and the source of `copy` set nothing up; they fail if there is no such file, directory,
table or collection.

An error names an entry by the fingerprint of its key, which may be a secret. This finds the key:
larder ls URL --fingerprint 1b1e1c23

A key that begins with `-` and a digit, such as -1001234/42, is taken as it is. Any other key
that begins with `-` goes after `--`: larder get URL -- -key

Entries that cannot be read, and names in a store that are not keys (control characters, over
512 bytes, not UTF-8), are named on standard error and left out, and the exit code is 1.

Exit codes:
  0    done
  1    not found; an entry was left out, not copied, kept or not deleted; the stores differ
  2    wrong use: the command line, a URL, an option, no such store
  3    the store cannot be reached at present: trying again may work
  4    any other failure
  130  interrupted (143: terminated, 129: hung up) in `copy` or `rm`, after saying how far it came";

const EXAMPLES: &str = "\
Examples:
  larder copy 'file:sessions?layout=grammy' sqlite:sessions.db
  larder copy --verify redis://localhost env:DATABASE_URL
  larder copy --resume redis://localhost env:DATABASE_URL     (after it was cut off)
  larder copy --delete --dry-run sqlite:a.db sqlite:b.db      (shows what --delete would delete)
  larder copy --delete --verify sqlite:a.db sqlite:b.db       (makes b.db equal to a.db)

If the copy is interrupted (Ctrl-C, SIGTERM, a closed terminal), the target keeps what was copied
until then, a snapshot file included.";

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
    /// Each entry keeps the time to live that it has left. An entry of the target under the same
    /// key is overwritten (see --resume), and entries under other keys stay (see --delete). An
    /// entry that cannot be copied is named on standard error, the others are copied, and the
    /// exit code is 1. The copy streams, in constant memory; only between grammY's layout and
    /// Larder's in one Redis database it holds the list of keys.
    #[command(after_help = EXAMPLES)]
    Copy(Copy),
}

#[derive(Debug, Args)]
pub(super) struct List {
    /// The store
    pub(super) url: String,
    /// Only keys that begin with this, byte for byte
    #[arg(long, default_value = "", value_parser = text)]
    pub(super) prefix: String,
    /// Only the key with this fingerprint, which errors name in place of the key
    #[arg(long, value_parser = fingerprint)]
    pub(super) fingerprint: Option<String>,
    /// One JSON object a line: key, bytes, ttl_ms (null: does not expire)
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Debug, Args)]
pub(super) struct Get {
    /// The store
    pub(super) url: String,
    /// The key
    #[arg(required_unless_present = "prefix", conflicts_with = "prefix", value_parser = key)]
    pub(super) key: Option<Key>,
    /// Instead of a key: every entry whose key begins with this (needs --json)
    #[arg(long, requires = "json", value_parser = text)]
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
    #[arg(value_parser = key)]
    pub(super) key: Key,
    /// The value; from standard input if it is left out
    #[arg(value_parser = text)]
    pub(super) value: Option<String>,
    /// Expire after this time, such as 90s, 12h or 30days; without it the entry stays
    #[arg(long, value_parser = duration)]
    pub(super) ttl: Option<Duration>,
    /// Only if there is no entry under the key yet (else exit code 1)
    #[arg(long)]
    pub(super) if_absent: bool,
}

#[derive(Debug, Args)]
#[command(override_usage = "larder rm [OPTIONS] <URL> <KEYS...|--prefix <PREFIX>|--all>")]
#[command(group = clap::ArgGroup::new("entries").required(true).args(["keys", "prefix", "all"]))]
pub(super) struct Remove {
    /// The store
    pub(super) url: String,
    /// The keys; exit code 1 if there is no entry under any of them
    #[arg(value_parser = key)]
    pub(super) keys: Vec<Key>,
    /// Instead of keys: every entry whose key begins with this
    #[arg(long, value_parser = some_text)]
    pub(super) prefix: Option<String>,
    /// Instead of keys: every entry
    #[arg(long)]
    pub(super) all: bool,
    /// Print {"deleted": n}
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Debug, Args)]
pub(super) struct Ttl {
    /// The store
    pub(super) url: String,
    /// The key
    #[arg(value_parser = key)]
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
    /// Only keys that begin with this, byte for byte, in both stores
    #[arg(long, default_value = "", value_parser = text)]
    pub(super) prefix: String,
    /// Continue a copy that was cut off: write only what the target does not have, and overwrite
    /// nothing
    ///
    /// An entry that the target has with another value or time to live stays as it is, is named on
    /// standard error, and the exit code is 1. Without --resume it would be overwritten. Another
    /// program may write to the target at the same time: the target itself refuses a key that it has.
    #[arg(long)]
    pub(super) resume: bool,
    /// Afterwards delete the entries of the target that the source does not have
    ///
    /// Below --prefix only. Nothing is deleted if an entry could not be copied, or if the source
    /// has no entries at all. Nothing is copied or deleted if entries of the target may be those of
    /// the source, in another layout of one Redis database. Try it with --dry-run first.
    #[arg(long)]
    pub(super) delete: bool,
    /// Write and delete nothing; say what would be done, and name what --delete would delete
    ///
    /// The target must be there.
    #[arg(long, conflicts_with = "verify")]
    pub(super) dry_run: bool,
    /// Afterwards read both stores and compare every entry (exit code 1 if they differ)
    ///
    /// Entries that only the target has are a difference too: --delete removes them.
    #[arg(long)]
    pub(super) verify: bool,
    /// Copy entries that expire into a store with no expiry, where they stay for ever
    #[arg(long)]
    pub(super) drop_ttl: bool,
    /// Print the report as one JSON object
    #[arg(long)]
    pub(super) json: bool,
}

impl Arguments {
    /// Those that the process was started with. Ends the process if they are wrong.
    pub(super) fn of_process() -> Self {
        let given: Vec<_> = std::env::args_os().collect();
        match Self::try_parse_from(&given) {
            Ok(arguments) => arguments,
            // The first error is about the arguments as they were given.
            Err(error) => Self::try_parse_from(marked(given)).unwrap_or_else(|_| error.exit()),
        }
    }
}

/// Stands before an argument that begins with `-` and a digit, as the id of a Telegram group does:
/// clap would take it for options. No argument of a process can contain it.
const MARK: char = '\0';

fn marked(arguments: Vec<OsString>) -> Vec<OsString> {
    let mut is_option = true;
    let mark = |argument: OsString| {
        is_option &= argument != "--";
        match argument.as_encoded_bytes() {
            [b'-', b'0'..=b'9', ..] if is_option => {
                let mut marked = OsString::from(MARK.to_string());
                marked.push(argument);
                marked
            }
            _ => argument,
        }
    };
    arguments.into_iter().map(mark).collect()
}

fn text(argument: &str) -> Result<String, std::convert::Infallible> {
    Ok(argument.strip_prefix(MARK).unwrap_or(argument).to_owned())
}

fn some_text(argument: &str) -> Result<String, &'static str> {
    match text(argument) {
        Ok(text) if !text.is_empty() => Ok(text),
        _ => Err("every key begins with it; to delete every entry, write `--all` in its place"),
    }
}

fn key(argument: &str) -> larder::Result<Key> {
    Key::new(argument.strip_prefix(MARK).unwrap_or(argument))
}

fn fingerprint(argument: &str) -> Result<String, &'static str> {
    let is_one = argument.len() == 8 && argument.bytes().all(|byte| byte.is_ascii_hexdigit());
    if is_one { Ok(argument.to_ascii_lowercase()) } else { Err("a fingerprint has 8 hexadecimal digits") }
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

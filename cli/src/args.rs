//! The command line.

use std::{ffi::OsString, time::Duration};

use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand};
use larder::{Expiry, Key, Registry};

/// Further forms of a store on the command line.
const ENVIRONMENT: [(&str, &str); 2] = [
    ("env:NAME", "the URL in an environment variable, which `ps` does not show"),
    ("env:NAME?OPTIONS", "the same URL, with more options"),
];

const AFTER_HELP: &str = "\
Options follow the URL as ?name=value&name=value. The error for an unknown option lists the
known ones. ?layout=grammy reads and writes the data of grammY's own storage adapters.

Only `put` and the target of `copy` create a store. `ls`, `get`, `ttl`, `rm` and the source of
`copy` create nothing; they fail if the file, directory, table or collection does not exist.

Errors name an entry by the fingerprint of its key, because the key may be a secret. To find the
key: larder ls URL --fingerprint 1b1e1c23

A key may begin with `-` and a digit, such as -1001234/42. Write any other key that begins with
`-` after `--`: larder get URL -- -key

Unreadable entries, and names in a store that are not valid keys (control characters, more than
512 bytes, not UTF-8), are reported on standard error and skipped; the exit code is then 1.

Exit codes:
  0    success
  1    not found; an entry was skipped, kept, not copied or not deleted; the stores differ
  2    usage error: invalid arguments, URL or option, or the store does not exist
  3    the store cannot be reached now; trying again may work
  4    any other failure
  130  `copy` or `rm` was interrupted (143: terminated, 129: hung up), after a report of its
       progress";

const EXAMPLES: &str = "\
Examples:
  larder copy 'file:sessions?layout=grammy' sqlite:sessions.db
  larder copy --verify redis://localhost env:DATABASE_URL
  larder copy --resume redis://localhost env:DATABASE_URL     (continues an interrupted copy)
  larder copy --delete --dry-run sqlite:a.db sqlite:b.db      (shows what --delete would delete)
  larder copy --delete --verify sqlite:a.db sqlite:b.db       (makes b.db equal to a.db)

If the copy is interrupted (Ctrl-C, SIGTERM, a closed terminal), the target keeps the entries that
were copied so far. This includes a snapshot file.";

/// List, read, write and delete the sessions in any store, and copy them to another store.
#[derive(Debug, Parser)]
#[command(name = "larder", version, arg_required_else_help = true)]
pub(super) struct Arguments {
    #[command(subcommand)]
    pub(super) command: Command,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// List keys, one per line
    Ls(List),
    /// Print the value under a key, exactly as it is stored
    Get(Get),
    /// Write a value under a key
    Put(Put),
    /// Delete entries
    Rm(Remove),
    /// Print or change the time to live (TTL) of an entry
    Ttl(Ttl),
    /// Copy entries from one store to another
    ///
    /// Each entry keeps its remaining time to live. The copy overwrites entries of the target under
    /// the same keys (see --resume) and keeps all others (see --delete). If an entry cannot be
    /// copied, it is reported on standard error, the others are copied, and the exit code is 1. The
    /// copy streams, in constant memory, with one exception: between grammY's layout and Larder's in
    /// one Redis database, it holds the list of keys.
    #[command(after_help = EXAMPLES)]
    Copy(Copy),
}

#[derive(Debug, Args)]
pub(super) struct List {
    /// The store
    pub(super) url: String,
    /// Only keys that begin with this text, byte for byte
    #[arg(long, default_value = "", value_parser = text)]
    pub(super) prefix: String,
    /// Only the key with this fingerprint, as errors show it
    #[arg(long, value_parser = fingerprint)]
    pub(super) fingerprint: Option<String>,
    /// Print one JSON object per line: key, bytes, ttl_ms (null: does not expire)
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
    /// Instead of a key: every entry whose key begins with this text (requires --json)
    #[arg(long, requires = "json", value_parser = text)]
    pub(super) prefix: Option<String>,
    /// Print one JSON object per line: key, ttl_ms, and value, or value_base64 if the value is not
    /// JSON
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
    /// The value. Default: standard input
    #[arg(value_parser = text)]
    pub(super) value: Option<String>,
    /// The time until the entry expires, such as 90s, 12h or 30days. Default: it does not expire
    #[arg(long, value_parser = duration)]
    pub(super) ttl: Option<Duration>,
    /// Write only if the key has no entry yet; otherwise the exit code is 1
    #[arg(long)]
    pub(super) if_absent: bool,
}

#[derive(Debug, Args)]
#[command(override_usage = "larder rm [OPTIONS] <URL> <KEYS...|--prefix <PREFIX>|--all>")]
#[command(group = clap::ArgGroup::new("entries").required(true).args(["keys", "prefix", "all"]))]
pub(super) struct Remove {
    /// The store
    pub(super) url: String,
    /// The keys. If none of them has an entry, the exit code is 1
    #[arg(value_parser = key)]
    pub(super) keys: Vec<Key>,
    /// Instead of keys: every entry whose key begins with this text
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
    /// The new time until the entry expires, such as 90s or 12h, or `never`
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
    /// Only keys that begin with this text, byte for byte, in both stores
    #[arg(long, default_value = "", value_parser = text)]
    pub(super) prefix: String,
    /// Continue an interrupted copy: write only the entries that the target lacks, and overwrite
    /// nothing
    ///
    /// If the target has an entry with another value or time to live, that entry is kept and reported
    /// on standard error, and the exit code is 1. Other programs may write to the target at the same
    /// time, because the target itself refuses a key that it already has.
    #[arg(long)]
    pub(super) resume: bool,
    /// Afterwards delete the entries of the target that the source lacks
    ///
    /// Considers only keys that begin with --prefix. Deletes nothing if an entry could not be copied
    /// or if the source has no entries. Copies and deletes nothing if the server does not tell whether
    /// source and target are the same store. Try it with --dry-run first.
    #[arg(long)]
    pub(super) delete: bool,
    /// Write and delete nothing; report the result that the copy would have, and the entries that
    /// --delete would delete
    ///
    /// The target must exist.
    #[arg(long, conflicts_with = "verify")]
    pub(super) dry_run: bool,
    /// Afterwards read both stores and compare every entry; if they differ, the exit code is 1
    ///
    /// An entry that only the target has is also a difference; --delete removes it.
    #[arg(long)]
    pub(super) verify: bool,
    /// Copy entries that expire into a store without expiry, where they never expire
    #[arg(long)]
    pub(super) drop_ttl: bool,
    /// Print the report as one JSON object
    #[arg(long)]
    pub(super) json: bool,
}

impl Arguments {
    /// Parses the arguments of this process. Prints a message and exits if they are not valid.
    pub(super) fn of_process(registry: &Registry) -> Self {
        let given: Vec<_> = std::env::args_os().collect();
        let command = command(registry);
        let parse = |arguments| {
            let mut command = command.clone();
            let mut matches = command.try_get_matches_from_mut(arguments)?;
            Self::from_arg_matches_mut(&mut matches).map_err(|error| error.format(&mut command))
        };
        match parse(given.clone()) {
            Ok(arguments) => arguments,
            // The first error quotes the arguments as they were given.
            Err(error) => parse(marked(given)).unwrap_or_else(|_| error.exit()),
        }
    }
}

/// The command line, with the URLs of `registry` in its help.
fn command(registry: &Registry) -> clap::Command {
    let urls: Vec<_> = registry.urls().chain(ENVIRONMENT).collect();
    let width = urls.iter().map(|(form, _)| form.len()).max().unwrap_or_default();
    let urls: String = urls.iter().map(|(form, meaning)| format!("  {form:width$}  {meaning}\n")).collect();
    let help = format!("URLs:\n{urls}\n{AFTER_HELP}");
    Arguments::command().after_help(help)
}

/// Marks an argument that begins with `-` and a digit, such as the id of a Telegram group, so that clap does not
/// parse it as options. An argument of a process cannot contain this character.
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
        _ => Err("the prefix is empty; to delete every entry, use `--all`"),
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
    use larder::Registry;

    #[test]
    fn command_line_is_consistent() {
        super::command(&Registry::builtin()).debug_assert();
    }
}

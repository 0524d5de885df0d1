//! Whether two places are one store.

use std::{collections::hash_map::RandomState, fs, hash::BuildHasher, path::Path, process};

use anyhow::Context;
use larder::{Bytes, Expiry, Key, Location, Storage, transfer::Nesting};

use super::store::{Place, configuration};

/// How long a probe stays if it cannot be deleted.
const PROBE_TTL: Expiry = Expiry::after_secs(60);

/// Refuses to copy a store in files to itself. It is called before the target is opened.
pub(super) fn refuse_same_files(source: &Place, target: &Place) -> anyhow::Result<()> {
    let (Some(from), Some(to)) = (source.path(), target.path()) else { return Ok(()) };
    let table = |place: &Place| {
        let mut location = Location::parse(&place.url).ok()?;
        let table = (location.scheme() == "sqlite").then(|| location.take("table"))?.ok()?;
        // SQLite compares names of tables so.
        Some(table.unwrap_or_else(|| "larder".to_owned()).to_ascii_lowercase())
    };
    if is_one_file(&from, &to) && table(source) == table(target) {
        return Err(same().into());
    }
    Ok(())
}

fn is_one_file(one: &Path, other: &Path) -> bool {
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;

        let identity = |path: &Path| fs::metadata(path).ok().map(|file| (file.dev(), file.ino()));
        identity(one).is_some_and(|one| identity(other) == Some(one))
    }
    #[cfg(not(unix))]
    {
        let identity = |path: &Path| fs::canonicalize(path).ok();
        identity(one).is_some_and(|one| identity(other) == Some(one))
    }
}

/// How the two stores share one key space. Refuses to copy a store to itself.
///
/// A URL does not say which server it leads to: it may name a host, its address, a node of a cluster or
/// a Sentinel. So the target is given an entry for a moment, and the source is looked at for it.
pub(super) async fn nesting(
    (source, from): (&Place, &dyn Storage),
    (target, to): (&Place, &dyn Storage),
    dry_run: bool,
) -> anyhow::Result<Option<Nesting>> {
    let (Some(one), Some(other)) = (Space::of(source), Space::of(target)) else { return Ok(None) };
    let Some((nesting, start)) = one.around(&other) else { return Ok(None) };
    let is_same = if dry_run {
        one.server == other.server
    } else {
        sees(from, to, &start).await.with_context(|| {
            format!("cannot find out whether {} and {} are the same store", source.name, target.name)
        })?
    };
    match nesting {
        _ if !is_same => Ok(None),
        None => Err(same().into()),
        nesting => Ok(nesting),
    }
}

fn same() -> larder::Error {
    configuration("source and target are the same store; name another target")
}

/// A key space on a server.
struct Space {
    /// The adapter.
    kind: &'static str,
    /// The URL without its options; for a store without key spaces of its own, with them.
    server: String,
    /// Stands before every key, on Redis.
    start: String,
}

impl Space {
    /// `None` for stores that are in files or in this process.
    fn of(place: &Place) -> Option<Self> {
        let mut location = Location::parse(&place.url).ok()?;
        let scheme = larder::SCHEMES.iter().find(|scheme| scheme.name == location.scheme())?;
        let (server, start) = match scheme.feature {
            "memory" | "file" | "sqlite" => return None,
            "redis" => {
                let is_grammy = location.take("layout").ok()?.as_deref() == Some("grammy");
                let prefix = location.take("prefix").ok()?.unwrap_or_else(|| "larder".to_owned());
                let start = match prefix.replace('%', "%25").replace(':', "%3A") {
                    prefix if is_grammy || prefix.is_empty() => String::new(),
                    prefix => prefix + ":",
                };
                (location.rest().to_owned(), start)
            }
            _ => (location.to_url(), String::new()),
        };
        Some(Self { kind: scheme.feature, server, start })
    }

    /// How the two spaces overlap if both are on one server, and how the source spells a key of the
    /// target. `None` if they share no keys.
    fn around(&self, other: &Self) -> Option<(Option<Nesting>, Start)> {
        match (self.start.as_str(), other.start.as_str()) {
            _ if self.kind != other.kind => None,
            (one, other) if one == other => Some((None, Start::Same)),
            ("", start) => {
                Some((Some(Nesting::TargetInSource(start.to_owned())), Start::Longer(start.to_owned())))
            }
            (start, "") => {
                Some((Some(Nesting::SourceInTarget(start.to_owned())), Start::Shorter(start.to_owned())))
            }
            _ => None,
        }
    }
}

/// How the source spells a key of the target.
enum Start {
    Same,
    /// With this text before it.
    Longer(String),
    /// Without this text, with which it then begins.
    Shorter(String),
}

/// Whether `from` sees what `to` writes.
async fn sees(from: &dyn Storage, to: &dyn Storage, start: &Start) -> larder::Result<bool> {
    let probe = format!("larder-copy-probe-{:016x}", RandomState::new().hash_one(process::id()));
    let (written, seen) = match start {
        Start::Same => (probe.clone(), probe),
        Start::Longer(start) => (probe.clone(), format!("{start}{probe}")),
        Start::Shorter(start) => (format!("{start}{probe}"), probe),
    };
    let (written, seen) = (Key::new(written)?, Key::new(seen)?);
    let expiry = if to.capabilities().expiry { PROBE_TTL } else { Expiry::Never };
    to.write(&written, Bytes::from_static(b"{}"), expiry).await?;
    let is_seen = from.contains(&seen).await;
    to.delete(&written).await?;
    is_seen
}

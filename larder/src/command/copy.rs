//! `larder copy`.

use std::{
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    time::Duration,
};

use anyhow::Context;
use indicatif::{HumanBytes, ProgressBar, ProgressFinish, ProgressStyle};
use larder::Store;
use larder::transfer::{self, CopyOptions, CopyReport, Difference, Event, VerifyOptions, VerifyReport};
use serde_json::json;

use super::{
    args::Copy,
    exit::Exit,
    interrupt::Signals,
    output::{Output, say},
    problems::Problems,
    store::{self, StoreArg},
};

const GO_ON: &str = "the same command with --resume copies the rest";

pub(super) async fn run(arguments: &Copy, output: &mut Output) -> anyhow::Result<Exit> {
    let (source, target) = (StoreArg::new(&arguments.from)?, StoreArg::new(&arguments.to)?);
    let from = source.open_existing().await?;
    let to = if arguments.dry_run {
        target.open_existing().await.context("a dry run makes no store")?
    } else {
        target.open().await?
    };

    let mut signals = Signals::new()?;
    let reached = Reached::default();
    let transfer = Transfer { arguments, from: &from, to: &to, reached: &reached };
    let done = signals.or_until(transfer.run(&source, &target)).await;
    // Also after a failure or a signal: a snapshot file is written here.
    let closed = store::close(&to, &mut signals).await;
    match done {
        Ok(Ok((copied, verified))) => {
            if let Some(signal) = closed? {
                return Ok(Exit::Interrupted(signal));
            }
            from.close().await?;
            report(arguments, &copied, verified.as_ref(), output)?;
            let complete =
                copied.failed + copied.kept == 0 && verified.is_none_or(|report| report.is_equal());
            Ok(Exit::complete(complete))
        }
        Ok(Err(error)) => {
            if let Err(closed) = closed {
                say(format_args!("{} could not be closed: {closed}", target.name));
            }
            // It makes way for the error; a store that is not closed may leave files of its own behind.
            let _ = from.close().await;
            Err(error)
        }
        Err(signal) => {
            if closed?.is_none() {
                let done = signal.done();
                if arguments.dry_run {
                    say(done);
                } else {
                    // A write that was under way may have been done.
                    let copied = reached.copied.load(Ordering::Relaxed);
                    let deleted = reached.deleted.load(Ordering::Relaxed);
                    if reached.compares.load(Ordering::Relaxed) {
                        say(format_args!("{done} while comparing: {copied} entries were copied"));
                    } else if deleted > 0 {
                        say(format_args!(
                            "{done}: {copied} entries were copied and at least {deleted} deleted; the same command \
                             deletes the rest"
                        ));
                    } else {
                        say(format_args!("{done}: at least {copied} entries were copied; {GO_ON}"));
                    }
                }
            }
            Ok(Exit::Interrupted(signal))
        }
    }
}

struct Transfer<'a> {
    arguments: &'a Copy,
    from: &'a Store,
    to: &'a Store,
    reached: &'a Reached,
}

/// How far a copy has come, for the message after a signal or a failure.
#[derive(Default)]
struct Reached {
    copied: AtomicU64,
    deleted: AtomicU64,
    compares: AtomicBool,
}

impl Transfer<'_> {
    async fn run(
        &self,
        source: &StoreArg,
        target: &StoreArg,
    ) -> anyhow::Result<(CopyReport, Option<VerifyReport>)> {
        let copied = self.copy().await.with_context(|| {
            let (source, target) = (&source.name, &target.name);
            match self.reached.copied.load(Ordering::Relaxed) {
                0 => format!("cannot copy {source} to {target}"),
                copied => {
                    format!("copying {source} to {target} was cut off: {copied} entries were copied; {GO_ON}")
                }
            }
        })?;
        if !self.arguments.verify {
            return Ok((copied, None));
        }
        let verified = self.verify().await.with_context(|| {
            format!("{} entries were copied, and comparing them was cut off", copied.copied)
        })?;
        Ok((copied, Some(verified)))
    }

    async fn copy(&self) -> larder::Result<CopyReport> {
        let arguments = self.arguments;
        let options = CopyOptions::default()
            .prefix(&arguments.prefix)
            .resume(arguments.resume)
            .drop_expiry(arguments.drop_ttl)
            .delete(arguments.delete)
            .dry_run(arguments.dry_run);
        let bar = progress("copied");
        let mut problems = Problems::beside(bar.clone());
        let report = transfer::copy(self.from, self.to, &options, |event| match event {
            Event::Progress(report) => {
                self.reached.copied.store(report.copied, Ordering::Relaxed);
                bar.set_position(report.copied + report.unchanged);
                bar.set_message(HumanBytes(report.bytes).to_string());
            }
            Event::Failed { key: Some(key), error } => {
                problems.show(format_args!("not copied: {key}: {error}"));
            }
            Event::Failed { key: None, error } => problems.entry(error.clone()),
            Event::Kept(key) => problems.show(format_args!("kept as it is in the target: {key}")),
            Event::Deleted(key) if arguments.dry_run => problems.note(format_args!("would delete: {key}")),
            Event::Deleted(_) => drop(self.reached.deleted.fetch_add(1, Ordering::Relaxed)),
            Event::NothingDeleted => problems.note("not every entry was copied, so none was deleted"),
            _ => {}
        })
        .await?;
        problems.name(self.from, &arguments.prefix).await?;
        bar.finish_and_clear();
        Ok(report)
    }

    async fn verify(&self) -> larder::Result<VerifyReport> {
        self.reached.compares.store(true, Ordering::Relaxed);
        let options = VerifyOptions::default().prefix(&self.arguments.prefix);
        let bar = progress("compared");
        let mut problems = Problems::beside(bar.clone());
        let report = transfer::verify(self.from, self.to, &options, |difference| {
            match difference {
                Difference::Missing(key) => problems.show(format_args!("missing in the target: {key}")),
                Difference::Extra(key) => problems.show(format_args!("only in the target: {key}")),
                Difference::Value(key) => problems.show(format_args!("another value in the target: {key}")),
                Difference::Expiry(key) => {
                    problems.show(format_args!("another time to live in the target: {key}"));
                }
                Difference::Damaged(key, error) => {
                    problems.show(format_args!("unreadable in the target: {key}: {error}"));
                }
                // The copy has named it.
                Difference::Failed(_) => {}
                Difference::Unlisted(error) => problems.entry(error.clone()),
                _ => {}
            }
            bar.tick();
        })
        .await?;
        problems.name(self.to, &self.arguments.prefix).await?;
        bar.finish_and_clear();
        Ok(report)
    }
}

fn report(
    arguments: &Copy,
    copied: &CopyReport,
    verified: Option<&VerifyReport>,
    output: &mut Output,
) -> anyhow::Result<()> {
    if arguments.json {
        let verified = verified.map(|report| {
            json!({
                "equal": report.equal,
                "different": report.different,
                "extra": report.extra,
                "failed": report.failed,
            })
        });
        output.line(json!({
            "dry_run": arguments.dry_run,
            "copied": copied.copied,
            "bytes": copied.bytes,
            "unchanged": copied.unchanged,
            "kept": copied.kept,
            "expired": copied.expired,
            "deleted": copied.deleted,
            "failed": copied.failed,
            "verified": verified,
        }))?;
        return Ok(());
    }
    let dry = if arguments.dry_run { "dry run: " } else { "" };
    let mut line = format!("{dry}{} copied ({})", copied.copied, HumanBytes(copied.bytes));
    let mut add = |count: u64, what: &str| {
        if count > 0 {
            line.push_str(&format!(", {count} {what}"));
        }
    };
    add(copied.unchanged, "there already");
    add(copied.kept, "different in the target and kept");
    add(copied.expired, "expired meanwhile");
    add(copied.deleted, "deleted");
    add(copied.failed, "failed");
    if let Some(verified) = verified {
        line.push_str(&format!("; verified: {} equal", verified.equal));
        for (count, what) in
            [(verified.different, "different"), (verified.extra, "extra"), (verified.failed, "unreadable")]
        {
            if count > 0 {
                line.push_str(&format!(", {count} {what}"));
            }
        }
    }
    output.line(line)?;
    Ok(())
}

/// A spinner with a count on standard error, drawn on a terminal only.
fn progress(done: &str) -> ProgressBar {
    // A signal drops it.
    let bar = ProgressBar::new_spinner().with_finish(ProgressFinish::AndClear);
    if let Ok(style) =
        ProgressStyle::with_template(&format!("{{spinner}} {{pos}} {done} ({{per_sec}}) {{msg}}"))
    {
        bar.set_style(style);
    }
    bar.enable_steady_tick(Duration::from_millis(120));
    bar
}

//! `larder copy`.

use std::{
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    time::Duration,
};

use anyhow::Context;
use indicatif::{HumanBytes, ProgressBar, ProgressFinish, ProgressStyle};
use larder::transfer::{self, CopyOptions, CopyReport, Difference, Event, VerifyOptions, VerifyReport};
use larder::{Registry, Store};
use serde_json::json;

use super::{
    args::Copy,
    exit::Exit,
    interrupt::Signals,
    output::{Output, say},
    problems::Problems,
    store::{self, StoreArg},
};

const HINT: &str = "to copy the rest, repeat the command with --resume";

pub(super) async fn run(arguments: &Copy, registry: &Registry, output: &mut Output) -> anyhow::Result<Exit> {
    let (source, target) = (StoreArg::new(&arguments.from)?, StoreArg::new(&arguments.to)?);
    let from = source.open_existing(registry).await?;
    let to = if arguments.dry_run {
        target.open_existing(registry).await.context("a dry run does not create the target")?
    } else {
        target.open(registry).await?
    };

    let mut signals = Signals::new()?;
    let progress = Progress::default();
    let transfer = Transfer { arguments, from: &from, to: &to, progress: &progress };
    let done = signals.or_until(transfer.run(&source, &target)).await;
    // Also after a failure or a signal, because this writes a snapshot file.
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
            // Only the first error is reported. A store that is not closed may leave files behind.
            let _ = from.close().await;
            Err(error)
        }
        Err(signal) => {
            if closed?.is_none() {
                let done = signal.done();
                if arguments.dry_run {
                    say(done);
                } else {
                    // The writes in flight may have been applied.
                    let copied = progress.copied.load(Ordering::Relaxed);
                    let deleted = progress.deleted.load(Ordering::Relaxed);
                    if progress.compares.load(Ordering::Relaxed) {
                        say(format_args!("{done} during the comparison: {copied} entries were copied"));
                    } else if deleted > 0 {
                        say(format_args!(
                            "{done}: {copied} entries were copied and at least {deleted} deleted; to delete the rest, \
                             repeat the command"
                        ));
                    } else {
                        say(format_args!("{done}: at least {copied} entries were copied; {HINT}"));
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
    progress: &'a Progress,
}

/// The progress of a copy, for the message after a signal or a failure.
#[derive(Default)]
struct Progress {
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
            match self.progress.copied.load(Ordering::Relaxed) {
                0 => format!("cannot copy {source} to {target}"),
                copied => {
                    format!("the copy from {source} to {target} stopped after {copied} entries; {HINT}")
                }
            }
        })?;
        if !self.arguments.verify {
            return Ok((copied, None));
        }
        let verified = self
            .verify()
            .await
            .with_context(|| format!("{} entries were copied, but the comparison failed", copied.copied))?;
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
        let mut problems = Problems::above(bar.clone());
        let report = transfer::copy(self.from, self.to, &options, |event| match event {
            Event::Progress(report) => {
                self.progress.copied.store(report.copied, Ordering::Relaxed);
                bar.set_position(report.copied + report.unchanged);
                bar.set_message(HumanBytes(report.bytes).to_string());
            }
            Event::Failed { key: Some(key), error } => {
                problems.show(format_args!("not copied: {key}: {error}"));
            }
            Event::Failed { key: None, error } => problems.entry(error.clone()),
            Event::Kept(key) => problems.show(format_args!("kept in the target: {key}")),
            Event::Deleted(key) if arguments.dry_run => problems.note(format_args!("would delete: {key}")),
            Event::Deleted(_) => drop(self.progress.deleted.fetch_add(1, Ordering::Relaxed)),
            Event::NothingDeleted => {
                problems.note("no entry was deleted, because not every entry was copied");
            }
            _ => {}
        })
        .await?;
        problems.name(self.from, &arguments.prefix).await?;
        bar.finish_and_clear();
        Ok(report)
    }

    async fn verify(&self) -> larder::Result<VerifyReport> {
        self.progress.compares.store(true, Ordering::Relaxed);
        let options = VerifyOptions::default().prefix(&self.arguments.prefix);
        let bar = progress("compared");
        let mut problems = Problems::above(bar.clone());
        let report = transfer::verify(self.from, self.to, &options, |difference| {
            match difference {
                Difference::Missing(key) => problems.show(format_args!("missing in the target: {key}")),
                Difference::Extra(key) => problems.show(format_args!("only in the target: {key}")),
                Difference::Value(key) => problems.show(format_args!("different value in the target: {key}")),
                Difference::Expiry(key) => {
                    problems.show(format_args!("different time to live in the target: {key}"));
                }
                Difference::Damaged(key, error) => {
                    problems.show(format_args!("unreadable in the target: {key}: {error}"));
                }
                // The copy has reported it.
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
    let mut add = |count: u64, label: &str| {
        if count > 0 {
            line.push_str(&format!(", {count} {label}"));
        }
    };
    add(copied.unchanged, "already in the target");
    add(copied.kept, "different in the target and kept");
    add(copied.expired, "expired during the copy");
    add(copied.deleted, "deleted");
    add(copied.failed, "failed");
    if let Some(verified) = verified {
        line.push_str(&format!("; verified: {} equal", verified.equal));
        for (count, label) in
            [(verified.different, "different"), (verified.extra, "extra"), (verified.failed, "unreadable")]
        {
            if count > 0 {
                line.push_str(&format!(", {count} {label}"));
            }
        }
    }
    output.line(line)?;
    Ok(())
}

/// A spinner with a count on standard error, drawn on a terminal only.
fn progress(done: &str) -> ProgressBar {
    // After a signal it is dropped before it is finished.
    let bar = ProgressBar::new_spinner().with_finish(ProgressFinish::AndClear);
    if let Ok(style) =
        ProgressStyle::with_template(&format!("{{spinner}} {{pos}} {done} ({{per_sec}}) {{msg}}"))
    {
        bar.set_style(style);
    }
    bar.enable_steady_tick(Duration::from_millis(120));
    bar
}

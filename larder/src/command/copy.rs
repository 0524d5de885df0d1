//! `larder copy`.

use std::time::Duration;

use anyhow::Context;
use indicatif::{HumanBytes, ProgressBar, ProgressStyle};
use larder::{
    Storage,
    transfer::{self, CopyOptions, CopyReport, Difference, Event, VerifyReport},
};
use serde_json::json;

use super::{
    args::Copy,
    exit::Outcome,
    output::Output,
    store::{Place, configuration},
};

/// Clocks of two servers may disagree by this much, and reading both sides takes its time.
const TTL_TOLERANCE: Duration = Duration::from_secs(5);

/// So many single failures are shown; the rest is counted.
const SHOWN: u64 = 20;

pub(super) async fn run(arguments: &Copy, output: &mut Output) -> anyhow::Result<Outcome> {
    let (source, target) = (Place::new(&arguments.from)?, Place::new(&arguments.to)?);
    if source.is(&target) {
        return Err(configuration("source and target are the same store; name another target").into());
    }
    let from = source.open_existing().await?;
    let to = target.open().await?;

    let copied = copy(arguments, &from, &to).await.with_context(|| {
        let what = format!("copying {} to {} was cut off", source.name, target.name);
        if to.capabilities().persistent {
            format!("{what}; what was copied is there, and the same command with --resume goes on")
        } else {
            what
        }
    })?;
    let verified = if arguments.verify { Some(verify(arguments, &from, &to).await?) } else { None };
    to.close().await?;
    from.close().await?;

    report(arguments, &copied, verified.as_ref(), output)?;
    let differs = verified.is_some_and(|verified| verified.different + verified.failed > 0);
    Ok(if copied.failed > 0 || differs { Outcome::Negative } else { Outcome::Done })
}

async fn copy(arguments: &Copy, from: &dyn Storage, to: &dyn Storage) -> larder::Result<CopyReport> {
    let options = CopyOptions::default()
        .prefix(&arguments.prefix)
        .resume(arguments.resume)
        .drop_expiry(arguments.drop_ttl);
    let bar = progress("copied");
    let mut problems = Problems { bar: &bar, count: 0 };
    let report = transfer::copy(from, to, &options, |event| match event {
        Event::Progress(report) => {
            bar.set_position(report.copied + report.unchanged);
            bar.set_message(HumanBytes(report.bytes).to_string());
        }
        Event::Failed { key: Some(key), error } => problems.show(format_args!("not copied: {key}: {error}")),
        Event::Failed { key: None, error } => problems.show(format_args!("not copied: {error}")),
        _ => {}
    })
    .await?;
    bar.finish_and_clear();
    Ok(report)
}

async fn verify(arguments: &Copy, from: &dyn Storage, to: &dyn Storage) -> larder::Result<VerifyReport> {
    let bar = progress("compared");
    let mut problems = Problems { bar: &bar, count: 0 };
    let report = transfer::verify(from, to, &arguments.prefix, TTL_TOLERANCE, |difference| {
        match difference {
            Difference::Missing(key) => problems.show(format_args!("missing in the target: {key}")),
            Difference::Value(key) => problems.show(format_args!("another value in the target: {key}")),
            Difference::Expiry(key) => {
                problems.show(format_args!("another time to live in the target: {key}"));
            }
            Difference::Damaged(key, error) => {
                problems.show(format_args!("unreadable in the target: {key}: {error}"));
            }
            Difference::Failed(error) => problems.show(format_args!("unreadable in the source: {error}")),
            _ => {}
        }
        bar.tick();
    })
    .await?;
    bar.finish_and_clear();
    Ok(report)
}

fn report(
    arguments: &Copy,
    copied: &CopyReport,
    verified: Option<&VerifyReport>,
    output: &mut Output,
) -> anyhow::Result<()> {
    if arguments.json {
        let verified = verified.map(
            |report| json!({ "equal": report.equal, "different": report.different, "failed": report.failed }),
        );
        output.line(json!({
            "copied": copied.copied,
            "bytes": copied.bytes,
            "unchanged": copied.unchanged,
            "expired": copied.expired,
            "failed": copied.failed,
            "verified": verified,
        }))?;
        return Ok(());
    }
    let mut line = format!("{} copied ({})", copied.copied, HumanBytes(copied.bytes));
    let mut add = |count: u64, what: &str| {
        if count > 0 {
            line.push_str(&format!(", {count} {what}"));
        }
    };
    add(copied.unchanged, "there already");
    add(copied.expired, "expired meanwhile");
    add(copied.failed, "failed");
    if let Some(verified) = verified {
        line.push_str(&format!("; verified: {} equal", verified.equal));
        if verified.different + verified.failed > 0 {
            line.push_str(&format!(", {} different, {} unreadable", verified.different, verified.failed));
        }
    }
    output.line(line)?;
    Ok(())
}

/// A spinner with a count on standard error, drawn on a terminal only.
fn progress(done: &str) -> ProgressBar {
    let bar = ProgressBar::new_spinner();
    if let Ok(style) =
        ProgressStyle::with_template(&format!("{{spinner}} {{pos}} {done} ({{per_sec}}) {{msg}}"))
    {
        bar.set_style(style);
    }
    bar.enable_steady_tick(Duration::from_millis(120));
    bar
}

/// Single failures, on standard error beside the progress.
struct Problems<'a> {
    bar: &'a ProgressBar,
    count: u64,
}

impl Problems<'_> {
    fn show(&mut self, problem: std::fmt::Arguments<'_>) {
        self.count += 1;
        let count = self.count;
        self.bar.suspend(|| match count {
            ..=SHOWN => eprintln!("larder: {problem}"),
            _ if count == SHOWN + 1 => eprintln!("larder: further entries are only counted"),
            _ => {}
        });
    }
}

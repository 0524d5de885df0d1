//! Bugs in the group commit. Each is a module of its own.

use std::{error::Error, fmt::Write as _, fs, path::Path};

const SOURCE: &str = "../../kit/src/group_commit";

/// A module with a bug.
struct Bug {
    name: &'static str,
    /// The module with its primitives.
    runs: &'static str,
    /// The file, the text, and its replacement.
    edits: &'static [(&'static str, &'static str, &'static str)],
}

const BUGS: &[Bug] = &[
    Bug {
        name: "reply_before_commit",
        runs: "on_tokio",
        edits: &[(
            "batch.rs",
            "Self::Changes(mut changes, replies) => {",
            "Self::Changes(mut changes, mut replies) => {
                for (change, (_, reply)) in changes.iter().zip(std::mem::take(&mut replies)) {
                    let _ = reply.send(change.applied(true, None));
                }",
        )],
    },
    Bug {
        name: "failed_batch_answered_as_applied",
        runs: "on_tokio",
        edits: &[
            (
                "batch.rs",
                "Self::Changes(mut changes, replies) => {",
                "Self::Changes(mut changes, replies) => {
                let fine: Vec<_> = changes.iter().map(|change| change.applied(true, None)).collect();",
            ),
            (
                "batch.rs",
                "for ((call, reply), result) in replies.into_iter().zip(results) {",
                "for (((call, reply), result), fine) in replies.into_iter().zip(results).zip(fine) {
                    let result = if result.as_ref().is_err_and(Error::is_gone) { fine } else { result };",
            ),
        ],
    },
    Bug {
        name: "unknown_answered_as_not_applied",
        runs: "on_tokio",
        edits: &[(
            "batch.rs",
            "let _ = reply.send(result);",
            "let _ = reply.send(result.map_err(Error::not_applied));",
        )],
    },
    Bug {
        name: "retry_out_of_order",
        runs: "on_tokio",
        edits: &[
            (
                "batch.rs",
                "pub(super) async fn run(self, storage: &impl Storage) -> Option<oneshot::Receiver<()>> {",
                "pub(super) async fn run(
        self,
        storage: &impl Storage,
        again: &mut Vec<Work>,
    ) -> Option<oneshot::Receiver<()>> {",
            ),
            (
                "batch.rs",
                "Self::Changes(mut changes, replies) => {",
                "Self::Changes(mut changes, replies) => {
                let mut sent = changes.clone().into_iter();",
            ),
            (
                "batch.rs",
                "for ((call, reply), result) in replies.into_iter().zip(results) {",
                "for ((call, reply), result) in replies.into_iter().zip(results) {
                    let change = sent.next();
                    let unsent = |error: &Error| {
                        error.is_retryable() && error.outcome() == larder_core::Outcome::NotApplied
                    };
                    if let (Some(change), true) = (change, result.as_ref().is_err_and(unsent)) {
                        again.push(Work::Change(change, call, reply));
                        continue;
                    }",
            ),
            (
                "lane.rs",
                "self.paused = batch.run(&*self.shared.storage).await;",
                "let mut again = Vec::new();
            self.paused = batch.run(&*self.shared.storage, &mut again).await;
            let _ = self.shared.push(self.lane, again);",
            ),
        ],
    },
    Bug {
        name: "unknown_batch_retried",
        runs: "on_tokio",
        edits: &[
            (
                "batch.rs",
                "Self::Changes(mut changes, replies) => {",
                "Self::Changes(mut changes, replies) => {
                let sent = changes.clone();",
            ),
            (
                "batch.rs",
                "for ((call, reply), result) in replies.into_iter().zip(results) {",
                "let unknown = |error: &Error| error.outcome() == larder_core::Outcome::Unknown;
                let retry = results.iter().any(|result| result.as_ref().is_err_and(unknown));
                let results = if retry { storage.apply(sent).await } else { results };
                for ((call, reply), result) in replies.into_iter().zip(results) {",
            ),
        ],
    },
    Bug {
        name: "abandoned_caller_stops_its_lane",
        runs: "on_tokio",
        edits: &[(
            "batch.rs",
            "let _ = reply.send(result);",
            "if reply.send(result).is_err() {
                        std::future::pending::<()>().await;
                    }",
        )],
    },
    Bug {
        // Like the senders of tokio's bounded channel: a waiting sender gets its permit in turn, but a later one may
        // use its own permit before the first is polled.
        name: "waiting_sender_overtaken",
        runs: "on_tokio",
        edits: &[
            (
                "lane.rs",
                "pub(super) storage: Arc<S>,",
                "pub(super) storage: Arc<S>,
    pub(super) room: tokio::sync::Semaphore,",
            ),
            (
                "storage.rs",
                "let shared = Shared { storage,",
                "let shared = Shared { room: tokio::sync::Semaphore::new(2), storage,",
            ),
            (
                "storage.rs",
                "let lane = self.shared.lane_of(&change.key);",
                "let _room = self.shared.room.acquire().await;
        let lane = self.shared.lane_of(&change.key);",
            ),
        ],
    },
    Bug {
        name: "idle_flag_loaded_and_then_stored",
        runs: "on_shuttle",
        edits: &[(
            "lane.rs",
            "let idle = !state.queue.is_empty() && !mem::replace(&mut state.served, true);
        drop(state);",
            "let idle = !state.queue.is_empty() && !state.served;
        drop(state);
        if idle {
            lock(&self.lanes[lane].0).served = true;
        }",
        )],
    },
    Bug {
        name: "answers_mixed_up",
        runs: "on_tokio",
        edits: &[(
            "batch.rs",
            "for ((call, reply), result) in replies.into_iter().zip(results) {",
            "for ((call, reply), result) in replies.into_iter().rev().zip(results) {",
        )],
    },
    Bug {
        name: "reads_mixed_up",
        runs: "on_tokio",
        edits: &[(
            "batch.rs",
            "for (reply, record) in replies.into_iter().zip(records) {",
            "for (reply, record) in replies.into_iter().rev().zip(records) {",
        )],
    },
    Bug {
        name: "caller_without_an_answer",
        runs: "on_tokio",
        edits: &[(
            "batch.rs",
            "let _ = reply.send(result);",
            "if result.is_err() {
                        std::mem::forget(reply);
                    } else {
                        let _ = reply.send(result);
                    }",
        )],
    },
    Bug {
        name: "condition_left_out",
        runs: "on_tokio",
        edits: &[(
            "batch.rs",
            "Self::Changes(mut changes, replies) => {",
            "Self::Changes(mut changes, replies) => {
                for change in &mut changes {
                    change.condition = larder_core::Condition::Any;
                }",
        )],
    },
    Bug {
        name: "batch_dropped_with_its_caller",
        runs: "on_tokio",
        edits: &[
            (
                "batch.rs",
                "Self::Changes(mut changes, replies) => {",
                "Self::Changes(mut changes, mut replies) => {",
            ),
            (
                "batch.rs",
                "storage.apply(changes).await",
                "let gone = std::pin::pin!(replies[0].1.closed());
                        match futures_util::future::select(storage.apply(changes), gone).await {
                            futures_util::future::Either::Left((results, _)) => results,
                            futures_util::future::Either::Right(_) => return None,
                        }",
            ),
        ],
    },
    Bug {
        name: "lost_answered_as_not_applied",
        runs: "on_tokio",
        edits: &[("lane.rs", "answer.map_err(|_| lost())", "answer.map_err(|_| lost().not_applied())")],
    },
    Bug {
        name: "unsent_answered_as_unknown",
        runs: "on_tokio",
        edits: &[("lane.rs", "job.work.fail(lost().not_applied());", "job.work.fail(lost());")],
    },
    Bug {
        name: "lost_answer_panics",
        runs: "on_tokio",
        edits: &[(
            "lane.rs",
            "answer.map_err(|_| lost())",
            "Ok(match answer {
            Ok(answer) => answer,
            Err(_) => panic!(\"planted\"),
        })",
        )],
    },
    Bug {
        name: "several_serve_one_lane",
        runs: "on_tokio",
        edits: &[(
            "lane.rs",
            "let idle = !state.queue.is_empty() && !mem::replace(&mut state.served, true);",
            "let idle = !state.queue.is_empty();
        state.served |= idle;",
        )],
    },
    Bug {
        name: "batches_without_limits",
        runs: "on_tokio",
        edits: &[(
            "lane.rs",
            "if batch.len() < self.shared.max_batch && bytes <= self.shared.max_batch_bytes =>",
            "if true =>",
        )],
    },
    Bug {
        name: "abandoned_change_stays_queued",
        runs: "on_tokio",
        edits: &[(
            "lane.rs",
            "let job = lock(&self.shared.lanes[self.lane].0).queue.remove(&self.number);",
            "let job = Vec::<()>::new();",
        )],
    },
    Bug {
        name: "task_keeps_the_storage",
        runs: "on_tokio",
        edits: &[(
            "lane.rs",
            "let Some(batch) = self.take() else { return };",
            "let Some(batch) = self.take() else { return std::future::pending().await };",
        )],
    },
    Bug {
        name: "flush_without_waiting",
        runs: "on_tokio",
        edits: &[(
            "storage.rs",
            "try_join_all(reached).await.map(drop).map_err(|_| lost().not_applied())",
            "drop(reached);
        Ok(())",
        )],
    },
    Bug {
        name: "flush_left_out",
        runs: "on_tokio",
        edits: &[("storage.rs", "self.shared.storage.flush().await", "Ok(())")],
    },
    Bug {
        name: "clear_holds_nothing_back",
        runs: "on_tokio",
        edits: &[(
            "storage.rs",
            "held.push(hold);",
            "held.push(hold);
            held.clear();",
        )],
    },
    Bug {
        name: "abandoned_clear_happens",
        runs: "on_tokio",
        edits: &[("storage.rs", " && !reply.is_closed()", "")],
    },
    Bug {
        name: "barriers_in_different_orders",
        runs: "on_shuttle",
        edits: &[("storage.rs", "let _one_at_a_time = lock(&self.shared.barriers);", "")],
    },
];

/// Writes the modules with the bugs to `out`.
pub(crate) fn plant(out: &Path) -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed={SOURCE}");
    let mut modules = String::new();
    for Bug { name, runs, edits } in BUGS {
        let folder = out.join(name);
        fs::create_dir_all(&folder)?;
        let mut fitting = 0;
        for file in fs::read_dir(SOURCE)? {
            let file = file?.path();
            let Some(file_name) = file.file_name().and_then(|name| name.to_str()) else { continue };
            let mut source = fs::read_to_string(&file)?;
            for (_, text, instead) in edits.iter().filter(|(edited, ..)| *edited == file_name) {
                if source.matches(text).count() != 1 {
                    return Err(format!("the edit of bug {name} no longer fits {file_name}: {text}").into());
                }
                source = source.replace(text, instead);
                fitting += 1;
            }
            fs::write(folder.join(file_name), source)?;
        }
        if fitting != edits.len() {
            return Err(format!("the bug {name} edits a file that does not exist").into());
        }
        let path = folder.join("mod.rs");
        write!(
            modules,
            "pub(crate) mod {name} {{
                use crate::group_commit::{runs}::runtime;
                #[allow(dead_code, unreachable_pub, unused, clippy::all, clippy::panic)]
                #[path = {path:?}]
                mod group_commit;
                crate::group_commit::builds!(group_commit);
            }}\n",
        )?;
    }
    fs::write(out.join("group_commit.rs"), modules)?;
    Ok(())
}

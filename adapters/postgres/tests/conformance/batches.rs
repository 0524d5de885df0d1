//! Batches of conditional changes: one statement and one commit, and each change can fail alone.

use std::time::Duration;

use larder_core::{Applied, Bytes, Change, Condition, Error, ErrorKind, Expiry, Key, Outcome, Result, Store};
use larder_test_servers::Kind;
use larder_testkit::{Runner, Suite, until};

use crate::place::{Place, suite_on};

const PATIENCE: Duration = Duration::from_secs(10);

fn key(name: impl std::fmt::Display) -> Key {
    Key::new(name.to_string()).unwrap()
}

fn put(name: impl std::fmt::Display, value: impl std::fmt::Display) -> Change {
    Change::put(key(name), value.to_string(), Expiry::Never)
}

/// `w` for written, `d` deleted, `t` touched, `-` absent, `c` a conflict, or the kind of another error.
fn summary(results: &[Result<Applied>]) -> String {
    let one = |result: &Result<Applied>| match result.as_ref().map_err(Error::kind) {
        Ok(Applied::Put(_)) => "w".to_owned(),
        Ok(Applied::Deleted(true)) => "d".to_owned(),
        Ok(Applied::Touched(true)) => "t".to_owned(),
        Ok(_) => "-".to_owned(),
        Err(ErrorKind::Conflict) => "c".to_owned(),
        Err(kind) => format!("{kind:?}"),
    };
    results.iter().map(one).collect::<Vec<_>>().join(" ")
}

async fn holds(store: &Store, expected: &[(&str, Option<&str>)]) {
    for (name, value) in expected {
        let found = store.read(key(name)).await.unwrap().map(|record| record.value);
        assert_eq!(found.as_deref(), value.map(str::as_bytes), "{name}");
    }
}

async fn waits_for_a_lock(place: &Place, application: &str) {
    let watch = place.admin().await;
    until("a statement waits for a lock", PATIENCE, || async {
        let sql =
            "SELECT count(*) FROM pg_stat_activity WHERE application_name = $1 AND wait_event_type = 'Lock'";
        watch.count(sql, &[&application]).await > 0
    })
    .await;
}

pub(crate) fn suites(runner: Runner) -> Runner {
    let layouts = [("postgres_batches", "values=jsonb"), ("postgres_grammy_batches", "layout=grammy")];
    layouts.into_iter().fold(runner, |runner, (name, options)| {
        let suite = cases(suite_on(name, Kind::Postgres, options).without_laws());
        runner.suite(if name == "postgres_batches" { jsonb(suite) } else { suite })
    })
}

fn cases(suite: Suite<Place>) -> Suite<Place> {
    suite
        .case("conditions_are_checked_after_the_batch_has_its_locks", |context| async move {
            let (place, table) = (&context.factory, context.target.space());
            let application = format!("{table}-locks");
            let store = place.storage(&format!("table={table}&application_name={application}")).await;
            let names = ["at", "delete", "gone", "other", "present", "touch"];
            for applied in store.apply(names.map(|name| put(name, 1)).to_vec()).await {
                applied.unwrap();
            }
            let seen = store.read(key("at")).await.unwrap().unwrap().version.unwrap();
            let fresh = store.read(key("other")).await.unwrap().unwrap().version.unwrap();
            let admin = place.admin().await;
            let version = if store.info().expiry { ", version = 7" } else { "" };
            let columns = if store.info().expiry { ", 7, NULL" } else { "" };
            admin
                .run(&format!(
                    "BEGIN; UPDATE \"{table}\" SET value = '2'{version} WHERE key <> 'other'; \
                     DELETE FROM \"{table}\" WHERE key = 'gone'; \
                     INSERT INTO \"{table}\" VALUES ('inserted', '2'{columns})"
                ))
                .await;
            let batch = store.apply(vec![
                put("inserted", 3).on(Condition::Absent),
                put("at", 3).on(Condition::At(seen)),
                put("other", 3).on(Condition::At(fresh)),
                put("present", 3).on(Condition::Present),
                put("new", 3).on(Condition::Absent),
                put("any", 3),
                Change::delete(key("gone")),
                Change::delete(key("delete")).on(Condition::Present),
                Change::touch(key("touch"), Expiry::Never),
                Change::touch(key("nothing"), Expiry::Never),
                put("nothing", 3).on(Condition::Present),
            ]);
            let release = async {
                waits_for_a_lock(place, &application).await;
                admin.run("COMMIT").await;
            };
            let (applied, ()) = futures_util::join!(batch, release);
            // Without an expiry there is nothing to touch.
            let touches = if store.info().expiry { "t -" } else { "Unsupported Unsupported" };
            assert_eq!(summary(&applied), format!("c c w w w w - d {touches} c"));
            holds(
                &store,
                &[
                    ("inserted", Some("2")),
                    ("at", Some("2")),
                    ("other", Some("3")),
                    ("present", Some("3")),
                    ("new", Some("3")),
                    ("any", Some("3")),
                    ("gone", None),
                    ("delete", None),
                    ("touch", Some("2")),
                    ("nothing", None),
                ],
            )
            .await;
            store.close().await.unwrap();
        })
        .case("racing_batches_lose_no_change", |context| async move {
            const KEYS: usize = 20;
            let (place, table) = (&context.factory, context.target.space());
            let stores = [
                place.storage(&format!("table={table}&pool_size=3")).await,
                place.storage(&format!("table={table}&pool_size=3")).await,
            ];
            for applied in stores[0].apply((0..KEYS).map(|number| put(number, 0)).collect()).await {
                applied.unwrap();
            }
            let tasks = (0..6).map(|task| {
                let store = stores[task % 2].clone();
                tokio::spawn(async move {
                    let (mut added, mut inserted, mut deleted) = (0, 0, 0);
                    for round in 0..30 {
                        let mut changes = Vec::new();
                        for number in 0..KEYS {
                            let record = store.read(key(number)).await.unwrap().unwrap();
                            let count: u64 = std::str::from_utf8(&record.value).unwrap().parse().unwrap();
                            changes.push(put(number, count + 1).on(Condition::At(record.version.unwrap())));
                        }
                        // Another task deletes it, or this task in its next round.
                        changes.push(put(format!("once {}", round % 3), 1).on(Condition::Absent));
                        changes.push(Change::delete(key(format!("once {}", (round + 1) % 3))));
                        changes.push(put(format!("task {task}"), round));
                        // In another order for each task.
                        changes.rotate_left(task * 3);
                        for (change, result) in changes.clone().iter().zip(store.apply(changes).await) {
                            match (change.key.as_str().split_once(' '), result) {
                                (None, Ok(_)) => added += 1,
                                (Some(("once", _)), Ok(Applied::Put(_))) => inserted += 1,
                                (Some(("once", _)), Ok(Applied::Deleted(true))) => deleted += 1,
                                (_, Ok(_)) => {}
                                (_, Err(error)) => assert_eq!(error.kind(), ErrorKind::Conflict, "{error}"),
                            }
                        }
                    }
                    (added, inserted, deleted)
                })
            });
            let (mut added, mut present) = (0, 0);
            for task in futures_util::future::join_all(tasks).await {
                let (more, inserted, deleted) = task.unwrap();
                added += more;
                present += inserted - deleted;
            }
            let mut total = 0;
            for number in 0..KEYS {
                let record = stores[0].read(key(number)).await.unwrap().unwrap();
                total += std::str::from_utf8(&record.value).unwrap().parse::<u64>().unwrap();
            }
            assert_eq!(total, added, "increments that were acknowledged");
            let mut found = 0;
            for number in 0..3 {
                found += i64::from(stores[0].contains(key(format!("once {number}"))).await.unwrap());
            }
            assert_eq!(found, present, "insertions less deletions");
            for store in stores {
                store.close().await.unwrap();
            }
        })
        .case("a_connection_that_ends_during_a_batch_reports_the_right_outcome", |context| async move {
            const KEYS: u64 = 40;
            let (place, table) = (&context.factory, context.target.space());
            let application = format!("{table}-ending");
            let options = format!("table={table}&pool_size=2&application_name={application}");
            let store = place.storage(&options).await;
            let watch = place.storage(&format!("table={table}")).await;
            let admin = place.admin().await;
            let (mut failed, mut applied) = (0, 0);
            for round in 1..=60_u64 {
                let mut changes = Vec::new();
                let mut before = Vec::new();
                for number in 0..KEYS {
                    let record = watch.read(key(number)).await.unwrap();
                    let value = format!("{round}");
                    changes.push(match &record {
                        None => put(number, value).on(Condition::Absent),
                        Some(_) if (number + round) % 5 == 0 => Change::delete(key(number)),
                        Some(record) => put(number, value).on(Condition::At(record.version.clone().unwrap())),
                    });
                    before.push(record.map(|record| record.value));
                }
                // At another moment of the batch in each round.
                let end = async {
                    tokio::time::sleep(Duration::from_micros(round * 50)).await;
                    admin.end_connections_of(&application).await
                };
                let (results, _) = futures_util::join!(store.apply(changes), end);
                for (number, result) in results.into_iter().enumerate() {
                    let after = watch.read(key(number)).await.unwrap().map(|record| record.value);
                    let changed = after != before[number];
                    match result {
                        Ok(_) => {
                            applied += 1;
                            assert!(changed, "round {round}: applied, and yet it is not there");
                        }
                        Err(error) => {
                            failed += 1;
                            assert!(error.is_retryable(), "{error}");
                            let lie = changed && error.outcome() == Outcome::NotApplied;
                            assert!(!lie, "round {round}: not applied, and yet it is there: {error}");
                        }
                    }
                }
                until("a change works again", PATIENCE, || async {
                    store.write(key("probe"), Bytes::from_static(b"1")).await.is_ok()
                })
                .await;
            }
            assert!(failed > 0 && applied > 0, "{failed} failed, {applied} were applied");
            store.close().await.unwrap();
            watch.close().await.unwrap();
        })
}

fn jsonb(suite: Suite<Place>) -> Suite<Place> {
    suite
        .case("expired_entries_are_absent_in_a_batch", |context| async move {
            let store = context.factory.storage(&format!("table={}&sweep=off", context.target.space())).await;
            let names = ["a", "b", "c", "d", "e"];
            let short = |name| Change::put(key(name), "1", Expiry::after_millis(1));
            for applied in store.apply(names.map(short).to_vec()).await {
                applied.unwrap();
            }
            until("they have expired", PATIENCE, || async {
                !store.contains(key("e")).await.unwrap() && !store.contains(key("a")).await.unwrap()
            })
            .await;
            let applied = store
                .apply(vec![
                    put("a", 2).on(Condition::Absent),
                    put("b", 2).on(Condition::Present),
                    Change::delete(key("c")),
                    Change::touch(key("d"), Expiry::Never),
                    put("e", 2),
                ])
                .await;
            assert_eq!(summary(&applied), "w c - - w");
            holds(&store, &[("a", Some("2")), ("b", None), ("d", None), ("e", Some("2"))]).await;
            store.close().await.unwrap();
        })
        .case("a_value_that_only_the_server_rejects_fails_alone", |context| async move {
            let store = context.factory.storage(&format!("table={}", context.target.space())).await;
            for applied in store.apply(vec![put("b", 1), put("c", 1), put("d", 1)]).await {
                applied.unwrap();
            }
            let bad = "\"hunter2 \\u0000\"";
            let applied = store
                .apply(vec![
                    put("a", 2).on(Condition::Absent),
                    put("b", bad).on(Condition::Present),
                    put("c", 2).on(Condition::Absent),
                    Change::delete(key("d")),
                    put("e", bad),
                    put("f", 2),
                ])
                .await;
            assert_eq!(summary(&applied), "w InvalidValue c d InvalidValue w");
            assert!(!format!("{applied:?}").contains("hunter2"));
            holds(
                &store,
                &[("a", Some("2")), ("b", Some("1")), ("c", Some("1")), ("d", None), ("f", Some("2"))],
            )
            .await;
            store.close().await.unwrap();
        })
}

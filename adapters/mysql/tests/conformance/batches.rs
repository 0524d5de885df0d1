//! Batches: one commit, and each change can fail alone.

use std::time::Duration;

use larder_core::{
    Applied, Change, Condition, Error, ErrorKind, Expiry, Outcome, ReadOptions, Result, Store, Version,
};
use larder_testkit::{Runner, race, until};

use crate::place::{Place, holds, key, suite};

const PATIENCE: Duration = Duration::from_secs(10);

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

async fn number(store: &Store, name: impl std::fmt::Display) -> u64 {
    let record = store.read(key(name)).await.unwrap().unwrap();
    std::str::from_utf8(&record.value).unwrap().parse().unwrap()
}

async fn pair(place: &Place, table: &str) -> [Store; 2] {
    let options = format!("table={table}&pool_size=3");
    [place.storage(&options).await, place.storage(&options).await]
}

pub(crate) fn suites(runner: Runner) -> Runner {
    runner.suite(
        suite("mariadb_batches", "sweep=off")
            .without_laws()
            .case("a_batch_has_the_results_of_its_changes_alone", |context| async move {
                let (place, table) = (&context.factory, context.target.space());
                let store = place.storage(&format!("table={table}")).await;
                let admin = place.admin().await;
                // Each kind of change with each condition on a row of each state: absent, at version 1, at
                // version 2, expiring and expired.
                let states = ["", "1, NULL", "2, NULL", "1, 9999999999999", "1, 1"];
                let at = Condition::At(Version::from_token(1));
                let conditions = [Condition::Any, Condition::Absent, Condition::Present, at];
                let expiries = [Expiry::Never, Expiry::after_secs(60)];
                let (mut changes, mut rows) = (Vec::new(), Vec::new());
                for number in 0..states.len() * conditions.len() * 6 {
                    let (key, expiry) = (key(number), expiries[number % 2]);
                    let change = match number % 6 / 2 {
                        0 => Change::put(key, "new", expiry),
                        1 => Change::touch(key, expiry),
                        _ => Change::delete(key),
                    };
                    changes.push(change.on(conditions[number / 6 % conditions.len()].clone()));
                    let state = states[number / 6 / conditions.len()];
                    if !state.is_empty() {
                        rows.push(format!("('{number}', 'old', {state})"));
                    }
                }
                let rows = rows.join(", ");
                let fill = async || {
                    admin.run(format!("DELETE FROM `{table}`; INSERT INTO `{table}` VALUES {rows}")).await;
                };
                let contents = async || {
                    let sql = format!(
                        "SELECT CONCAT_WS(' ', `key`, value, version IN (1, 2), \
                         IF(expires_at DIV 1000 - UNIX_TIMESTAMP() BETWEEN 50 AND 60, 'soon', expires_at)) \
                         FROM `{table}` ORDER BY `key`"
                    );
                    admin.texts(sql, 0).await
                };
                fill().await;
                let mut alone = Vec::new();
                for change in &changes {
                    alone.extend(store.apply(vec![change.clone()]).await);
                }
                let expected = (summary(&alone), contents().await);
                fill().await;
                let together = store.apply(changes).await;
                assert_eq!((summary(&together), contents().await), expected);
                store.close().await.unwrap();
            })
            .case("conditions_are_checked_after_the_batch_has_its_locks", |context| async move {
                let space = context.target.space();
                let place = context.factory.own_database(space).await;
                let store = place.storage("").await;
                let names = ["at", "delete", "gone", "other", "present", "touch"];
                for applied in store.apply(names.map(|name| put(name, 1)).to_vec()).await {
                    drop(applied.unwrap());
                }
                let seen = store.read(key("at")).await.unwrap().unwrap().version.unwrap();
                let fresh = store.read(key("other")).await.unwrap().unwrap().version.unwrap();
                let (admin, watch) = (place.admin().await, context.factory.admin().await);
                admin
                    .run(
                        "BEGIN; UPDATE larder SET value = '2', version = 7 WHERE `key` <> 'other'; \
                         DELETE FROM larder WHERE `key` = 'gone'; \
                         INSERT INTO larder VALUES ('inserted', '2', 7, NULL)",
                    )
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
                    watch.until_locked(space, 1).await;
                    admin.run("COMMIT").await;
                };
                let (applied, ()) = tokio::join!(batch, release);
                assert_eq!(summary(&applied), "c c w w w w - d t - c");
                for (name, value) in [
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
                ] {
                    holds(&store, name, value).await;
                }
                store.close().await.unwrap();
            })
            .case("one_of_many_batches_inserts_each_new_key", |context| async move {
                const ROUNDS: usize = 60;
                let stores = pair(&context.factory, context.target.space()).await;
                let rounds = std::sync::Arc::new(tokio::sync::Barrier::new(4));
                let inserted = race(4, |task| {
                    let (store, rounds) = (stores[task % 2].clone(), rounds.clone());
                    async move {
                        let mut inserted = Vec::new();
                        for round in 0..ROUNDS {
                            rounds.wait().await;
                            let mut names: Vec<_> = (0..8).map(|at| format!("{round} {at}")).collect();
                            names.rotate_left(task * 2);
                            let mut changes: Vec<_> =
                                names.iter().map(|name| put(name, task).on(Condition::Absent)).collect();
                            // Mixed batches, too.
                            let previous = key(format!("{} 0", round.max(1) - 1));
                            changes.push(Change::touch(previous, Expiry::Never));
                            changes.push(put(format!("any {round}"), task));
                            for (name, applied) in names.into_iter().zip(store.apply(changes).await) {
                                match applied {
                                    Ok(_) => inserted.push(name),
                                    Err(error) => assert_eq!(error.kind(), ErrorKind::Conflict, "{error:?}"),
                                }
                            }
                        }
                        inserted
                    }
                })
                .await;
                let all: std::collections::BTreeSet<_> = inserted.iter().flatten().collect();
                assert_eq!(all.len(), ROUNDS * 8, "each key is inserted");
                assert_eq!(inserted.iter().map(Vec::len).sum::<usize>(), ROUNDS * 8, "and only once");
                for (task, names) in inserted.iter().enumerate() {
                    for name in names {
                        assert_eq!(number(&stores[0], name).await, task as u64, "{name}");
                    }
                }
            })
            .case("racing_batches_lose_no_change", |context| async move {
                const KEYS: usize = 20;
                let stores = pair(&context.factory, context.target.space()).await;
                for applied in stores[0].apply((0..KEYS).map(|number| put(number, 0)).collect()).await {
                    drop(applied.unwrap());
                }
                let done = race(6, |task| {
                    let store = stores[task % 2].clone();
                    async move {
                        let (mut added, mut present) = (0, 0);
                        for round in 0..30 {
                            let mut changes = Vec::new();
                            for name in 0..KEYS {
                                let version = store.read(key(name)).await.unwrap().unwrap().version.unwrap();
                                let next = number(&store, name).await + 1;
                                changes.push(put(name, next).on(Condition::At(version)));
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
                                    (Some(("once", _)), Ok(Applied::Put(_))) => present += 1,
                                    (Some(("once", _)), Ok(Applied::Deleted(true))) => present -= 1,
                                    (_, Ok(_)) => {}
                                    (_, Err(error)) => {
                                        assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");
                                    }
                                }
                            }
                        }
                        (added, present)
                    }
                })
                .await;
                let mut total = 0;
                for name in 0..KEYS {
                    total += number(&stores[0], name).await;
                }
                let added: u64 = done.iter().map(|(added, _)| added).sum();
                assert_eq!(total, added, "increments that were acknowledged");
                let once = [0, 1, 2].map(|number| key(format!("once {number}")));
                let found = stores[0].read_many(&once, &ReadOptions::new()).await;
                let found = found.into_iter().filter(|record| record.as_ref().unwrap().is_some()).count();
                let present: i64 = done.iter().map(|(_, present)| present).sum();
                assert_eq!(i64::try_from(found).unwrap(), present, "insertions less deletions");
            })
            .case("batches_over_the_same_keys_do_not_deadlock", |context| async move {
                let stores = pair(&context.factory, context.target.space()).await;
                race(6, |task| {
                    let store = stores[task % 2].clone();
                    async move {
                        let mut names: Vec<usize> = (0..300).collect();
                        // In another order for each task.
                        names.rotate_left(task * 50);
                        if task % 3 == 0 {
                            names.reverse();
                        }
                        for round in 0..8 {
                            let puts = names.iter().map(|name| put(name, round));
                            let mut batches = vec![puts.collect::<Vec<_>>()];
                            let touch = |name| Change::touch(key(name), Expiry::after_secs(60 + round));
                            batches.push(names.iter().map(touch).collect());
                            if round % 2 == task as u64 % 2 {
                                batches.push(names.iter().map(|name| Change::delete(key(name))).collect());
                            }
                            for batch in batches {
                                for applied in store.apply(batch).await {
                                    drop(applied.unwrap());
                                }
                            }
                            if round == task as u64 {
                                store.clear("1").await.unwrap();
                            }
                        }
                    }
                })
                .await;
            })
            .case("a_deadlock_with_another_transaction_is_retried", |context| async move {
                let space = context.target.space();
                let place = context.factory.own_database(space).await;
                let store = place.storage("").await;
                for applied in store.apply(vec![put("a", 1), put("b", 1)]).await {
                    drop(applied.unwrap());
                }
                let watch = context.factory.admin().await;
                for changes in [
                    vec![put("a", 2), put("b", 2)],
                    vec![put("a", 2).on(Condition::Present), Change::touch(key("b"), Expiry::after_secs(60))],
                ] {
                    let admin = place.admin().await;
                    // This transaction has changed many rows, so the server rolls back the other one.
                    let many = "INSERT INTO larder SELECT UUID(), 'x', seq, NULL FROM seq_1_to_2000";
                    let lock = "SELECT * FROM larder WHERE `key` = 'b' FOR UPDATE";
                    admin.run(format!("BEGIN; {many}; {lock}")).await;
                    let crossing = async {
                        watch.until_locked(space, 1).await;
                        admin.run("SELECT * FROM larder WHERE `key` = 'a' FOR UPDATE; ROLLBACK").await;
                    };
                    let before = deadlocks(&watch).await;
                    let (applied, ()) = tokio::join!(store.apply(changes), crossing);
                    assert!(applied.iter().all(Result::is_ok), "{}", summary(&applied));
                    assert!(deadlocks(&watch).await > before, "there was a deadlock");
                }
                holds(&store, "a", Some("2")).await;
                store.close().await.unwrap();
            })
            .case("an_entry_that_the_table_rejects_fails_alone", |context| async move {
                let (place, table) = (&context.factory, context.target.space());
                let store = place.storage(&format!("table={table}")).await;
                let admin = place.admin().await;
                let trigger = |event: &str| {
                    format!(
                        "CREATE TRIGGER `{table}{event}` BEFORE {event} ON `{table}` FOR EACH ROW \
                         IF LENGTH(NEW.value) > 5 THEN \
                         SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'hunter2'; END IF"
                    )
                };
                let triggers = format!("{}; {}", trigger("INSERT"), trigger("UPDATE"));
                let alter = format!("ALTER TABLE `{table}`");
                for (rule, undo) in [
                    (
                        format!("{alter} ADD CONSTRAINT small CHECK (LENGTH(value) < 5)"),
                        format!("{alter} DROP CONSTRAINT small"),
                    ),
                    (triggers, format!("DROP TRIGGER `{table}INSERT`; DROP TRIGGER `{table}UPDATE`")),
                ] {
                    admin.run(rule).await;
                    for applied in store.apply(vec![put("b", 1), put("c", 1), put("d", 1)]).await {
                        drop(applied.unwrap());
                    }
                    for plain in [true, false] {
                        let (good, bad) = (|name| put(name, 2), |name| put(name, "hunter2"));
                        let mut changes = vec![good("a"), bad("b"), good("c"), bad("e"), good("f")];
                        if !plain {
                            changes.push(Change::delete(key("d")));
                        }
                        let applied = store.apply(changes).await;
                        let expected = "w InvalidValue w InvalidValue w d";
                        assert_eq!(
                            summary(&applied),
                            expected.trim_end_matches(if plain { " d" } else { "" })
                        );
                        for error in applied.iter().filter_map(|result| result.as_ref().err()) {
                            assert_eq!(error.outcome(), Outcome::NotApplied);
                            assert!(!format!("{error} {error:?}").contains("hunter2"), "a value is shown");
                        }
                        let expected = [("a", Some("2")), ("b", Some("1")), ("c", Some("2")), ("e", None)];
                        for (name, value) in expected {
                            holds(&store, name, value).await;
                        }
                    }
                    admin.run(undo).await;
                    store.clear("").await.unwrap();
                }
                store.close().await.unwrap();
            })
            .case("a_connection_that_ends_during_a_batch_reports_the_right_outcome", |context| async move {
                const KEYS: u64 = 40;
                let space = context.target.space();
                let place = context.factory.own_database(space).await;
                let store = place.storage("pool_size=2").await;
                // From another database, so that its connections stay.
                let admin = context.factory.admin().await;
                let contents = async || {
                    let sql = format!("SELECT CONCAT(`key`, ':', value) FROM `{space}`.larder");
                    admin.texts(sql, 0).await.into_iter().collect::<std::collections::BTreeSet<_>>()
                };
                let (mut failed, mut applied) = (0, 0);
                for round in 1..=60_u64 {
                    let before = contents().await;
                    let found = |set: &std::collections::BTreeSet<String>, number: u64| {
                        set.range(format!("{number}:")..format!("{number};")).next().cloned()
                    };
                    let changes = (0..KEYS).map(|number| match found(&before, number) {
                        None => put(number, round).on(Condition::Absent),
                        Some(_) if (number + round) % 5 == 0 => Change::delete(key(number)),
                        Some(_) => put(number, round).on(Condition::Present),
                    });
                    // At another moment of the batch in each round.
                    let end = async {
                        tokio::time::sleep(Duration::from_micros(round * 50)).await;
                        admin.end_connections_of(space).await
                    };
                    let (results, _) = tokio::join!(store.apply(changes.collect()), end);
                    let after = contents().await;
                    for (number, result) in (0..KEYS).zip(results) {
                        let changed = found(&after, number) != found(&before, number);
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
                        store.write(key("probe"), "1").await.is_ok()
                    })
                    .await;
                }
                assert!(failed > 0 && applied > 0, "{failed} failed, {applied} were applied");
                store.close().await.unwrap();
            }),
    )
}

async fn deadlocks(admin: &crate::admin::Admin) -> i64 {
    admin.texts("SHOW GLOBAL STATUS LIKE 'Innodb_deadlocks'", 1).await[0].parse().unwrap()
}

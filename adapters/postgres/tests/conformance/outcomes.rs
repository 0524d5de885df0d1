//! The outcome of a change that the server rejected or did not finish.

use std::time::Duration;

use larder_core::{Applied, Bytes, Change, Condition, Error, ErrorKind, Expiry, Key, Outcome, Result, Store};
use larder_testkit::{Suite, until};

use crate::place::Place;

fn key() -> Key {
    Key::new("k").unwrap()
}

/// Every kind of change to [`key`].
fn changes() -> Vec<Change> {
    let put = || Change::put(key(), "\"new\"", Expiry::Never);
    vec![
        put(),
        put().on(Condition::Present),
        Change::delete(key()),
        Change::delete(key()).on(Condition::Present),
        Change::touch(key(), Expiry::after_secs(3600)),
    ]
}

/// The changes fail for this reason and are not applied, each alone and all in one batch.
async fn refuses(storage: &Store, kind: ErrorKind, why: &str) {
    let refused = |result: Result<Applied>| {
        let error = result.expect_err(why);
        assert_eq!(error.kind(), kind, "{why}: {error}");
        assert_eq!(error.outcome(), Outcome::NotApplied, "{why}: {error}");
    };
    for change in changes() {
        for result in storage.apply(vec![change]).await {
            refused(result);
        }
    }
    for result in storage.apply(changes()).await {
        refused(result);
    }
}

async fn holds_old(storage: &Store) {
    let record = storage.read(key()).with_ttl().await.unwrap().unwrap();
    assert_eq!((&record.value[..], record.expiry), (&b"\"old\""[..], Some(Expiry::Never)));
}

async fn old(place: &Place, table: &str) -> Store {
    let storage = place.storage(&format!("table={table}")).await;
    storage.write(key(), Bytes::from_static(b"\"old\"")).await.unwrap();
    storage
}

pub(crate) fn cases(suite: Suite<Place>) -> Suite<Place> {
    suite
        .case("a_cancelled_statement_is_not_applied", |context| async move {
            let (place, table) = (&context.factory, context.target.space());
            let storage = old(place, table).await;
            let admin = place.admin().await;
            for setting in ["statement_timeout", "lock_timeout"] {
                let hasty = place.storage(&format!("table={table}&options=-c%20{setting}%3D50ms")).await;
                admin.run(&format!("BEGIN; SELECT * FROM \"{table}\" FOR UPDATE")).await;
                refuses(&hasty, ErrorKind::Timeout, setting).await;
                admin.run("COMMIT").await;
                holds_old(&storage).await;
                hasty.close().await.unwrap();
            }
            storage.close().await.unwrap();
        })
        .case("a_rejected_change_is_not_applied", |context| async move {
            let (place, table) = (&context.factory, context.target.space());
            let storage = old(place, table).await;
            let read_only = "options=-c%20default_transaction_read_only%3Don&setup=false";
            let read_only = place.storage(&format!("table={table}&{read_only}")).await;
            refuses(&read_only, ErrorKind::Unavailable, "transactions are read-only").await;
            read_only.close().await.unwrap();
            let admin = place.admin().await;
            admin
                .run(&format!(
                    "CREATE FUNCTION \"{table}\"() RETURNS trigger LANGUAGE plpgsql AS \
                     'BEGIN RAISE EXCEPTION ''no''; END'; CREATE TRIGGER refuse BEFORE UPDATE OR DELETE ON \
                     \"{table}\" FOR EACH ROW EXECUTE FUNCTION \"{table}\"()"
                ))
                .await;
            refuses(&storage, ErrorKind::Other, "a trigger raises an exception").await;
            admin.run(&format!("DROP FUNCTION \"{table}\"() CASCADE")).await;
            holds_old(&storage).await;
            storage.close().await.unwrap();
        })
        .case("a_change_on_an_ended_connection_has_an_unknown_outcome", |context| async move {
            let (place, table) = (&context.factory, context.target.space());
            old(place, table).await.close().await.unwrap();
            let application = format!("{table}-ended");
            let storage = place.storage(&format!("table={table}&application_name={application}")).await;
            let (admin, watch) = (place.admin().await, place.admin().await);
            admin.run(&format!("BEGIN; SELECT * FROM \"{table}\" FOR UPDATE")).await;
            let end = async {
                until("the change waits for the lock", Duration::from_secs(10), || async {
                    let sql = "SELECT count(*) FROM pg_stat_activity WHERE application_name = $1 \
                               AND wait_event_type = 'Lock'";
                    watch.count(sql, &[&application]).await == 1
                })
                .await;
                watch.end_connections_of(&application).await;
            };
            let write = storage.write(key(), Bytes::from_static(b"\"new\"")).into_future();
            let (written, _) = futures_util::join!(write, end);
            let error: Error = written.err().unwrap();
            assert_eq!(
                (error.kind(), error.outcome()),
                (ErrorKind::Unavailable, Outcome::Unknown),
                "{error}"
            );
            admin.run("COMMIT").await;
            holds_old(&storage).await;
            storage.close().await.unwrap();
        })
}

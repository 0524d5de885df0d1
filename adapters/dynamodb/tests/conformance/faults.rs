//! A server that is killed or silent.

use std::time::Duration;

use larder_core::{Change, Condition, ErrorKind, Expiry, Outcome, Store};
use larder_test_servers::{Kind, Server};
use larder_testkit::{Context, Fails, Missing, Must, Runner, Suite, Writers, until};

use crate::place::{Place, key, missing};

const PATIENCE: Duration = Duration::from_secs(30);

/// A server for one case, which may kill it.
async fn private(context: &Context<Place>, timeout: &str) -> (Server, Store) {
    let server = Kind::Dynamodb.private().await.must("start a server");
    let store = Place::of(&server, "").store(context.target.space(), &format!("timeout={timeout}")).await;
    (server, store)
}

pub(crate) fn suites(runner: Runner) -> Runner {
    let suite = Suite::connect("dynamodb_faults", || async {
        if std::env::var_os(Kind::Dynamodb.url_variable()).is_some() {
            return Err(Missing::new("the server from the environment is not ours to stop", false));
        }
        Kind::Dynamodb.shared().await.map(|server| Place::of(&server, "")).map_err(missing)
    });
    runner.suite(
        suite
            .without_laws()
            .case("a_restart_between_calls_is_survived", |context| async move {
                let (server, store) = private(&context, "5s").await;
                store.write(key("k"), "before").await.unwrap();
                server.kill().await.unwrap();
                for _ in 0..3 {
                    let down = store.read(key("k")).await.fails(ErrorKind::Unavailable, "the server is down");
                    assert!(down.is_retryable());
                    let down = store.write(key("k"), "x").await.fails(ErrorKind::Unavailable, "it is down");
                    assert!(down.is_retryable());
                }
                // Once the store has noticed that its connections are closed, nothing is sent.
                until("each change is reported as not applied", PATIENCE, || async {
                    let put = |number: u32| Change::put(key(number), "x", Expiry::Never);
                    let changes = (0..60).map(|number| match number % 3 {
                        0 => put(number),
                        1 => put(number).on(Condition::Absent),
                        _ => Change::delete(key("k")),
                    });
                    store.apply(changes.collect()).await.into_iter().all(|result| {
                        result.fails(ErrorKind::Unavailable, "it is down").outcome() == Outcome::NotApplied
                    })
                })
                .await;
                server.start().await.unwrap();
                until("it works again by itself", PATIENCE, || async {
                    match store.read(key("k")).await {
                        Ok(record) => record.unwrap().value == "before",
                        Err(error) => {
                            assert!(error.is_retryable(), "{error:?}");
                            false
                        }
                    }
                })
                .await;
                store.write(key("k"), "after").await.unwrap();
                assert!(!store.contains(key("0")).await.unwrap());
            })
            .case("a_kill_under_load_loses_no_acknowledged_write", |context| async move {
                let (server, store) = private(&context, "5s").await;
                let kill = || async { server.kill().await.must("kill the server") };
                let start = || async { server.start().await.must("start the server") };
                Writers::start(store, 8).kill_and_restart(2, 10, kill, start).await;
            })
            .case("a_silent_server_is_a_timeout", |context| async move {
                let (server, store) = private(&context, "500ms").await;
                store.write(key("k"), "x").await.unwrap();
                server.pause().await.unwrap();
                store.read(key("k")).await.fails(ErrorKind::Timeout, "nothing answers");
                let error = store.write(key("k"), "y").await.fails(ErrorKind::Timeout, "nothing answers");
                assert_eq!(error.outcome(), Outcome::Unknown);
                server.resume().await.unwrap();
                until("it works again by itself", PATIENCE, || async {
                    store.write(key("k"), "z").await.is_ok()
                })
                .await;
            }),
    )
}

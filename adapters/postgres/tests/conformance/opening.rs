//! Opening: names, set-up, permissions, and errors.

use std::time::Duration;

use futures_util::TryStreamExt;
use larder_core::{Bytes, Error, ErrorKind, Expiry, Key};
use larder_postgres::Config;
use larder_testkit::{Fails, Runner};

use crate::{
    admin::Admin,
    place::{Place, suite, with_options},
};

const PASSWORD: &str = "hunter2-wrong";

/// Checks that an error and its forms contain neither password.
fn prints_no_secret(error: &Error, place: &Place) {
    let chain = std::error::Error::source(error).map(ToString::to_string).unwrap_or_default();
    let shown = format!("{error} {error:?} {chain}");
    for secret in [PASSWORD, larder_test_servers::PASSWORD] {
        assert!(!shown.contains(secret), "a password is shown");
    }
    assert!(!shown.contains(place.bare_url()), "the URL is shown");
}

async fn refused(url: &str, kind: ErrorKind, why: &str, place: &Place) -> Error {
    let opening = tokio::time::timeout(Duration::from_secs(20), larder_postgres::connect(url));
    let error = opening.await.expect("no hanging").fails(kind, why);
    prints_no_secret(&error, place);
    assert_eq!(error.adapter(), Some("postgres"));
    error
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

fn encoded(name: &str) -> String {
    name.bytes().map(|byte| format!("%{byte:02x}")).collect()
}

pub(crate) fn suites(runner: Runner) -> Runner {
    let suite = suite("postgres_opening", "").without_laws();
    runner.suite(
        suite
            .case("a_table_can_have_any_name", |context| async move {
                let space = context.target.space().to_owned();
                let admin = context.factory.admin().await;
                let key = Key::new("k").unwrap();
                for odd in ["we\"ird; drop table x --", "Ünïcødé 名前", "UPPER case", "a'b%s\\", "v1.sessions"] {
                    let (schema, table) = (format!("{odd}{space}"), format!("{space}{odd}"));
                    for layout in ["larder", "grammy"] {
                        let table = format!("{table}{layout}");
                        let names = format!("schema={}&table={}", encoded(&schema), encoded(&table));
                        let url = format!("{names}&layout={layout}");
                        let storage = context.factory.storage(&url).await;
                        storage.write(&key, Bytes::from_static(b"1")).await.unwrap();
                        assert_eq!(storage.clear("").await.unwrap(), 1);
                        storage.write(&key, Bytes::from_static(b"1")).await.unwrap();
                        storage.close().await.unwrap();
                        let sql = format!("SELECT count(*) FROM {}.{}", quoted(&schema), quoted(&table));
                        assert_eq!(admin.count(&sql, &[]).await, 1, "{odd}");
                    }
                    admin.run(&format!("DROP SCHEMA {} CASCADE", quoted(&schema))).await;
                }
            })
            .case("a_dot_separates_the_schema", |context| async move {
                let space = context.target.space().to_owned();
                let storage = context.factory.storage(&format!("table={space}s.sessions")).await;
                storage.close().await.unwrap();
                context.factory.admin().await.run(&format!("DROP TABLE \"{space}s\".sessions; DROP SCHEMA \"{space}s\"")).await;
            })
            .case("ten_simultaneous_set_ups_succeed", |context| async move {
                for layout in ["larder", "grammy"] {
                    let space = format!("{}{layout}", context.target.space());
                    let options = format!("schema={space}&layout={layout}&pool_size=1");
                    let opened = futures_util::future::join_all((0..10).map(|_| {
                        let builder = context.factory.builder(&options);
                        tokio::spawn(async move { builder.connect().await })
                    }))
                    .await;
                    for storage in opened {
                        storage.unwrap().unwrap().close().await.unwrap();
                    }
                    context.factory.admin().await.run(&format!("DROP SCHEMA \"{space}\" CASCADE")).await;
                }
            })
            .case("set_up_succeeds_beside_another_creation_of_the_table", |context| async move {
                // A program that does not use Larder's lock.
                for round in 0..5 {
                    let table = format!("{}x{round}", context.target.space());
                    let builder = context.factory.builder(&format!("table={table}&pool_size=1"));
                    let sql = builder.setup_sql();
                    let admin = context.factory.admin().await;
                    let (storage, _) =
                        futures_util::join!(builder.connect(), admin.client.batch_execute(&sql));
                    storage.unwrap().close().await.unwrap();
                    admin.run(&format!("DROP TABLE \"{table}\"")).await;
                }
            })
            .case("a_wrong_password_is_an_error", |context| async move {
                let place = &context.factory;
                let url = place.bare_url().replace(larder_test_servers::PASSWORD, PASSWORD);
                assert!(url.contains(PASSWORD));
                refused(&url, ErrorKind::PermissionDenied, "wrong password", place).await;
            })
            .case("an_unknown_host_port_or_database_is_an_error", |context| async move {
                let place = &context.factory;
                let at = |host: &str, database: &str| format!("postgres://larder:{PASSWORD}@{host}/{database}");
                let kind = ErrorKind::Unavailable;
                refused(&at("no-such-host.invalid", "x"), kind, "unknown host", place).await;
                // Nothing listens on port 1.
                let error = refused(&at("127.0.0.1:1", "x"), kind, "refused port", place).await;
                assert!(error.is_retryable());
                let url = place.bare_url().rsplit_once('/').map(|(head, _)| format!("{head}/no-such-db")).unwrap();
                refused(&url, ErrorKind::InvalidConfig, "unknown database", place).await;
            })
            .case("a_silent_server_is_a_timeout", |context| async move {
                let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
                let port = listener.local_addr().unwrap().port();
                let url = format!("postgres://u:{PASSWORD}@127.0.0.1:{port}/x?connect_timeout=300ms");
                refused(&url, ErrorKind::Timeout, "no answer", &context.factory).await;
            })
            .case("the_first_reachable_host_is_used", |context| async move {
                // Only the second one is reachable.
                let url = context.factory.bare_url().replacen("@127.0.0.1", "@127.0.0.1:1,127.0.0.1", 1);
                let table = context.target.space();
                let url = with_options(&url, &format!("table={table}&target_session_attrs=read-write"));
                larder_postgres::connect(&url).await.unwrap().close().await.unwrap();
            })
            .case("an_error_of_the_shape_names_the_column", |context| async move {
                let table = context.target.space().to_owned();
                let admin = context.factory.admin().await;
                let good = "key text COLLATE \"C\" PRIMARY KEY, value bytea NOT NULL, version bigint NOT NULL, \
                            expires_at timestamptz";
                for (columns, options, named) in [
                    (good.replace("version bigint NOT NULL, ", ""), "", "`version`"),
                    (good.replace("bytea", "text"), "", "`value`"),
                    (good.to_owned(), "values=jsonb", "`value`"),
                    (good.replace("timestamptz", "timestamp"), "", "`expires_at`"),
                    (good.replace("COLLATE \"C\" ", ""), "", "`key`"),
                    (good.replace("PRIMARY KEY", "NOT NULL"), "", "`key`"),
                    (format!("{good}, owner text NOT NULL"), "", "`owner`"),
                    (good.to_owned(), "layout=grammy", "`value`"),
                ] {
                    admin.run(&format!("DROP TABLE IF EXISTS \"{table}\"; CREATE TABLE \"{table}\" ({columns})")).await;
                    let url = context.factory.url(&format!("table={table}&{options}"));
                    let error = refused(url.trim_end_matches('&'), ErrorKind::InvalidConfig, named, &context.factory).await;
                    assert!(error.message().contains(named), "{error}");
                }
                admin.run(&format!("DROP TABLE \"{table}\"; CREATE VIEW \"{table}\" AS SELECT 1 AS key")).await;
                let url = context.factory.url(&format!("table={table}"));
                refused(&url, ErrorKind::InvalidConfig, "a view", &context.factory).await;
                admin.run(&format!("DROP VIEW \"{table}\"")).await;
                // Further optional columns are accepted.
                admin.run(&format!("CREATE TABLE \"{table}\" ({good}, note text, at timestamptz NOT NULL DEFAULT now())")).await;
                let storage = context.factory.storage(&format!("table={table}")).await;
                storage.write(Key::new("k").unwrap(), Bytes::new()).await.unwrap();
                storage.close().await.unwrap();
            })
            .case("an_encoding_that_cannot_hold_every_key_is_rejected", |context| async move {
                let admin = context.factory.admin().await;
                let at = |database: &str| {
                    let (server, _) = context.factory.bare_url().rsplit_once('/').unwrap();
                    format!("{server}/{database}")
                };
                for encoding in ["LATIN1", "EUC_JP", "SQL_ASCII", "UTF8"] {
                    let database = format!("{}{}", context.target.space(), encoding.to_ascii_lowercase());
                    admin
                        .run(&format!(
                            "CREATE DATABASE \"{database}\" ENCODING '{encoding}' TEMPLATE template0 \
                             LC_COLLATE 'C' LC_CTYPE 'C'"
                        ))
                        .await;
                    if ["LATIN1", "EUC_JP"].contains(&encoding) {
                        for options in ["", "?layout=grammy", "?setup=false", "?values=json"] {
                            let url = format!("{}{options}", at(&database));
                            let error =
                                refused(&url, ErrorKind::InvalidConfig, encoding, &context.factory).await;
                            assert!(error.message().contains(encoding), "{error}");
                            assert!(error.message().contains("UTF8"), "{error}");
                        }
                    } else {
                        let storage = larder_postgres::connect(&at(&database)).await.unwrap();
                        for name in ["Ünï cødé", "名前", "😀"] {
                            let (key, value) = (Key::new(name).unwrap(), Bytes::from(name.to_owned()));
                            storage.write(&key, value.clone()).await.unwrap();
                            assert_eq!(storage.read(&key).await.unwrap().unwrap().value, value);
                            let first = name.chars().next().unwrap().to_string();
                            let found: Vec<Key> = storage.keys(&first).try_collect().await.unwrap();
                            assert_eq!(found, [key]);
                        }
                        // A clear keeps the rows with invalid keys, and a listing reports them.
                        let owner = Admin::connect(&at(&database)).await;
                        let (not_utf8, left) = if encoding == "UTF8" { ("", 4) } else { (r"(E'\xff'),", 5) };
                        owner
                            .run(&format!(
                                "INSERT INTO larder (key, value, version) SELECT key, 'x', 1 FROM (VALUES (''), \
                                 (E'a\\nb'), {not_utf8} (E'\\xc2\\x85'), (repeat('x', 513)), (repeat('x', 512))) \
                                 AS given (key)"
                            ))
                            .await;
                        assert_eq!(storage.clear("").await.unwrap(), 4, "{encoding}");
                        assert_eq!(owner.count("SELECT count(*) FROM larder", &[]).await, left, "{encoding}");
                        drop(owner);
                        storage.close().await.unwrap();
                    }
                    admin.run(&format!("DROP DATABASE \"{database}\" WITH (FORCE)")).await;
                }
            })
            .case("a_missing_table_without_set_up_is_an_error", |context| async move {
                let table = context.target.space();
                let storage = context.factory.storage(&format!("table={table}&setup=false")).await;
                let error = storage
                    .read(Key::new("k").unwrap())
                    .await
                    .fails(ErrorKind::InvalidConfig, "there is no table");
                assert!(error.message().contains("setup_sql"), "{error}");
                context.factory.admin().await.run(&context.factory.builder(&format!("table={table}")).setup_sql()).await;
                storage.read(Key::new("k").unwrap()).await.unwrap();
                storage.close().await.unwrap();
            })
            .case("a_missing_permission_to_create_is_an_error", |context| async move {
                let space = context.target.space().to_owned();
                let (role, schema) = (format!("{space}r"), format!("{space}s"));
                let admin = context.factory.admin().await;
                admin.run(&format!("CREATE ROLE \"{role}\" LOGIN PASSWORD '{PASSWORD}'; CREATE SCHEMA \"{schema}\"; GRANT USAGE ON SCHEMA \"{schema}\" TO \"{role}\"")).await;
                let (_, host) = context.factory.bare_url().split_once('@').unwrap();
                let url = format!("postgres://{role}:{PASSWORD}@{host}");
                let at = |options: &str| with_options(&url, options);
                let error = refused(&at(&format!("schema={schema}")), ErrorKind::PermissionDenied, "may not create", &context.factory).await;
                assert!(error.message().contains("setup_sql") && error.message().contains("setup=false"), "{error}");
                refused(&at(&format!("schema={schema}2")), ErrorKind::PermissionDenied, "may not create the schema", &context.factory).await;

                // The remedy: another user runs the SQL.
                let builder = Config::from_url(&at(&format!("schema={schema}"))).unwrap();
                admin.run(&builder.setup_sql()).await;
                let error = refused(&at(&format!("schema={schema}")), ErrorKind::PermissionDenied, "nothing was granted", &context.factory).await;
                assert!(error.message().contains("GRANT"), "{error}");
                let storage = larder_postgres::connect(&at(&format!("schema={schema}&setup=false"))).await.unwrap();
                let key = Key::new("k").unwrap();
                drop(storage.read(&key).await.fails(ErrorKind::PermissionDenied, "nothing was granted"));
                admin.run(&format!("GRANT SELECT, INSERT, UPDATE, DELETE ON \"{schema}\".larder TO \"{role}\"")).await;
                storage.write(&key, Bytes::from_static(b"x")).expiry(Expiry::after_secs(9)).await.unwrap();
                storage.close().await.unwrap();

                // Also with set-up: an existing table needs no permission to create one.
                let storage = builder.connect().await.unwrap();
                assert!(storage.contains(&key).await.unwrap());
                assert_eq!(storage.clear("").await.unwrap(), 1);
                assert_eq!(storage.purge_expired().await.unwrap(), 0);
                storage.close().await.unwrap();
                admin.run(&format!("DROP SCHEMA \"{schema}\" CASCADE; DROP ROLE \"{role}\"")).await;
            }),
    )
}

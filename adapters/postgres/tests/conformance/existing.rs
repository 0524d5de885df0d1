//! Opening an existing table only, and rejecting tables of other programs.

use std::time::Duration;

use larder_core::{Bytes, ErrorKind, Expiry, Key, Store};
use larder_postgres::Config;
use larder_testkit::{Fails, Runner, Suite, until};

use crate::{
    admin::Admin,
    place::{Place, suite, with_options},
};

/// Every relation, index, column and schema whose name begins with `space`, as text.
async fn inventory(admin: &Admin, space: &str) -> String {
    let sql = format!(
        "SELECT coalesce(string_agg(item, '; ' ORDER BY item), '') FROM ( \
         SELECT concat_ws(' ', n.nspname, c.relname, c.relkind, a.attname, a.atttypid) FROM pg_class AS c \
         JOIN pg_namespace AS n ON n.oid = c.relnamespace \
         LEFT JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped \
         WHERE c.oid IN (SELECT oid FROM pg_class WHERE starts_with(relname, '{space}') UNION \
         SELECT indexrelid FROM pg_index AS i JOIN pg_class AS t ON t.oid = i.indrelid \
         WHERE starts_with(t.relname, '{space}')) OR starts_with(n.nspname, '{space}') \
         UNION ALL SELECT 'schema ' || nspname FROM pg_namespace WHERE starts_with(nspname, '{space}') \
         ) AS items (item)"
    );
    admin.text(&sql).await.unwrap_or_default()
}

/// Tables of other programs, by their columns.
const FOREIGN: [&str; 4] = [
    "id bigint PRIMARY KEY, expires_at timestamptz, name text",
    "key text COLLATE \"C\" PRIMARY KEY, value bytea NOT NULL, expires_at timestamptz",
    "key text NOT NULL, value integer",
    "key integer PRIMARY KEY, value text, expires_at timestamptz NOT NULL",
];

/// Opens the existing table at `url`.
async fn existing(url: &str) -> larder_core::Result<Store> {
    Config::from_url(url)?.existing().connect().await
}

async fn refused_and_unchanged(place: &Place, admin: &Admin, space: &str, options: &str) -> String {
    let before = inventory(admin, space).await;
    let opened = place.builder(options).connect().await;
    let message = opened.fails(ErrorKind::InvalidConfig, options).message().to_owned();
    let opened = place.builder(options).existing().connect().await;
    assert_eq!(opened.fails(ErrorKind::InvalidConfig, options).message(), message);
    assert_eq!(inventory(admin, space).await, before, "{options}: something was made");
    message
}

pub(crate) fn suites(runner: Runner) -> Runner {
    runner.suite(looking(suite("postgres_existing", "").without_laws()))
}

fn looking(suite: Suite<Place>) -> Suite<Place> {
    suite
        .case("existing_mode_creates_nothing_and_names_the_missing_table", |context| async move {
            let space = context.target.space().to_owned();
            let admin = context.factory.admin().await;
            for layout in ["larder", "grammy"] {
                for (options, named) in [
                    (format!("table={space}typo"), format!("table \"{space}typo\" does not exist")),
                    (format!("schema={space}typo"), format!("schema \"{space}typo\" does not exist")),
                    (format!("table={space}.typo"), format!("schema \"{space}\" does not exist")),
                    (format!("schema=public&table={space}typo"), format!("\"public\".\"{space}typo\"")),
                ] {
                    for setup in ["", "&setup=false"] {
                        let options = format!("{options}&layout={layout}{setup}");
                        let error = context
                            .factory
                            .builder(&options)
                            .existing()
                            .connect()
                            .await
                            .fails(ErrorKind::InvalidConfig, &options);
                        assert!(error.message().contains(&named), "{options}: {error}");
                        assert_eq!(inventory(&admin, &space).await, "", "{options}");
                    }
                }
            }
        })
        .case("existing_mode_needs_only_select", |context| async move {
            const PASSWORD: &str = "reads-only";
            let space = context.target.space().to_owned();
            let (role, schema) = (format!("{space}r"), format!("{space}s"));
            let admin = context.factory.admin().await;
            let key = Key::new("k").unwrap();
            for layout in ["larder", "grammy"] {
                let options = format!("schema={schema}&table={layout}&layout={layout}");
                let storage = context.factory.storage(&options).await;
                storage.write(&key, Bytes::from_static(b"1")).await.unwrap();
                storage.close().await.unwrap();
            }
            admin
                .run(&format!(
                    "CREATE ROLE \"{role}\" LOGIN PASSWORD '{PASSWORD}'; \
                     GRANT USAGE ON SCHEMA \"{schema}\" TO \"{role}\"; \
                     GRANT SELECT ON ALL TABLES IN SCHEMA \"{schema}\" TO \"{role}\""
                ))
                .await;
            let (_, host) = context.factory.bare_url().split_once('@').unwrap();
            for layout in ["larder", "grammy"] {
                let options = format!("schema={schema}&table={layout}&layout={layout}");
                let url = with_options(&format!("postgres://{role}:{PASSWORD}@{host}"), &options);
                let storage = existing(&url).await.unwrap();
                assert_eq!(&storage.read(&key).await.unwrap().unwrap().value[..], b"1");
                let written = storage.write(&key, Bytes::from_static(b"2")).await;
                drop(written.fails(ErrorKind::PermissionDenied, "SELECT does not let anyone write"));
                storage.close().await.unwrap();
            }
            admin.run(&format!("REVOKE SELECT ON ALL TABLES IN SCHEMA \"{schema}\" FROM \"{role}\"")).await;
            let url = with_options(
                &format!("postgres://{role}:{PASSWORD}@{host}"),
                &format!("schema={schema}&table=larder"),
            );
            let error = existing(&url).await.fails(ErrorKind::PermissionDenied, "no SELECT");
            assert!(error.message().contains("SELECT") && !error.message().contains("INSERT"), "{error}");
            admin.run(&format!("DROP SCHEMA \"{schema}\" CASCADE; DROP ROLE \"{role}\"")).await;
        })
        .case("existing_mode_reads_and_writes_but_never_sweeps", |context| async move {
            let table = context.target.space().to_owned();
            let options = format!("table={table}&sweep=20ms");
            let (old, new) = (table.clone(), format!("{table}-swept"));
            let admin = context.factory.admin().await;
            for table in [&old, &new] {
                context.factory.storage(&format!("table={table}")).await.close().await.unwrap();
                admin
                    .run(&format!("INSERT INTO \"{table}\" VALUES ('old', 'x', 1, now() - interval '1 s')"))
                    .await;
            }
            let storage = context.factory.builder(&options).existing().connect().await.unwrap();
            let key = Key::new("k").unwrap();
            storage.write(&key, Bytes::from_static(b"1")).await.unwrap();
            assert!(storage.touch(&key, Expiry::after_secs(60)).await.unwrap());
            assert_eq!(&storage.read(&key).await.unwrap().unwrap().value[..], b"1");
            assert!(storage.delete(&key).await.unwrap());
            // This storage would have swept by the time another one has swept its own table many times.
            let sweeping = context.factory.storage(&format!("table={new}&sweep=20ms")).await;
            for round in 0..10 {
                until("the other table is swept", Duration::from_secs(10), || async {
                    drop(sweeping.read(&key).await.unwrap());
                    drop(storage.read(&key).await.unwrap());
                    admin.count(&format!("SELECT count(*) FROM \"{new}\""), &[]).await == 0
                })
                .await;
                let sql = format!("INSERT INTO \"{new}\" VALUES ('{round}', 'x', 1, now() - interval '1 s')");
                admin.run(&sql).await;
            }
            assert_eq!(admin.count(&format!("SELECT count(*) FROM \"{old}\""), &[]).await, 1);
            sweeping.close().await.unwrap();
            storage.close().await.unwrap();
            admin.run(&format!("DROP TABLE \"{old}\", \"{new}\"")).await;
        })
        .case("foreign_tables_are_rejected_and_unchanged", |context| async move {
            let space = context.target.space().to_owned();
            let admin = context.factory.admin().await;
            for columns in FOREIGN {
                let sql =
                    format!("CREATE TABLE \"{space}\" ({columns}); INSERT INTO \"{space}\" DEFAULT VALUES");
                drop(admin.client.batch_execute(&sql).await);
                admin.run(&format!("CREATE TABLE IF NOT EXISTS \"{space}\" ({columns})")).await;
                for layout in ["larder", "grammy"] {
                    let options = format!("table={space}&layout={layout}");
                    let message = refused_and_unchanged(&context.factory, &admin, &space, &options).await;
                    // The error names the columns.
                    for column in columns.split(", ").filter_map(|column| column.split(' ').next()) {
                        assert!(message.contains(column), "{columns}: {message}");
                    }
                }
                admin.run(&format!("DROP TABLE \"{space}\"")).await;
            }
        })
        .case("another_layout_is_named_in_the_error", |context| async move {
            let space = context.target.space().to_owned();
            let admin = context.factory.admin().await;
            for (made, opened, named) in [
                ("layout=grammy", "layout=larder", "`layout=grammy`"),
                ("layout=grammy", "values=text", "`layout=grammy`"),
                ("layout=larder", "layout=grammy", "without `layout=grammy`"),
                ("values=text", "layout=grammy", "without `layout=grammy`"),
                ("values=jsonb", "values=bytes", "`values=jsonb`"),
                ("values=bytes", "values=json", "`values=bytes`"),
            ] {
                let storage = context.factory.storage(&format!("table={space}&{made}")).await;
                let key = Key::new("k").unwrap();
                storage.write(&key, Bytes::from_static(b"1")).await.unwrap();
                storage.close().await.unwrap();
                let options = format!("table={space}&{opened}");
                let message = refused_and_unchanged(&context.factory, &admin, &space, &options).await;
                assert!(message.contains(named), "{made} opened as {opened}: {message}");
                admin.run(&format!("DROP TABLE \"{space}\"")).await;
            }
        })
        .case("set_up_does_not_change_a_table_that_appears_during_it", |context| async move {
            // Another program creates a table of that name while the set-up waits to create its own.
            let space = context.target.space().to_owned();
            let application = format!("{space}-waits");
            let (admin, watch) = (context.factory.admin().await, context.factory.admin().await);
            for (layout, columns) in
                [("larder", "id bigint, expires_at timestamptz"), ("grammy", "key text, value integer")]
            {
                // The first set-up waits for the name, which an open transaction has taken;
                // the second one waits for the first. Both have seen that the table is missing.
                admin.run(&format!("BEGIN; CREATE TABLE \"{space}\" ({columns})")).await;
                let options = format!("table={space}&layout={layout}&application_name={application}");
                let openings = [(); 2].map(|()| tokio::spawn(context.factory.builder(&options).connect()));
                until("both set-ups wait", Duration::from_secs(10), || async {
                    let sql = "SELECT count(*) FROM pg_stat_activity WHERE application_name = $1 \
                               AND wait_event_type = 'Lock'";
                    watch.count(sql, &[&application]).await == 2
                })
                .await;
                let before = inventory(&admin, &space).await;
                admin.run("COMMIT").await;
                for opening in openings {
                    drop(opening.await.unwrap().fails(ErrorKind::InvalidConfig, layout));
                }
                assert_eq!(inventory(&admin, &space).await, before, "{layout}");
                admin.run(&format!("DROP TABLE \"{space}\"")).await;
            }
        })
}

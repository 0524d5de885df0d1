//! Opening an existing table only, and rejecting tables of other programs.

use larder_core::{ErrorKind, Expiry};
use larder_testkit::{Fails, Runner};

use crate::{
    opening::create_user,
    place::{holds, key, refused, suite},
};

/// The columns of Larder's table.
const COLUMNS: &str = "`key` VARBINARY(512) NOT NULL PRIMARY KEY, value LONGBLOB NOT NULL, \
     version BIGINT NOT NULL, expires_at BIGINT";

pub(crate) fn suites(runner: Runner) -> Runner {
    runner.suite(
        suite("mariadb_existing", "")
            .without_laws()
            .case("existing_mode_creates_nothing_and_names_the_missing_table", |context| async move {
                let (place, table) = (&context.factory, context.target.space());
                for setup in ["", "&setup=false", "&setup=true"] {
                    let config = place.builder(&format!("table={table}{setup}")).existing();
                    let error = refused(config, ErrorKind::InvalidConfig, "it is missing").await;
                    assert!(error.message().contains(&format!("`{table}` does not exist")), "{error}");
                }
                let sql = format!("SHOW TABLES LIKE '{table}%'");
                assert!(place.admin().await.rows(sql).await.is_empty());
            })
            .case("existing_mode_needs_only_select", |context| async move {
                let space = context.target.space();
                let place = context.factory.own_database(space).await;
                let storage = place.storage("").await;
                storage.write(key("k"), "1").await.unwrap();
                let admin = place.admin().await;
                create_user(&place, space).await;
                admin.run(format!("GRANT SELECT ON `{space}`.larder TO `{space}`@'%'")).await;
                let reader = place.user(space).builder("").existing().connect().await.unwrap();
                holds(&reader, "k", Some("1")).await;
                let error = reader.write(key("k"), "2").await;
                let error = error.fails(ErrorKind::PermissionDenied, "SELECT does not let it write");
                assert!(error.message().contains("GRANT"), "{error}");
                reader.close().await.unwrap();
                admin.run(format!("DROP USER `{space}`@'%'")).await;
            })
            .case("existing_mode_reads_and_writes_but_never_sweeps", |context| async move {
                let (place, table) = (&context.factory, context.target.space());
                let options = format!("table={table}&sweep=20ms");
                let swept = context.target.beside("swept");
                let admin = place.admin().await;
                let expired = |table: &str| format!("INSERT INTO `{table}` VALUES ('old', 'x', 1, 1)");
                place.storage(&format!("table={table}&sweep=off")).await.close().await.unwrap();
                admin.run(expired(table)).await;
                let storage = place.builder(&options).existing().connect().await.unwrap();
                storage.write(key("k"), "1").await.unwrap();
                assert!(storage.touch(key("k"), Expiry::after_secs(60)).await.unwrap());
                holds(&storage, "k", Some("1")).await;
                assert!(storage.delete(key("k")).await.unwrap());
                // This storage would have swept by the time another one has swept its own table many times.
                let sweeping = place.storage(&format!("table={}&sweep=20ms", swept.space())).await;
                for _ in 0..10 {
                    admin.run(expired(swept.space())).await;
                    let limit = std::time::Duration::from_secs(10);
                    larder_testkit::until("the other table is swept", limit, || async {
                        drop(storage.read(key("k")).await.unwrap());
                        admin.number(format!("SELECT COUNT(*) FROM `{}`", swept.space())).await == 0
                    })
                    .await;
                }
                assert_eq!(admin.number(format!("SELECT COUNT(*) FROM `{table}`")).await, 1);
                sweeping.close().await.unwrap();
                admin.run(format!("DROP TABLE `{}`", swept.space())).await;
            })
            .case("tables_of_other_programs_are_rejected_and_unchanged", |context| async move {
                let (place, table) = (&context.factory, context.target.space());
                let admin = place.admin().await;
                let inventory = async || {
                    let rows = admin.texts(format!("SELECT * FROM `{table}`"), 0).await;
                    (admin.texts(format!("SHOW CREATE TABLE `{table}`"), 1).await, rows)
                };
                let with = |old: &str, new: &str| COLUMNS.replacen(old, new, 1);
                for (columns, options, named) in [
                    ("id INT PRIMARY KEY, name TEXT".to_owned(), "", "`key`"),
                    (with("version BIGINT NOT NULL, ", ""), "", "`version`"),
                    (with(", expires_at BIGINT", ""), "", "`expires_at`"),
                    (with("VARBINARY(512)", "VARCHAR(512)"), "", "`key` is varchar(512)"),
                    (with("VARBINARY(512)", "VARBINARY(511)"), "", "`key` is varbinary(511)"),
                    (with("VARBINARY(512)", "BINARY(255)"), "", "`key` is binary(255)"),
                    (with("LONGBLOB", "BLOB"), "", "`value` is blob"),
                    (with("LONGBLOB", "LONGTEXT"), "", "values=json"),
                    (COLUMNS.to_owned(), "values=json", "values=bytes"),
                    (with("LONGBLOB", "LONGTEXT CHARACTER SET latin1"), "values=json", "utf8mb4"),
                    (with("version BIGINT", "version BIGINT UNSIGNED"), "", "`version`"),
                    (with("expires_at BIGINT", "expires_at DATETIME"), "", "`expires_at` is datetime"),
                    (format!("{COLUMNS} NOT NULL"), "", "`expires_at`"),
                    (with(" PRIMARY KEY", ""), "", "primary key"),
                    (with("PRIMARY KEY", "UNIQUE, id INT AUTO_INCREMENT PRIMARY KEY"), "", "primary key"),
                    (with(" PRIMARY KEY", "") + ", PRIMARY KEY (`key`, version)", "", "primary key"),
                    (with(" PRIMARY KEY", "") + ", PRIMARY KEY (`key`(100))", "", "primary key"),
                    (format!("{COLUMNS}, owner INT NOT NULL"), "", "`owner`"),
                    (format!("{COLUMNS}, user_id INT, UNIQUE (user_id)"), "", "unique"),
                    (format!("{COLUMNS}, INDEX (expires_at)) ENGINE = MyISAM"), "", "InnoDB"),
                ] {
                    let end = if columns.contains("ENGINE") { "" } else { ")" };
                    admin.run(format!("CREATE TABLE `{table}` ({columns}{end}")).await;
                    drop(admin.try_rows(format!("INSERT INTO `{table}` () VALUES ()")).await);
                    let before = inventory().await;
                    let config = place.builder(&format!("table={table}&{options}"));
                    let error = refused(config.clone(), ErrorKind::InvalidConfig, &columns).await;
                    assert!(error.message().contains(named), "{columns}: {error}");
                    let existing = refused(config.existing(), ErrorKind::InvalidConfig, &columns).await;
                    assert_eq!(existing.message(), error.message());
                    assert_eq!(inventory().await, before, "{columns}");
                    admin.run(format!("DROP TABLE `{table}`")).await;
                }
                admin.run(format!("CREATE VIEW `{table}` AS SELECT 1 AS `key`")).await;
                refused(place.builder(&format!("table={table}")), ErrorKind::InvalidConfig, "a view").await;
                admin.run(format!("DROP VIEW `{table}`")).await;
            })
            .case(
                "a_table_without_an_index_for_the_sweeper_is_only_for_existing_mode",
                |context| async move {
                    let (place, table) = (&context.factory, context.target.space());
                    place.admin().await.run(format!("CREATE TABLE `{table}` ({COLUMNS})")).await;
                    let config = place.builder(&format!("table={table}"));
                    let error = refused(config.clone(), ErrorKind::InvalidConfig, "no index").await;
                    assert!(error.message().contains("`expires_at`"), "{error}");
                    let storage = config.existing().connect().await.unwrap();
                    storage.write(key("k"), "1").await.unwrap();
                },
            )
            .case("further_optional_columns_are_accepted", |context| async move {
                let (place, table) = (&context.factory, context.target.space());
                let more = "note TEXT, at DATETIME NOT NULL DEFAULT CURRENT_TIMESTAMP, \
                            id INT NOT NULL AUTO_INCREMENT, INDEX (id), size INT AS (LENGTH(value)), \
                            INDEX (expires_at)";
                let columns = COLUMNS.replace("`key`", "`KEY`");
                let sql = format!("CREATE TABLE `{table}` (first TEXT, {columns}, {more})");
                place.admin().await.run(sql).await;
                let storage = place.storage(&format!("table={table}")).await;
                for (name, value) in [("a", "1"), ("b", "2"), ("a", "3")] {
                    storage.write(key(name), value).await.unwrap();
                    holds(&storage, name, Some(value)).await;
                }
                assert_eq!(storage.clear("").await.unwrap(), 2);
                storage.close().await.unwrap();
            }),
    )
}

//! The tables of options in the documents match the code.
//!
//! A table stands between two comments: `<!-- options of NAME -->` and `<!-- end of options -->`. After an option has
//! changed, update the tables with `LARDER_UPDATE_TABLES=1 cargo test -p larder-docs-tests --test options`.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::{env, fmt::Write, fs, path::Path};

use larder_kit::OptionInfo;

/// The tables, by name.
const TABLES: &[(&str, &[OptionInfo])] = &[
    ("memory", larder::memory::Config::OPTIONS),
    ("directory", larder::file::Config::OPTIONS),
    ("snapshot", larder::file::SnapshotConfig::OPTIONS),
    ("sqlite", larder::sqlite::Config::OPTIONS),
    ("postgres", larder::postgres::Config::OPTIONS),
    ("mysql", larder::mysql::Config::OPTIONS),
    ("redis", larder::redis::Config::OPTIONS),
    ("mongodb", larder::mongodb::Config::OPTIONS),
    ("dynamodb", larder::dynamodb::Config::OPTIONS),
];

/// The documents, and the number of tables in each.
const DOCUMENTS: &[(&str, usize)] = &[
    ("larder/URLS.md", 9),
    ("adapters/memory/README.md", 1),
    ("adapters/sqlite/README.md", 1),
    ("adapters/postgres/README.md", 1),
    ("adapters/mysql/README.md", 1),
    ("adapters/redis/README.md", 1),
    ("adapters/file/README.md", 2),
    ("adapters/mongodb/README.md", 1),
    ("adapters/dynamodb/README.md", 1),
];

const END: &str = "<!-- end of options -->";

fn table(name: &str) -> String {
    let (_, options) = TABLES.iter().find(|(table, _)| *table == name).unwrap();
    let mut table = "| option | default | meaning |\n|---|---|---|\n".to_owned();
    for option in *options {
        writeln!(table, "{option}").unwrap();
    }
    table
}

/// The document with updated tables, and the number of tables.
fn with_tables(text: &str) -> (String, usize) {
    let mut parts = text.split("<!-- options of ");
    let mut written = parts.next().unwrap().to_owned();
    let mut count = 0;
    for part in parts {
        let (name, rest) = part.split_once(" -->").unwrap();
        let (_, rest) = rest.split_once(END).unwrap_or_else(|| panic!("the table of {name} has no end"));
        write!(written, "<!-- options of {name} -->\n{}{END}{rest}", table(name)).unwrap();
        count += 1;
    }
    (written, count)
}

#[test]
fn tables_in_documents_match_the_code() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut outdated = Vec::new();
    for (document, expected) in DOCUMENTS {
        let path = root.join(document);
        let text = fs::read_to_string(&path).unwrap();
        let (written, count) = with_tables(&text);
        assert_eq!(count, *expected, "the number of tables in {document}");
        if written == text {
            continue;
        }
        if env::var_os("LARDER_UPDATE_TABLES").is_some() {
            fs::write(path, written).unwrap();
        } else {
            outdated.push(document);
        }
    }
    assert!(
        outdated.is_empty(),
        "the tables of options do not match the code: {outdated:?}; change the documentation of the option in \
         the adapter's config.rs, then run: LARDER_UPDATE_TABLES=1 cargo test -p larder-docs-tests --test options"
    );
}

#[test]
fn the_meaning_of_an_option_fits_in_a_row() {
    for (name, options) in TABLES {
        for option in *options {
            let row = option.to_string();
            assert_eq!(row.matches('|').count(), 4, "{name}: {row}");
            assert!(!row.contains("[`") && row.trim_end().ends_with(". |"), "{name}: {row}");
        }
    }
}

#[test]
fn the_configuration_file_in_the_document_is_valid() {
    #[derive(serde::Deserialize)]
    struct Settings {
        sessions: larder::postgres::Config,
    }

    let document = include_str!("../../../larder/URLS.md");
    let (_, file) = document.split_once("```toml\n").unwrap();
    let (file, _) = file.split_once("```").unwrap();
    let Settings { sessions } = toml::from_str(file).unwrap();
    let shown = format!("{sessions:?}");
    assert!(shown.contains("pool_size: 16") && shown.contains("300s"), "{shown}");

    let misspelt = file.replace("pool_size", "pol_size");
    let error = toml::from_str::<Settings>(&misspelt).err().unwrap().to_string();
    assert!(error.contains("did you mean `pool_size`?"), "{error}");
}

#[test]
fn configurations_do_not_print_passwords() {
    let redis = r#"{"url": "redis://db/0", "user": "bot", "password": "hunter2"}"#;
    let redis: larder::redis::Config = serde_json::from_str(redis).unwrap();
    let dynamodb = "dynamodb:app?access_key_id=bot&secret_access_key=hunter2";
    let shown = [
        format!("{redis:?}"),
        format!("{:?}", larder::redis::Config::from_url("redis://bot:hunter2@db/0").unwrap()),
        format!("{:?}", larder::postgres::Config::from_url("postgres://bot:hunter2@db/app").unwrap()),
        format!("{:?}", larder::mysql::Config::from_url("mysql://bot:hunter2@db/app").unwrap()),
        format!("{:?}", larder::mongodb::Config::from_url("mongodb://bot:hunter2@db/app").unwrap()),
        format!("{:?}", larder::dynamodb::Config::from_url(dynamodb).unwrap()),
    ];
    for shown in shown {
        assert!(!shown.contains("hunter2"), "{shown}");
    }
}

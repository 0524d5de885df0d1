//! The code in the documents is the tested code.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // A test fails by panicking.

use std::{
    fs,
    path::{Path, PathBuf},
};

fn read(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The Rust blocks of a Markdown text.
fn blocks(text: &str) -> Vec<String> {
    let mut parts = text.split("```rust\n");
    parts.next();
    parts.map(|part| part.split("```").next().unwrap_or_default().to_owned()).collect()
}

/// Removes the indentation, so that a block may show a part of an `impl`.
fn flat(code: &str) -> String {
    code.lines().map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join("\n")
}

#[test]
fn writing_an_adapter_shows_the_adapters_that_pass_the_suite() {
    let sources = [
        "adapters/memory/src/storage.rs",
        "adapters/memory/src/table.rs",
        "tests/docs/src/server.rs",
        "tests/docs/src/embedded.rs",
        "tests/docs/tests/conformance.rs",
        "tests/outside/command/src/main.rs",
    ];
    let sources: Vec<_> = sources.iter().map(|source| flat(&read(source))).collect();
    let blocks = blocks(&read("docs/writing-an-adapter.md"));
    assert!(blocks.len() >= 25, "the document has too few code blocks");
    for block in blocks {
        let code = flat(&block);
        assert!(sources.iter().any(|source| source.contains(&code)), "not in the tested adapters:\n{block}");
    }
}

#[test]
fn the_readme_of_the_example_accounts_shows_its_code() {
    let sources = ["app", "devices"].map(|name| flat(&read(&format!("examples/accounts/src/{name}.rs"))));
    let blocks = blocks(&read("examples/accounts/README.md"));
    assert!(blocks.len() >= 6, "the document has too few code blocks");
    for block in blocks {
        let code = flat(&block);
        assert!(sources.iter().any(|source| source.contains(&code)), "not in the example:\n{block}");
    }
}

#[test]
fn writing_an_adapter_names_each_claim_and_its_laws() {
    let text = read("docs/writing-an-adapter.md");
    let rows: Vec<Vec<&str>> =
        text.lines().filter(|line| line.starts_with("| ")).map(|line| line.split(" | ").collect()).collect();
    for claim in read("core/src/info.rs").split("pub const fn with_").skip(1) {
        let claim = format!("with_{}", claim.split('(').next().unwrap());
        let row = rows.iter().find(|row| row[0].contains(&format!("`{claim}")));
        let laws = row.unwrap_or_else(|| panic!("the table has no row for `{claim}`"))[2];
        for name in laws.split('`').skip(1).step_by(2) {
            let module = format!("{}/../testkit/src/laws/{name}.rs", env!("CARGO_MANIFEST_DIR"));
            let is_case = read("tests/testkit/src/processes.rs").contains(&format!("\"{name}\""));
            let exists =
                larder_testkit::laws::named(name).is_some() || is_case || Path::new(&module).exists();
            assert!(exists, "the law `{name}` does not exist");
        }
    }
}

#[test]
fn writing_an_adapter_names_the_current_version() {
    let text = read("docs/writing-an-adapter.md");
    let versions: Vec<_> = text.lines().filter(|line| line.starts_with("larder-")).collect();
    assert_eq!(versions.len(), 3);
    for line in versions {
        let folder = match line.split_once(' ').unwrap().0 {
            "larder-testkit" => "tests/testkit",
            name => name.trim_start_matches("larder-"),
        };
        let manifest = read(&format!("{folder}/Cargo.toml"));
        let version = manifest.lines().find_map(|line| line.strip_prefix("version = ")).unwrap();
        assert!(line.contains(version), "{line}: the version is {version}");
    }
}

#[test]
fn coming_from_grammy_shows_tested_code() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/coming_from_grammy");
    let files = fs::read_dir(folder).unwrap().map(|file| file.unwrap().path());
    let sources: Vec<_> = files
        .filter(|file| file.extension().is_some_and(|extension| extension == "rs"))
        .map(|file| flat(&fs::read_to_string(file).unwrap()))
        .collect();
    let blocks = blocks(&read("docs/coming-from-grammy.md"));
    assert!(blocks.len() >= 30, "the document has too few code blocks");
    for block in blocks {
        let code = flat(&block);
        assert!(sources.iter().any(|source| source.contains(&code)), "not in the tested code:\n{block}");
    }
}

/// Adds the Markdown files in `folder` and below to `documents`.
fn add_documents(folder: &Path, documents: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy();
        if path.is_dir() && name != ".git" && name != "target" {
            add_documents(&path, documents);
        } else if name.ends_with(".md") {
            documents.push(path);
        }
    }
}

#[test]
fn links_between_documents_lead_to_existing_files() {
    let mut documents = Vec::new();
    add_documents(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../.."), &mut documents);
    assert!(documents.len() > 20, "only {} documents", documents.len());
    for document in documents {
        let text = fs::read_to_string(&document).unwrap();
        let links = text.split("](").skip(1).filter_map(|rest| rest.split([')', ' ']).next());
        for link in links.filter(|link| !link.starts_with("http") && !link.starts_with('#')) {
            let file = link.split('#').next().unwrap_or_default();
            let exists = document.parent().unwrap().join(file).exists();
            assert!(exists, "{} links to {link}, which does not exist", document.display());
        }
    }
}

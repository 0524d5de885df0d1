//! An adapter from outside of Larder's workspace opens by URL, in a program and in a command of its own.

use std::{
    path::Path,
    process::{Command, Output},
};

use larder::{ErrorKind, Registry};

/// Runs the command in `directory`, which the test expects to exit with `code`.
#[track_caller]
fn larder(directory: &Path, arguments: &[&str], code: i32) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_larder-with-folder"));
    let output = command.args(arguments).current_dir(directory).output().expect("run the command");
    assert_eq!(output.status.code(), Some(code), "{arguments:?}: {}", stderr(&output));
    output
}

#[track_caller]
fn stdout(directory: &Path, arguments: &[&str]) -> String {
    String::from_utf8(larder(directory, arguments, 0).stdout).expect("the output is text")
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[tokio::test]
async fn registry_opens_the_adapter_by_url_and_lists_its_scheme() {
    let directory = tempfile::tempdir().expect("make a directory");
    let registry = Registry::builtin().with(larder_folder::Adapter);
    let url = format!("folder:{}", directory.path().join("entries").display());
    assert_eq!(registry.open_existing(&url).await.unwrap_err().kind(), ErrorKind::InvalidConfig);
    let store = registry.open(&url).await.expect("open the folder");
    store.write("chat:42", "hello").await.expect("write");
    assert_eq!((store.info().name, registry.open("memory:").await.is_ok()), ("folder", true));
    let store = registry.open_existing(&url).await.expect("open the folder again");
    assert_eq!(store.read("chat:42").await.expect("read").expect("the entry is there").value, "hello");

    let error = registry.open("oracle://localhost").await.unwrap_err();
    assert!(error.message().contains(" are: memory: file: folder: ("), "{error}");
    let error = larder::open(&url).await.unwrap_err();
    assert!(error.message().starts_with("no adapter opens `folder:` URLs"), "{error}");
}

#[test]
fn command_reads_writes_and_copies_the_entries_of_the_adapter() {
    let directory = tempfile::tempdir().expect("make a directory");
    let directory = directory.path();
    larder(directory, &["ls", "folder:entries"], 2);
    larder(directory, &["put", "folder:entries", "chat:1", "{\"n\":1}"], 0);
    larder(directory, &["put", "folder:entries", "user:1", "Ada"], 0);
    assert_eq!(stdout(directory, &["get", "folder:entries", "user:1"]), "Ada");
    assert_eq!(stdout(directory, &["ls", "folder:entries", "--prefix", "chat:"]), "chat:1\n");

    let copied = stdout(directory, &["copy", "--verify", "folder:entries", "memory:"]);
    assert!(copied.starts_with("2 copied") && copied.contains("2 equal"), "{copied}");
    stdout(directory, &["copy", "--verify", "folder:entries", "file:snapshot.json"]);
    let copied = stdout(directory, &["copy", "--verify", "file:snapshot.json", "folder:copies"]);
    assert!(copied.contains("2 equal"), "{copied}");
    assert_eq!(stdout(directory, &["get", "folder:copies", "chat:1"]), "{\"n\":1}");
    larder(directory, &["rm", "folder:copies", "--all"], 0);
    assert_eq!(stdout(directory, &["ls", "folder:copies"]), "");
}

#[test]
fn help_and_errors_of_the_command_name_the_adapter() {
    let directory = tempfile::tempdir().expect("make a directory");
    let help = stdout(directory.path(), &["--help"]);
    assert!(help.contains("folder:DIR") && help.contains("a folder with one file per entry"), "{help}");
    let unknown = larder(directory.path(), &["ls", "oracle://localhost"], 2);
    assert!(stderr(&unknown).contains(" are: memory: file: folder: ("), "{}", stderr(&unknown));
    // Only the features of two adapters are on in this command.
    let off = larder(directory.path(), &["ls", "valkey://localhost"], 2);
    assert!(stderr(&off).contains("the feature `redis`"), "{}", stderr(&off));
}

//! The compiler's messages about wrong programs suggest what to write instead.
//!
//! Only Larder's own text is compared, so that this does not depend on how a compiler lays out its messages.

use std::{
    env,
    ffi::OsStr,
    fs,
    io::{self, Write},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use serde_json::Value;

/// Each function is wrong in one way.
const PROGRAM: &str = r#"
use larder_session::{Fragment, Multi, Sessions, Store};

async fn not_async(sessions: Sessions<u32>) {
    sessions.update(42, |mut pizzas| *pizzas += 1).await;
}
async fn a_value(sessions: Sessions<u32>) {
    sessions.update(42, async |pizzas| *pizzas).await;
}
async fn an_error_of_another_kind(sessions: Sessions<u32>) {
    sessions.update(42, async |_| Err::<(), String>(String::new())).await;
}
async fn the_id_of_a_framework(sessions: Sessions<u32>) {
    struct ChatId(i64);
    sessions.get(ChatId(42)).await;
}
fn no_codec() {
    Sessions::<u32>::builder().codec("json");
}
fn no_store() {
    Sessions::<u32>::new("sqlite:bot.db");
}
fn no_await(store: Store) {
    async fn open(store: Store) -> larder_session::Result<Store> {
        Ok(store)
    }
    Sessions::<u32>::new(open(store));
}
fn no_fragment(users: Sessions<u32>, chats: Sessions<u32>) {
    Multi::new((users, chats));
}
async fn one_key(users: Sessions<u32>, chats: Sessions<u32>) {
    let both = Multi::new((Fragment::strict("user", users), Fragment::strict("chat", chats)));
    both.delete(42).await;
}
async fn a_number_as_the_key_of_an_entry(store: Store) {
    store.read(42_i64).await;
}
fn no_layer(store: Store) {
    store.layer("cache");
}
"#;

/// Some of the messages' text, in the order of the functions.
const ADVICE: [&str; 17] = [
    "the handler of a session returns `()`, which is not a future",
    "use `Sessions::modify`",
    "the handler of a session cannot return `u32`",
    "`larder_session::ok(value)`",
    "Result<(), String>`",
    "`From<larder_session::Error>`",
    "`ChatId` is not the key of a session",
    "use the number inside, or `key::per_chat(Some(id))`",
    "use `Json`",
    "`&str` is not a store",
    "`larder::open(url).await?` returns a `Store`",
    "`impl Future<Output = ",
    "`Fragment::strict(name, sessions)`",
    "a `Multi` cannot be made of `(",
    "expected a tuple with as many keys as there are fragments",
    "write `format!(\"chat:{id}\")`",
    "`|inner: Arc<dyn Storage>| -> Arc<dyn Storage> { ... }`",
];

#[test]
fn the_compiler_suggests_what_to_write_instead() {
    let messages = compile(PROGRAM).unwrap();
    for advice in ADVICE {
        assert!(messages.contains(advice), "{advice}\n\n{messages}");
    }
}

/// Returns the compiler's messages about a program that uses this crate, as it was built for this test.
fn compile(program: &str) -> io::Result<String> {
    let test = env::current_exe()?;
    let libraries = test.parent().ok_or(io::ErrorKind::NotFound)?;
    let mut compiler = Command::new(env::var_os("RUSTC").unwrap_or("rustc".into()))
        .args(["--edition=2024", "--crate-type=lib", "--emit=metadata", "-"])
        .args(["--out-dir", env!("CARGO_TARGET_TMPDIR")])
        .arg(format!("-Ldependency={}", libraries.display()))
        .arg(format!("--extern=larder_session={}", library(&test)?.display()))
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    compiler.stdin.take().ok_or(io::ErrorKind::BrokenPipe)?.write_all(program.as_bytes())?;
    Ok(String::from_utf8_lossy(&compiler.wait_with_output()?.stderr).into_owned())
}

/// Returns the library that this test was built with. Each set of features has a build of its own. Cargo's
/// fingerprint of the test contains that of the library.
fn library(test: &Path) -> io::Result<PathBuf> {
    let missing = || io::Error::new(io::ErrorKind::NotFound, "cargo's files have another layout");
    let libraries = test.parent().ok_or_else(missing)?;
    let fingerprints = libraries.with_file_name(".fingerprint");
    let own = test.file_stem().and_then(OsStr::to_str).and_then(hash).ok_or_else(missing)?;
    let own = fingerprints.join(format!("larder-session-{own}/test-integration-test-advice.json"));
    let own: Value = serde_json::from_slice(&fs::read(own)?)?;
    let uses = own["deps"].as_array().into_iter().flatten().find(|uses| uses[1] == "larder_session");
    let library = uses.and_then(|uses| uses[3].as_u64()).ok_or_else(missing)?;
    let library = format!("{:016x}", library.swap_bytes());
    for directory in fs::read_dir(fingerprints)? {
        let directory = directory?.path();
        if fs::read_to_string(directory.join("lib-larder_session")).is_ok_and(|found| found == library)
            && let Some(hash) = directory.file_name().and_then(OsStr::to_str).and_then(hash)
        {
            return Ok(libraries.join(format!("liblarder_session-{hash}.rlib")));
        }
    }
    Err(missing())
}

/// Returns the hash at the end of the name of one of cargo's files.
fn hash(name: &str) -> Option<&str> {
    name.rsplit_once('-').map(|(_, hash)| hash)
}

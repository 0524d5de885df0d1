//! Data of grammY, used in place, and moved to another store and back.

use std::{fs, path::Path, time::Duration};

use larder::transfer::{self, CopyOptions};
use larder_session::{ErrorKind, Lifetime, Migrations, key};
use serde_json::{Map, Value};

use super::*;

fn fixture(name: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../fixtures/grammy")
        .join(name)
}

/// A copy of files of grammY's file adapter, for tests that write.
fn grammys_files(name: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for shard in fs::read_dir(fixture(name)).unwrap() {
        let shard = shard.unwrap();
        let to = folder.path().join(shard.file_name());
        fs::create_dir(&to).unwrap();
        for file in fs::read_dir(shard.path()).unwrap() {
            let file = file.unwrap();
            fs::copy(file.path(), to.join(file.file_name()))
                .unwrap();
        }
    }
    folder
}

#[tokio::test]
async fn grammys_files_are_used_in_place() -> Result<()> {
    let folder = grammys_files("file");
    let url =
        format!("file:{}?layout=grammy", folder.path().display());
    let storage = larder::open(&url).await?;
    let chats = Sessions::<Chat>::new(storage)?;
    let more = async |mut chat: larder_session::Session<Chat>| {
        chat.pizza_count += 1;
    };
    chats.update(424242, more).await?;
    let path = folder.path().join("42/424242.json");
    assert_eq!(
        fs::read_to_string(path).unwrap(),
        "{\n\t\"pizzaCount\": 25\n}"
    );

    // The layout does not support these.
    let slash = key::per_user_and_chat(Some(7), Some(42));
    let error = chats.update(slash, more).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidKey);
    let minute = Lifetime::after_write(Duration::from_secs(60));
    let error = Sessions::<Chat>::builder()
        .storage(larder::open(&url).await?)
        .lifetime(minute)
        .build()
        .map(drop)
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    Ok(())
}

#[tokio::test]
async fn enhanced_files_are_used_in_place() -> Result<()> {
    let folder = grammys_files("file-enhanced");
    let url =
        format!("file:{}?layout=grammy", folder.path().display());
    let chats: Sessions<Chat> = Sessions::builder()
        .storage(larder::open(&url).await?)
        .migrations(Migrations::new().step(3, |same: Value| same))
        .build()?;
    chats.modify(424242, |chat| chat.pizza_count += 1).await?;
    let path = folder.path().join("42/424242.json");
    let text = fs::read_to_string(path).unwrap();
    // Without a lifetime, the write removes the deadline.
    assert_eq!(
        text,
        "{\n\t\"v\": 3,\n\t\"__d\": {\n\t\t\"pizzaCount\": 25\n\t}\n}"
    );
    Ok(())
}

#[tokio::test]
async fn sessions_move_to_sqlite_and_back() -> Result<()> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().display();
    let grammy = fixture("file-enhanced");
    let url = format!("file:{}?layout=grammy", grammy.display());
    let from = larder::open(&url).await?;
    let to = larder::open(&format!("sqlite:{path}/bot.db")).await?;
    let report =
        transfer::copy(&from, &to, &CopyOptions::default(), |_| {})
            .await?;
    assert_eq!((report.copied, report.failed), (5, 0));

    let storage = to;
    let chats: Sessions<Chat> = Sessions::builder()
        .storage(storage)
        // The last of grammY's migrations.
        .migrations(Migrations::new().step(3, |same: Value| same))
        // Its millisecondsToLive.
        .lifetime(Lifetime::after_write(Duration::from_secs(1800)))
        .build()?;

    chats.modify(424242, |chat| chat.pizza_count += 1).await?;
    let larder::Expiry::After(_) =
        chats.ttl(424242).await?.unwrap()
    else {
        panic!("the first write starts the time")
    };
    // Sessions that were not written since have no deadline in the
    // store, only grammY's `e`, in fifty years.
    assert_eq!(
        chats.storage().ttl(&larder::Key::new("987654")?).await?,
        Some(larder::Expiry::Never)
    );
    let larder::Expiry::After(left) =
        chats.ttl(987654).await?.unwrap()
    else {
        panic!("grammY's `e` counts")
    };
    assert!(left > Duration::from_secs(1_000_000_000));

    let back = folder.path().join("back");
    let url = format!("file:{}?layout=grammy", back.display());
    let options = CopyOptions::default().drop_expiry(true);
    let from = chats.storage();
    let to = larder::open(&url).await?;
    transfer::copy(from, &to, &options, |_| {}).await?;
    let text =
        fs::read_to_string(back.join("42/424242.json")).unwrap();
    assert!(text.starts_with(
        "{\n\t\"v\": 3,\n\t\"__d\": {\n\t\t\"pizzaCount\": 25\n\t},\n\t\"e\": "
    ));
    Ok(())
}

/// Keeps members without a field.
#[derive(Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Careful {
    #[serde(default)]
    pizza_count: u32,
    #[serde(flatten)]
    rest: Map<String, Value>,
}

#[tokio::test]
async fn members_without_a_field_can_be_kept() -> Result<()> {
    let folder = grammys_files("file");
    let url =
        format!("file:{}?layout=grammy", folder.path().display());
    let storage = larder::open(&url).await?;
    let key = -1_001_234_567_890_i64;
    let careful = Sessions::<Careful>::new(storage)?;
    careful.modify(key, |chat| chat.pizza_count += 1).await?;
    let storage = careful.storage();
    let text = stored(storage, &key.to_string()).await.unwrap();
    assert!(text.contains("ñandú") && text.contains("-3e-7"));

    let chats = Sessions::<Chat>::new(storage)?;
    chats.modify(key, |chat| chat.pizza_count += 1).await?;
    let text = stored(storage, &key.to_string()).await.unwrap();
    assert_eq!(text, r#"{"pizzaCount":2}"#);
    Ok(())
}

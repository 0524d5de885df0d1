//! Timeouts and migrations.

use std::time::Duration;

use larder_session::{
    Error, ErrorKind, Lifetime, Migrations, Session,
};
use serde_json::{Value, json};

use super::*;

async fn put(storage: &Store, key: &str, value: Value) {
    let bytes = serde_json::to_vec(&value).unwrap();
    storage.write(key, bytes).await.unwrap();
}

#[tokio::test]
async fn timeouts() -> Result<()> {
    let storage = memory();
    let chats: Sessions<Chat> = Sessions::builder()
        .storage(storage)
        .lifetime(Lifetime::after_write(Duration::from_mins(30)))
        .build()?;
    chats.modify(42, |chat| chat.pizza_count += 1).await?;
    let text = stored(chats.storage(), "42").await.unwrap();
    assert_eq!(text, r#"{"pizzaCount":1}"#);
    let left = chats.ttl(42).await?.unwrap();
    let larder::Expiry::After(left) = left else { panic!() };
    assert!(
        left > Duration::from_mins(29)
            && left <= Duration::from_mins(30)
    );
    Ok(())
}

#[tokio::test]
async fn timeouts_that_grammy_can_read_back() -> Result<()> {
    let storage = memory();
    let chats: Sessions<Chat> = Sessions::builder()
        .storage(storage)
        .lifetime(Lifetime::after_write(Duration::from_mins(30)))
        .envelope()
        .build()?;
    chats.modify(42, |chat| chat.pizza_count += 1).await?;
    let text = stored(chats.storage(), "42").await.unwrap();
    assert!(text.starts_with(r#"{"__d":{"pizzaCount":1},"e":"#));
    Ok(())
}

#[tokio::test]
async fn other_lifetimes() -> Result<()> {
    for lifetime in [
        // Since the last use, reads included.
        Lifetime::sliding(Duration::from_mins(30)),
        // Since it was created, whatever happens to it.
        Lifetime::absolute(Duration::from_hours(24)),
        // Whichever comes first.
        Lifetime::sliding(Duration::from_mins(30))
            .at_most(Duration::from_hours(24)),
    ] {
        let chats: Sessions<Chat> =
            Sessions::builder().lifetime(lifetime).build()?;
        chats.update(1, async |_| ()).await?;
        let left = chats.ttl(1).await?;
        assert!(matches!(left, Some(larder::Expiry::After(_))));
    }
    Ok(())
}

#[tokio::test]
async fn grammys_deadline_is_kept_and_counts() -> Result<()> {
    let storage = memory();
    let chats = chats(&storage);
    let data = json!({ "pizzaCount": 24 });
    put(&storage, "old", json!({ "__d": data, "e": 1 })).await;
    put(&storage, "new", json!({ "__d": data, "e": 4e12 })).await;
    put(&storage, "bare", data).await;
    assert_eq!(chats.get("old").await?, None);
    assert_eq!(chats.get("new").await?.unwrap().pizza_count, 24);
    assert_eq!(chats.get("bare").await?.unwrap().pizza_count, 24);
    // But it stays in the store until the next write.
    assert!(stored(&storage, "old").await.is_some());
    chats
        .update("old", async |chat| assert!(Session::is_new(&chat)))
        .await?;
    assert_eq!(
        stored(&storage, "old").await.unwrap(),
        r#"{"pizzaCount":0}"#
    );
    Ok(())
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct PetNames {
    pet_names: Vec<String>,
}

#[derive(Serialize, Deserialize)]
struct Pet {
    name: String,
    birthday: Option<i64>,
}

#[derive(Default, Serialize, Deserialize)]
struct Owner {
    pets: Vec<Pet>,
}

fn add_birthday_to_pets(old: PetNames) -> Owner {
    let pet = |name| Pet { name, birthday: None };
    Owner { pets: old.pet_names.into_iter().map(pet).collect() }
}

#[tokio::test]
async fn migrations() -> Result<()> {
    let storage = memory();
    let owners: Sessions<Owner> = Sessions::builder()
        .storage(storage)
        .migrations(Migrations::new().step(1, add_birthday_to_pets))
        .build()?;
    put(owners.storage(), "7", json!({ "petNames": ["Rex"] }))
        .await;
    let name = owners
        .update(7, async |mut owner| {
            owner.pets[0].birthday = Some(2019);
            Result::Ok(owner.pets[0].name.clone())
        })
        .await?;
    assert_eq!(name, "Rex");
    assert_eq!(
        stored(owners.storage(), "7").await.unwrap(),
        r#"{"v":1,"__d":{"pets":[{"name":"Rex","birthday":2019}]}}"#
    );
    Ok(())
}

fn at_most_100_pets(mut owner: Owner) -> Owner {
    owner.pets.truncate(100);
    owner
}

fn refuse_if_no_pets(owner: Owner) -> Result<Owner> {
    match owner.pets.len() {
        0 => Err(Error::new(ErrorKind::InvalidValue, "no pets")),
        _ => Ok(owner),
    }
}

async fn ask_for_names(mut owner: Owner) -> Result<Owner> {
    for pet in &mut owner.pets {
        tokio::task::yield_now().await;
        pet.name.push('!');
    }
    Ok(owner)
}

#[tokio::test]
async fn steps_may_have_fractions_fail_and_await() -> Result<()> {
    let migrations = Migrations::new()
        .step(1, add_birthday_to_pets)
        .step(10, at_most_100_pets)
        // May fail; the session then stays unchanged.
        .try_step(10.1, refuse_if_no_pets)
        // May await.
        .async_step(11, ask_for_names);
    let storage = memory();
    let owners: Sessions<Owner> = Sessions::builder()
        .storage(storage)
        .migrations(migrations)
        // Saved also by an update that changes nothing else.
        .persist_migrated(true)
        .build()?;

    let pets =
        |pets: Value| json!({ "v": 10, "__d": { "pets": pets } });
    put(owners.storage(), "none", pets(json!([]))).await;
    assert_eq!(
        owners.get("none").await.map(drop).unwrap_err().message(),
        "no pets"
    );
    put(owners.storage(), "one", pets(json!([{ "name": "Rex" }])))
        .await;
    owners.update("one", async |_| ()).await?;
    assert_eq!(
        stored(owners.storage(), "one").await.unwrap(),
        r#"{"v":11,"__d":{"pets":[{"name":"Rex!","birthday":null}]}}"#
    );
    Ok(())
}

#[tokio::test]
async fn a_newer_version_is_refused() -> Result<()> {
    let storage = memory();
    let written = json!({ "v": 3, "__d": { "pizzaCount": 24 } });
    put(&storage, "42", written).await;
    let chats = chats(&storage);
    let error = chats.update(42, async |_| ()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::VersionTooNew);
    assert!(stored(&storage, "42").await.unwrap().contains("24"));

    // All sessions have passed grammY's step 3.
    let chats: Sessions<Chat> = Sessions::builder()
        .storage(storage)
        .migrations(Migrations::new().step(3, |same: Value| same))
        .build()?;
    chats.modify(42, |chat| chat.pizza_count += 1).await?;
    assert_eq!(
        stored(chats.storage(), "42").await.unwrap(),
        r#"{"v":3,"__d":{"pizzaCount":25}}"#
    );
    Ok(())
}

#[test]
fn migrations_without_a_step_are_refused() {
    let built = Sessions::<Chat>::builder()
        .migrations(Migrations::new())
        .build();
    let error = built.map(drop).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidConfig);
}

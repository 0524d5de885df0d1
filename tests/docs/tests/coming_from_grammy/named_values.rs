//! discord.js-mvc's sessions.

use larder_session::KvSessions;

use super::*;

async fn ping(sessions: &KvSessions, user_id: u64) -> Result<&str> {
    sessions
        .try_modify(user_id, |session| {
            if session.get("ponged")?.unwrap_or(false) {
                return Ok("You already used this command");
            }
            session.set("ponged", true)?;
            Ok("pong")
        })
        .await
}

#[tokio::test]
async fn get_and_set() -> Result<()> {
    let storage = memory();
    let sessions = KvSessions::builder()
        .storage(storage)
        .initial("foo", "bar")?
        .build()?;
    let storage = sessions.sessions().storage();
    let user_id = 80_351_110_224_678_912_u64;
    assert_eq!(ping(&sessions, user_id).await?, "pong");
    assert!(ping(&sessions, user_id).await?.starts_with("You"));
    assert_eq!(
        stored(storage, "80351110224678912").await.unwrap(),
        r#"{"ponged":true}"#
    );

    // One value, from anywhere.
    sessions.set(user_id, "lives", 3).await?;
    let lives: Option<u8> = sessions.get(user_id, "lives").await?;
    sessions.delete(user_id, "ponged").await?;

    assert_eq!(lives, Some(3));
    let all = sessions.all(user_id).await?;
    assert_eq!(
        serde_json::to_string(&all).unwrap(),
        r#"{"foo":"bar","lives":3}"#
    );
    assert_eq!(
        sessions.get::<String>(1, "foo").await?.unwrap(),
        "bar"
    );
    sessions.delete(user_id, "foo").await?;
    assert_eq!(sessions.get::<String>(user_id, "foo").await?, None);
    sessions.sessions().delete(user_id).await?;
    assert_eq!(stored(storage, "80351110224678912").await, None);
    Ok(())
}

//! The spaces of two applications on one server.

use larder_core::{ErrorKind, Key};

use super::key;
use crate::{Handle, Must, Target, claims::Ability};

laws![spaces_do_not_share_keys, clearing_one_space_leaves_the_others];

/// Opens a space, and another one whose name begins with the name of the first. Writes keys to the first that look
/// like keys of the second. Returns both handles and the keys.
async fn neighbours(target: &Target) -> (Handle, Handle, Vec<Key>) {
    let (app, app_one) = (target.open().await, target.beside("-one").open().await);
    let mut keys = Vec::new();
    for name in ["k", "-one", "-onek", "-one:k", "-one/k", "-one.k", "-one-k", "one:k", ":k"] {
        match app.write(key(name), app.value("app's")).await {
            Ok(_) => keys.push(key(name)),
            Err(error) => assert!(
                error.kind() == ErrorKind::InvalidKey && !app.info().any_key,
                "write under the key {name:?}: {error}"
            ),
        }
    }
    (app, app_one, keys)
}

/// The same key in two spaces is two entries, even if the name of one space begins with the name of the other.
pub async fn spaces_do_not_share_keys(target: Target) {
    let (app, app_one, keys) = neighbours(&target).await;
    for key in &keys {
        app_one.lacks(key, "read of a key that was written in another space").await;
    }
    app_one.put(&key("k"), &app_one.value("app-one's")).await;
    for key in &keys {
        app.holds(key, &app.value("app's"), "read of a key after it was written in another space").await;
    }
    assert!(app.delete(key("k")).await.must("delete"), "a delete of an entry returned false");
    app_one.holds(&key("k"), &app_one.value("app-one's"), "read after a delete in another space").await;
    if app.info().listing {
        assert_eq!(app_one.listed("").await.len(), 1, "the number of listed keys of a space with one key");
        assert_eq!(
            app.listed("").await.len(),
            keys.len() - 1,
            "the number of listed keys of the other space"
        );
    }
}

/// Clearing and purging one space does not change other spaces.
pub async fn clearing_one_space_leaves_the_others(target: Target) {
    let (app, app_one, keys) = neighbours(&target).await;
    if !target.claims(&app, Ability::Listing).await {
        return;
    }
    app_one.put(&key("k"), &app_one.value("app-one's")).await;
    app_one.purge_expired().await.must("purge_expired");
    assert_eq!(app_one.clear("").await.must("clear"), 1, "the result of a clear of a space with one entry");
    for key in &keys {
        app.holds(key, &app.value("app's"), "read after another space was cleared").await;
    }
    app_one.put(&key("k"), &app_one.value("app-one's")).await;
    let cleared = app.clear("").await.must("clear");
    assert_eq!(cleared, keys.len() as u64, "the result of a clear of the space");
    app_one.holds(&key("k"), &app_one.value("app-one's"), "read after another space was cleared").await;
}

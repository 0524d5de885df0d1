//! Two applications on one server.

use larder_core::{ErrorKind, Key};

use super::key;
use crate::{Handle, Must, Target, claims::Ability};

laws![spaces_do_not_share_keys, clearing_one_space_leaves_the_others];

/// A space, the one beside it whose name goes on where this one's ends, and keys that look as if
/// they were of the other.
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

/// The same key in two spaces is two entries, also if one space's name begins like the other's.
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
        assert_eq!(app_one.listed("").await.len(), 1, "the number of keys listed in a space with one");
        assert_eq!(
            app.listed("").await.len(),
            keys.len() - 1,
            "the number of keys listed in the other space"
        );
    }
}

/// Clearing and purging one space leaves the others as they are.
pub async fn clearing_one_space_leaves_the_others(target: Target) {
    let (app, app_one, keys) = neighbours(&target).await;
    if !target.claims(&app, Ability::Listing).await {
        return;
    }
    app_one.put(&key("k"), &app_one.value("app-one's")).await;
    app_one.purge_expired().await.must("purge_expired");
    assert_eq!(app_one.clear("").await.must("clear"), 1, "what a clear of a space with one entry counts");
    for key in &keys {
        app.holds(key, &app.value("app's"), "read after another space was cleared").await;
    }
    app_one.put(&key("k"), &app_one.value("app-one's")).await;
    let cleared = app.clear("").await.must("clear");
    assert_eq!(cleared, keys.len() as u64, "what a clear of the space counts");
    app_one.holds(&key("k"), &app_one.value("app-one's"), "read after another space was cleared").await;
}

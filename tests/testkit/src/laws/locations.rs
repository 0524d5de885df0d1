//! Locations, which show whether two handles access the same entries.

use larder_core::{Location, Overlap};

use super::key;
use crate::{Handle, Must, Target};

laws![
    handles_on_one_space_have_one_location,
    spaces_have_locations_of_their_own,
    namespace_is_part_of_its_store,
    location_stays_when_the_store_is_opened_again,
];

/// Returns the location of the handle. If the store does not know it, returns `None` and ignores the case.
async fn location(target: &Target, handle: &Handle) -> Option<Location> {
    let location = handle.location().await.must("location");
    if location.is_none() {
        target.ignore("the location of the store is unknown");
    }
    location
}

/// Two handles on the same entries have the same location.
pub async fn handles_on_one_space_have_one_location(target: Target) {
    let (left, right) = (target.open().await, target.open().await);
    let Some(here) = location(&target, &left).await else { return };
    let there = right.location().await.must("location");
    assert_eq!(there.as_ref(), Some(&here), "the location of another handle on the same entries");
    assert_eq!(here.overlap(&here), Overlap::Same);
}

/// The locations of two spaces are disjoint, even if the name of one space begins with the name of the other.
pub async fn spaces_have_locations_of_their_own(target: Target) {
    let (app, app_one) = (target.open().await, target.beside("-one").open().await);
    let Some(here) = location(&target, &app).await else { return };
    let Some(there) = location(&target, &app_one).await else { return };
    assert_eq!(here.overlap(&there), Overlap::Disjoint, "how the locations of two spaces overlap");
    assert_eq!(there.overlap(&here), Overlap::Disjoint, "how the locations of two spaces overlap");
}

/// The location of a store contains the location of its namespace, with the prefix.
pub async fn namespace_is_part_of_its_store(target: Target) {
    let handle = target.open().await;
    let Some(whole) = location(&target, &handle).await else { return };
    let part = handle.namespace("part-").must("namespace");
    part.write(key("a"), handle.value("x")).await.must("write");
    handle.holds(&key("part-a"), &handle.value("x"), "read of an entry written in a namespace").await;
    let part = part.location().await.must("location").must("find the location of a namespace");
    assert_eq!(whole.overlap(&part), Overlap::Contains("part-".to_owned()));
    assert_eq!(part.overlap(&whole), Overlap::Within("part-".to_owned()));
}

/// A persistent store has the same location after it was closed and opened again.
pub async fn location_stays_when_the_store_is_opened_again(target: Target) {
    let handle = target.open().await;
    if !handle.info().persistent {
        target.ignore("the store does not claim to be persistent");
        return;
    }
    let Some(before) = location(&target, &handle).await else { return };
    handle.put(&key("one"), &handle.value("x")).await;
    let handle = target.reopen(handle).await;
    let after = handle.location().await.must("location");
    assert_eq!(after, Some(before), "the location after the store was opened again");
}

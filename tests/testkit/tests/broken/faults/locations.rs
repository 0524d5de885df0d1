//! Locations that are equal or different where they must not be.

use std::sync::atomic::{AtomicU64, Ordering};

use larder_core::{Location, Result, Store, async_trait};

use crate::{Fault, fault, twist::Twist};

/// Has the same location for every store.
struct OnePlace;

#[async_trait]
impl Twist for OnePlace {
    async fn location(&self, _: &Store) -> Result<Option<Location>> {
        Ok(Some(Location::new("memory")))
    }
}

/// Has a new location in every call.
#[derive(Default)]
struct NewPlace(AtomicU64);

#[async_trait]
impl Twist for NewPlace {
    fn info(&self, inner: &Store) -> larder_core::Info {
        inner.info().with_persistence()
    }

    async fn location(&self, _: &Store) -> Result<Option<Location>> {
        let number = self.0.fetch_add(1, Ordering::Relaxed);
        Ok(Some(Location::new(format!("memory:{number}"))))
    }
}

pub(crate) fn faults() -> Vec<Fault> {
    vec![
        fault("has the same location for every store", || OnePlace, &["spaces_have_locations_of_their_own"]),
        fault(
            "has another location in every call",
            NewPlace::default,
            &[
                "handles_on_one_space_have_one_location",
                "namespace_is_part_of_its_store",
                "location_stays_when_the_store_is_opened_again",
            ],
        ),
    ]
}

//! Ids.

use larder_core::unique;

/// An id that nothing else has.
pub(crate) fn new_id() -> String {
    format!("{:032x}", unique::id128())
}

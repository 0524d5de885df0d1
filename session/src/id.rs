//! Unique ids.

use larder_core::unique;

/// Returns a unique id.
pub(crate) fn new_id() -> String {
    format!("{:032x}", unique::id128())
}

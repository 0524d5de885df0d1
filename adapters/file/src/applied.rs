//! The results of changes as those of the single operations.

use larder_core::{Applied, Written};

pub(crate) fn written(applied: Applied) -> Written {
    match applied {
        Applied::Put(written) => written,
        Applied::Deleted(_) | Applied::Touched(_) => Written::default(),
    }
}

pub(crate) fn existed(applied: Applied) -> bool {
    matches!(applied, Applied::Deleted(true) | Applied::Touched(true))
}

//! The formats of entries in Larder's own layout.

mod binary;
mod entry;
mod json;
pub(crate) mod json_text;
pub(crate) mod name;

pub(crate) use self::{
    binary::BinaryFormat,
    entry::{EntryFormat, Stored},
    json::JsonFormat,
};

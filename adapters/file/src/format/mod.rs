//! The formats in which a directory holds entries.

mod binary;
mod entry;
mod grammy;
mod json;
pub(crate) mod json_text;
mod name;

pub(crate) use self::{
    binary::BinaryFormat,
    entry::{EntryFormat, EntryPath, Stored},
    grammy::GrammyFormat,
    json::JsonFormat,
    name::{FileName, not_a_key},
};

//! The conversions of values without a server, for Larder's fuzzing.

use larder_core::{Bytes, ReadOptions, Result};
use larder_kit::ValueFormat;
use mongodb::bson::{RawDocumentBuf, doc};

use crate::{
    bson::{AsStored, JavaScript},
    grammy::Grammy,
    larder::Larder,
    model::{Model, malformed},
    value,
};

/// Returns the document of an entry with this JSON value.
///
/// # Errors
///
/// Those of a write.
pub fn document(value: &[u8], grammy: bool) -> Result<Vec<u8>> {
    let value = Bytes::copy_from_slice(value);
    let value = if grammy { value::to_bson(&value, &JavaScript) } else { value::to_bson(&value, &AsStored) }?;
    Ok(RawDocumentBuf::try_from(&doc! { "value": value }).map_err(malformed)?.into_bytes())
}

/// Returns the value of the entry in a document, as JSON.
///
/// # Errors
///
/// Those of a read.
pub fn value(document: Vec<u8>, grammy: bool) -> Result<Bytes> {
    let document = RawDocumentBuf::from_bytes(document).map_err(malformed)?;
    let options = ReadOptions::new();
    let record = if grammy {
        Grammy.entry(document, &options)
    } else {
        Larder(ValueFormat::Json).entry(document, &options)
    };
    Ok(record?.value)
}

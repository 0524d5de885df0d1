//! Encrypts user data as WeChat does, and changes them as a client that knows their content can.

use aes::Aes128;
use base64::{Engine, engine::general_purpose::STANDARD};
use cbc::{
    Encryptor,
    cipher::{BlockModeEncrypt, KeyIvInit, block_padding::Pkcs7},
};

use super::{APP_ID, IV, SESSION_KEY};

const BLOCK: usize = 16;

/// Encrypts an object of `fields` (JSON without the braces) and the watermark, with the sample's key and IV.
pub(crate) fn encrypt(fields: &str) -> String {
    let text = format!(r#"{{{fields},"watermark":{{"timestamp":1477314187,"appid":"{APP_ID}"}}}}"#);
    let mut buffer = text.clone().into_bytes();
    buffer.resize(text.len() + BLOCK, 0);
    let cipher = Encryptor::<Aes128>::new(&block(SESSION_KEY).into(), &block(IV).into());
    STANDARD.encode(cipher.encrypt_padded::<Pkcs7>(&mut buffer, text.len()).unwrap())
}

/// Returns the IV with which data encrypted under the sample's IV begin with `wanted` instead of `known`.
/// Needs no key.
pub(crate) fn other_iv(known: &str, wanted: &str) -> String {
    assert_eq!((known.len(), wanted.len()), (BLOCK, BLOCK), "the IV changes exactly the first block");
    let mut iv = block(IV);
    for (byte, (known, wanted)) in iv.iter_mut().zip(known.bytes().zip(wanted.bytes())) {
        *byte ^= known ^ wanted;
    }
    STANDARD.encode(iv)
}

fn block(text: &str) -> [u8; BLOCK] {
    STANDARD.decode(text).unwrap().try_into().unwrap()
}

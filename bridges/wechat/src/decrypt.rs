//! Decrypts user data from WeChat: AES-128-CBC with PKCS#7, all parts in base64.
//!
//! <https://developers.weixin.qq.com/miniprogram/dev/framework/open-ability/signature.html>
//!
//! The data are not signed, and the client chooses the IV. A client can therefore change the first block if
//! it knows its content, and later blocks if the block before them may become garbage. The watermark names
//! the mini-program for which WeChat encrypted the data, but proves nothing.

use aes::Aes128;
use base64::{
    Engine,
    alphabet::STANDARD,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use cbc::{
    Decryptor,
    cipher::{BlockModeDecrypt, KeyIvInit, block_padding::Pkcs7},
};
use serde_json::{Map, Value};

/// The maximal length of the data, in bytes of base64. WeChat's data are shorter than 2 KiB.
const MAX_DATA: usize = 64 * 1024;
/// The length of a key, an initialisation vector, and a block, in bytes.
const BLOCK: usize = 16;

/// Accepts missing padding, as Node's servers do: a query parameter may have lost it.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Why data are refused. All faults inside the encryption are one error, so that it does not reveal where the
/// padding ended (no padding oracle).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Undecryptable {
    /// The data do not decrypt to a JSON object with this key.
    Data,
    /// The data decrypt, but their watermark names another mini-program, or none.
    Foreign,
}

/// Decrypts `data` to a JSON object, and checks that the watermark names this mini-program. That does not
/// authenticate the fields: the user's identity must come from another source.
pub(crate) fn decrypt(
    app_id: &str,
    session_key: &str,
    data: &str,
    iv: &str,
) -> Result<Map<String, Value>, Undecryptable> {
    let fields = object(session_key, data, iv).ok_or(Undecryptable::Data)?;
    let owner = fields.get("watermark").and_then(|watermark| watermark.get("appid")).and_then(Value::as_str);
    if owner == Some(app_id) { Ok(fields) } else { Err(Undecryptable::Foreign) }
}

fn object(session_key: &str, data: &str, iv: &str) -> Option<Map<String, Value>> {
    if data.len() > MAX_DATA {
        return None;
    }
    let key = block(session_key)?;
    let iv = block(iv)?;
    let mut data = BASE64.decode(data).ok()?;
    let plain = Decryptor::<Aes128>::new(&key.into(), &iv.into()).decrypt_padded::<Pkcs7>(&mut data).ok()?;
    serde_json::from_slice(plain).ok()
}

fn block(text: &str) -> Option<[u8; BLOCK]> {
    if text.len() > 2 * BLOCK {
        return None;
    }
    BASE64.decode(text).ok()?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use cbc::{Encryptor, cipher::BlockModeEncrypt};

    use super::*;

    const APP: &str = "wx4f4bc4dec97d474b";
    const KEY: &str = "tiihtNczf5v6AKRyjwEUhQ==";
    const IV: &str = "r7BXXKkLb8qrSNn05n0qiA==";
    const DATA: &str = "CiyLU1Aw2KjvrjMdj8YKliAjtP4gsMZMQmRzooG2xrDcvSnxIMXFufNstNGTyaGS9uT5geRa0W4oTOb1WT7fJlAC+oNPdbB+3hVbJSRgv+4lGOETKUQz6OYStslQ142dNCuabNPGBzlooOmB231qMM85d2/fV6ChevvXvQP8Hkue1poOFtnEtpyxVLW1zAo6/1Xx1COxFvrc2d7UL/lmHInNlxuacJXwu0fjpXfz/YqYzBIBzD6WUfTIF9GRHpOn/Hz7saL8xz+W//FRAUid1OksQaQx4CMs8LOddcQhULW4ucetDf96JcR3g0gfRK4PC7E/r7Z6xNrXd2UIeorGj5Ef7b1pJAYB6Y5anaHqZ9J6nKEBvB4DnNLIVWSgARns/8wR2SiRS7MNACwTyrGvt9ts8p12PKFdlqYTopNHR1Vf7XjfhQlVsAJdNiKdYmYVoKlaRv85IfVunYzO0IKXsyl7JCUjCpoG20f0a04COwfneQAGGwd5oa+T8yO5hzuyDb/XcxxmK01EpqOyuxINew==";

    fn encrypt(text: &str) -> String {
        let length = text.len();
        let mut buffer = text.as_bytes().to_vec();
        buffer.resize(length + BLOCK, 0);
        let cipher = Encryptor::<Aes128>::new(&block(KEY).unwrap().into(), &block(IV).unwrap().into());
        BASE64.encode(cipher.encrypt_padded::<Pkcs7>(&mut buffer, length).unwrap())
    }

    #[test]
    fn the_published_sample_decrypts() {
        let user = decrypt(APP, KEY, DATA, IV).unwrap();
        assert_eq!(user["openId"], "oGZUI0egBJY1zhBYw2KhdUfwVJJE");
        assert_eq!(user["nickName"], "Band");
        assert_eq!(user["unionId"], "ocMvos6NjeKLIBqg5Mr9QjxrP1FA");
        assert_eq!(user["watermark"]["timestamp"], 1_477_314_187);
        // A query parameter may have lost its padding.
        assert_eq!(decrypt(APP, KEY, DATA.trim_end_matches('='), IV).unwrap(), user);
    }

    #[test]
    fn data_of_another_mini_program_are_refused() {
        assert_eq!(decrypt("wx0000000000000000", KEY, DATA, IV), Err(Undecryptable::Foreign));
        for unsigned in ["{}", r#"{"watermark":{}}"#, r#"{"watermark":"wx4f4bc4dec97d474b"}"#] {
            assert_eq!(decrypt(APP, KEY, &encrypt(unsigned), IV), Err(Undecryptable::Foreign));
        }
    }

    #[test]
    fn every_failure_to_decrypt_is_the_same_error() {
        let damaged = DATA.replacen('C', "D", 1).replacen('5', "6", 3);
        let long = "A".repeat(MAX_DATA + 4);
        for (key, data, iv) in [
            ("AAAAAAAAAAAAAAAAAAAAAA==", DATA, IV),
            ("", DATA, IV),
            ("tiihtNczf5v6AKRyjwEU", DATA, IV),
            ("not base64 at all!", DATA, IV),
            (KEY, "", IV),
            (KEY, &DATA[..100], IV),
            (KEY, &DATA[..64], IV),
            (KEY, &damaged, IV),
            (KEY, "%%%", IV),
            (KEY, &long, IV),
            (KEY, &encrypt("[1]"), IV),
            (KEY, &encrypt("not JSON"), IV),
            (KEY, DATA, ""),
            (KEY, DATA, "r7BXXKkLb8qrSNn05n0q"),
        ] {
            assert_eq!(decrypt(APP, key, data, iv), Err(Undecryptable::Data));
        }
    }
}

//! User data as WeChat encrypts them: AES-128-CBC with PKCS#7, all parts in base64.
//!
//! <https://developers.weixin.qq.com/miniprogram/dev/framework/open-ability/signature.html>
//!
//! Nothing signs them, and the IV is the client's: it can change the first block of what it knows, and
//! other blocks at the price of garbage before them. The watermark says whose they were meant to be,
//! and proves nothing.

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

/// The longest data that are decrypted, in bytes of base64. WeChat's have less than 2 KiB.
const MAX_DATA: usize = 64 * 1024;
/// A key, an initialisation vector, a block.
const BLOCK: usize = 16;

/// A query parameter may have lost its padding, and Node's servers accept that.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Why data are refused. What is wrong inside the encryption is one answer, so that nobody learns
/// from it where the padding ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Undecryptable {
    /// They do not decrypt to a JSON object under this key.
    Data,
    /// They do, but they are another mini-program's, or say nothing of whose they are.
    Foreign,
}

/// Decrypts `data` to a JSON object, and checks that they are the mini-program's own. The fields are not
/// authenticated by that: who the user is must come from elsewhere.
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
    fn the_sample_of_wechat_decrypts() {
        let user = decrypt(APP, KEY, DATA, IV).unwrap();
        assert_eq!(user["openId"], "oGZUI0egBJY1zhBYw2KhdUfwVJJE");
        assert_eq!(user["nickName"], "Band");
        assert_eq!(user["unionId"], "ocMvos6NjeKLIBqg5Mr9QjxrP1FA");
        assert_eq!(user["watermark"]["timestamp"], 1_477_314_187);
        // As a query parameter, whose padding has been cut off.
        assert_eq!(decrypt(APP, KEY, DATA.trim_end_matches('='), IV).unwrap(), user);
    }

    #[test]
    fn another_mini_programs_data_are_refused() {
        assert_eq!(decrypt("wx0000000000000000", KEY, DATA, IV), Err(Undecryptable::Foreign));
        for unsigned in ["{}", r#"{"watermark":{}}"#, r#"{"watermark":"wx4f4bc4dec97d474b"}"#] {
            assert_eq!(decrypt(APP, KEY, &encrypt(unsigned), IV), Err(Undecryptable::Foreign));
        }
    }

    #[test]
    fn what_does_not_decrypt_is_one_error() {
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

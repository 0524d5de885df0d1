//! The stored form of a session under its hashed id: the fields without the id, the skey and the session key.
//!
//! In version 2 the id is the SHA-1 of the session key, so whoever can read the session key is logged in. It is
//! encrypted with a key that only the id yields, and the store has only the hash of the id.

use aes_gcm::{
    Aes256Gcm, Nonce,
    aead::{Aead, KeyInit},
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD as BASE64};
use larder_core::{Bytes, Error, ErrorKind, Result};
use larder_web_sessions::announcement;
use sha2::{Digest, Sha256};

use crate::{
    fields::{Fields, encode, foreign},
    names::{self, FIELD_SEALED, FIELD_SESSION_KEY},
};

/// Separates the key from other hashes of the id, such as the one in the store's key.
const LABEL: &str = "larder-wechat: session key\n";

/// The nonce of every encryption. A nonce must not encrypt two messages with one key. Here, a key encrypts one message
/// only: an id belongs to one login, and a login has one session key, which no later save can change. (In version 2
/// the id is the hash of the message.) So an unchanged session also has unchanged bytes.
const NONCE: [u8; 12] = [0; 12];

/// A value under a hashed id.
pub(crate) enum Sealed {
    /// The session key is still encrypted.
    Session(Fields),
    /// The announcement that a session is moving here.
    Moving,
}

impl Sealed {
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self> {
        if announcement::is(bytes) {
            return Ok(Self::Moving);
        }
        let fields = Fields::of_object(bytes)?;
        if fields.get(FIELD_SEALED).is_some() { Ok(Self::Session(fields)) } else { Err(foreign()) }
    }
}

/// Encodes the session called `id`.
pub(crate) fn seal(fields: &Fields, id: &str) -> Result<Bytes> {
    let mut fields = fields.clone();
    let session_key = fields.session_key();
    let sealed = cipher(id)
        .encrypt(&Nonce::from(NONCE), session_key.expose().as_bytes())
        .map_err(|_| Error::new(ErrorKind::Codec, "the session key cannot be encrypted"))?;
    for name in names::PROTOCOL {
        fields.remove(name);
    }
    fields.set(FIELD_SEALED, encode(FIELD_SEALED, &BASE64.encode(sealed))?);
    fields.encode()
}

/// Decrypts the session key of the session called `id`.
pub(crate) fn open(mut fields: Fields, id: &str) -> Result<Fields> {
    let opened = || {
        let sealed = BASE64.decode(fields.text(FIELD_SEALED)?.expose()).ok()?;
        let session_key = cipher(id).decrypt(&Nonce::from(NONCE), &*sealed).ok()?;
        String::from_utf8(session_key).ok().filter(|key| !key.is_empty())
    };
    let session_key = opened().ok_or_else(foreign)?;
    for name in names::PROTOCOL {
        fields.remove(name);
    }
    fields.set(FIELD_SESSION_KEY, encode(FIELD_SESSION_KEY, &session_key)?);
    Ok(fields)
}

/// An id has at least 128 random bits, so its hash needs no salt and no slow function.
fn cipher(id: &str) -> Aes256Gcm {
    Aes256Gcm::new(&Sha256::new_with_prefix(LABEL).chain_update(id).finalize())
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "7b69dc787384c988eb0e4ca9920295396aeb9e8a";

    fn fields() -> Fields {
        let stored =
            br#"{"cart":[1.10,1e2],"id":"ab","sessionKey":"k","skey":"s","userInfo":{"nickName":"Band"}}"#;
        Fields::parse(stored, "ab").unwrap()
    }

    fn opened(bytes: &[u8], id: &str) -> Result<Fields> {
        match Sealed::parse(bytes)? {
            Sealed::Session(fields) => open(fields, id),
            Sealed::Moving => panic!("an announcement"),
        }
    }

    #[test]
    fn a_sealed_session_is_stable_and_contains_no_credential() {
        let stored = seal(&fields(), ID).unwrap();
        let sealed = "ew_tZlJWg2ouADr7rti-sNU";
        let expected = format!(
            r#"{{"cart":[1.10,1e2],"sealedSessionKey":"{sealed}","userInfo":{{"nickName":"Band"}}}}"#
        );
        assert_eq!(stored, expected.as_bytes());
        let again = opened(&stored, ID).unwrap();
        assert_eq!(again.session_key().expose(), "k");
        assert_eq!(seal(&again, ID).unwrap(), stored);
    }

    #[test]
    fn other_values_are_rejected() {
        let stored = String::from_utf8(seal(&fields(), ID).unwrap().into()).unwrap();
        let sealed = |text: &str| format!(r#"{{"sealedSessionKey":{text}}}"#);
        let plain = r#"{"id":"ab","sessionKey":"k","skey":"s"}"#.to_owned();
        for other in
            [plain, sealed("7"), sealed(r#""""#), sealed(r#""AAAA""#), sealed(r#""%""#), "[]".to_owned()]
        {
            assert_eq!(
                opened(other.as_bytes(), ID).map(drop).unwrap_err().kind(),
                ErrorKind::Corrupt,
                "{other}"
            );
        }
        // The value of another session.
        assert_eq!(
            opened(stored.as_bytes(), &ID.replace('7', "8")).map(drop).unwrap_err().kind(),
            ErrorKind::Corrupt
        );
    }

    #[test]
    fn an_announcement_is_not_a_session() {
        let announcement = announcement::new().unwrap();
        assert!(matches!(Sealed::parse(&announcement), Ok(Sealed::Moving)));
        assert!(Fields::parse(&announcement, ID).is_err());
    }
}

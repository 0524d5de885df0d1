//! The names of the protocol, from wafer-client-sdk (`lib/constants.js`).

/// Marks a body as a message of the protocol.
pub(crate) const MAGIC: &str = "F2C224D4-2BCE-4C64-AF9F-A6D872000D1A";

pub(crate) const CODE: &str = "x-wx-code";
pub(crate) const ENCRYPTED_DATA: &str = "x-wx-encrypted-data";
pub(crate) const IV: &str = "x-wx-iv";
pub(crate) const ID: &str = "x-wx-id";
pub(crate) const SKEY: &str = "x-wx-skey";

/// Each of these is a credential, or leads to one.
pub(crate) const PARAMETERS: [&str; 5] = [CODE, ENCRYPTED_DATA, IV, ID, SKEY];

pub(crate) const LOGIN_FAILED: &str = "ERR_LOGIN_FAILED";
pub(crate) const INVALID_SESSION: &str = "ERR_INVALID_SESSION";
/// The clients' name for a session that could not be checked.
pub(crate) const CHECK_LOGIN_FAILED: &str = "ERR_CHECK_LOGIN_FAILED";

// Errors of version 2.
pub(crate) const HEADER_MISSED: &str = "ERR_HEADER_MISSED";
pub(crate) const GET_SESSION_KEY: &str = "ERR_GET_SESSION_KEY";
pub(crate) const IN_DECRYPT_DATA: &str = "ERR_IN_DECRYPT_DATA";
pub(crate) const SKEY_INVALID: &str = "ERR_SKEY_INVALID";

// The fields of a stored session, from mp-session-koa2.
pub(crate) const FIELD_ID: &str = "id";
pub(crate) const FIELD_SKEY: &str = "skey";
pub(crate) const FIELD_SESSION_KEY: &str = "sessionKey";
pub(crate) const FIELD_USER_INFO: &str = "userInfo";
/// In the hashed form instead of the first three; see `sealed`.
pub(crate) const FIELD_SEALED: &str = "sealedSessionKey";

/// The fields that identify the session, which the service cannot change.
pub(crate) const PROTOCOL: [&str; 4] = [FIELD_ID, FIELD_SKEY, FIELD_SESSION_KEY, FIELD_SEALED];

//! Invalid claims to a session.

use super::SKEY;

/// The headers of a request that claims a session.
#[derive(Debug)]
pub(crate) struct Claim {
    names: Vec<(&'static str, String)>,
    /// Sends query parameters instead of headers: they can contain any byte.
    pub(crate) by_query: bool,
}

impl Claim {
    fn of(id: &str, skey: &str) -> Self {
        Self::new([("X-WX-Id", id), ("X-WX-Skey", skey)])
    }

    fn new<const N: usize>(names: [(&'static str, &str); N]) -> Self {
        Self { names: names.map(|(name, value)| (name, value.to_owned())).into(), by_query: false }
    }

    pub(crate) fn names(&self) -> Vec<(&str, &str)> {
        self.names.iter().map(|(name, value)| (*name, value.as_str())).collect()
    }

    fn by_query<const N: usize>(names: [(&'static str, &str); N]) -> Self {
        Self { by_query: true, ..Self::new(names) }
    }
}

/// Returns claims to the session `id` that are well-formed: only the store can reject them.
pub(crate) fn forged(id: &str) -> Vec<Claim> {
    vec![Claim::of(&"0".repeat(64), SKEY), Claim::of(id, &"0".repeat(40))]
}

/// Returns claims to the session `id` that are malformed, whatever is stored.
pub(crate) fn malformed(id: &str) -> Vec<Claim> {
    let mut claims: Vec<_> = malformed_ids(id).iter().map(|wrong| Claim::of(wrong, SKEY)).collect();
    claims.extend(malformed_skeys(SKEY).iter().map(|wrong| Claim::of(id, wrong)));
    let injected = format!("{id}\r\nX-WX-Skey: {SKEY}\0\u{e9}");
    claims.extend([
        // Half a claim.
        Claim::new([("X-WX-Id", id)]),
        Claim::new([("X-WX-Skey", SKEY)]),
        // A claim with a duplicate.
        Claim::new([("X-WX-Id", id), ("X-WX-Id", &"0".repeat(64)), ("X-WX-Skey", SKEY)]),
        Claim::new([("X-WX-Id", id), ("X-WX-Skey", SKEY), ("X-WX-Skey", SKEY)]),
        Claim::by_query([("X-WX-Id", &injected), ("X-WX-Skey", SKEY)]),
        Claim::by_query([("X-WX-Id", id), ("X-WX-Skey", "\r\nSet-Cookie: a=b")]),
    ]);
    claims
}

fn malformed_ids(id: &str) -> [String; 9] {
    [
        id[..63].to_owned(),
        id[..1].to_owned(),
        id.repeat(100),
        // 100 KB.
        id.repeat(1_600),
        id.to_uppercase(),
        "*".to_owned(),
        "../../etc/passwd".to_owned(),
        "' OR '1'='1".to_owned(),
        "user:oGZUI0egBJY1zhBYw2KhdUfwVJJE".to_owned(),
    ]
}

pub(crate) fn malformed_skeys(skey: &str) -> [String; 6] {
    [
        skey.to_uppercase(),
        skey[..39].to_owned(),
        format!("{skey}0"),
        skey.repeat(2_560),
        "x".to_owned(),
        "*".to_owned(),
    ]
}

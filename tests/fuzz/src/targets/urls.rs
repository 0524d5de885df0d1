//! URLs and options of all adapters. Nothing is opened.

use larder_core::{Error, ErrorKind};
use larder_kit::{StoreUrl, redact};

use serde_json::{Value, json};

use super::parts;
use crate::{SECRET, Verdict, laws::silent, refused};

/// The options that are secret.
const SECRET_OPTIONS: [&str; 3] = ["password", "sentinel_password", "secret_access_key"];

/// Reads a URL as the configuration of one adapter, and returns its `Debug`.
type Read = fn(&str) -> Result<String, Error>;
/// The same from a configuration file.
type ReadFile = fn(&str) -> Result<String, serde_json::Error>;

macro_rules! adapters {
    ($($(#[$attribute:meta])* $config:path;)+) => {
        const ADAPTERS: &[(Read, ReadFile)] = &[$(
            $(#[$attribute])*
            (
                |url| <$config>::from_url(url).map(|config| format!("{config:?}")),
                |file| serde_json::from_str::<$config>(file).map(|config| format!("{config:?}")),
            )
        ),+];
    };
}

adapters! {
    larder_memory::Config;
    larder_file::Config;
    larder_file::SnapshotConfig;
    #[cfg(feature = "drivers")] larder_sqlite::Config;
    #[cfg(feature = "drivers")] larder_postgres::Config;
    #[cfg(feature = "drivers")] larder_mysql::Config;
    #[cfg(feature = "drivers")] larder_redis::Config;
    #[cfg(feature = "drivers")] larder_mongodb::Config;
    #[cfg(feature = "drivers")] larder_dynamodb::Config;
}

/// Any text. What a URL names may be printed, so only the other laws apply.
pub(super) fn url(input: &[u8]) -> Verdict {
    let text = String::from_utf8_lossy(input);
    let shown = redact(&text);
    assert_eq!(redact(&shown), shown, "a redacted URL has nothing to hide");
    // The same if it is valid: a larder file, for example.
    let accepted = ADAPTERS.iter().filter(|(read, _)| read(&text).map_err(invalid).is_ok()).count();
    let mut url = match StoreUrl::parse(&text) {
        Ok(url) => url,
        Err(error) => {
            invalid(error);
            assert_eq!(accepted, 0);
            return Verdict::Refused;
        }
    };
    if let Err(error) = url.path() {
        invalid(error);
    }
    let whole = url.clone().driver_url(|_| true);
    let mut again = StoreUrl::parse(&whole).unwrap();
    assert_eq!((again.scheme(), again.rest()), (url.scheme(), url.rest()));
    assert!(again.remaining().eq(url.remaining()));
    let names: Vec<_> = url.remaining().take(8).map(str::to_owned).collect();
    for name in names {
        match (url.take(&name), again.take(&name)) {
            (Ok(one), Ok(other)) => assert_eq!(one, other),
            (Err(_), Err(_)) => {}
            _ => panic!("the option `{name}` is not the same in the second round"),
        }
    }
    if accepted > 0 { Verdict::Accepted } else { Verdict::Refused }
}

fn invalid(error: Error) {
    assert_eq!(error.kind(), ErrorKind::InvalidConfig, "{error:?}");
}

/// Puts a password into a URL, and the values of options that are secret. The parts of the input: the scheme, what is
/// before and after the password, and the options.
pub(super) fn password(input: &[u8]) -> Verdict {
    let [scheme, before, after, host, options] = parts::<5>(input).map(String::from_utf8_lossy);
    let scheme = scheme.to_ascii_lowercase();
    // These may be printed, and so may a path, which has no password. The password must be in its place.
    if ["file", "sqlite"].contains(&&*scheme)
        || [&*scheme, &*host, &*options].iter().any(|part| part.contains(SECRET))
        || scheme.contains([':', '?', '@'])
        || host.contains(['@', '?'])
        || options.contains('@')
    {
        return Verdict::Refused;
    }
    let url =
        format!("{scheme}://user:{before}{SECRET}{after}@{host}?{options}&password={SECRET}&x={SECRET}");
    silent(&redact(&url));
    // A driver takes the rest of another password for a host or a path, which its `Debug` may print.
    let encoded = ![&before, &after].iter().any(|part| part.contains(['/', '?', '#', '@']));
    let mut verdict = Verdict::Refused;
    for url in [url.as_str(), url.trim_end_matches(&format!("&password={SECRET}&x={SECRET}")[..])] {
        for (read, _) in ADAPTERS {
            match read(url) {
                Ok(debug) => {
                    assert!(!encoded || !debug.contains(SECRET), "a password was printed: {debug}");
                    verdict = Verdict::Accepted;
                }
                Err(error) => drop(refused(&error, &[ErrorKind::InvalidConfig])),
            }
        }
        match StoreUrl::parse(url) {
            Ok(url) => silent(&format!("{url:?}")),
            Err(error) => drop(refused(&error, &[ErrorKind::InvalidConfig])),
        }
    }
    verdict
}

/// A configuration file: the options of an adapter beside its URL, as JSON. Other options may be printed, so only the
/// secret ones contain the secret: those of the input, and then each of them.
pub(super) fn options(input: &[u8]) -> Verdict {
    let text = String::from_utf8_lossy(input).replace(SECRET, "other");
    let mut verdict = read_options(&text);
    if let Ok(Value::Object(options)) = serde_json::from_str(&text) {
        for name in SECRET_OPTIONS {
            for secret in [json!(SECRET), json!([SECRET]), json!({ SECRET: 1 })] {
                let mut options = options.clone();
                options.insert(name.to_owned(), secret);
                verdict = read_options(&Value::from(options).to_string()).or(verdict);
            }
        }
    }
    verdict
}

fn read_options(text: &str) -> Verdict {
    let mut verdict = Verdict::Refused;
    for (_, read) in ADAPTERS {
        match read(text) {
            Ok(debug) => {
                silent(&debug);
                verdict = Verdict::Accepted;
            }
            Err(error) => silent(&format!("{error} {error:?}")),
        }
    }
    verdict
}

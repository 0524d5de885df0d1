//! The part of an adapter that opens stores by URL.

use larder_core::{Result, Store};

/// An adapter that can join the registry of an application, `larder::Registry`, which opens stores by URL.
///
/// The adapter of a store exports a type that implements this trait. It needs `larder-core` and `larder-kit` only:
///
/// ```
/// # use larder_core::{Result, Store};
/// # use larder_kit::StoreUrl;
/// # larder_kit::config! {
/// #     /// The configuration.
/// #     #[derive(Debug)]
/// #     pub struct Config for "redb" {}
/// #     options {
/// #         /// Whether to make the file.
/// #         setup: bool = "true";
/// #     }
/// # }
/// # impl Config {
/// #     fn locate(&mut self, _: &mut StoreUrl) -> Result<()> { Ok(()) }
/// #     fn existing(self) -> Self { self }
/// #     async fn connect(self) -> Result<Store> { Err(larder_core::Error::unsupported()) }
/// # }
/// /// Opens redb files by URL: `larder::Registry::builtin().with(larder_redb::Adapter)`.
/// #[derive(Clone, Copy, Debug)]
/// pub struct Adapter;
///
/// impl larder_kit::Adapter for Adapter {
///     const SCHEMES: &'static [&'static str] = &["redb"];
///     const URLS: &'static [(&'static str, &'static str)] = &[("redb:FILE", "a redb file")];
///
///     async fn connect(&self, url: &str) -> Result<Store> {
///         Config::from_url(url)?.connect().await
///     }
///
///     async fn connect_existing(&self, url: &str) -> Result<Store> {
///         Config::from_url(url)?.existing().connect().await
///     }
/// }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not an adapter",
    label = "expected an adapter",
    note = "`larder_NAME::Adapter` is the type to pass, such as `larder_sqlite::Adapter`"
)]
pub trait Adapter: Send + Sync + 'static {
    /// The schemes of the adapter's URLs, in lower case and without the colon.
    ///
    /// A registry checks them when the program is compiled: there is at least one, and each of them
    /// [is a scheme](is_scheme).
    const SCHEMES: &'static [&'static str];

    /// The forms of the adapter's URLs, each with a short description, for the help of a command line.
    ///
    /// Each form begins with one of [`SCHEMES`](Self::SCHEMES) and a colon, which a registry checks when the program is
    /// compiled. If a later adapter replaces this one for a scheme, the forms with that scheme are not listed.
    ///
    /// Default: none.
    const URLS: &'static [(&'static str, &'static str)] = &[];

    /// Opens the store at `url`, and creates the store if it does not exist.
    ///
    /// The scheme of `url` is one of [`SCHEMES`](Self::SCHEMES), in any case (`Redis:`).
    ///
    /// # Errors
    ///
    /// [`InvalidConfig`](larder_core::ErrorKind::InvalidConfig) if the URL or an option is not valid; otherwise the
    /// error of connecting to the store. The error does not contain the URL.
    fn connect(&self, url: &str) -> impl Future<Output = Result<Store>> + Send;

    /// Opens the store at `url` only if it exists, and creates nothing.
    ///
    /// An adapter for a store that has nothing to create does the same as in [`connect`](Self::connect).
    ///
    /// # Errors
    ///
    /// As [`connect`](Self::connect), and [`InvalidConfig`](larder_core::ErrorKind::InvalidConfig) if the store does
    /// not exist.
    fn connect_existing(&self, url: &str) -> impl Future<Output = Result<Store>> + Send;
}

/// Whether `text` is a scheme of a URL in lower case: a letter, followed by letters, digits, `+`, `-` and `.`
/// ([RFC 3986](https://www.rfc-editor.org/rfc/rfc3986#section-3.1)).
///
/// ```
/// assert!(larder_kit::is_scheme("redis+unix"));
/// assert!(!larder_kit::is_scheme("Redis") && !larder_kit::is_scheme("redis:"));
/// ```
#[must_use]
pub const fn is_scheme(text: &str) -> bool {
    let [b'a'..=b'z', rest @ ..] = text.as_bytes() else { return false };
    let mut rest = rest;
    while let [byte, after @ ..] = rest {
        if !matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'+' | b'-' | b'.') {
            return false;
        }
        rest = after;
    }
    true
}

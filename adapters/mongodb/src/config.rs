//! What can be configured, and URLs: our own options out of them, the rest for the driver.

use std::{fmt, time::Duration};

use larder_core::{Error, Result};
use larder_kit::{POSITIVE_DURATION, StoreUrl};
use mongodb::{
    Client,
    options::{CollectionOptions, ConnectionString},
};

use crate::error::invalid_config;

larder_kit::choices! {
    /// How values are stored in a document.
    pub enum ValueFormat {
        /// BSON binary data: any bytes, as they are.
        #[default]
        "binary" => Binary,
        /// BSON of the same meaning as the JSON, to be read and queried with MongoDB's own tools. Values
        /// must be JSON, and come back as an equal JSON value.
        "document" => Document,
    }
}

larder_kit::choices! {
    /// How documents are laid out.
    pub enum Layout {
        /// `{_id: key, value, version, expires_at}`.
        #[default]
        "larder" => Larder,
        /// The documents of grammY's MongoDB adapter: `{_id: ObjectId, key, value}`, the value as BSON. No
        /// expiry; compare-and-swap by content.
        "grammy" => Grammy,
    }
}

/// The standard connection string options that go to the driver. Their names are not case-sensitive.
pub const DRIVER_OPTIONS: &[&str] = &[
    "appName",
    "authMechanism",
    "authMechanismProperties",
    "authSource",
    "connectTimeoutMS",
    "directConnection",
    "heartbeatFrequencyMS",
    "journal",
    "loadBalanced",
    "localThresholdMS",
    "maxConnecting",
    "maxIdleTimeMS",
    "maxPoolSize",
    "maxStalenessSeconds",
    "minPoolSize",
    "readConcernLevel",
    "readPreference",
    "readPreferenceTags",
    "replicaSet",
    "retryReads",
    "retryWrites",
    "serverMonitoringMode",
    "serverSelectionTimeoutMS",
    "socketTimeoutMS",
    "srvMaxHosts",
    "srvServiceName",
    "ssl",
    "tls",
    "tlsAllowInvalidCertificates",
    "tlsCAFile",
    "tlsCertificateKeyFile",
    "tlsInsecure",
    "w",
    "waitQueueTimeoutMS",
    "wTimeoutMS",
];

/// These need another option, so they cannot be tried alone.
const DEPENDENT: &[&str] =
    &["readPreferenceTags", "maxStalenessSeconds", "authMechanism", "authMechanismProperties"];

/// Where the collection comes from.
pub(crate) enum ClientSource {
    Url(Box<ConnectionString>),
    /// A client of the caller's, and how to use the collection.
    Client(Client, CollectionOptions),
}

impl fmt::Debug for ClientSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Neither the connection string nor the client's options: they hold the password.
        f.write_str("ClientSource")
    }
}

larder_kit::options! {
    /// Opens a store in a MongoDB collection.
    ///
    /// ```no_run
    /// # async fn example(client: mongodb::Client) -> larder_core::Result<()> {
    /// use std::time::Duration;
    /// use larder_mongodb::{MongoBuilder, ValueFormat};
    ///
    /// // A client of your own; it stays open when the store is closed.
    /// let store = MongoBuilder::from_client(client)
    ///     .database("bot")
    ///     .collection("sessions")
    ///     .values(ValueFormat::Document)
    ///     .timeout(Duration::from_secs(10))
    ///     .connect()
    ///     .await?;
    /// # Ok(())
    /// # }
    /// ```
    #[derive(Debug)]
    #[must_use]
    pub struct MongoBuilder {
        source: ClientSource,
        existing: bool,
    }

    /// The options of our own that a URL can have.
    OPTIONS {
        /// The database. Default: the one in the URL's path or of the given collection, else `larder`.
        "database" => database: Option<String> = None;
        /// The collection. Default: the given one, else `larder`.
        "collection" => collection: Option<String> = None;
        /// How values are stored. Default: [`ValueFormat::Binary`], and [`ValueFormat::Document`] in
        /// grammY's layout, which has no other.
        "values" => values: Option<ValueFormat> = None;
        /// How documents are laid out. Default: [`Layout::Larder`].
        "layout" => layout: Layout = Layout::Larder;
        /// Whether to check the collection and create its index. Default: yes. Without the
        /// [index](crate#what-is-stored) the server does not remove expired documents (they are never seen
        /// either way), and the collection may hold documents of another program. Documents of the other
        /// layout or format are refused either way, if the user may read the collection.
        "setup" => setup: bool = true;
        /// How long any one call may take, connecting included. Default: 30 s. A call that takes longer
        /// is a [`Timeout`](larder_core::ErrorKind::Timeout); a write may then still happen.
        "timeout" => timeout: Duration = Duration::from_secs(30), if |timeout| !timeout.is_zero() => POSITIVE_DURATION;
    }
}

impl MongoBuilder {
    /// Takes our options out of `url` and lets the driver parse the rest.
    pub(crate) fn parse(url: &str) -> Result<Self> {
        let mut url = StoreUrl::parse(url)?;
        match url.scheme() {
            "mongodb" => {}
            "mongodb+srv" if cfg!(feature = "srv") => {}
            "mongodb+srv" => {
                return Err(invalid_config(
                    "`mongodb+srv:` needs a DNS resolver, which is not compiled in: turn on the feature `srv` of the \
                     crate `larder` (of `larder-mongodb`, where it is used alone), or write the servers out as `mongodb://host1,host2/?replicaSet=name&tls=true`",
                ));
            }
            _ => return Err(invalid_config("a MongoDB URL begins with `mongodb://` or `mongodb+srv://`")),
        }
        let mut own = Self::with_defaults(ClientSource::Url(Box::default()), false);
        own.take_options(&mut url)?;
        let known = |name: &str| DRIVER_OPTIONS.iter().any(|option| option.eq_ignore_ascii_case(name));
        if let Some(unknown) = url.remaining().find(|name| !known(name)) {
            return Err(invalid_config(format!(
                "`{}:` has no option `{unknown}`; its options are: {}; and those of the driver: {}",
                url.scheme(),
                OPTIONS.join(", "),
                DRIVER_OPTIONS.join(", "),
            )));
        }
        let connection = ConnectionString::parse(url.to_url()).map_err(|_| culprit(&url))?;
        own.source = ClientSource::Url(Box::new(connection));
        Ok(own)
    }
}

/// The driver's own message may quote a part of the URL that is a password, so it stays behind: each
/// option is tried alone, to name at least the one that is wrong.
fn culprit(url: &StoreUrl) -> Error {
    let query = url.to_url();
    let query = query.split_once('?').map_or("", |(_, query)| query);
    let wrong = query.split('&').filter(|pair| !pair.is_empty()).find_map(|pair| {
        let name = pair.split_once('=').map_or(pair, |(name, _)| name);
        let dependent = DEPENDENT.iter().any(|option| option.eq_ignore_ascii_case(name));
        let fails = ConnectionString::parse(format!("mongodb://localhost/?{pair}")).is_err();
        (fails && !dependent && !name.to_ascii_lowercase().starts_with("srv")).then(|| name.to_owned())
    });
    match wrong {
        Some(name) => invalid_config(format!("the driver refuses the value of the option `{name}`")),
        None => invalid_config(
            "the driver refuses the URL: check the list of hosts and ports, percent-encode reserved characters \
             in user, password and database (`@` is %40, `/` is %2F), and see that its options go together",
        ),
    }
}

/// Refuses names that the server would refuse, before there is a server.
pub(crate) fn check_names(database: &str, collection: &str) -> Result<()> {
    let illegal = |c: char| matches!(c, '/' | '\\' | '.' | ' ' | '"' | '$' | '\0');
    if database.is_empty() || database.len() > 63 || database.contains(illegal) {
        return Err(invalid_config(
            "a database name has 1 to 63 bytes, and none of the characters / \\ . \" $ nor a space",
        ));
    }
    if collection.is_empty()
        || collection.contains(['$', '\0'])
        || collection.starts_with("system.")
        || collection.starts_with('.')
        || collection.ends_with('.')
    {
        return Err(invalid_config(
            "a collection name is not empty, has no $, no dot at either end, and does not begin with `system.`",
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use larder_core::ErrorKind;

    use super::*;

    fn refused(url: &str) -> String {
        let error = MongoBuilder::parse(url).map(drop).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidConfig);
        let shown = format!("{error} {error:?}");
        assert!(!shown.contains("hunter2"), "{shown}");
        shown
    }

    #[test]
    fn our_options_are_taken_and_the_drivers_handed_on() {
        let options = MongoBuilder::parse(
            "mongodb://u:p%40ss@a:1,b:2/bot?collection=s&values=document&setup=false&timeout=2s&w=1&replicaSet=rs",
        )
        .unwrap();
        let ClientSource::Url(connection) = &options.source else { panic!() };
        assert_eq!(options.collection.as_deref(), Some("s"));
        assert_eq!((options.values, options.setup), (Some(ValueFormat::Document), false));
        assert_eq!(options.timeout, Duration::from_secs(2));
        assert_eq!(connection.replica_set.as_deref(), Some("rs"));
        assert!(connection.write_concern.is_some());
        assert!(
            MongoBuilder::parse(
                "mongodb://h/?READPREFERENCE=nearest&readPreferenceTags=dc:ny&readPreferenceTags="
            )
            .is_ok()
        );
    }

    #[test]
    fn unknown_options_name_the_known_ones() {
        let shown = refused("mongodb://u:hunter2@h/?colection=x");
        for name in ["`colection`", "collection", "layout", "readConcernLevel"] {
            assert!(shown.contains(name), "{shown}");
        }
        assert!(refused("mongodb://h/?values=text").contains("binary, document"));
    }

    #[test]
    fn the_option_that_is_wrong_is_named_and_a_password_is_not() {
        assert!(refused("mongodb://u:hunter2@h/?tls=maybe").contains("`tls`"));
        assert!(refused("mongodb://h/?connectTimeoutMS=soon&w=1").contains("`connectTimeoutMS`"));
        // Without its `@` a password looks like a port.
        refused("mongodb://u:hunter2/h");
        refused("mongodb://u:hunter2@/?tls=true");
        refused("mongodb://u:hunter2@h:port/db");
        assert!(refused("postgres://h").contains("mongodb://"));
    }

    #[cfg(not(feature = "srv"))]
    #[test]
    fn srv_says_what_it_needs() {
        let shown = refused("mongodb+srv://u:hunter2@cluster.example.net/");
        for name in ["feature `srv`", "crate `larder`", "`larder-mongodb`"] {
            assert!(shown.contains(name), "{shown}");
        }
    }

    #[test]
    fn names_that_the_server_refuses_are_refused() {
        assert!(check_names("bot", "sessions.v2").is_ok());
        for (database, collection) in [
            ("", "c"),
            ("a.b", "c"),
            ("a b", "c"),
            ("d", ""),
            ("d", "$c"),
            ("d", "system.users"),
            ("d", "c."),
        ] {
            assert!(check_names(database, collection).is_err(), "{database} {collection}");
        }
    }
}

//! The options, in code and in a URL: Larder's own out of it, the rest for the driver.

use larder_core::{Error, Result};
use larder_kit::{Layout, StoreUrl, Timeout, ValueFormat};
use mongodb::options::{CollectionOptions, ConnectionString};

use crate::error::invalid_config;

/// The standard options of connection strings, which go to the driver. Their names are not case-sensitive.
const DRIVER_OPTIONS: &str = "appName authMechanism authMechanismProperties authSource connectTimeoutMS directConnection \
    heartbeatFrequencyMS journal loadBalanced localThresholdMS maxConnecting maxIdleTimeMS maxPoolSize \
    maxStalenessSeconds minPoolSize readConcernLevel readPreference readPreferenceTags replicaSet \
    retryReads retryWrites serverMonitoringMode serverSelectionTimeoutMS socketTimeoutMS srvMaxHosts \
    srvServiceName ssl tls tlsAllowInvalidCertificates tlsCAFile tlsCertificateKeyFile tlsInsecure w \
    waitQueueTimeoutMS wTimeoutMS";
/// Those of them that need another one, so that they cannot be tried alone.
const DEPENDENT: &str = "readPreferenceTags maxStalenessSeconds authMechanism authMechanismProperties";

larder_kit::config! {
    /// The configuration of a store in a MongoDB collection.
    ///
    /// ```no_run
    /// # async fn example(client: mongodb::Client) -> larder_core::Result<()> {
    /// use std::time::Duration;
    /// use larder_mongodb::{Config, ValueFormat};
    ///
    /// // A client of your own; it stays open when the store is closed.
    /// let config = Config::new().database("bot").collection("sessions").values(ValueFormat::Json);
    /// let store = config.timeout(Duration::from_secs(10)).connect_with(client).await?;
    /// # Ok(())
    /// # }
    /// ```
    #[derive(Clone, Debug)]
    pub struct Config for "mongodb" {
        connection: Option<ConnectionString>,
        collection_options: CollectionOptions,
        existing: bool,
    }

    options {
        /// The name of the database.
        database: Option<String>, unset "the URL's path, else `larder`";
        /// The name of the collection.
        collection: String = "larder";
        /// `bytes` stores values as binary data, and `json` stores JSON as BSON. grammY's layout has JSON only.
        values: Option<ValueFormat>, unset "`bytes`; `json` with `layout=grammy`";
        /// `larder` or, for the documents of grammY's MongoDB adapter, `grammy`.
        layout: Layout = "larder";
        /// Whether to check the collection and create its index.
        setup: bool = "true";
        /// How long any one call may take, connecting included. After a time-out a write may still happen.
        timeout: Timeout = "30s";
    }
}

impl Config {
    fn locate(&mut self, url: &mut StoreUrl) -> Result<()> {
        match url.scheme() {
            "mongodb" => {}
            "mongodb+srv" if cfg!(feature = "srv") => {}
            "mongodb+srv" => {
                return Err(invalid_config(
                    "`mongodb+srv:` needs a DNS resolver, which is not compiled in: turn on the feature `srv` of the \
                     crate `larder` (of `larder-mongodb`, where it is used alone), or write the servers out as \
                     `mongodb://host1,host2/?replicaSet=name&tls=true`",
                ));
            }
            _ => return Err(invalid_config("a MongoDB URL begins with `mongodb://` or `mongodb+srv://`")),
        }
        let of_driver = url.driver_url(|name| is_in(DRIVER_OPTIONS, name));
        let own = Self::OPTIONS.iter().map(|option| option.name);
        url.finish(own.chain(DRIVER_OPTIONS.split(' ')))?;
        let connection = ConnectionString::parse(&of_driver).map_err(|_| culprit(&of_driver))?;
        self.database = self.database.take().or_else(|| connection.default_database.clone());
        self.connection = Some(connection);
        Ok(())
    }
}

fn is_in(names: &str, name: &str) -> bool {
    names.split(' ').any(|one| one.eq_ignore_ascii_case(name))
}

/// The driver's own message may quote a part of the URL that is a password, so it stays behind: each
/// option is tried alone, to name at least the one that is wrong.
fn culprit(url: &str) -> Error {
    let (_, query) = url.split_once('?').unwrap_or_default();
    let wrong = query.split('&').filter(|pair| !pair.is_empty()).find_map(|pair| {
        let name = pair.split_once('=').map_or(pair, |(name, _)| name);
        let alone = !is_in(DEPENDENT, name) && !name.to_ascii_lowercase().starts_with("srv");
        (alone && ConnectionString::parse(format!("mongodb://localhost/?{pair}")).is_err()).then_some(name)
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
    use std::time::Duration;

    use larder_core::ErrorKind;
    use serde_json::json;

    use super::*;

    fn refused(url: &str) -> String {
        let error = Config::from_url(url).map(drop).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidConfig);
        let shown = format!("{error} {error:?}");
        assert!(!shown.contains("hunter2"), "{shown}");
        shown
    }

    #[test]
    fn our_options_are_taken_and_the_drivers_handed_on() {
        let options = Config::from_url(
            "mongodb://u:p%40ss@a:1,b:2/bot?collection=s&values=json&setup=false&timeout=2s&w=1&replicaSet=rs",
        )
        .unwrap();
        let connection = options.connection.unwrap();
        assert_eq!((options.database.as_deref(), options.collection.as_str()), (Some("bot"), "s"));
        assert_eq!((options.values, options.setup), (Some(ValueFormat::Json), false));
        assert_eq!(options.timeout.get(), Duration::from_secs(2));
        assert_eq!(connection.replica_set.as_deref(), Some("rs"));
        assert!(connection.write_concern.is_some());
        assert!(
            Config::from_url(
                "mongodb://h/?READPREFERENCE=nearest&readPreferenceTags=dc:ny&readPreferenceTags="
            )
            .is_ok()
        );
    }

    #[test]
    fn configuration_file_has_the_url_and_options() {
        let map = json!({ "url": "mongodb://u:hunter2@h/bot?w=1&collection=s", "collection": "t" });
        let config: Config = serde_json::from_value(map).unwrap();
        assert_eq!((config.database.as_deref(), config.collection.as_str()), (Some("bot"), "t"));
        assert!(config.connection.as_ref().unwrap().write_concern.is_some());
        assert!(!format!("{config:?}").contains("hunter2"));
        let error = serde_json::from_value::<Config>(json!({ "url": "mongodb://u:hunter2/h" })).unwrap_err();
        assert!(error.to_string().contains("the driver refuses the URL"));
        assert!(!error.to_string().contains("hunter2"));
    }

    #[test]
    fn unknown_options_name_the_known_ones() {
        let shown = refused("mongodb://u:hunter2@h/?colection=x");
        for name in ["`colection`", "collection", "layout", "readConcernLevel"] {
            assert!(shown.contains(name), "{shown}");
        }
        assert!(refused("mongodb://h/?readPreferense=nearest").contains("did you mean `readPreference`?"));
        assert!(refused("mongodb://h/?values=text").contains("bytes, json"));
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

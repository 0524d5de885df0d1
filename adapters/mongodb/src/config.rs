//! The options. Larder takes its own out of the URL, and passes the rest to the driver.

use larder_core::{Error, Result};
use larder_kit::{Layout, StoreUrl, Timeout, ValueFormat};
use mongodb::options::{CollectionOptions, ConnectionString};

use crate::error::invalid_config;

/// The standard options of connection strings, which are passed to the driver. Names are not case-sensitive.
const DRIVER_OPTIONS: &str = "appName authMechanism authMechanismProperties authSource connectTimeoutMS directConnection \
    heartbeatFrequencyMS journal loadBalanced localThresholdMS maxConnecting maxIdleTimeMS maxPoolSize \
    maxStalenessSeconds minPoolSize readConcernLevel readPreference readPreferenceTags replicaSet \
    retryReads retryWrites serverMonitoringMode serverSelectionTimeoutMS socketTimeoutMS srvMaxHosts \
    srvServiceName ssl tls tlsAllowInvalidCertificates tlsCAFile tlsCertificateKeyFile tlsInsecure w \
    waitQueueTimeoutMS wTimeoutMS";
/// Those that depend on another option, and so cannot be tried alone.
const DEPENDENT: &str = "readPreferenceTags maxStalenessSeconds authMechanism authMechanismProperties";

larder_kit::config! {
    /// The configuration of a store in a MongoDB collection.
    ///
    /// ```no_run
    /// # async fn example(client: mongodb::Client) -> larder_core::Result<()> {
    /// use std::time::Duration;
    /// use larder_mongodb::{Config, ValueFormat};
    ///
    /// // Your own client, which stays open when the store is closed.
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
        /// The format of values: `bytes` stores binary data; `json` stores JSON as BSON. grammY's layout supports only
        /// `json`.
        values: Option<ValueFormat>, unset "`bytes`; `json` with `layout=grammy`";
        /// The layout of documents: `larder`, or `grammy` for those of grammY's MongoDB adapter.
        layout: Layout = "larder";
        /// Whether to check the collection and create its index.
        setup: bool = "true";
        /// The longest time for a call, including connecting. After a timeout, a write may still happen.
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
                    "`mongodb+srv:` needs a DNS resolver, which is not compiled in: enable the feature `srv` of the \
                     crate `larder` (or of `larder-mongodb` if you use that directly), or list the servers as \
                     `mongodb://host1,host2/?replicaSet=name&tls=true`",
                ));
            }
            _ => {
                return Err(invalid_config("a MongoDB URL must begin with `mongodb://` or `mongodb+srv://`"));
            }
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

/// Names the invalid option by trying each alone. The driver's own message is dropped, because it may contain a part of
/// the URL that is a password.
fn culprit(url: &str) -> Error {
    let (_, query) = url.split_once('?').unwrap_or_default();
    let wrong = query.split('&').filter(|pair| !pair.is_empty()).find_map(|pair| {
        let name = pair.split_once('=').map_or(pair, |(name, _)| name);
        let alone = !is_in(DEPENDENT, name) && !name.to_ascii_lowercase().starts_with("srv");
        (alone && ConnectionString::parse(format!("mongodb://localhost/?{pair}")).is_err()).then_some(name)
    });
    match wrong {
        Some(name) => invalid_config(format!("the driver rejected the value of the option `{name}`")),
        None => invalid_config(
            "the driver rejected the URL: check the hosts and ports, percent-encode reserved characters in user, \
             password and database (`@` is %40, `/` is %2F), and check that the options are compatible",
        ),
    }
}

/// Rejects names that the server would reject, before connecting.
pub(crate) fn check_names(database: &str, collection: &str) -> Result<()> {
    let illegal = |c: char| matches!(c, '/' | '\\' | '.' | ' ' | '"' | '$' | '\0');
    if database.is_empty() || database.len() > 63 || database.contains(illegal) {
        return Err(invalid_config(
            "a database name must have 1 to 63 bytes, without spaces and the characters / \\ . \" $",
        ));
    }
    if collection.is_empty()
        || collection.contains(['$', '\0'])
        || collection.starts_with("system.")
        || collection.starts_with('.')
        || collection.ends_with('.')
    {
        return Err(invalid_config(
            "a collection name must not be empty, contain $, begin or end with a dot, or begin with `system.`",
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
    fn options_of_the_driver_are_passed_to_it() {
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
    fn a_configuration_file_has_a_url_and_options() {
        let map = json!({ "url": "mongodb://u:hunter2@h/bot?w=1&collection=s", "collection": "t" });
        let config: Config = serde_json::from_value(map).unwrap();
        assert_eq!((config.database.as_deref(), config.collection.as_str()), (Some("bot"), "t"));
        assert!(config.connection.as_ref().unwrap().write_concern.is_some());
        assert!(!format!("{config:?}").contains("hunter2"));
        let error = serde_json::from_value::<Config>(json!({ "url": "mongodb://u:hunter2/h" })).unwrap_err();
        assert!(error.to_string().contains("the driver rejected the URL"));
        assert!(!error.to_string().contains("hunter2"));
    }

    #[test]
    fn errors_for_unknown_options_name_the_known_ones() {
        let shown = refused("mongodb://u:hunter2@h/?colection=x");
        for name in ["`colection`", "collection", "layout", "readConcernLevel"] {
            assert!(shown.contains(name), "{shown}");
        }
        assert!(refused("mongodb://h/?readPreferense=nearest").contains("did you mean `readPreference`?"));
        assert!(refused("mongodb://h/?values=text").contains("bytes, json"));
    }

    #[test]
    fn errors_name_the_invalid_option_and_no_password() {
        assert!(refused("mongodb://u:hunter2@h/?tls=maybe").contains("`tls`"));
        assert!(refused("mongodb://h/?connectTimeoutMS=soon&w=1").contains("`connectTimeoutMS`"));
        // Without `@`, a password looks like a port.
        refused("mongodb://u:hunter2/h");
        refused("mongodb://u:hunter2@/?tls=true");
        refused("mongodb://u:hunter2@h:port/db");
        assert!(refused("postgres://h").contains("mongodb://"));
    }

    #[cfg(not(feature = "srv"))]
    #[test]
    fn errors_for_srv_urls_name_the_feature() {
        let shown = refused("mongodb+srv://u:hunter2@cluster.example.net/");
        for name in ["feature `srv`", "crate `larder`", "`larder-mongodb`"] {
            assert!(shown.contains(name), "{shown}");
        }
    }

    #[test]
    fn invalid_names_are_rejected() {
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

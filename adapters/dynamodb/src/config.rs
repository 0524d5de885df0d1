//! The options, in code and in a URL.

use std::borrow::Cow;

use larder_core::{Error, ErrorKind, Result};
use larder_kit::{Secret, StoreUrl, Timeout};

/// The name of the table without a name in the URL.
const TABLE: &str = "larder";

/// The names of tables that DynamoDB accepts, for errors.
const NAME: &str = "3 to 255 letters of ASCII, digits and characters of `_-.`";

larder_kit::config! {
    /// The configuration of a store in a DynamoDB table.
    ///
    /// ```no_run
    /// use std::time::Duration;
    /// use larder_dynamodb::Config;
    ///
    /// # async fn open() -> larder_core::Result<()> {
    /// let store = Config::from_url("dynamodb:sessions?region=eu-central-1")?
    ///     .setup(false)
    ///     .timeout(Duration::from_secs(5))
    ///     .connect()
    ///     .await?;
    /// # drop(store);
    /// # Ok(())
    /// # }
    /// ```
    #[derive(Clone, Debug)]
    #[must_use]
    pub struct Config for "dynamodb" {
        existing: bool,
    }

    options {
        /// The name of the table.
        table: Option<String>, unset "the URL's path, else `larder`",
            if |table| table.as_deref().is_none_or(is_name) => NAME;
        /// The AWS region.
        region: Option<String>, unset "`AWS_REGION`, the profile's, or the instance's",
            if |region| region.as_deref().is_none_or(is_region)
                => "ASCII letters, digits and `-`, such as `eu-central-1`";
        /// The URL of another endpoint than the region's, such as `http://localhost:8000`.
        endpoint: Option<String>, unset "`AWS_ENDPOINT_URL_DYNAMODB`, or the region's",
            if |url| url.as_deref().is_none_or(is_endpoint)
                => "a URL without white space that begins with `http://` or `https://`";
        /// The profile in the configuration files of AWS.
        profile: Option<String>, unset "`AWS_PROFILE`, else `default`";
        /// The id of an access key, instead of the SDK's credential chain. Use it only for servers on your own machine.
        access_key_id: Option<String>, unset "the SDK's credential chain";
        /// The secret of `access_key_id`.
        secret_access_key: Option<Secret>, unset "the SDK's credential chain";
        /// Whether to create the table if it is missing, with on-demand billing and time to live. The key of an
        /// existing table is checked either way.
        setup: bool = "true";
        /// Whether reads see every earlier write. Otherwise they cost half, and may return old values.
        consistent: bool = "true";
        /// The longest time for a request, including the SDK's retries if the table is throttled. Listings, clearing
        /// and batches have this time for each of their requests.
        timeout: Timeout = "30s";
    }
}

impl Config {
    /// Takes the name of the table from the URL.
    fn locate(&mut self, url: &mut StoreUrl) -> Result<()> {
        if url.scheme() != Self::SCHEME {
            return Err(invalid("a DynamoDB URL must have the form `dynamodb:table?region=eu-central-1`"));
        }
        match (url.rest(), &self.table) {
            ("", _) => {}
            (_, Some(_)) => return Err(invalid("the URL names the table twice; remove the option `table`")),
            (name, None) => {
                if !is_name(name) {
                    return Err(invalid(format!(
                        "the path of a DynamoDB URL is the name of the table, which must be {NAME}"
                    )));
                }
                self.table = Some(name.to_owned());
            }
        }
        Ok(())
    }

    const SCHEME: &'static str = "dynamodb";

    /// Opens only an existing table. Connecting fails with [`InvalidConfig`](ErrorKind::InvalidConfig) if the table is
    /// missing. Overrides [`setup`](Self::setup).
    pub const fn existing(mut self) -> Self {
        self.existing = true;
        self
    }

    pub(crate) fn table_name(&self) -> String {
        self.table.clone().unwrap_or_else(|| TABLE.to_owned())
    }
}

fn is_name(name: &str) -> bool {
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.');
    (3..=255).contains(&name.len()) && name.bytes().all(legal)
}

fn is_region(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}

fn is_endpoint(url: &str) -> bool {
    let begins = |scheme: &&str| url.len() > scheme.len() && url.starts_with(*scheme);
    ["http://", "https://"].iter().any(begins) && !url.contains(char::is_whitespace)
}

pub(crate) fn invalid(message: impl Into<Cow<'static, str>>) -> Error {
    Error::new(ErrorKind::InvalidConfig, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rejected(url: &str) -> String {
        let error = Config::from_url(url).expect_err(url);
        assert_eq!(error.kind(), ErrorKind::InvalidConfig, "{url}");
        assert!(!format!("{error:?}").contains("hunter2"), "{url}");
        error.message().to_owned()
    }

    #[test]
    fn the_path_is_the_table() {
        let table = |url: &str| Config::from_url(url).unwrap().table_name();
        assert_eq!(table("dynamodb:sessions?region=eu-central-1"), "sessions");
        assert_eq!(table("DynamoDB:a.b-c_1"), "a.b-c_1");
        assert_eq!(table("dynamodb:?table=sessions"), "sessions");
        assert_eq!(table("dynamodb:"), "larder");
        assert!(rejected("dynamodb:one?table=two").contains("twice"));
        for name in ["ab", "a b c", "a/b/c", "//host/table", "é-é-é", &"x".repeat(256)] {
            assert!(rejected(&format!("dynamodb:{name}")).contains("name of the table"), "{name}");
        }
    }

    #[test]
    fn a_secret_is_never_shown() {
        let url = "dynamodb:sessions?access_key_id=id&secret_access_key=hunter2";
        assert!(!format!("{:?}", Config::from_url(url).unwrap()).contains("hunter2"));
        assert!(rejected("dynamodb:sessions?secret_acces_key=hunter2").contains("`secret_access_key`?"));
    }

    #[test]
    fn an_endpoint_is_a_url() {
        assert!(Config::from_url("dynamodb:abc?endpoint=http://localhost:8000").is_ok());
        for wrong in
            ["localhost:8000", "https://", "ftp://localhost", "", "http://local host", "http://localhost%20"]
        {
            assert!(rejected(&format!("dynamodb:abc?endpoint={wrong}")).contains("http://"), "{wrong}");
        }
    }

    #[test]
    fn a_region_is_a_part_of_a_host_name() {
        assert!(Config::from_url("dynamodb:abc?region=eu-central-1").is_ok());
        for wrong in ["", "eu central 1", "eu_central_1", "eu-central-1.example", "eu/central", "é"] {
            assert!(rejected(&format!("dynamodb:abc?region={wrong}")).contains("eu-central-1"), "{wrong}");
        }
    }
}

//! Opens a store.

use std::{sync::Arc, time::Duration};

use aws_config::BehaviorVersion;
use aws_sdk_dynamodb::{
    Client,
    config::{
        Credentials, Region,
        interceptors::InterceptorContext,
        retry::{ClassifyRetry, RetryAction, RetryConfig},
        timeout::TimeoutConfig,
    },
};
use aws_smithy_http_client::{
    Builder,
    tls::{Provider, rustls_provider::CryptoMode},
};
use larder_core::{Result, Storage, Store};
use larder_kit::Configure;

use crate::{
    config::{Config, invalid},
    error::REJECTED,
    pauses::{FIRST, LONGEST},
    storage::DynamoStorage,
};

impl Config {
    /// Connects with the SDK's credential chain, creates the table if `setup` is on and it is missing, and opens the
    /// store.
    ///
    /// # Errors
    ///
    /// - [`InvalidConfig`] if an option is invalid, the region is unknown, the certificate is not trusted, or the table
    ///   has another key or is missing.
    /// - [`PermissionDenied`] if the credentials are missing, wrong or have expired, or a permission is missing.
    /// - [`Unavailable`] or [`Timeout`] if DynamoDB cannot be reached, or the table is not ready in time.
    ///
    /// [`InvalidConfig`]: larder_core::ErrorKind::InvalidConfig
    /// [`PermissionDenied`]: larder_core::ErrorKind::PermissionDenied
    /// [`Unavailable`]: larder_core::ErrorKind::Unavailable
    /// [`Timeout`]: larder_core::ErrorKind::Timeout
    pub async fn connect(self) -> Result<Store> {
        self.open(None).await.map_err(Self::named)
    }

    /// Opens the store on your own client, with its region, endpoint, credentials and HTTP client. Its retries and
    /// timeouts are replaced by those of this crate. The options for making a client have no effect.
    ///
    /// # Errors
    ///
    /// Fails as [`connect`](Self::connect) does.
    pub async fn connect_with(self, client: Client) -> Result<Store> {
        self.open(Some(client)).await.map_err(Self::named)
    }

    async fn open(self, client: Option<Client>) -> Result<Store> {
        self.check_options()?;
        let client = match client {
            Some(client) => client,
            None => self.client().await?,
        };
        let timeout = self.timeout.get();
        let bounded = client
            .config()
            .to_builder()
            .retry_config(
                RetryConfig::standard()
                    .with_max_attempts(ATTEMPTS)
                    .with_initial_backoff(FIRST)
                    .with_max_backoff(LONGEST),
            )
            .retry_classifier(OnlyRejections)
            .timeout_config(
                TimeoutConfig::builder()
                    .connect_timeout(CONNECT.min(timeout / 2))
                    .operation_timeout(timeout)
                    .build(),
            );
        let storage = DynamoStorage {
            client: Client::from_conf(bounded.build()),
            table: self.table_name(),
            consistent: self.consistent,
            timeout,
        };
        storage.set_up(self.setup && !self.existing).await?;
        Ok(Store::from(Arc::new(storage) as Arc<dyn Storage>))
    }

    async fn client(&self) -> Result<Client> {
        // Without its default features, the SDK has no HTTP client, and so does not use aws-lc.
        let http = Builder::new().pool_idle_timeout(IDLE).tls_provider(Provider::Rustls(CryptoMode::Ring));
        let http = http.build_https();
        let mut loader = aws_config::defaults(BehaviorVersion::latest()).http_client(http);
        if let Some(region) = &self.region {
            loader = loader.region(Region::new(region.clone()));
        }
        if let Some(endpoint) = &self.endpoint {
            loader = loader.endpoint_url(endpoint);
        }
        if let Some(profile) = &self.profile {
            loader = loader.profile_name(profile);
        }
        loader = match (&self.access_key_id, &self.secret_access_key) {
            (None, None) => loader,
            (Some(id), Some(secret)) => {
                let credentials = Credentials::new(id, secret.expose(), None, None, Self::ADAPTER);
                loader.credentials_provider(credentials)
            }
            _ => return Err(invalid("`access_key_id` and `secret_access_key` must be given together")),
        };
        let sdk = loader.load().await;
        if sdk.region().is_none() {
            return Err(invalid("the region is unknown: set `region`, `AWS_REGION` or a profile"));
        }
        Ok(Client::new(&sdk))
    }
}

/// How often the SDK sends a request that is throttled. The pauses in between add up to about 3 seconds.
const ATTEMPTS: u32 = 10;

/// The longest time for opening a connection. It is shorter than that of the request, so that a request that was not
/// sent is known as such.
const CONNECT: Duration = Duration::from_secs(3);

/// The longest time that a connection is kept without use. If the service closes it just when a request is sent, the
/// request fails, and its outcome is unknown.
const IDLE: Duration = Duration::from_secs(20);

/// Lets the SDK retry only what DynamoDB has rejected, which it does if a table is throttled. Any other failed request
/// may have been done, and a retry would then find its own change, and report a conflict.
#[derive(Debug)]
struct OnlyRejections;

impl ClassifyRetry for OnlyRejections {
    fn classify_retry(&self, context: &InterceptorContext) -> RetryAction {
        let rejected = context.response().is_some_and(|response| response.status().as_u16() == REJECTED);
        if rejected { RetryAction::NoActionIndicated } else { RetryAction::RetryForbidden }
    }

    fn name(&self) -> &'static str {
        "only rejections"
    }
}

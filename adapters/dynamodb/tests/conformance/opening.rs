//! Opening: the table, the credentials and the endpoint.

use std::sync::Arc;

use aws_credential_types::provider::{
    ProvideCredentials, error::CredentialsError, future::ProvideCredentials as ProvidedCredentials,
};
use aws_sdk_dynamodb::{
    Client,
    config::Region,
    types::{AttributeDefinition, BillingMode, KeySchemaElement, KeyType, ScalarAttributeType},
};
use larder_core::{Error, ErrorKind, Outcome};
use larder_dynamodb::Config;
use larder_test_servers::PASSWORD;
use larder_testkit::{Fails, Suite};
use tokio::io::AsyncWriteExt;
use tokio_rustls::{
    TlsAcceptor,
    rustls::{self, ServerConfig},
};

use crate::{
    place::{Place, key, table},
    wire::{Answer, Wire},
};

/// Opening fails like this, with an error that shows no secret and no URL.
async fn refused(config: Config, kind: ErrorKind, why: &str) -> Error {
    let error = config.connect().await.fails(kind, why);
    let shown = format!("{error} {error:?}");
    assert!(!shown.contains(PASSWORD) && !shown.contains("://"), "{why}: {shown}");
    assert_eq!(error.adapter(), Some("dynamodb"));
    error
}

/// A provider whose credentials cannot be loaded, with this error.
#[derive(Debug)]
struct Unloadable(fn() -> CredentialsError);

impl ProvideCredentials for Unloadable {
    fn provide_credentials<'a>(&'a self) -> ProvidedCredentials<'a>
    where
        Self: 'a,
    {
        ProvidedCredentials::ready(Err(self.0()))
    }
}

/// Creates a table with these attributes as its key.
async fn create(place: &Place, space: &str, key: &[(&str, ScalarAttributeType)]) {
    let mut create =
        place.client().create_table().table_name(table(space)).billing_mode(BillingMode::PayPerRequest);
    for ((name, attribute_type), key_type) in key.iter().zip([KeyType::Hash, KeyType::Range]) {
        let attribute =
            AttributeDefinition::builder().attribute_name(*name).attribute_type(attribute_type.clone());
        let element = KeySchemaElement::builder().attribute_name(*name).key_type(key_type);
        create =
            create.attribute_definitions(attribute.build().unwrap()).key_schema(element.build().unwrap());
    }
    create.send().await.unwrap();
}

pub(crate) fn cases(suite: Suite<Place>) -> Suite<Place> {
    suite
        .case("a_missing_table_is_created_with_on_demand_billing", |context| async move {
            let (place, space) = (&context.factory, context.target.space());
            let wire = Wire::default();
            let store = wire.open(place, space, "").await.unwrap();
            let requests = wire.requests();
            let of = |name: &str| requests.iter().find(|(operation, _)| operation == name).unwrap().1.clone();
            assert_eq!(of("CreateTable")["BillingMode"], "PAY_PER_REQUEST");
            let ttl = &of("UpdateTimeToLive")["TimeToLiveSpecification"];
            assert_eq!((&ttl["AttributeName"], &ttl["Enabled"]), (&"remove_at".into(), &true.into()));
            store.write(key("k"), "x").await.unwrap();
            // The second time, the table is only described.
            let again = Wire::default();
            let store = again.open(place, space, "").await.unwrap();
            let operations: Vec<_> = again.requests().into_iter().map(|(operation, _)| operation).collect();
            assert_eq!(operations, ["DescribeTable"]);
            assert_eq!(store.read(key("k")).await.unwrap().unwrap().value, "x");
        })
        .case("many_clients_may_create_a_table_at_once", |context| async move {
            let (place, space) = (&context.factory, context.target.space());
            for opened in larder_testkit::race(10, |_| place.config(space, "").connect()).await {
                opened.unwrap().write(key("k"), "x").await.unwrap();
            }
        })
        .case("a_missing_table_without_set_up_is_an_error", |context| async move {
            let (place, space) = (&context.factory, context.target.space());
            for config in [place.config(space, "setup=false"), place.config(space, "").existing()] {
                let error = refused(config, ErrorKind::InvalidConfig, "there is no table").await;
                assert!(error.message().contains("setup=true"), "{error}");
            }
            place.store(space, "").await.write(key("k"), "x").await.unwrap();
            for config in [place.config(space, "setup=false"), place.config(space, "").existing()] {
                assert!(config.connect().await.unwrap().contains(key("k")).await.unwrap());
            }
        })
        .case("a_table_that_is_deleted_is_a_wrong_configuration", |context| async move {
            let (place, space) = (&context.factory, context.target.space());
            let store = place.store(space, "").await;
            place.client().delete_table().table_name(table(space)).send().await.unwrap();
            let error = store.write(key("k"), "x").await.fails(ErrorKind::InvalidConfig, "deleted");
            assert_eq!(error.outcome(), Outcome::NotApplied);
        })
        .case("a_table_with_a_sort_key_is_rejected", |context| async move {
            let (place, space) = (&context.factory, context.target.space());
            create(place, space, &[("id", ScalarAttributeType::S), ("at", ScalarAttributeType::N)]).await;
            let error = refused(place.config(space, ""), ErrorKind::InvalidConfig, "a sort key").await;
            assert!(error.message().contains("partition key `id`"), "{error}");
        })
        .case("a_table_with_another_key_is_rejected", |context| async move {
            let (place, space) = (&context.factory, context.target.space());
            create(place, space, &[("session_id", ScalarAttributeType::S)]).await;
            refused(place.config(space, ""), ErrorKind::InvalidConfig, "another key").await;
        })
        .case("a_table_with_a_binary_key_is_rejected", |context| async move {
            let (place, space) = (&context.factory, context.target.space());
            create(place, space, &[("id", ScalarAttributeType::B)]).await;
            refused(place.config(space, ""), ErrorKind::InvalidConfig, "a binary key").await;
        })
        .case("an_unknown_host_or_port_is_an_error", |context| async move {
            let (place, space) = (&context.factory, context.target.space());
            // Nothing listens on port 1.
            for server in ["127.0.0.1:1", "no-such-host.invalid"] {
                let config = place.at(server).config(space, "timeout=5s");
                let error = refused(config, ErrorKind::Unavailable, "nothing listens").await;
                assert!(error.is_retryable() && error.outcome() == Outcome::NotApplied, "{error:?}");
            }
        })
        .case("a_silent_server_is_a_timeout", |context| async move {
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            let place = context.factory.at(&listener.local_addr().unwrap().to_string());
            let config = place.config(context.target.space(), "timeout=300ms");
            refused(config, ErrorKind::Timeout, "no answer").await;
        })
        .case("a_server_of_another_protocol_is_an_error", |context| async move {
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            let place = context.factory.at(&listener.local_addr().unwrap().to_string());
            tokio::spawn(async move {
                while let Ok((mut client, _)) = listener.accept().await {
                    client.write_all(b"220 mail.example ESMTP\r\n").await.unwrap();
                }
            });
            let config = place.config(context.target.space(), "timeout=2s");
            refused(config, ErrorKind::Unavailable, "not HTTP").await;
        })
        .case("an_untrusted_certificate_is_an_error", |context| async move {
            let own = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
            let key = own.signing_key.serialize_der().try_into().unwrap();
            let provider = Arc::new(rustls::crypto::ring::default_provider());
            let server = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
            let server = server.unwrap().with_no_client_auth();
            let server = TlsAcceptor::from(Arc::new(
                server.with_single_cert(vec![own.cert.der().clone()], key).unwrap(),
            ));
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            let endpoint = format!("https://localhost:{}", listener.local_addr().unwrap().port());
            tokio::spawn(async move {
                while let Ok((client, _)) = listener.accept().await {
                    drop(server.accept(client).await);
                }
            });
            let config = context.factory.config(context.target.space(), "timeout=5s").endpoint(endpoint);
            let error = refused(config, ErrorKind::InvalidConfig, "a certificate of its own").await;
            assert!(error.message().contains("certificate"), "{error}");
            assert_eq!(error.outcome(), Outcome::NotApplied);
        })
        .case("half_of_an_access_key_is_an_error", |context| async move {
            let config = context.factory.config(context.target.space(), "").access_key_id(None::<String>);
            let error = refused(config, ErrorKind::InvalidConfig, "only a secret").await;
            assert!(error.message().contains("together"), "{error}");
        })
        .case("a_missing_permission_to_create_is_an_error", |context| async move {
            let (place, space) = (&context.factory, context.target.space());
            let wire = Wire::default();
            wire.answer([Answer::Denied("CreateTable")]);
            let opened = wire.open(place, space, "").await;
            let error = opened.fails(ErrorKind::PermissionDenied, "CreateTable is denied");
            assert!(error.message().contains("cannot be created"), "{error}");
        })
        .case("a_missing_permission_to_enable_time_to_live_is_an_error_once", |context| async move {
            let (place, space) = (&context.factory, context.target.space());
            let wire = Wire::default();
            wire.answer([Answer::Denied("UpdateTimeToLive")]);
            let opened = wire.open(place, space, "").await;
            let error = opened.fails(ErrorKind::PermissionDenied, "UpdateTimeToLive is denied");
            assert!(error.message().contains("enable it yourself"), "{error}");
            wire.open(place, space, "").await.unwrap();
        })
        .case("credentials_that_cannot_be_loaded_are_an_error", |context| async move {
            let (place, space) = (&context.factory, context.target.space());
            let connect = |provider| {
                let client = Client::from_conf(place.sdk().credentials_provider(provider).build());
                place.config(space, "").connect_with(client)
            };
            let missing = connect(Unloadable(|| CredentialsError::not_loaded("hunter2"))).await;
            let missing = missing.fails(ErrorKind::PermissionDenied, "there are no credentials");
            let failed = connect(Unloadable(|| CredentialsError::provider_error("hunter2"))).await;
            let failed = failed.fails(ErrorKind::Unavailable, "the provider failed");
            for error in [missing, failed] {
                assert!(error.message().contains("credential chain"), "{error}");
                assert_eq!(error.outcome(), Outcome::NotApplied, "{error}");
                assert!(!format!("{error} {error:?}").contains("hunter2"), "{error:?}");
            }
        })
        .case("a_client_that_cannot_send_requests_is_an_error", |context| async move {
            let (place, space) = (&context.factory, context.target.space());
            let (mut no_region, mut bad_region) = (place.sdk(), place.sdk().region(Region::new("hunter2 x")));
            no_region.set_region(None);
            bad_region.set_endpoint_url(None);
            let bad_endpoint = place.sdk().endpoint_url("hunter2");
            for (sdk, kind) in [
                (no_region, ErrorKind::Unavailable),
                (bad_region, ErrorKind::InvalidConfig),
                (bad_endpoint, ErrorKind::Unavailable),
            ] {
                let opened = place.config(space, "").connect_with(Client::from_conf(sdk.build())).await;
                let error = opened.fails(kind, "nothing can be sent");
                assert!(error.message().contains("check the region"), "{error}");
                assert!(!format!("{error} {error:?}").contains("hunter2"), "{error:?}");
            }
        })
}

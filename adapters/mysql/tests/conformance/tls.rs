//! TLS: encryption, and trusted authorities.

use larder_core::{ErrorKind, Store, async_trait};
use larder_test_servers::{Kind, Server};
use larder_testkit::{Factory, Fails, Must, Runner, Suite};

use crate::place::{Place, key, missing, refused};

/// The server that accepts only TLS connections.
struct Tls {
    place: Place,
    server: Server,
}

impl Tls {
    fn verified(&self) -> String {
        let ca = self.server.ca_path().must("the authority");
        format!("ssl-mode=verify_identity&ssl-ca={}", ca.display())
    }
}

#[async_trait]
impl Factory for Tls {
    async fn open(&self, space: &str) -> larder_core::Result<Store> {
        self.place.builder(&format!("table={space}&pool_size=3&{}", self.verified())).connect().await
    }

    async fn remove(&self, space: &str) -> larder_core::Result<()> {
        self.place.remove(space).await
    }
}

pub(crate) fn suites(runner: Runner) -> Runner {
    let suite = Suite::connect("mariadb_tls", || async {
        let server = Kind::MariadbTls.shared().await.map_err(missing)?;
        Ok(Tls { place: Place::of(&server, ""), server })
    });
    runner.suite(
        suite
            .without_laws()
            .case("entries_are_stored_over_tls", |context| async move {
                let handle = context.target.open().await;
                assert!(handle.info().fenced);
                let value = handle.bulk(3 << 20, 1);
                handle.put(&key("k"), &value).await;
                handle.holds(&key("k"), &value, "3 MiB through TLS").await;
                let handle = context.target.reopen(handle).await;
                handle.holds(&key("k"), &value, "over another connection").await;
            })
            .case("the_right_authority_is_trusted", |context| async move {
                let (tls, table) = (&context.factory, context.target.space());
                context.target.open().await;
                for options in [
                    tls.verified(),
                    "ssl-mode=required".to_owned(),
                    "ssl-mode=preferred".to_owned(),
                    String::new(),
                ] {
                    tls.place.storage(&format!("table={table}&{options}")).await.close().await.unwrap();
                }
            })
            .case("another_authority_is_not_trusted", |context| async move {
                let tls = &context.factory;
                let Some(other) = tls.server.other_ca_path() else { return };
                for options in [
                    format!("ssl-mode=verify_identity&ssl-ca={}", other.display()),
                    // The public authorities did not sign it either.
                    "ssl-mode=verify_identity".to_owned(),
                ] {
                    refused(tls.place.builder(&options), ErrorKind::InvalidConfig, &options).await;
                }
            })
            .case("verify_ca_is_rejected", |context| async move {
                let url = context.factory.place.url("ssl-mode=verify_ca");
                let error = larder_mysql::connect(&url).await.fails(ErrorKind::InvalidConfig, "verify_ca");
                assert!(error.message().contains("verify_identity"), "{error}");
            })
            .case("a_connection_without_tls_is_rejected", |context| async move {
                let config = context.factory.place.builder("ssl-mode=disabled");
                let error = refused(config, ErrorKind::PermissionDenied, "TLS is required").await;
                assert!(error.message().contains("unencrypted"), "{error}");
            }),
    )
}

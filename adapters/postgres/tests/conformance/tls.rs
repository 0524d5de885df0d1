//! TLS: encryption, and trusted authorities.

use larder_core::{ErrorKind, Store, async_trait};
use larder_postgres::{Config, Roots, TlsMode};
use larder_test_servers::{Kind, Server};
use larder_testkit::{Factory, Fails, Runner, Suite};

use crate::place::{missing, with_options};

/// The server that accepts only TLS connections.
struct Tls(Server);

impl Tls {
    fn url(&self, options: &str) -> String {
        with_options(self.0.url(), &format!("setup=false&{options}"))
    }

    fn ca(&self) -> String {
        self.0.ca_path().expect("a TLS server has an authority").display().to_string()
    }

    async fn opens(&self, options: &str) {
        larder_postgres::connect(&self.url(options)).await.expect(options).close().await.expect(options);
    }

    async fn refuses(&self, options: &str, kind: ErrorKind) {
        let error = larder_postgres::connect(&self.url(options)).await.fails(kind, options);
        assert!(!format!("{error:?}").contains(larder_test_servers::PASSWORD));
    }
}

#[async_trait]
impl Factory for Tls {
    async fn open(&self, space: &str) -> larder_core::Result<Store> {
        let options = format!("table={space}&pool_size=3&sslmode=verify-full&sslrootcert={}", self.ca());
        larder_postgres::connect(&with_options(self.0.url(), &options)).await
    }
}

pub(crate) fn suites(runner: Runner) -> Runner {
    let suite = Suite::connect("postgres_tls", || async {
        Kind::PostgresTls.shared().await.map(Tls).map_err(missing)
    });
    runner.suite(
        suite
            .without_laws()
            .case("entries_are_stored_over_tls", |context| async move {
                let handle = context.target.open().await;
                let key = larder_core::Key::new("k").unwrap();
                let value = handle.bulk(3 << 20, 1);
                handle.put(&key, &value).await;
                handle.holds(&key, &value, "3 MiB through TLS").await;
                let handle = context.target.reopen(handle).await;
                handle.holds(&key, &value, "over another connection").await;
            })
            .case("the_right_authority_is_trusted", |context| async move {
                let tls = &context.factory;
                for mode in ["verify-full", "verify-ca", "require"] {
                    tls.opens(&format!("sslmode={mode}&sslrootcert={}", tls.ca())).await;
                }
                tls.opens("sslmode=require").await;
                tls.opens("sslmode=prefer").await;
                tls.opens("").await;
                // Channel binding, against a relay with its own certificate.
                tls.opens(&format!("sslmode=verify-full&sslrootcert={}&channel_binding=require", tls.ca()))
                    .await;
                let builder = Config::from_url(&tls.url("")).unwrap();
                let pem = tls.0.ca_pem().expect("a TLS server has an authority");
                let storage = builder
                    .sslmode(TlsMode::VerifyFull)
                    .sslrootcert(Roots::Pem(pem.into()))
                    .connect()
                    .await
                    .unwrap();
                storage.close().await.unwrap();
            })
            .case("connections_over_tls_are_direct_and_fenced", |context| async move {
                let tls = &context.factory;
                let ca = format!("sslrootcert={}", tls.ca());
                for options in [
                    "sslmode=prefer".to_owned(),
                    "sslmode=require".to_owned(),
                    "sslmode=require&sslnegotiation=direct".to_owned(),
                    format!("sslmode=verify-full&{ca}"),
                ] {
                    let storage = larder_postgres::connect(&tls.url(&options)).await.expect(&options);
                    assert!(storage.info().fenced, "{options}");
                    storage.close().await.expect(&options);
                }
            })
            .case("another_authority_is_not_trusted", |context| async move {
                let tls = &context.factory;
                let Some(other) = tls.0.other_ca_path() else { return };
                for mode in ["verify-full", "verify-ca", "require"] {
                    let options = format!("sslmode={mode}&sslrootcert={}", other.display());
                    tls.refuses(&options, ErrorKind::InvalidConfig).await;
                }
                // The public authorities did not sign it either.
                tls.refuses("sslmode=verify-full", ErrorKind::InvalidConfig).await;
                tls.refuses("sslmode=verify-full&sslrootcert=system", ErrorKind::InvalidConfig).await;
                tls.refuses("sslmode=verify-full&sslrootcert=/no/such/file", ErrorKind::InvalidConfig).await;
            })
            .case("verify_full_checks_the_name", |context| async move {
                let tls = &context.factory;
                // The certificate names localhost and 127.0.0.1; this is the same machine.
                let elsewhere = |options: &str| {
                    let url = tls.url(options).replacen("@127.0.0.1", "@another-name.example", 1);
                    format!("{url}&hostaddr=127.0.0.1")
                };
                let full = elsewhere(&format!("sslmode=verify-full&sslrootcert={}", tls.ca()));
                drop(larder_postgres::connect(&full).await.fails(ErrorKind::InvalidConfig, "the wrong name"));
                let chain = elsewhere(&format!("sslmode=verify-ca&sslrootcert={}", tls.ca()));
                larder_postgres::connect(&chain).await.unwrap().close().await.unwrap();
            })
            .case("a_connection_without_tls_is_rejected", |context| async move {
                context.factory.refuses("sslmode=disable", ErrorKind::PermissionDenied).await;
            }),
    )
}

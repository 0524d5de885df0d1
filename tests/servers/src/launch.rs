//! Starts containers.

use std::{
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use testcontainers::{
    ContainerAsync, ContainerRequest, CopyTargetOptions, GenericImage, ImageExt, ReuseDirective,
    TestcontainersError,
    bollard::query_parameters::RemoveContainerOptionsBuilder,
    core::{IntoContainerPort, client::docker_client_instance},
    runners::AsyncRunner,
};
use tokio::{sync::OnceCell, time::timeout};

use crate::{
    Kind, Missing, Server,
    certificates::Certificates,
    image,
    ports::free,
    server::{Origin, Tls},
    spec::{Spec, port_count},
    workspace,
};

/// The label by which `ci/servers down` finds the containers.
const LABEL: &str = "larder.test-servers";
/// The variable with the published ports, for later processes that reuse the container.
const PORTS: &str = "LARDER_TEST_PORTS";
/// Long enough to pull an image over a slow connection.
const START_TIMEOUT: Duration = Duration::from_secs(600);
const ATTEMPTS: usize = 5;

pub(crate) type Container = ContainerAsync<GenericImage>;

/// The shared servers of this process, or the reasons why they are missing: each is tried once, not once per test.
static SHARED: [OnceCell<Result<Server, Missing>>; Kind::ALL.len()] =
    [const { OnceCell::const_new() }; Kind::ALL.len()];

pub(crate) async fn shared(kind: Kind) -> Result<Server, Missing> {
    if let Some(server) = Server::from_environment(kind)? {
        return Ok(server);
    }
    let launch = async {
        let (server, container) = start(kind, &[], true).await?;
        server.wait_for(Some(&container)).await.map_err(|error| {
            let reason = format!("{error}; run ci/servers down to remove it, and try again");
            Missing::new(kind, reason)
        })?;
        // A container for reuse is not removed when its handle is dropped.
        Ok(server)
    };
    SHARED[kind as usize].get_or_init(|| launch).await.as_ref().map(Server::share).map_err(Clone::clone)
}

pub(crate) async fn private(kind: Kind, options: &[&str]) -> Result<Server, Missing> {
    if let Some(server) = Server::from_environment(kind)? {
        if options.is_empty() {
            return Ok(server);
        }
        let reason =
            format!("the test needs options that the running server of {} cannot get", kind.url_variable());
        return Err(Missing::new(kind, reason));
    }
    let (server, container) = start(kind, options, false).await?;
    let server = server.owning(container);
    server.wait_ready().await.map_err(|error| Missing::new(kind, error.to_string()))?;
    Ok(server)
}

async fn start(kind: Kind, options: &[&str], reuse: bool) -> Result<(Server, Container), Missing> {
    timeout(START_TIMEOUT, start_locked(kind, options, reuse))
        .await
        .unwrap_or_else(|_| Err(format!("the container did not start within {START_TIMEOUT:?}")))
        .map_err(|reason| Missing::new(kind, reason))
}

async fn start_locked(kind: Kind, options: &[&str], reuse: bool) -> Result<(Server, Container), String> {
    let image = image::of(kind)?;
    let _lock = workspace::lock().await.map_err(text)?;
    let state = workspace::state().map_err(text)?;
    let certificates = kind.is_tls().then(|| Certificates::load_or_make(&state)).transpose().map_err(text)?;

    // The name contains a fingerprint of the server and the checkout, so that a different container is never reused.
    let zeros = vec![0; port_count(kind)];
    let plan = Spec::new(kind, image.clone(), options, &zeros, certificates.as_ref());
    let fingerprint = plan.fingerprint(&state.to_string_lossy());
    let name = if reuse {
        format!("larder-test-{kind}-{fingerprint:016x}")
    } else {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        format!("larder-test-{kind}-private-{}-{count}-{fingerprint:016x}", std::process::id())
    };

    let mut seen = String::new();
    for _ in 0..ATTEMPTS {
        let ports = free(port_count(kind)).map_err(text)?;
        let spec = Spec::new(kind, image.clone(), options, &ports, certificates.as_ref());
        match request(spec, &ports, &name, reuse).start().await {
            Ok(container) => {
                let ports = if reuse { ports_of(&container).await? } else { ports };
                let tls = certificates.map(Tls::of);
                return Ok((Server::new(kind, ports, tls, Origin::Shared), container));
            }
            Err(error) => {
                seen = explain(&error);
                let client = docker_client_instance().await.map_err(|_| seen.clone())?;
                if !seen.contains("port") && !seen.contains("address") && !reuse {
                    remove(&client, &name).await;
                    return Err(seen);
                }
                // Another process took a port, or the container of an earlier run cannot be started.
                remove(&client, &name).await;
            }
        }
    }
    Err(seen)
}

fn request(spec: Spec, ports: &[u16], name: &str, reuse: bool) -> ContainerRequest<GenericImage> {
    let mut image = GenericImage::new(spec.image.name, spec.image.tag);
    if let Some(entrypoint) = spec.entrypoint {
        image = image.with_entrypoint(entrypoint);
    }
    let list = ports.iter().map(ToString::to_string).collect::<Vec<_>>();
    let mut request = image
        .with_cmd(spec.command)
        .with_container_name(name)
        .with_label(LABEL, if reuse { "shared" } else { "private" })
        .with_env_var(PORTS, list.join(" "))
        .with_host_config_modifier(|config| {
            // Published only to this machine.
            for binding in config.port_bindings.iter_mut().flatten() {
                for address in binding.1.iter_mut().flatten() {
                    address.host_ip = Some("127.0.0.1".to_owned());
                }
            }
        });
    for (outside, inside) in ports.iter().zip(&spec.inside) {
        request = request.with_mapped_port(*outside, inside.tcp());
    }
    for (variable, value) in spec.environment {
        request = request.with_env_var(variable, value);
    }
    for file in spec.files {
        let target = CopyTargetOptions::new(file.path).with_mode(0o644);
        request = request.with_copy_to(target, file.contents.into_bytes());
    }
    if reuse {
        request = request.with_reuse(ReuseDirective::Always);
    }
    request
}

/// The published ports of a container, which another process may have created.
async fn ports_of(container: &Container) -> Result<Vec<u16>, String> {
    let client = docker_client_instance().await.map_err(text)?;
    let inspected = client.inspect_container(container.id(), None).await.map_err(text)?;
    let environment = inspected.config.and_then(|config| config.env).unwrap_or_default();
    environment
        .iter()
        .find_map(|line| line.strip_prefix(PORTS)?.strip_prefix('='))
        .and_then(|list| list.split(' ').map(|port| port.parse().ok()).collect())
        .ok_or_else(|| "the container does not name its ports; run ci/servers down to remove it".to_owned())
}

async fn remove(client: &testcontainers::bollard::Docker, name: &str) {
    let options = RemoveContainerOptionsBuilder::new().force(true).v(true).build();
    // It may not exist. If it cannot be removed, the next attempt fails with the reason.
    drop(client.remove_container(name, Some(options)).await);
}

/// The messages of an error and its sources, and what to do about it.
fn explain(error: &TestcontainersError) -> String {
    let mut reason = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !reason.contains(&cause_text) {
            reason = format!("{reason}: {cause_text}");
        }
        source = cause.source();
    }
    if reason.contains("initialize a docker client") || reason.contains("pull the image") {
        reason.push_str("; run ci/servers to install the missing parts");
    }
    reason
}

fn text(error: impl Into<Box<dyn std::error::Error>>) -> String {
    let error: Box<dyn std::error::Error> = error.into();
    error.to_string()
}

/// The last lines of the server's output.
pub(crate) async fn last_words(container: &Container) -> String {
    let both = async {
        let mut printed = container.stdout_to_vec().await?;
        printed.extend(container.stderr_to_vec().await?);
        Ok::<_, TestcontainersError>(printed)
    };
    let printed = both.await.unwrap_or_default();
    let printed = String::from_utf8_lossy(&printed);
    let lines = printed.lines().collect::<Vec<_>>();
    lines[lines.len().saturating_sub(5)..].join("\n")
}

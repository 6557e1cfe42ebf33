//! A server in a container.

use std::path::Path;

use testcontainers::core::{IntoContainerPort, Mount};
use testcontainers::runners::AsyncRunner;
use testcontainers::{ContainerAsync, GenericImage, ImageExt, TestcontainersError};

use super::error::ServerError;
use super::kind::{Kind, Place};
use super::probe;
use super::wire::Wire;

/// A running container, removed on drop.
pub(super) type Container = ContainerAsync<GenericImage>;

/// The data folder in the container. It is mounted in memory, so that every image has it.
const DATA: &str = "/registry-test";

/// Starts a container, and waits until its server is ready. Returns the container and the `host:port` of the server.
pub(super) async fn start(
    kind: &Kind,
    image: &str,
    extra: Vec<String>,
) -> Result<(Container, String), ServerError> {
    let place = Place {
        program: None,
        scheme: "http",
        host: "0.0.0.0",
        port: kind.port,
        data: Path::new(DATA),
        durable: false,
    };
    let mut command = vec![kind.program.to_owned()];
    command.extend((kind.arguments)(&place)?);
    command.extend(extra);

    let (container, address) =
        run(kind, image, command).await.map_err(|source| ServerError::Docker {
            server: kind.name,
            program: kind.program,
            image: image.to_owned(),
            source: Box::new(source),
        })?;
    let ready = probe::until_ready(kind, &Wire::Plain, &address, || Ok(())).await;
    if let Err(reason) = ready {
        let log = container.stderr_to_vec().await.unwrap_or_default();
        let log = String::from_utf8_lossy(&log);
        let reason = format!("{reason}; its log:\n{log}");
        return Err(ServerError::NotReady { server: kind.name, reason });
    }
    Ok((container, address))
}

/// Runs `command` in a container of `image`, which is pulled only if it is missing.
async fn run(
    kind: &Kind,
    image: &str,
    command: Vec<String>,
) -> Result<(Container, String), TestcontainersError> {
    let (name, tag) = image.rsplit_once(':').unwrap_or((image, "latest"));
    let container = GenericImage::new(name, tag)
        .with_exposed_port(kind.port.tcp())
        .with_mount(Mount::tmpfs_mount(DATA))
        .with_cmd(command)
        .start()
        .await?;
    let port = container.get_host_port_ipv4(kind.port.tcp()).await?;
    let host = match container.get_host().await?.to_string() {
        // The port is that of IPv4, but the name may resolve to IPv6.
        local if local == "localhost" => "127.0.0.1".to_owned(),
        host => host,
    };
    Ok((container, format!("{host}:{port}")))
}

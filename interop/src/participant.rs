//! A server and a caller in Rust, which use the facade as in the README.

use crate::desk::{DeskServer, ask};
use crate::event::{What, emit, now};
use anyhow::{Context, Result};
use service_registry::go_zero::{ClientConfig, ServerConfig};
use service_registry::grpc::Channel;
use service_registry::serve::{ServeOptions, serve};
use service_registry::store::LeaseId;
use service_registry::{Client, RegistrationOptions};
use std::io::{self, stdin};
use std::path::Path;
use std::process;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::time::{Instant, sleep_until};
use tonic::transport::Server;

/// The interval between two calls.
const INTERVAL: Duration = Duration::from_millis(5);

/// Ends this process when its standard input ends, so that it does not outlive the driver.
pub(crate) fn end_with_driver() {
    std::thread::spawn(|| {
        io::copy(&mut stdin(), &mut io::sink()).ok();
        process::exit(0);
    });
}

/// Runs a server until a signal.
pub(crate) async fn server(file: &Path) -> Result<()> {
    let config = ServerConfig::read(file)?;
    let address = config.listen_on().to_string();
    let listener = TcpListener::bind(&address).await;
    let listener = listener.with_context(|| format!("cannot listen on `{address}`"))?;
    let lease = LeaseId::random();
    let instance = config.instance(listener.local_addr()?, lease)?;
    let target = config.registry().context("the configuration names no registry: set `Etcd`")?;
    let registry = Client::builder_for(target.clone()).connect().await?;
    let registration = RegistrationOptions::default().with_lease(lease);
    let options = ServeOptions::default().with_registration(registration);
    emit(now(), What::Serving { address: address.clone() });
    serve(listener, &registry, instance, options, |listener, shutdown| {
        let desk = DeskServer::new(&address);
        Server::builder().add_service(desk).serve_with_incoming_shutdown(listener, shutdown)
    })
    .await?;
    Ok(())
}

/// Runs a caller in an open loop, forever.
pub(crate) async fn caller(file: &Path) -> Result<()> {
    let channel = ClientConfig::read(file)?.connect().await?;
    let mut next = Instant::now();
    loop {
        sleep_until(next).await;
        next += INTERVAL;
        tokio::spawn(call_once(channel.clone()));
    }
}

async fn call_once(channel: Channel) {
    let (at, start) = (now(), Instant::now());
    let outcome = ask(channel).await;
    let micros = u64::try_from(start.elapsed().as_micros()).unwrap_or(u64::MAX);
    let (address, error) = match outcome {
        Ok(address) => (address, String::new()),
        Err(status) => (String::new(), status.to_string()),
    };
    emit(at, What::Call { micros, address, error });
}

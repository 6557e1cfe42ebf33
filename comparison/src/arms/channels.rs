//! The balanced channel of the registry and tonic's channels, which follow the same view.

use anyhow::{Context, Result};
use registry_core::InstanceStatus;
use registry_engine::View;
use registry_tonic::{Channel as Ours, ChannelOptions};
use std::collections::BTreeSet;
use std::sync::Arc;
use tokio::sync::mpsc::Sender;
use tokio::task::JoinSet;
use tonic::Status;
use tonic::transport::channel::Change;
use tonic::transport::{Channel, Endpoint};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;

/// A way to call the instances of a view.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChannelArm {
    Ours,
    /// tonic's channel to the first instance.
    Direct,
    /// tonic's `balance_channel`, which uses power of two choices with equal loads.
    Balance,
}

impl ChannelArm {
    pub fn name(self) -> &'static str {
        match self {
            Self::Ours => "ours",
            Self::Direct => "a channel to one",
            Self::Balance => "tonic balance",
        }
    }

    pub fn caller(self, view: View) -> Result<Caller> {
        Ok(match self {
            Self::Ours => {
                Caller::Ours(HealthClient::new(Ours::new(view, ChannelOptions::default())))
            }
            Self::Direct => {
                let first = addresses(&view).into_iter().next().context("the service is empty")?;
                let channel = Endpoint::from_shared(format!("http://{first}"))?.connect_lazy();
                Caller::Tonic { client: HealthClient::new(channel), task: Arc::default() }
            }
            Self::Balance => {
                let (channel, changes) = Channel::balance_channel(1024);
                let mut task = JoinSet::new();
                task.spawn(feed(view, changes));
                Caller::Tonic { client: HealthClient::new(channel), task: Arc::new(task) }
            }
        })
    }
}

/// A gRPC client. Clones share its channel.
#[derive(Clone)]
pub enum Caller {
    Ours(HealthClient<Ours>),
    /// A client, and the task that follows the view, if the channel has one.
    Tonic {
        client: HealthClient<Channel>,
        task: Arc<JoinSet<Result<()>>>,
    },
}

impl Caller {
    pub async fn call(&self) -> Result<(), Status> {
        let request = HealthCheckRequest::default();
        match self {
            Self::Ours(client) => client.clone().check(request).await.map(drop),
            Self::Tonic { client, .. } => client.clone().check(request).await.map(drop),
        }
    }
}

/// Returns the addresses of the instances that are up.
fn addresses(view: &View) -> BTreeSet<String> {
    let state = view.state();
    let up = state.instances().filter(|i| i.status() == InstanceStatus::Up);
    up.map(|instance| instance.address().to_string()).collect()
}

/// Inserts and removes the endpoints of a channel as the instances of a view change.
async fn feed(mut view: View, changes: Sender<Change<String, Endpoint>>) -> Result<()> {
    let mut known = BTreeSet::new();
    loop {
        let listed = addresses(&view);
        for address in listed.difference(&known) {
            let endpoint = Endpoint::from_shared(format!("http://{address}"))?;
            changes.send(Change::Insert(address.clone(), endpoint)).await?;
        }
        for address in known.difference(&listed) {
            changes.send(Change::Remove(address.clone())).await?;
        }
        known = listed;
        view.changed().await?;
    }
}

//! Our channel, and the channels of tonic, which follow the same view.

use anyhow::Result;
use registry_core::InstanceStatus as Availability;
use registry_engine::View;
use registry_tonic::{Channel as Ours, ChannelOptions};
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::mpsc::Sender;
use tokio::task::AbortHandle;
use tonic::Status;
use tonic::transport::channel::Change;
use tonic::transport::{Channel, Endpoint};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;

/// A way to call the instances of a view.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChannelArm {
    Ours,
    /// A channel of tonic's to the first of them alone.
    Direct,
    /// tonic's `balance_channel`: power of two choices, all loads taken to be the same.
    Balance,
    /// A channel of tonic's to each, one after the other.
    RoundRobin,
}

impl ChannelArm {
    pub fn name(self) -> &'static str {
        match self {
            Self::Ours => "ours",
            Self::Direct => "a channel to one",
            Self::Balance => "tonic balance",
            Self::RoundRobin => "round robin",
        }
    }

    pub fn caller(self, view: View) -> Result<Caller> {
        let (clients, task) = match self {
            Self::Ours => {
                let client = HealthClient::new(Ours::new(view, ChannelOptions::default()));
                return Ok(Caller::Ours(client));
            }
            Self::Direct => {
                let listed = addresses(&view).into_iter().take(1).collect();
                (Clients::of(&listed)?, None)
            }
            Self::Balance => {
                let (channel, changes) = Channel::balance_channel(1024);
                let clients = Clients::default();
                clients.lock().push((String::new(), HealthClient::new(channel)));
                (clients, Some(tokio::spawn(feed(view, changes))))
            }
            Self::RoundRobin => {
                let clients = Clients::of(&addresses(&view))?;
                let task = tokio::spawn(follow(view, clients.clone()));
                (clients, Some(task))
            }
        };
        let task = task.map(|task| Arc::new(AbortOnDrop(task.abort_handle())));
        Ok(Caller::Tonic { clients, task })
    }
}

/// Who makes calls. A clone shares all with it.
#[derive(Clone)]
pub enum Caller {
    Ours(HealthClient<Ours>),
    Tonic { clients: Clients, task: Option<Arc<AbortOnDrop>> },
}

impl Caller {
    pub async fn call(&self) -> Result<(), Status> {
        let request = HealthCheckRequest::default();
        match self {
            Self::Ours(client) => client.clone().check(request).await.map(drop),
            Self::Tonic { clients, .. } => {
                let mut client = clients.next()?;
                client.check(request).await.map(drop)
            }
        }
    }
}

/// A task that follows the view for as long as this is held.
pub struct AbortOnDrop(AbortHandle);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Returns the addresses that take calls, by the view: the same for all arms.
fn addresses(view: &View) -> BTreeSet<String> {
    let state = view.state();
    let up = state.instances().filter(|i| i.status() == Availability::Up);
    up.map(|instance| instance.address().to_string()).collect()
}

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

/// Clients that take turns.
#[derive(Clone, Default)]
pub struct Clients(Arc<ClientList>);

#[derive(Default)]
struct ClientList {
    clients: Mutex<Vec<(String, HealthClient<Channel>)>>,
    follow: AtomicUsize,
}

impl Clients {
    fn of(listed: &BTreeSet<String>) -> Result<Self> {
        let clients = Self::default();
        clients.update(listed)?;
        Ok(clients)
    }

    fn update(&self, listed: &BTreeSet<String>) -> Result<()> {
        let mut clients = self.lock();
        clients.retain(|(address, _)| listed.contains(address));
        for address in listed {
            if !clients.iter().any(|(known, _)| known == address) {
                let endpoint = Endpoint::from_shared(format!("http://{address}"))?;
                clients.push((address.clone(), HealthClient::new(endpoint.connect_lazy())));
            }
        }
        Ok(())
    }

    fn next(&self) -> Result<HealthClient<Channel>, Status> {
        let clients = self.lock();
        let follow = self.0.follow.fetch_add(1, Ordering::Relaxed);
        let next = clients.get(follow % clients.len().max(1));
        next.map(|(_, client)| client.clone())
            .ok_or_else(|| Status::unavailable("no instance is listed"))
    }

    fn lock(&self) -> MutexGuard<'_, Vec<(String, HealthClient<Channel>)>> {
        self.0.clients.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn follow(mut view: View, clients: Clients) -> Result<()> {
    loop {
        view.changed().await?;
        clients.update(&addresses(&view))?;
    }
}

//! Ours, and what tonic has of its own, told the same by the same view.

use anyhow::Result;
use registry_core::Status as Availability;
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

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub(crate) enum Contender {
    Ours,
    /// A channel of tonic's to the first of them alone.
    Direct,
    /// tonic's `balance_channel`: power of two choices, all loads taken to be the same.
    Balance,
    /// A channel of tonic's to each, one after the other.
    RoundRobin,
}

impl Contender {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Ours => "ours",
            Self::Direct => "a channel to one",
            Self::Balance => "tonic balance",
            Self::RoundRobin => "round robin",
        }
    }

    pub(crate) fn caller(self, view: View) -> Result<Caller> {
        let (clients, following) = match self {
            Self::Ours => {
                let client = HealthClient::new(Ours::new(view, ChannelOptions::default()));
                return Ok(Caller::Ours(client));
            }
            Self::Direct => {
                let listed = addresses(&view).into_iter().take(1).collect();
                (Ring::of(&listed)?, None)
            }
            Self::Balance => {
                let (channel, changes) = Channel::balance_channel(1024);
                let ring = Ring::default();
                ring.lock().push((String::new(), HealthClient::new(channel)));
                (ring, Some(tokio::spawn(feed(view, changes))))
            }
            Self::RoundRobin => {
                let ring = Ring::of(&addresses(&view))?;
                let following = tokio::spawn(turn(view, ring.clone()));
                (ring, Some(following))
            }
        };
        let following = following.map(|task| Arc::new(Following(task.abort_handle())));
        Ok(Caller::Tonic { clients, following })
    }
}

/// Who makes calls. A clone shares all with it.
#[derive(Clone)]
pub(crate) enum Caller {
    Ours(HealthClient<Ours>),
    Tonic {
        clients: Ring,
        #[expect(dead_code, reason = "held for as long as somebody calls")]
        following: Option<Arc<Following>>,
    },
}

impl Caller {
    pub(crate) async fn call(&self) -> Result<(), Status> {
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
pub(crate) struct Following(AbortHandle);

impl Drop for Following {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Those who take calls, by the view: the same for all.
fn addresses(view: &View) -> BTreeSet<String> {
    let state = view.state();
    let up = state.instances().iter().filter(|i| i.status() == Availability::Up);
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
        view.changed().await;
    }
}

/// Clients that take turns.
#[derive(Clone, Default)]
pub(crate) struct Ring(Arc<Turns>);

#[derive(Default)]
struct Turns {
    clients: Mutex<Vec<(String, HealthClient<Channel>)>>,
    turn: AtomicUsize,
}

impl Ring {
    fn of(listed: &BTreeSet<String>) -> Result<Self> {
        let ring = Self::default();
        ring.turn_to(listed)?;
        Ok(ring)
    }

    fn turn_to(&self, listed: &BTreeSet<String>) -> Result<()> {
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
        let turn = self.0.turn.fetch_add(1, Ordering::Relaxed);
        let next = clients.get(turn % clients.len().max(1));
        next.map(|(_, client)| client.clone())
            .ok_or_else(|| Status::unavailable("nobody is listed"))
    }

    fn lock(&self) -> MutexGuard<'_, Vec<(String, HealthClient<Channel>)>> {
        self.0.clients.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn turn(mut view: View, ring: Ring) -> Result<()> {
    loop {
        view.changed().await;
        ring.turn_to(&addresses(&view))?;
    }
}

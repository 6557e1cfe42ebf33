//! A client that connects to 32 of 1,000 instances: how many connections a change moves.
//!
//! go-zero shuffles the list anew at each change and takes the first 32 (`subset` in its
//! `zrpc/resolver/internal`): that is counted beside, without connections.

use crate::harness::{Figure, Figures, as_f64};
use anyhow::{Result, ensure};
use registry_core::{CallOptions, Claim, Instance, Lease, Registry, ServiceName};
use registry_engine::{Discovery, DiscoveryOptions, View};
use registry_mem::MemRegistry;
use registry_tonic::{Channel, ChannelOptions};
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::time::{Instant, sleep};

const INSTANCES: usize = 1_000;
const SUBSET: usize = 32;

/// A frame of HTTP/2 with settings, of which there are none (RFC 9113, 6.5).
const SETTINGS: [u8; 9] = [0, 0, 0, 4, 0, 0, 0, 0, 0];

/// How long everything must have been quiet until a change counts as taken up.
const SETTLE_TIME: Duration = Duration::from_millis(5);

/// How long that may take.
const SETTLE_TIMEOUT: Duration = Duration::from_secs(10);

pub(super) async fn figures(quick: bool) -> Result<Figures> {
    let changes = if quick { 20 } else { 300 };
    let ours = ours(changes).await?;
    let shuffled = shuffled(changes);
    let mut figures = Figures::default();
    let name = |arm: &str| format!("{arm}: connections moved per change");
    figures.add(Figure::median(name("ours, median"), &ours, ""));
    figures.add(Figure::counted(name("ours, mean"), mean(&ours), "").at_most(1.0));
    figures.add(Figure::median(name("a new shuffle, median"), &shuffled, ""));
    figures.add(Figure::counted(name("a new shuffle, mean"), mean(&shuffled), ""));
    figures.note(format!(
        "{changes} changes to {INSTANCES} instances, one that comes or one that goes, every fourth one that is connected to goes; a connection that is closed and the one that replaces it are one that moved"
    ));
    Ok(figures)
}

/// How many connections are opened anew at each change.
async fn ours(changes: u32) -> Result<Vec<f64>> {
    let registry = Arc::new(MemRegistry::new());
    let discovery = Discovery::new(registry.clone(), DiscoveryOptions::default());
    let (service, connections) = ("user.rpc".parse()?, Connections::default());
    let mut listed = Vec::new();
    for id in 0..INSTANCES {
        listed.push(register(&registry, &service, &connections, id.to_string()).await?);
    }
    let mut view = discovery.view(&service);
    view.ready(Duration::from_secs(5)).await?;
    let channel = channel(view.clone());
    let mut before = connections.wait_until_settled(SUBSET).await?;

    let mut moved = Vec::new();
    for change in 0..changes {
        let leaves = match change % 4 {
            0 => listed.iter().position(|(address, _)| before.contains(address)),
            2 => Some(fastrand::usize(..listed.len())),
            _ => None,
        };
        match leaves {
            Some(at) => {
                registry.deregister(&listed.swap_remove(at).1, &CallOptions::DEFAULT).await?;
            }
            None => {
                listed.push(
                    register(&registry, &service, &connections, format!("new-{change}")).await?,
                );
            }
        }
        view.changed().await?;
        let after = connections.wait_until_settled(SUBSET).await?;
        moved.push(u32::try_from(after.difference(&before).count())?.into());
        before = after;
    }
    // A new channel chooses the same subset: no change was missed.
    drop(channel);
    connections.wait_until_settled(0).await?;
    let _anew = self::channel(view);
    ensure!(
        connections.wait_until_settled(SUBSET).await? == before,
        "another subset than the changes led to"
    );
    Ok(moved)
}

fn channel(view: View) -> Channel {
    let (subset, client) = (NonZeroUsize::new(SUBSET), Some("one of many".to_owned()));
    Channel::new(view, ChannelOptions { subset, client, ..ChannelOptions::default() })
}

/// Registers one that can be connected to.
async fn register(
    registry: &MemRegistry,
    service: &ServiceName,
    connections: &Connections,
    id: String,
) -> Result<(SocketAddr, Lease)> {
    let address = connections.listen().await?;
    let instance = Instance::new(service.clone(), id.parse()?, address.to_string().parse()?);
    let claim = Claim::new(Duration::from_secs(3600))?;
    Ok((address, registry.register(&instance, &claim, &CallOptions::DEFAULT).await?))
}

/// Which addresses are connected to.
#[derive(Clone, Default)]
struct Connections(Arc<Mutex<ConnectionState>>);

#[derive(Default)]
struct ConnectionState {
    addresses: BTreeSet<SocketAddr>,
    /// When that was another set.
    changed: Option<Instant>,
}

impl Connections {
    /// Listens, sends the one frame by which a channel knows a server, and reads the rest.
    async fn listen(&self) -> Result<SocketAddr> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let (address, connections) = (listener.local_addr()?, self.clone());
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                connections.change(|addresses| addresses.insert(address));
                let _ = stream.write_all(&SETTINGS).await; // a closed connection is noticed below
                let mut buffer = [0; 1024];
                while stream.read(&mut buffer).await.is_ok_and(|count| count > 0) {}
                connections.change(|addresses| addresses.remove(&address));
            }
        });
        Ok(address)
    }

    fn change(&self, change: impl FnOnce(&mut BTreeSet<SocketAddr>) -> bool) {
        let mut connected = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut connected.addresses);
        connected.changed = Some(Instant::now());
    }

    /// Who is connected to, once they are so many and have been the same for a while.
    async fn wait_until_settled(&self, count: usize) -> Result<BTreeSet<SocketAddr>> {
        let start = Instant::now();
        loop {
            sleep(SETTLE_TIME).await;
            let connected = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            let quiet = connected.changed.map_or(start, |changed| changed.max(start)).elapsed();
            if connected.addresses.len() == count && quiet >= SETTLE_TIME {
                return Ok(connected.addresses.clone());
            }
            let found = connected.addresses.len();
            ensure!(start.elapsed() < SETTLE_TIMEOUT, "{found} are connected to, and not {count}");
        }
    }
}

/// The same changes to a list of which a new shuffle takes the first.
fn shuffled(changes: u32) -> Vec<f64> {
    let mut listed: Vec<usize> = (0..INSTANCES).collect();
    let chosen = |listed: &mut Vec<usize>| -> BTreeSet<usize> {
        fastrand::shuffle(listed);
        listed.iter().take(SUBSET).copied().collect()
    };
    let mut before = chosen(&mut listed);
    let mut moved = Vec::new();
    for change in 0..changes {
        match change % 2 {
            0 => drop(listed.pop()),
            _ => listed.push(INSTANCES + moved.len()),
        }
        let after = chosen(&mut listed);
        moved.push(f64::from(u32::try_from(after.difference(&before).count()).unwrap_or(u32::MAX)));
        before = after;
    }
    moved
}

fn mean(figures: &[f64]) -> f64 {
    figures.iter().sum::<f64>() / as_f64(figures.len())
}

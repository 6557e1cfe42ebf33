//! A relay between a client and the server, which counts what passes and can hold it back.

use anyhow::Result;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

/// A relay. Who drops it cuts all connections.
pub(crate) struct Relay {
    /// Where it listens: `host:port`.
    pub(crate) address: String,
    state: Arc<State>,
    _tasks: JoinSet<()>,
}

#[derive(Default)]
struct State {
    up: AtomicU64,
    down: AtomicU64,
    /// How many microseconds each way takes.
    delay: AtomicU64,
}

impl Relay {
    /// Starts one, to a server.
    pub(crate) async fn start(server: &str) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let (address, state) = (listener.local_addr()?.to_string(), Arc::<State>::default());
        let mut tasks = JoinSet::new();
        tasks.spawn(accept(listener, server.to_owned(), state.clone()));
        Ok(Self { address, state, _tasks: tasks })
    }

    /// The bytes from clients, and those to them.
    pub(crate) fn bytes(&self) -> [u64; 2] {
        [&self.state.up, &self.state.down].map(|bytes| bytes.load(Ordering::SeqCst))
    }

    /// Lets each way take so long from now on.
    pub(crate) fn delay(&self, way: Duration) {
        let micros = u64::try_from(way.as_micros()).unwrap_or(u64::MAX);
        self.state.delay.store(micros, Ordering::SeqCst);
    }
}

impl State {
    /// When what arrives now may go on.
    fn due(&self) -> Instant {
        Instant::now() + Duration::from_micros(self.delay.load(Ordering::SeqCst))
    }
}

async fn accept(listener: TcpListener, server: String, state: Arc<State>) {
    let mut connections = JoinSet::new();
    while let Ok((client, _)) = listener.accept().await {
        let Ok(server) = TcpStream::connect(&server).await else { continue };
        if client.set_nodelay(true).is_err() || server.set_nodelay(true).is_err() {
            continue;
        }
        let state = state.clone();
        connections.spawn(async move {
            let (mut from_client, mut to_client) = client.into_split();
            let (mut from_server, mut to_server) = server.into_split();
            tokio::select! {
                () = pump(&mut from_client, &mut to_server, &state, &state.up) => {}
                () = pump(&mut from_server, &mut to_client, &state, &state.down) => {}
            }
        });
    }
}

/// Hands on what comes, until one side closes.
async fn pump(
    from: &mut (impl AsyncRead + Unpin),
    to: &mut (impl AsyncWrite + Unpin),
    state: &State,
    count: &AtomicU64,
) {
    let (sender, mut queue) = mpsc::channel::<(Instant, Vec<u8>)>(1024);
    let read = async move {
        let mut buffer = vec![0; 64 * 1024];
        while let Ok(len @ 1..) = from.read(&mut buffer).await {
            count.fetch_add(len as u64, Ordering::SeqCst); // before it arrives
            if sender.send((state.due(), buffer[..len].to_vec())).await.is_err() {
                break;
            }
        }
    };
    let write = async move {
        while let Some((due, bytes)) = queue.recv().await {
            if due > Instant::now() {
                sleep_until(due).await;
            }
            if to.write_all(&bytes).await.is_err() {
                break;
            }
        }
    };
    tokio::select! {
        () = read => {}
        () = write => {}
    }
}

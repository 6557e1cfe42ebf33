//! The listener of a proxy, which can be closed and opened again on the same port.

use std::future::poll_fn;
use std::io;
use std::net::{SocketAddr, TcpListener as StdListener, TcpStream as StdStream};
use std::os::fd::AsFd;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use tokio::net::{TcpListener, TcpSocket, TcpStream};

/// The backlog of the listener, as in tokio's `TcpListener::bind`.
const BACKLOG: u32 = 1024;

/// How often to try to bind our own port again.
const TRIES: usize = 100_000;

/// The listener, under a lock so that it is closed when whoever closes it returns.
#[derive(Debug)]
pub(super) struct Listener(Mutex<State>);

/// What holds the port.
#[derive(Debug)]
pub(super) enum State {
    Open(TcpListener),
    /// Bound, so that no other process is given the port and no client is given it as its own, and
    /// not listening, so that the kernel refuses whoever connects.
    Closed(TcpSocket),
    /// Neither, in between and after a panic.
    Lost,
}

impl Listener {
    pub(super) async fn open() -> io::Result<(Self, SocketAddr)> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        Ok((Self(Mutex::new(State::Open(listener))), address))
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Accepts the next connection, and evaluates `now` under the same lock.
    pub(super) async fn accept<T>(&self, now: impl Fn() -> T) -> io::Result<(TcpStream, T)> {
        poll_fn(|context| match &*self.lock() {
            State::Open(listener) => {
                listener.poll_accept(context).map_ok(|(client, _)| (client, now()))
            }
            _ => Poll::Pending,
        })
        .await
    }
}

impl State {
    /// Stops listening, and keeps the port. Returns whether it was open.
    pub(super) fn close(&mut self) -> bool {
        let Self::Open(listener) = &*self else { return false };
        let address = listener.local_addr().unwrap();
        // Closed before its port can be bound again.
        *self = Self::Lost;
        *self = Self::Closed(bind(address));
        true
    }

    /// Listens again, on the same port.
    pub(super) fn open(&mut self) {
        match std::mem::replace(self, Self::Lost) {
            Self::Closed(socket) => {
                let listener = socket.listen(BACKLOG);
                *self = Self::Open(listener.expect("the proxy's port: does someone else listen?"));
            }
            other => *self = other,
        }
    }

    /// The connections that are not yet accepted. Read from the kernel, since tokio learns of them later.
    pub(super) fn unaccepted(&self) -> Vec<StdStream> {
        let Self::Open(listener) = self else { return Vec::new() };
        let listener = StdListener::from(listener.as_fd().try_clone_to_owned().unwrap());
        std::iter::from_fn(|| listener.accept().ok()).map(|(client, _)| client).collect()
    }
}

/// Binds a port that was ours just now.
fn bind(address: SocketAddr) -> TcpSocket {
    let socket = TcpSocket::new_v4().unwrap();
    // Since connections that came in by it still stand.
    socket.set_reuseaddr(true).unwrap();
    for _ in 0..TRIES {
        match socket.bind(address) {
            Ok(()) => return socket,
            // A process that another thread starts has a copy of the listener until it execs.
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => std::thread::yield_now(),
            Err(error) => {
                panic!("cannot bind the proxy's port again: address=`{address}`: {error}")
            }
        }
    }
    panic!("the proxy's port was taken: address=`{address}`")
}

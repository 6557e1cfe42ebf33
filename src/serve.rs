//! Servers that are registered while they serve.

mod announcement;
mod check;
mod connection;
mod health;
mod listener;
mod options;
mod signals;

pub use self::check::HealthCheck;
pub use self::connection::Connection;
#[cfg(any(test, fuzzing))]
pub use self::connection::fuzzing;
pub use self::health::HealthReporter;
pub use self::listener::Listener;
pub use self::options::{ServeError, ServeOptions};

use self::announcement::{Announcement, Exit};
use self::signals::Signals;
#[cfg(doc)]
use crate::RegistrationOptions;
use crate::{Client, Instance};
use std::future::pending;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use tokio::net::TcpListener;
use tokio::sync::{oneshot, watch};
use tokio::time::timeout;

/// Runs a tonic or axum server and keeps its instance registered while it serves.
///
/// The caller binds the listener, so a port that is in use fails before anything else starts. `server` builds the
/// server from a [`Listener`] and a future that completes when the server must shut down. The steps are:
///
/// 1. The server runs, and its [health](ServeOptions::health) is `NOT_SERVING`.
/// 2. If [`ready`](ServeOptions::ready) is set, `serve` waits for it.
/// 3. The instance is registered, and the health becomes `SERVING`. It stays `SERVING` during store outages, so that
///    nothing restarts a server that works.
/// 4. SIGTERM, SIGINT or [`shutdown`](ServeOptions::shutdown) starts the shutdown. The health becomes `NOT_SERVING`,
///    and the instance is `Draining` for the time [`drain`](ServeOptions::drain). The server still serves while callers
///    move to other instances.
/// 5. The instance is withdrawn.
/// 6. The server stops accepting connections, and has [`grace`](ServeOptions::grace) for the requests in flight.
///
/// If the server ends by itself, its instance is withdrawn at once. A second signal ends `serve` immediately in any
/// step; the instance then stays listed until its ttl has passed. The same happens if this future is dropped and the
/// runtime ends before it has withdrawn the instance.
///
/// A server can start while its store is down: use a lazy client
/// ([`ClientBuilder::connect_lazy`](crate::ClientBuilder::connect_lazy)) and a
/// [registration](ServeOptions::registration) that starts [in the background](RegistrationOptions::in_background).
///
/// With tonic and the feature `grpc` (`examples/mall` is a complete program):
///
/// ```ignore
/// let (reporter, health) = tonic_health::server::health_reporter();
/// let options = ServeOptions::default().with_health(Health::new(reporter));
/// serve(listener, &client, instance, options, |listener, shutdown| {
///     Server::builder()
///         .add_service(health) // and yours
///         .serve_with_incoming_shutdown(listener, shutdown)
/// })
/// .await?;
/// ```
///
/// With axum and the feature `axum`:
///
/// ```ignore
/// serve(listener, &client, instance, ServeOptions::default(), |listener, shutdown| {
///     axum::serve(listener, app).with_graceful_shutdown(shutdown)
/// })
/// .await?;
/// ```
///
/// # Errors
///
/// The first error, as [`ServeError`] lists them; later errors are logged. Except after a second signal, the server was
/// told to shut down and the withdrawal was attempted before the error is returned.
///
/// # Panics
///
/// Outside of a tokio runtime with I/O and time.
pub fn serve<S, E, F>(
    listener: TcpListener,
    client: &Client,
    instance: Instance,
    options: ServeOptions,
    server: F,
) -> impl Future<Output = Result<(), ServeError<E>>> + use<S, E, F>
where
    S: IntoFuture<Output = Result<(), E>>,
    F: FnOnce(Listener, Shutdown) -> S,
{
    run(listener, client.clone(), instance, options, server) // owns its arguments, so that it can be spawned
}

async fn run<S, E>(
    listener: TcpListener,
    client: Client,
    instance: Instance,
    options: ServeOptions,
    server: impl FnOnce(Listener, Shutdown) -> S,
) -> Result<(), ServeError<E>>
where
    S: IntoFuture<Output = Result<(), E>>,
{
    let mut signals = Signals::listen(options.signals).map_err(ServeError::Signals)?;
    let asked = options.shutdown.unwrap_or_else(|| Box::pin(pending()));
    let ready = async move {
        let Some(ready) = options.ready else { return Ok(()) };
        timeout(options.ready_timeout, ready).await.unwrap_or_else(|late| Err(late.into()))
    };
    let announcement = Announcement {
        client,
        instance,
        options: options.registration,
        health: options.health,
        updates: options.updates,
        check: options.check,
        drain: options.drain,
    };
    announcement.health.report(false).await;

    let (stop, stopped) = oneshot::channel();
    let server = server(listener.into(), Shutdown(stopped)).into_future();
    let mut server = pin!(async { server.await.map_err(ServeError::Server) });
    let (exit, left) = watch::channel(Exit::Stay);
    let mut announced = pin!(announcement.run(ready, left));
    let (signal, signalled) = oneshot::channel();
    let asked = async {
        tokio::select! {
            _ = signalled => {}
            () = asked => {}
        }
    };

    let closed = async {
        let withdrawal = async {
            tokio::select! {
                biased;
                failed = &mut announced => return failed,
                () = asked => {}
            }
            exit.send_replace(Exit::Drain);
            announced.as_mut().await
        };
        let withdrawn = tokio::select! {
            biased;
            ended = &mut server => {
                exit.send_replace(Exit::Now); // no drain: the server is gone
                return first(ended, announced.await);
            }
            withdrawn = withdrawal => withdrawn,
        };
        let _ = stop.send(()); // fails if the server dropped its `Shutdown`
        let ended = timeout(options.grace, &mut server).await;
        first(withdrawn, ended.unwrap_or(Err(ServeError::GraceExceeded(options.grace))))
    };
    let second_signal = async {
        signals.next().await;
        let _ = signal.send(()); // fails if a shutdown is already in progress
        signals.next().await;
    };
    tokio::select! {
        biased;
        closed = closed => closed,
        () = second_signal => Err(ServeError::SecondSignal),
    }
}

/// A future that completes when the server must shut down.
#[derive(Debug)]
pub struct Shutdown(oneshot::Receiver<()>);

impl Future for Shutdown {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        Pin::new(&mut self.0).poll(cx).map(|_| ())
    }
}

/// Returns the first error and logs the second.
fn first<E>(
    one: Result<(), ServeError<E>>,
    two: Result<(), ServeError<E>>,
) -> Result<(), ServeError<E>> {
    if let (Err(_), Err(two)) = (&one, &two) {
        tracing::warn!(error = %two, "closing a server failed with a second error");
    }
    one.and(two)
}

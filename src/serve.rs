//! A server that is registered while it serves.

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

/// Runs a tonic or axum server, and keeps its instance registered while it serves.
///
/// The caller binds the listener, so that a port that is taken is an error before anything else.
/// `server` makes the server out of it, as a [`Listener`], and out of the future that tells it to
/// shut down. Then, in this order:
///
/// 1. the server runs, and its [health](ServeOptions::health) is `NOT_SERVING`;
/// 2. it is [ready](ServeOptions::ready), if it was asked to say so;
/// 3. the instance is registered, and then the health is `SERVING`. It stays so while the store is
///    away: what serves is not to be restarted for that;
/// 4. SIGTERM, SIGINT or [`shutdown`](ServeOptions::shutdown) ends it: the health is `NOT_SERVING`,
///    and the instance is `Draining` for as long as [`drain`](ServeOptions::drain) says, in which
///    callers turn away and the server still serves;
/// 5. the instance is withdrawn;
/// 6. the server is told to shut down: it takes no new connections, and has
///    [`grace`](ServeOptions::grace) for the requests under way.
///
/// A server that ends by itself is withdrawn at once. A second signal ends it all at once, wherever
/// it is; the instance is then listed until its ttl has passed. So it is if this future is dropped,
/// unless the runtime lives on and withdraws it.
///
/// A server starts while its store is down if the registry is that of a lazy client
/// ([`ClientBuilder::connect_lazy`](crate::ClientBuilder::connect_lazy)) and the [registration](ServeOptions::registration)
/// starts [in the background](RegistrationOptions::in_background).
///
/// With tonic and the feature `grpc` (the mall, `examples/mall`, is such a program):
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
/// What went wrong first, as [`ServeError`] lists it; what goes wrong after that is logged. In each
/// case the server was told to shut down, and what was registered was withdrawn, as far as the
/// store let it.
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
    run(listener, client.clone(), instance, options, server) // so that it can be a task of its own
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
    let (hear, heard) = oneshot::channel();
    let asked = async {
        tokio::select! {
            _ = heard => {}
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
                exit.send_replace(Exit::Now); // it may drain: there is nobody there
                return first(ended, announced.await);
            }
            withdrawn = withdrawal => withdrawn,
        };
        let _ = stop.send(()); // it fails if the server does without
        let ended = timeout(options.grace, &mut server).await;
        first(withdrawn, ended.unwrap_or(Err(ServeError::GraceExceeded(options.grace))))
    };
    let impatient = async {
        signals.next().await; // it asks for an end, or for what is under way
        let _ = hear.send(());
        signals.next().await;
    };
    tokio::select! {
        biased;
        closed = closed => closed,
        () = impatient => Err(ServeError::SecondSignal),
    }
}

/// Tells a server to shut down, by being ready.
#[derive(Debug)]
pub struct Shutdown(oneshot::Receiver<()>);

impl Future for Shutdown {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        Pin::new(&mut self.0).poll(cx).map(|_| ())
    }
}

/// What went wrong first. What went wrong after that is logged, since there is but one answer.
fn first<E>(
    one: Result<(), ServeError<E>>,
    two: Result<(), ServeError<E>>,
) -> Result<(), ServeError<E>> {
    if let (Err(_), Err(two)) = (&one, &two) {
        tracing::warn!(error = %two, "and then, when a server was closed");
    }
    one.and(two)
}

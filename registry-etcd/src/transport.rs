//! The transport below etcd-client. Each connection makes its own TLS handshake with freshly read files,
//! records received bytes, and detects a server that speaks another protocol.

mod link;
mod problem;
mod stream;
#[cfg_attr(not(feature = "tls"), path = "transport/no_tls.rs")]
mod tls;

pub(crate) use self::link::Link;
pub(crate) use self::problem::Problem;

use self::stream::MonitoredStream;
use self::tls::Tls;
use crate::endpoint::Endpoint;
use crate::error::EtcdError;
use crate::options::EtcdOptions;
use etcd_client::{Channel, Client, ConnectOptions};
use http::Uri;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioIo;
use registry_core::{BoxError, Result, Target};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use tower_service::Service;

/// The settings for connecting to a member.
#[derive(Clone)]
pub(crate) struct Dial {
    /// The credentials, and the requirement of a leader.
    calls: ConnectOptions,
    options: EtcdOptions,
    tls: Option<Tls>,
}

impl Dial {
    /// `target` has the TLS options; it is ignored unless its scheme requires TLS.
    pub(crate) fn new(calls: ConnectOptions, options: &EtcdOptions, target: &Target) -> Self {
        Self { calls, options: options.clone(), tls: Tls::of(target) }
    }

    /// Checks that the TLS files can be used.
    ///
    /// # Errors
    ///
    /// `Invalid`, with the option and its path.
    pub(crate) async fn check_files(&self) -> Result<()> {
        match &self.tls {
            Some(tls) => tls.check().await,
            None => Ok(()),
        }
    }

    /// Returns a client of one member. With a user, this sends a login request for a token.
    pub(crate) async fn connect(
        &self,
        endpoint: &Endpoint,
        link: &Arc<Link>,
    ) -> Result<Client, EtcdError> {
        let channel = Channel::Tonic(self.channel(endpoint, link)?);
        // Boxed, since the client and its future take several KiB.
        Ok(Box::pin(Client::from_channel(channel, Some(self.calls.clone()))).await?)
    }

    /// Returns a client of one member that is not logged in and makes no request until it is used.
    pub(crate) async fn connect_without_user(
        &self,
        endpoint: &Endpoint,
    ) -> Result<Client, EtcdError> {
        let channel = Channel::Tonic(self.channel(endpoint, &Arc::new(Link::new()))?);
        Ok(Box::pin(Client::from_channel(channel, None)).await?)
    }

    /// Returns a channel that connects on first use, and again when the connection breaks.
    fn channel(
        &self,
        endpoint: &Endpoint,
        link: &Arc<Link>,
    ) -> Result<tonic::transport::Channel, EtcdError> {
        let EtcdOptions { connect_timeout, ping_interval, ping_timeout, .. } = self.options;
        // The connector does TLS, so tonic must not: only the origin has the scheme `https`.
        let address = format!("http://{}", endpoint.authority);
        let origin = endpoint.url.parse().map_err(etcd_client::Error::InvalidUri)?;
        let settings = tonic::transport::Endpoint::from_shared(address)
            .map_err(etcd_client::Error::TransportError)?
            .origin(origin)
            .connect_timeout(connect_timeout)
            .http2_keep_alive_interval(ping_interval)
            .keep_alive_timeout(ping_timeout)
            // etcd treats pings without an open stream as abuse, and closes the connection.
            .keep_alive_while_idle(false);
        let mut tcp = HttpConnector::new();
        tcp.set_nodelay(true);
        tcp.set_connect_timeout(Some(connect_timeout));
        let connector = Connector { tcp, link: link.clone(), tls: self.tls.clone() };
        Ok(settings.connect_with_connector_lazy(connector))
    }
}

/// Makes the successive connections of one channel.
struct Connector {
    tcp: HttpConnector,
    link: Arc<Link>,
    tls: Option<Tls>,
}

impl Service<Uri> for Connector {
    type Response = TokioIo<MonitoredStream>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.tcp.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let (tls, host) = (self.tls.clone(), uri.host().unwrap_or_default().to_owned());
        let (connecting, link) = (self.tcp.call(uri), self.link.clone());
        Box::pin(async move {
            link.clear_problem();
            let tcp = connecting.await?.into_inner();
            if let Some(tls) = tls {
                let stream = tls.connect(&host, tcp).await.inspect_err(|problem| {
                    link.set_problem(problem.clone());
                })?;
                let closed = Problem::ClosedInHandshake;
                return Ok(TokioIo::new(MonitoredStream::new(stream, link, closed)));
            }
            Ok(TokioIo::new(MonitoredStream::new(tcp, link, Problem::ClosedAtOnce)))
        })
    }
}

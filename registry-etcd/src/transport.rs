//! The connections below the etcd client: each has its own TLS handshake with files that are read anew, notes whatever is
//! received, and says if the server speaks another protocol.

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

/// How to connect to each member.
#[derive(Clone)]
pub(crate) struct Dial {
    /// The credentials, and that calls need a leader.
    calls: ConnectOptions,
    options: EtcdOptions,
    tls: Option<Tls>,
}

impl Dial {
    /// `target` contains the options of TLS, and is not read unless its scheme wants TLS.
    pub(crate) fn new(calls: ConnectOptions, options: &EtcdOptions, target: &Target) -> Self {
        Self { calls, options: options.clone(), tls: Tls::of(target) }
    }

    /// Checks the files that TLS needs.
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

    /// Returns a client of one member. With a user, this is a request: for a token.
    pub(crate) async fn connect(
        &self,
        endpoint: &Endpoint,
        link: &Arc<Link>,
    ) -> Result<Client, EtcdError> {
        let channel = Channel::Tonic(self.channel(endpoint, link)?);
        // Boxed, since a client and the future that makes it take several KiB.
        Ok(Box::pin(Client::from_channel(channel, Some(self.calls.clone()))).await?)
    }

    /// Returns a client of one member that makes no request before it is used, and that no member takes for a user.
    pub(crate) async fn connect_without_user(
        &self,
        endpoint: &Endpoint,
    ) -> Result<Client, EtcdError> {
        let channel = Channel::Tonic(self.channel(endpoint, &Arc::new(Link::new()))?);
        Ok(Box::pin(Client::from_channel(channel, None)).await?)
    }

    /// Returns a channel that connects when it is used, and again when the connection breaks.
    fn channel(
        &self,
        endpoint: &Endpoint,
        link: &Arc<Link>,
    ) -> Result<tonic::transport::Channel, EtcdError> {
        let EtcdOptions { connect_timeout, ping_interval, ping_timeout, .. } = self.options;
        // TLS is the connector's, so that tonic must not want it: only the origin says so.
        let address = format!("http://{}", endpoint.authority);
        let origin = endpoint.url.parse().map_err(etcd_client::Error::InvalidUri)?;
        let settings = tonic::transport::Endpoint::from_shared(address)
            .map_err(etcd_client::Error::TransportError)?
            .origin(origin)
            .connect_timeout(connect_timeout)
            .http2_keep_alive_interval(ping_interval)
            .keep_alive_timeout(ping_timeout)
            // etcd takes pings without a stream for abuse, and closes the connection.
            .keep_alive_while_idle(false);
        let mut tcp = HttpConnector::new();
        tcp.set_nodelay(true);
        tcp.set_connect_timeout(Some(connect_timeout));
        let connector = Connector { tcp, link: link.clone(), tls: self.tls.clone() };
        Ok(settings.connect_with_connector_lazy(connector))
    }
}

/// Makes the connections of one channel, one after the other.
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

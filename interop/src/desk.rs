//! The called service: a server responds with its address after some work.
//!
//! Its messages are `google.protobuf.StringValue`, so it needs no generated code.

use service_registry::grpc::Channel;
use std::convert::Infallible;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::time::sleep;
use tonic::body::Body;
use tonic::client::Grpc;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::codegen::http::{Request as HttpRequest, Response as HttpResponse};
use tonic::codegen::{Body as HttpBody, BoxFuture, Service, StdError};
use tonic::server::{NamedService, UnaryService};
use tonic::{Request, Response, Status};
use tonic_prost::ProstCodec;

/// How long a response takes.
const WORK: Duration = Duration::from_millis(5);

const ASK: &str = "/interop.Desk/Ask";

/// A server of the service.
#[derive(Clone, Debug)]
pub(crate) struct DeskServer {
    address: Arc<str>,
}

impl DeskServer {
    pub(crate) fn new(address: &str) -> Self {
        Self { address: address.into() }
    }
}

impl NamedService for DeskServer {
    const NAME: &'static str = "interop.Desk";
}

impl<B> Service<HttpRequest<B>> for DeskServer
where
    B: HttpBody + Send + 'static,
    B::Error: Into<StdError> + Send + 'static,
{
    type Response = HttpResponse<Body>;
    type Error = Infallible;
    type Future = BoxFuture<Self::Response, Self::Error>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: HttpRequest<B>) -> Self::Future {
        let answer = Answer(self.address.clone());
        Box::pin(async move {
            if request.uri().path() != ASK {
                return Ok(Status::unimplemented("no such method").into_http());
            }
            let mut grpc = tonic::server::Grpc::new(ProstCodec::<String, String>::default());
            Ok(grpc.unary(answer, request).await)
        })
    }
}

/// The method `Ask`.
struct Answer(Arc<str>);

impl UnaryService<String> for Answer {
    type Response = String;
    type Future = BoxFuture<Response<String>, Status>;

    fn call(&mut self, _: Request<String>) -> Self::Future {
        let address = self.0.to_string();
        Box::pin(async move {
            sleep(WORK).await;
            Ok(Response::new(address))
        })
    }
}

/// Asks a server for its address.
pub(crate) async fn ask(channel: Channel) -> Result<String, Status> {
    let mut grpc = Grpc::new(channel);
    grpc.ready().await.map_err(|error| Status::unknown(error.to_string()))?;
    let codec = ProstCodec::<String, String>::default();
    let path = PathAndQuery::from_static(ASK);
    Ok(grpc.unary(Request::new("who?".to_owned()), path, codec).await?.into_inner())
}

//! `user.rpc`: a gRPC service that looks customers up.

use crate::listening::{End, Listening};
use crate::proto::user_server::{User, UserServer};
use crate::proto::{LookUpReply, LookUpRequest};
use crate::store::Store;
use anyhow::Result;
use service_registry::grpc::Health;
use service_registry::serve::serve;
use std::time::Duration;
use tokio::time::sleep;
use tonic::transport::Server;
use tonic::{Request, Response, Status};

/// Name of the service.
pub(crate) const SERVICE: &str = "user.rpc";

/// Duration of a lookup. At 100 calls per second, each of three servers has one in flight.
const LOOKUP_TIME: Duration = Duration::from_millis(30);

/// Serves until `end`.
pub(crate) async fn run(store: &Store, listen: &str, name: &str, end: End) -> Result<()> {
    let server = Listening::new(store, SERVICE, listen, name, end).await?;
    let (reporter, health) = tonic_health::server::health_reporter();
    let ready = server.ready(async {});
    let health_of_user = Health::new(reporter).of::<UserServer<Users>>();
    let options = server.options.with_health(health_of_user).with_ready(ready);
    let users = UserServer::new(Users { name: name.to_owned() });
    serve(server.listener, &server.client, server.instance, options, |listener, shutdown| {
        Server::builder()
            .add_service(health)
            .add_service(users)
            .serve_with_incoming_shutdown(listener, shutdown)
    })
    .await?;
    Ok(())
}

struct Users {
    name: String,
}

#[tonic::async_trait]
impl User for Users {
    async fn look_up(
        &self,
        request: Request<LookUpRequest>,
    ) -> Result<Response<LookUpReply>, Status> {
        sleep(LOOKUP_TIME).await;
        let name = format!("customer {}", request.into_inner().id);
        Ok(Response::new(LookUpReply { name, served_by: self.name.clone() }))
    }
}

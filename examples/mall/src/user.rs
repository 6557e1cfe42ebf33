//! `user.rpc`: who our customers are, over gRPC.

use crate::door::{Door, End};
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

/// The name that it is found under.
pub(crate) const SERVICE: &str = "user.rpc";

/// How long a look into the card index takes: at a hundred calls a second, each server has one
/// under way.
const LOOK: Duration = Duration::from_millis(30);

/// Serves until the end.
pub(crate) async fn run(store: &Store, listen: &str, name: &str, end: End) -> Result<()> {
    let door = Door::open(store, SERVICE, listen, name, end).await?;
    let (reporter, health) = tonic_health::server::health_reporter();
    let ready = door.ready(async {});
    let health_of_user = Health::new(reporter).of::<UserServer<Desk>>();
    let options = door.options.with_health(health_of_user).with_ready(ready);
    let desk = UserServer::new(Desk { name: name.to_owned() });
    serve(door.listener, &door.client, door.instance, options, |listener, shutdown| {
        Server::builder()
            .add_service(health)
            .add_service(desk)
            .serve_with_incoming_shutdown(listener, shutdown)
    })
    .await?;
    Ok(())
}

struct Desk {
    name: String,
}

#[tonic::async_trait]
impl User for Desk {
    async fn look_up(
        &self,
        request: Request<LookUpRequest>,
    ) -> Result<Response<LookUpReply>, Status> {
        sleep(LOOK).await;
        let name = format!("customer {}", request.into_inner().id);
        Ok(Response::new(LookUpReply { name, served_by: self.name.clone() }))
    }
}

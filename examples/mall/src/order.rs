//! The order API, over HTTP. It asks `user.rpc` who a customer is, and finds it through the
//! registry.

use crate::door::{Door, End};
use crate::proto::user_client::UserClient;
use crate::proto::{LookUpReply, LookUpRequest};
use crate::store::Store;
use crate::user;
use anyhow::Result;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::routing::post;
use axum::{Json, Router};
use serde::{Deserialize, Serialize};
use service_registry::View;
use service_registry::grpc::{Channel, ChannelOptions, channel};
use service_registry::serve::serve;
use std::time::Duration;
use tokio::time::timeout;
use tonic::{Code, Status};

/// The name that it is found under.
pub(crate) const SERVICE: &str = "order.api";

/// How often a lookup is made, at most, and how long each may take.
const LOOKUPS: u32 = 3;
const LOOKUP_LIMIT: Duration = Duration::from_secs(2);

/// What somebody wants.
#[derive(Serialize, Deserialize)]
pub(crate) struct Order {
    /// Whose order it is.
    pub(crate) user: u64,
}

/// What they get.
#[derive(Serialize, Deserialize)]
pub(crate) struct Receipt {
    pub(crate) customer: String,
    /// The user server that knew them.
    pub(crate) served_by: String,
    /// How many lookups it took.
    pub(crate) lookups: u32,
}

/// Serves until the end.
pub(crate) async fn run(store: &Store, listen: &str, end: End) -> Result<()> {
    let view = store.view(user::SERVICE).await?;
    let users = UserClient::new(channel(&view, ChannelOptions::default()));
    let api = Api { users };
    let app = Router::new().route("/orders", post(order)).with_state(api);
    let door = Door::open(store, SERVICE, listen, "the order API", end).await?;
    let ready = door.ready(an_instance_is_available(view)); // or the first orders would fail
    let options = door.options.with_ready(ready);
    serve(door.listener, &door.client, door.instance, options, |listener, shutdown| {
        axum::serve(listener, app).with_graceful_shutdown(shutdown)
    })
    .await?;
    Ok(())
}

/// Waits for the first instance that may be called.
async fn an_instance_is_available(view: View) {
    drop(view.wait_for(|state| state.available().next().is_some()).await);
}

#[derive(Clone)]
struct Api {
    users: UserClient<Channel>,
}

async fn order(
    State(api): State<Api>,
    Query(order): Query<Order>,
) -> Result<Json<Receipt>, (StatusCode, String)> {
    let answer = api.look_up(order.user).await;
    let (reply, lookups) =
        answer.map_err(|status| (StatusCode::BAD_GATEWAY, status.to_string()))?;
    Ok(Json(Receipt { customer: reply.name, served_by: reply.served_by, lookups }))
}

impl Api {
    /// Looks a customer up, and says how many lookups it took. One changes nothing, so that it is
    /// repeated when its server died under it; of other calls only their author knows.
    async fn look_up(&self, id: u64) -> Result<(LookUpReply, u32), Status> {
        let mut lookups = 1;
        loop {
            let mut users = self.users.clone();
            let lookup = timeout(LOOKUP_LIMIT, users.look_up(LookUpRequest { id })).await;
            let lookup =
                lookup.unwrap_or_else(|_| Err(Status::deadline_exceeded("a lookup took too long")));
            match lookup {
                Ok(reply) => return Ok((reply.into_inner(), lookups)),
                Err(status) if status.code() == Code::Unavailable && lookups < LOOKUPS => {
                    lookups += 1;
                }
                Err(status) => return Err(status),
            }
        }
    }
}

//! The order API over HTTP. It looks customers up in `user.rpc`, which it finds through the registry.

use crate::listening::{End, Listening};
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

/// Name of the service.
pub(crate) const SERVICE: &str = "order.api";

/// Maximal number of attempts for a lookup, and the timeout of each.
const MAX_ATTEMPTS: u32 = 3;
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(2);

/// An order.
#[derive(Serialize, Deserialize)]
pub(crate) struct Order {
    /// Id of the customer.
    pub(crate) user: u64,
}

/// The confirmation of an order.
#[derive(Serialize, Deserialize)]
pub(crate) struct Receipt {
    pub(crate) customer: String,
    /// The user server that answered the lookup.
    pub(crate) served_by: String,
    /// Number of lookups, retries included.
    pub(crate) lookups: u32,
}

/// Serves until `end`.
pub(crate) async fn run(store: &Store, listen: &str, end: End) -> Result<()> {
    let view = store.view(user::SERVICE).await?;
    let users = UserClient::new(channel(&view, ChannelOptions::default()));
    let api = Api { users };
    let app = Router::new().route("/orders", post(order)).with_state(api);
    let server = Listening::new(store, SERVICE, listen, "the order API", end).await?;
    let ready = server.ready(instance_available(view)); // otherwise the first orders would fail
    let options = server.options.with_ready(ready);
    serve(server.listener, &server.client, server.instance, options, |listener, shutdown| {
        axum::serve(listener, app).with_graceful_shutdown(shutdown)
    })
    .await?;
    Ok(())
}

/// Waits for the first available instance.
async fn instance_available(view: View) {
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
    /// Looks a customer up. Returns the reply and the number of attempts.
    ///
    /// A lookup is safe to repeat, so it is retried if its server died. Only the caller can know that about a call.
    async fn look_up(&self, id: u64) -> Result<(LookUpReply, u32), Status> {
        let mut lookups = 1;
        loop {
            let mut users = self.users.clone();
            let lookup = timeout(ATTEMPT_TIMEOUT, users.look_up(LookUpRequest { id })).await;
            let lookup =
                lookup.unwrap_or_else(|_| Err(Status::deadline_exceeded("a lookup took too long")));
            match lookup {
                Ok(reply) => return Ok((reply.into_inner(), lookups)),
                Err(status) if status.code() == Code::Unavailable && lookups < MAX_ATTEMPTS => {
                    lookups += 1;
                }
                Err(status) => return Err(status),
            }
        }
    }
}

//! A customer that places orders over HTTP.

use crate::order::{Order, Receipt};
use crate::tally::Tally;
use crate::timeline::Timeline;
use anyhow::{Context, Result, ensure};
use axum::body::{Body, to_bytes};
use axum::http::{Method, Request, StatusCode};
use hyper_util::client::legacy::{Client, connect::HttpConnector};
use hyper_util::rt::TokioExecutor;
use std::pin::pin;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::{interval, timeout};

/// Time between orders.
const INTERVAL: Duration = Duration::from_millis(10);

/// Timeout of an order, and the maximal length of a receipt.
const TIMEOUT: Duration = Duration::from_secs(10);
const MAX_RECEIPT_LEN: usize = 64 * 1024;

/// Places `calls` orders, and prints their outcomes.
pub(crate) async fn run(timeline: Timeline, url: &str, calls: u64) -> Result<ExitCode> {
    let tally = Arc::new(Tally::default());
    let interrupted = async { drop(tokio::signal::ctrl_c().await) };
    tokio::select! {
        () = place_orders(url, 0..calls, interrupted, &tally) => {}
        never = timeline.follow(&tally) => match never {},
    }
    Ok(timeline.end(&tally))
}

/// Places `orders` until `end`, and waits for those in flight.
pub(crate) async fn place_orders(
    url: &str,
    orders: impl Iterator<Item = u64>,
    end: impl Future<Output = ()>,
    tally: &Arc<Tally>,
) {
    let client = Client::builder(TokioExecutor::new()).build_http();
    let (mut end, mut ticks) = (pin!(end), interval(INTERVAL));
    let mut placed = JoinSet::new();
    for user in orders {
        tokio::select! {
            biased;
            () = &mut end => break,
            _ = ticks.tick() => {}
        }
        let (client, url, tally) = (client.clone(), url.to_owned(), tally.clone());
        placed.spawn(async move { tally.count(place(&client, &url, &Order { user }).await) });
        while placed.try_join_next().is_some() {}
    }
    while placed.join_next().await.is_some() {}
}

async fn place(client: &Client<HttpConnector, Body>, url: &str, order: &Order) -> Result<Receipt> {
    let request = Request::builder()
        .method(Method::POST)
        .uri(format!("{url}/orders?user={}", order.user))
        .body(Body::empty())?;
    let answer = async {
        let answer = client.request(request).await?;
        let (status, body) = (answer.status(), Body::new(answer.into_body()));
        anyhow::Ok((status, to_bytes(body, MAX_RECEIPT_LEN).await?))
    };
    let (status, body) = timeout(TIMEOUT, answer).await.context("no receipt in time")??;
    ensure!(status == StatusCode::OK, "{status}: {}", String::from_utf8_lossy(&body));
    serde_json::from_slice(&body).context("not a receipt")
}

//! A caller of the service `user`, which retries a failed request on another instance.

use anyhow::{Context, Error, Result, anyhow};
use axum::body::{Body, to_bytes};
use axum::http::Request;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use service_registry::View;
use service_registry::balance::PickOptions;
use service_registry::http::classify;
use std::time::Duration;
use tokio::time::timeout;

/// Maximal number of attempts for a request, and the timeout of each.
const ATTEMPTS: usize = 3;
const LIMIT: Duration = Duration::from_secs(1);

/// Maximal length of an answer.
const MAX_ANSWER: usize = 64 * 1024;

pub(crate) struct Users {
    view: View,
    http: Client<HttpConnector, Body>,
}

impl Users {
    pub(crate) fn new(view: View) -> Self {
        Self { view, http: Client::builder(TokioExecutor::new()).build_http() }
    }

    /// Gets `path` from an instance, and retries on another one if that fails: a GET is safe to repeat. Returns the
    /// answer, and the number of failed attempts.
    pub(crate) async fn get(&self, path: &str) -> Result<(String, usize)> {
        let mut options = PickOptions::default();
        loop {
            let user = self.view.pick_with(&options)?;
            let uri = format!("http://{}{path}", user.address());
            let call = self.http.request(Request::get(&uri).body(Body::empty())?);
            let answer = timeout(LIMIT, user.observe_with(classify, call)).await;
            let error = match answer {
                Ok(Ok(answer)) if !answer.status().is_server_error() => {
                    let body = to_bytes(Body::new(answer.into_body()), MAX_ANSWER).await?;
                    return Ok((String::from_utf8(body.into())?, options.exclude.len()));
                }
                Ok(Ok(answer)) => anyhow!("{uri} returned {}", answer.status()),
                Ok(Err(error)) => Error::from(error),
                Err(late) => late.into(),
            };
            options.exclude.push(user.id().clone());
            if options.exclude.len() >= ATTEMPTS {
                return Err(error).context(uri);
            }
        }
    }
}

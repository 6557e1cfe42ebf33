//! A tower layer that sends each request to an instance.

use super::{CallError, classify_error, classify_status};
use crate::balance::{Outcome, PickOptions};
use crate::{Instance, View};
use futures_util::future::BoxFuture;
use http::uri::{PathAndQuery, Scheme, Uri};
use http::{Request, Response};
use registry_core::BoxError;
use std::fmt;
use std::mem;
use std::sync::Arc;
use std::task::{Context, Poll};
use tower::{Layer, Service};

/// A layer that picks an instance for each request and writes its address into the URI.
///
/// It replaces the host and port of the URI and keeps the scheme, which is `http` if there is none. The response status
/// decides the outcome: 502, 503, 504 and errors count against the instance. The layer retries nothing. A dropped
/// future counts as in [`Pick::observe`](crate::Pick::observe).
///
/// Put [`PickOptions`] into the extensions of a request to control its pick, such as to exclude the instances that a
/// retry has already tried. The extensions of a response hold the [`Instance`] that answered. The [error](CallError)
/// of a failed call names the instance that was called.
///
/// ```
/// use http::{Request, Response};
/// use service_registry::{Instance, connect, http::BalanceLayer};
/// use std::time::Duration;
/// use tower::{Layer, Service, service_fn};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
/// let client = connect("mem://").await?;
/// let registration = client.register(Instance::new("user", ([10, 0, 0, 1], 80).into())?).await?;
/// let users = client.discover("user")?;
/// users.ready(Duration::from_secs(5)).await?;
///
/// let http = service_fn(|request: Request<()>| async move { // or a client of hyper-util
///     Ok::<_, std::io::Error>(Response::new(request.uri().to_string()))
/// });
/// let mut http = BalanceLayer::new(users).layer(http);
/// let answer = http.call(Request::get("/7").body(())?).await?;
/// assert_eq!(answer.body(), "http://10.0.0.1:80/7");
/// # registration.stop().await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct BalanceLayer {
    view: View,
    classify: Arc<ClassifyStatus>,
}

type ClassifyStatus = dyn Fn(u16) -> Outcome + Send + Sync;

impl BalanceLayer {
    /// Returns a layer that sends requests to the instances of `view`.
    pub fn new(view: View) -> Self {
        Self { view, classify: Arc::new(classify_status) }
    }

    /// Sets how a response status is classified. The default is [`classify_status`].
    ///
    /// ```
    /// use service_registry::balance::{Failure, Outcome};
    /// use service_registry::http::BalanceLayer;
    ///
    /// # fn layer(users: service_registry::View) -> BalanceLayer {
    /// BalanceLayer::new(users).with_classify(|status| match status {
    ///     500..=599 => Outcome::Failure(Failure::Other),
    ///     _ => Outcome::Success,
    /// })
    /// # }
    /// ```
    #[must_use]
    pub fn with_classify(
        mut self,
        classify: impl Fn(u16) -> Outcome + Send + Sync + 'static,
    ) -> Self {
        self.classify = Arc::new(classify);
        self
    }
}

impl fmt::Debug for BalanceLayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BalanceLayer").field("view", &self.view).finish_non_exhaustive()
    }
}

impl<S> Layer<S> for BalanceLayer {
    type Service = Balance<S>;

    fn layer(&self, inner: S) -> Balance<S> {
        Balance { inner, layer: self.clone() }
    }
}

/// An HTTP client that sends each request to an instance of a service: see [`BalanceLayer`].
#[derive(Clone, Debug)]
pub struct Balance<S> {
    inner: S,
    layer: BalanceLayer,
}

impl<S, B, R> Service<Request<B>> for Balance<S>
where
    S: Service<Request<B>, Response = Response<R>> + Clone + Send + 'static,
    S::Future: Send,
    S::Error: Into<BoxError>,
    B: Send + 'static,
    R: Send + 'static,
{
    type Response = Response<R>;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<Response<R>, BoxError>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        // Only the service that was polled ready may make the call, so the clone takes its place.
        let clone = self.inner.clone();
        let mut inner = mem::replace(&mut self.inner, clone);
        let options = request.extensions_mut().remove::<PickOptions>().unwrap_or_default();
        let pick = self.layer.view.pick_with(&options);
        let classify = self.layer.classify.clone();
        Box::pin(async move {
            let pick = pick?;
            *request.uri_mut() = with_authority(mem::take(request.uri_mut()), &pick)?;
            let call = async { inner.call(request).await.map_err(Into::into) };
            match pick.observe_with(|result| outcome(result, &*classify), call).await {
                Ok(mut response) => {
                    response.extensions_mut().insert(pick.clone());
                    Ok(response)
                }
                Err(error) => Err(CallError::new(pick.clone(), error).into()),
            }
        })
    }
}

fn outcome<R>(result: &Result<Response<R>, BoxError>, classify: &ClassifyStatus) -> Outcome {
    match result {
        Ok(response) => classify(response.status().as_u16()),
        Err(error) => Outcome::Failure(classify_error(&**error)),
    }
}

/// Returns `uri` with the address of `instance`.
fn with_authority(uri: Uri, instance: &Instance) -> Result<Uri, http::Error> {
    let mut parts = uri.into_parts();
    parts.authority = Some(instance.address().as_str().parse()?);
    parts.scheme.get_or_insert(Scheme::HTTP);
    parts.path_and_query.get_or_insert(PathAndQuery::from_static("/"));
    Ok(Uri::from_parts(parts)?)
}

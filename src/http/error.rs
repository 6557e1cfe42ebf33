//! The error of a call that an instance failed.

use crate::Instance;
use registry_core::BoxError;

/// The error of a call that an instance failed, with that instance, so that a retry can exclude it.
///
/// The error of the client below is its source.
///
/// ```
/// use http::{Request, Response};
/// use service_registry::balance::PickOptions;
/// use service_registry::http::CallError;
/// use std::error::Error;
/// use tower::retry::Policy;
///
/// /// Repeats a request without a body elsewhere, once.
/// #[derive(Clone)]
/// struct Elsewhere;
///
/// impl<R> Policy<Request<()>, Response<R>, Box<dyn Error + Send + Sync>> for Elsewhere {
///     type Future = std::future::Ready<()>;
///
///     fn retry(
///         &mut self,
///         request: &mut Request<()>,
///         result: &mut Result<Response<R>, Box<dyn Error + Send + Sync>>,
///     ) -> Option<Self::Future> {
///         let error = result.as_ref().err()?.downcast_ref::<CallError>()?;
///         let exclude = PickOptions::default().with_exclude([error.instance().id().clone()]);
///         request.extensions_mut().insert(exclude).is_none().then(|| std::future::ready(()))
///     }
///
///     fn clone_request(&mut self, request: &Request<()>) -> Option<Request<()>> {
///         Some(request.clone())
///     }
/// }
/// ```
#[derive(Debug, thiserror::Error)]
#[error("the call failed, instance=`{}`, address=`{}`", .instance.id(), .instance.address())]
pub struct CallError {
    instance: Instance,
    source: BoxError,
}

impl CallError {
    pub(super) fn new(instance: Instance, source: BoxError) -> Self {
        Self { instance, source }
    }

    /// Returns the instance that was called.
    pub fn instance(&self) -> &Instance {
        &self.instance
    }

    /// Returns the error of the client.
    pub fn into_source(self) -> BoxError {
        self.source
    }
}

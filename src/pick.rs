//! An instance that was picked for one call.

use crate::Instance;
use crate::balance::{Call, Failure, Outcome, Picker};
use std::fmt;
use std::ops::Deref;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// An instance that was picked for one call, with the means to report the outcome of the call.
///
/// It derefs to the [`Instance`]. The call counts as in flight until its outcome is reported or the pick is dropped. Only
/// the first report counts. A drop without a report is neutral: if it counted as a success, a dead instance would look
/// fast.
///
/// ```
/// use service_registry::{Instance, connect};
/// use std::time::Duration;
///
/// # async fn call(address: &str) -> Result<String, std::io::Error> { Ok(address.to_owned()) }
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let client = connect("mem://").await?;
/// let registration = client.register(Instance::new("user.rpc", ([10, 0, 0, 1], 80).into())?).await?;
/// let users = client.discover("user.rpc")?;
/// users.ready(Duration::from_secs(5)).await?;
///
/// let user = users.pick()?;
/// let answer = user.observe(call(user.address().as_str())).await?; // its outcome and latency feed the next pick
/// assert_eq!(answer, "10.0.0.1:80");
/// # registration.stop().await?;
/// # Ok(())
/// # }
/// ```
#[must_use = "a pick counts as a call in flight until it is dropped: call the instance"]
pub struct Pick {
    instance: Instance,
    /// `None` after the first report.
    call: Mutex<Option<Call>>,
    picker: Arc<Picker>,
}

impl Pick {
    #[inline]
    pub(crate) fn new(call: Call, picker: Arc<Picker>) -> Self {
        let instance = call.value().instance().clone();
        Self { instance, call: Mutex::new(Some(call)), picker }
    }

    /// Makes a call and reports its outcome and latency: `Ok` is a success, `Err` is a failure of the instance.
    ///
    /// If an error may be the caller's own fault, or an `Ok` may be a failure, such as an HTTP response of status 503, use
    /// [`observe_with`](Self::observe_with).
    ///
    /// If the future is dropped, by `tokio::time::timeout` for example, the call is neither a success nor a failure. The
    /// elapsed time is a lower bound of the instance's latency.
    pub async fn observe<T, E>(&self, call: impl Future<Output = Result<T, E>>) -> Result<T, E> {
        let classify = |result: &Result<T, E>| match result {
            Ok(_) => Outcome::Success,
            Err(_) => Outcome::Failure(Failure::Other),
        };
        self.observe_with(classify, call).await
    }

    /// Makes a call and reports its latency, and the outcome that `classify` returns for its result.
    ///
    /// ```
    /// use service_registry::balance::{Failure, Outcome};
    ///
    /// # async fn call() -> Result<u16, std::io::Error> { Ok(200) }
    /// # async fn example(user: service_registry::Pick) {
    /// let classify = |result: &Result<u16, std::io::Error>| match result {
    ///     Err(_) | Ok(502..=504) => Outcome::Failure(Failure::Other),
    ///     Ok(_) => Outcome::Success,
    /// };
    /// let status = user.observe_with(classify, call()).await;
    /// # }
    /// ```
    pub async fn observe_with<T>(
        &self,
        classify: impl FnOnce(&T) -> Outcome,
        call: impl Future<Output = T>,
    ) -> T {
        let _abandon = Abandon(self); // does nothing once the outcome is reported
        if let Some(call) = &mut *self.lock() {
            call.restart(self.picker.now()); // the call begins only now
        }
        let result = call.await;
        self.report(classify(&result));
        result
    }

    /// Reports a success. The latency of the call is the time since the pick.
    pub fn succeeded(self) {
        self.report(Outcome::Success);
    }

    /// Reports a failure and its reason.
    pub fn failed(self, failure: Failure) {
        self.report(Outcome::Failure(failure));
    }

    fn report(&self, outcome: Outcome) {
        let Some(call) = self.lock().take() else { return };
        if outcome == Outcome::Failure(Failure::Refused) {
            self.picker.refused(call.key());
        }
        let transition = call.finish(outcome.into(), self.picker.now());
        if let Some(transition) = transition {
            self.picker.report(&self.instance, transition);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Call>> {
        self.call.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Deref for Pick {
    type Target = Instance;

    fn deref(&self) -> &Instance {
        &self.instance
    }
}

impl fmt::Debug for Pick {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Pick").field(&self.instance).finish()
    }
}

/// Abandons the call when its future is dropped before an outcome is reported.
struct Abandon<'a>(&'a Pick);

impl Drop for Abandon<'_> {
    fn drop(&mut self) {
        if let Some(call) = self.0.lock().take() {
            call.abandon(self.0.picker.now());
        }
    }
}

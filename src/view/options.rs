//! Options of a view.

use crate::balance::Ejection;
use std::collections::BTreeMap;

/// Options of a [`View`](crate::View).
///
/// ```
/// use service_registry::ViewOptions;
///
/// # async fn gold(client: service_registry::Client) -> service_registry::Result<()> {
/// let options = ViewOptions::default().with_label("tier", "gold").with_zone("eu-1");
/// let gold = client.discover_with("user.rpc", options)?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ViewOptions {
    /// The labels that an instance must have to be in the view. Default: none.
    ///
    /// Each view with labels has a watch of its own, while views without labels share one. A view with labels does not
    /// retain instances, because a missing instance may just have lost a label, and it uses no snapshot file.
    pub labels: BTreeMap<String, String>,
    /// The zone of the caller. Instances in the same [zone](crate::Instance::zone) take all calls while at least half of
    /// them are available. Default: none.
    pub zone: Option<String>,
    /// When a failing instance is ejected, so that it takes no calls for a while; `None`: never. At least half of the
    /// instances always take calls.
    pub ejection: Option<Ejection>,
}

impl ViewOptions {
    /// Adds a label that an instance must have.
    #[must_use]
    pub fn with_label(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.labels.insert(name.into(), value.into());
        self
    }

    /// Sets the [zone](Self::zone) of the caller.
    #[must_use]
    pub fn with_zone(mut self, zone: impl Into<String>) -> Self {
        self.zone = Some(zone.into());
        self
    }

    /// Sets when a failing instance is ejected; `None`: never.
    #[must_use]
    pub fn with_ejection(mut self, ejection: impl Into<Option<Ejection>>) -> Self {
        self.ejection = ejection.into();
        self
    }
}

impl Default for ViewOptions {
    fn default() -> Self {
        Self { labels: BTreeMap::new(), zone: None, ejection: Some(Ejection::default()) }
    }
}

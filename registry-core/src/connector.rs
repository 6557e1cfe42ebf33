//! Connectors: they turn a URL into a registry, also for stores outside of this workspace.

use crate::diagnosis::Finding;
use crate::{Error, ErrorKind, Registry, Result, Target};
use async_trait::async_trait;
use std::fmt;
use std::sync::Arc;

/// A connector to the stores of some URL schemes.
///
/// The builder of a client takes connectors; there is no global table.
///
/// ```
/// use async_trait::async_trait;
/// use registry_core::{ConnectOptions, Connected, Connector, Result, Target};
/// use registry_mem::MemRegistry;
/// use std::sync::Arc;
///
/// /// `scratch://` is a new registry in memory each time.
/// #[derive(Debug)]
/// struct Scratch;
///
/// #[async_trait]
/// impl Connector for Scratch {
///     fn schemes(&self) -> &[&str] {
///         &["scratch"]
///     }
///
///     async fn connect(&self, target: &Target, _options: &ConnectOptions) -> Result<Connected> {
///         target.allow_options(&[])?;
///         Ok(Connected::new(Arc::new(MemRegistry::new())))
///     }
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<()> {
/// let connected = Scratch.connect(&"scratch://".parse()?, &ConnectOptions::default()).await?;
/// assert_eq!(connected.registry().default_ttl(), None);
/// # Ok(())
/// # }
/// ```
#[async_trait]
pub trait Connector: fmt::Debug + Send + Sync + 'static {
    /// Returns the supported URL schemes, in lower case.
    fn schemes(&self) -> &[&str];

    /// Connects to the store that `target` names.
    ///
    /// # Errors
    ///
    /// `Invalid` if a part of the URL is wrong, or if the options set a namespace and the store has none. `Unavailable`
    /// if the store does not answer, `Denied` if it refuses the credentials.
    async fn connect(&self, target: &Target, options: &ConnectOptions) -> Result<Connected>;

    /// Returns a handle to the store that `target` names without sending a request; its first call connects.
    ///
    /// That call also runs the checks of [`connect`](Self::connect). If one fails, every call returns its error until
    /// the cause is corrected.
    ///
    /// # Errors
    ///
    /// `Invalid` if a part of the URL is wrong. `Unsupported` unless the connector implements it.
    fn connect_lazy(&self, target: &Target, options: &ConnectOptions) -> Result<Connected> {
        let _ = options;
        let message = format!(
            "the connector does not support lazy connections: use `connect`, scheme=`{}`",
            target.scheme()
        );
        Err(Error::new(ErrorKind::Unsupported, message))
    }
}

/// Options of a connection that are not part of the URL.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct ConnectOptions {
    /// The namespace: a service in one namespace is not visible in another. If unset, that of the URL.
    ///
    /// A connector puts it where its URLs have it, such as the path of `etcd://` or the option `prefix` of `redis://`,
    /// and refuses a URL that states a different one.
    pub namespace: Option<String>,
}

impl ConnectOptions {
    /// Sets the [namespace](Self::namespace).
    #[must_use]
    pub fn with_namespace(mut self, namespace: impl Into<String>) -> Self {
        self.namespace = Some(namespace.into());
        self
    }

    /// Returns `target` with the namespace, if there is one, as its path.
    ///
    /// # Errors
    ///
    /// `Invalid` if `target` has a different path.
    pub fn in_path(&self, target: &Target) -> Result<Target> {
        let Some(namespace) = &self.namespace else { return Ok(target.clone()) };
        check_namespace(namespace, Some(target.path()).filter(|path| !path.is_empty()))?;
        Ok(target.clone().with_path(namespace.as_str()))
    }

    /// Returns `target` with the namespace, if there is one, as the option `name`.
    ///
    /// # Errors
    ///
    /// `Invalid` if `target` has a different value for that option.
    pub fn in_option(&self, name: &str, target: &Target) -> Result<Target> {
        let Some(namespace) = &self.namespace else { return Ok(target.clone()) };
        check_namespace(namespace, target.option(name))?;
        Ok(target.clone().with_option(name, namespace.as_str()))
    }
}

fn check_namespace(namespace: &str, stated: Option<&str>) -> Result<()> {
    match stated {
        Some(stated) if stated != namespace => Err(Error::new(
            ErrorKind::Invalid,
            format!(
                "the URL and the options state different namespaces: leave out one of them, url=`{stated}`, \
                 options=`{namespace}`"
            ),
        )),
        _ => Ok(()),
    }
}

/// A connected store.
#[derive(Clone, Debug)]
pub struct Connected {
    registry: Arc<dyn Registry>,
    diagnose: Option<Arc<dyn Diagnose>>,
}

impl Connected {
    /// Returns a connected store without a diagnosis of its own.
    pub fn new(registry: Arc<dyn Registry>) -> Self {
        Self { registry, diagnose: None }
    }

    /// Adds the store's own diagnosis.
    #[must_use]
    pub fn with_diagnose(mut self, diagnose: Arc<dyn Diagnose>) -> Self {
        self.diagnose = Some(diagnose);
        self
    }

    /// Returns the registry.
    pub fn registry(&self) -> &Arc<dyn Registry> {
        &self.registry
    }

    /// Returns the store's own diagnosis, if it has one.
    pub fn diagnose(&self) -> Option<&Arc<dyn Diagnose>> {
        self.diagnose.as_ref()
    }
}

/// A store that can diagnose itself.
#[async_trait]
pub trait Diagnose: fmt::Debug + Send + Sync + 'static {
    /// Diagnoses the store: whether it answers, what these credentials may do, how its servers are configured, and
    /// which foreign keys it contains.
    async fn diagnose(&self) -> Vec<Finding>;
}

//! The URL of a store.

use crate::{Claim, Error, ErrorKind, MAX_TTL, MIN_TTL, Result};
use percent_encoding::{
    AsciiSet, CONTROLS, PercentEncode, percent_decode_str, utf8_percent_encode,
};
use std::collections::BTreeMap;
use std::fmt;
use std::net::Ipv6Addr;
use std::str::FromStr;
use std::time::Duration;

/// A text that is never shown in logs or errors.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps `text`.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// Returns the text. Use it only to authenticate with the server.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// A server in a URL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Host {
    name: String,
    port: Option<u16>,
}

impl Host {
    /// Returns the name or address; an IPv6 address without brackets.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the port, if the URL states one.
    pub fn port(&self) -> Option<u16> {
        self.port
    }

    /// Returns `host:port` to dial, with the port `default` if the URL states none.
    pub fn authority(&self, default: u16) -> String {
        let port = self.port.unwrap_or(default);
        if self.name.contains(':') {
            format!("[{}]:{port}", self.name)
        } else {
            format!("{}:{port}", self.name)
        }
    }
}

/// The parsed URL of a store.
///
/// `scheme://[user[:password]@]host[:port][,host[:port]...][/path][?option=value&...]`
///
/// `mem://` has no hosts. All stores have the option `ttl`, the default ttl of registrations and views (such as `10s`
/// or `1m 30s`, within [`MIN_TTL`] and [`MAX_TTL`]). Each store defines its other options.
///
/// Percent-encode `/`, `@`, `:` and `?` in a password, and `@` in a path or an option. The password is not shown in
/// `Debug`, `Display` or errors.
///
/// ```
/// use registry_core::Target;
///
/// # fn main() -> registry_core::Result<()> {
/// let target: Target = "redis://app:s3cret@db1,db2:7000/0?prefix=prod".parse()?;
/// assert_eq!(target.hosts()[0].authority(6379), "db1:6379");
/// assert_eq!(target.to_string(), "redis://app:***@db1,db2:7000/0?prefix=prod");
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    scheme: String,
    user: Option<String>,
    password: Option<Secret>,
    hosts: Vec<Host>,
    path: String,
    options: BTreeMap<String, String>,
    ttl: Option<Duration>,
}

impl Target {
    /// Returns the scheme in lower case.
    pub fn scheme(&self) -> &str {
        &self.scheme
    }

    /// Returns the decoded user name.
    pub fn user(&self) -> Option<&str> {
        self.user.as_deref()
    }

    /// Returns the decoded password.
    pub fn password(&self) -> Option<&Secret> {
        self.password.as_ref()
    }

    /// Returns the servers.
    pub fn hosts(&self) -> &[Host] {
        &self.hosts
    }

    /// Returns the decoded path without its leading `/`.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Returns the default ttl of registrations and views, if the URL states one.
    pub fn ttl(&self) -> Option<Duration> {
        self.ttl
    }

    /// Returns the decoded value of an option.
    pub fn option(&self, name: &str) -> Option<&str> {
        self.options.get(name).map(String::as_str)
    }

    /// Removes an option and returns its decoded value. Use it for an option that the store itself does not know.
    ///
    /// ```
    /// use registry_core::Target;
    ///
    /// # fn main() -> registry_core::Result<()> {
    /// let mut target: Target = "mem://?service=user.rpc".parse()?;
    /// assert_eq!(target.take_option("service").as_deref(), Some("user.rpc"));
    /// assert_eq!(target.to_string(), "mem://");
    /// # Ok(())
    /// # }
    /// ```
    pub fn take_option(&mut self, name: &str) -> Option<String> {
        self.options.remove(name)
    }

    /// Sets the default ttl of registrations and views.
    ///
    /// # Errors
    ///
    /// `Invalid` unless it is within [`MIN_TTL`] and [`MAX_TTL`].
    pub fn with_ttl(mut self, ttl: Duration) -> Result<Self> {
        self.ttl = Some(Claim::new(ttl)?.ttl());
        Ok(self)
    }

    /// Sets the path.
    #[must_use]
    pub fn with_path(mut self, path: impl Into<String>) -> Self {
        self.path = path.into();
        self
    }

    /// Sets an option other than the ttl.
    #[must_use]
    pub fn with_option(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.options.insert(name.into(), value.into());
        self
    }

    /// Refuses options other than `ttl` and those in `known`, so that a misspelt option is not ignored.
    ///
    /// # Errors
    ///
    /// `Invalid`, naming the unknown option and the known ones.
    pub fn allow_options(&self, known: &[&str]) -> Result<()> {
        match self.options.keys().find(|name| !known.contains(&name.as_str())) {
            None => Ok(()),
            Some(name) => {
                let known = ["ttl"].iter().chain(known).copied().collect::<Vec<_>>().join(", ");
                let scheme = &self.scheme;
                Err(invalid(format!("unknown option `{name}` of {scheme}://, known are: {known}")))
            }
        }
    }
}

impl FromStr for Target {
    type Err = Error;

    fn from_str(url: &str) -> Result<Self> {
        let (scheme, rest) = url.split_once("://").ok_or_else(|| {
            // The text is not repeated, since it may be a password.
            invalid("the text is not a URL, such as `mem://` or `redis://127.0.0.1:6379`")
        })?;
        let legal = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'-' | b'.');
        if scheme.is_empty() || !scheme.bytes().all(legal) {
            return Err(invalid(
                "the scheme of the URL is empty or has characters other than letters, digits, `+`, `-` and `.`",
            ));
        }
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        if path.contains('@') || query.contains('@') {
            // A password with an unencoded `/` or `?` ends up here, and paths and options are not secret.
            return Err(invalid(
                "the URL has `@` behind the hosts: write %40 in a path or an option, and percent-encode `/`, `@`, \
                 `:` and `?` in a password",
            ));
        }
        let (userinfo, hosts) = match authority.rsplit_once('@') {
            Some((userinfo, hosts)) => (Some(userinfo), hosts),
            None => (None, authority),
        };
        let (user, password) = userinfo.map_or(Ok((None, None)), parse_userinfo)?;
        let hosts = match hosts {
            "" => Vec::new(),
            hosts => hosts.split(',').map(parse_host).collect::<Result<_>>()?,
        };
        let mut options = parse_options(query)?;
        let ttl = options.remove("ttl").map(|ttl| parse_ttl(&ttl)).transpose()?;
        let (scheme, path) = (scheme.to_ascii_lowercase(), decode(path)?);
        Ok(Self { scheme, user, password, hosts, path, options, ttl })
    }
}

/// The URL with the password replaced by `***`. A URL without a password parses to the same target.
impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://", self.scheme)?;
        match (&self.user, &self.password) {
            (None, None) => {}
            (user, None) => write!(f, "{}@", encode(user.as_deref().unwrap_or_default()))?,
            (user, Some(_)) => write!(f, "{}:***@", encode(user.as_deref().unwrap_or_default()))?,
        }
        for (n, host) in self.hosts.iter().enumerate() {
            let comma = if n == 0 { "" } else { "," };
            match host.port {
                Some(port) => write!(f, "{comma}{}", host.authority(port))?,
                None if host.name.contains(':') => write!(f, "{comma}[{}]", host.name)?,
                None => write!(f, "{comma}{}", host.name)?,
            }
        }
        if !self.path.is_empty() {
            write!(f, "/{}", utf8_percent_encode(&self.path, PATH))?;
        }
        let ttl = self.ttl.map(|ttl| ("ttl", humantime::format_duration(ttl).to_string()));
        let options = self.options.iter().map(|(name, value)| (name.as_str(), value.clone()));
        for (n, (name, value)) in options.chain(ttl).enumerate() {
            let (name, value) = (encode(name), utf8_percent_encode(&value, VALUE));
            write!(f, "{}{name}={value}", if n == 0 { '?' } else { '&' })?;
        }
        Ok(())
    }
}

/// The characters to encode in a path.
const PATH: &AsciiSet = &CONTROLS.add(b'%').add(b'?').add(b'#').add(b'@');

/// The characters to encode in the value of an option.
const VALUE: &AsciiSet = &CONTROLS.add(b'%').add(b'&').add(b'#').add(b'@');

/// Encodes a user or the name of an option: a part that ends at the first delimiter of any kind.
fn encode(text: &str) -> PercentEncode<'_> {
    const PART: &AsciiSet = &PATH.add(b'/').add(b':').add(b'&').add(b'=');
    utf8_percent_encode(text, PART)
}

fn parse_userinfo(userinfo: &str) -> Result<(Option<String>, Option<Secret>)> {
    let (user, password) = match userinfo.split_once(':') {
        Some((user, password)) => (user, Some(Secret::new(decode(password)?))),
        None => (userinfo, None),
    };
    let user = if user.is_empty() { None } else { Some(decode(user)?) };
    Ok((user, password))
}

fn parse_host(host: &str) -> Result<Host> {
    // The text is not repeated, since a part of an unencoded password may have ended up here.
    let wrong = || {
        invalid(
            "the hosts of the URL are not `host[:port][,host[:port]...]` (an IPv6 host in brackets); percent-encode \
             `/`, `@`, `:` and `?` in a password",
        )
    };
    let (name, port) = match host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((v6, port)) => {
            v6.parse::<Ipv6Addr>().map_err(|_| wrong())?;
            (v6, port)
        }
        None => host.find(':').map_or((host, ""), |colon| host.split_at(colon)),
    };
    let port = match port.strip_prefix(':') {
        Some(port) => {
            let is_number = port.bytes().all(|b| b.is_ascii_digit()); // `parse` would accept a sign
            let port = port.parse().ok().filter(|port| *port != 0 && is_number);
            Some(port.ok_or_else(wrong)?)
        }
        None if port.is_empty() => None,
        None => return Err(wrong()),
    };
    let legal = |c: char| c.is_ascii_alphanumeric() || "-._:".contains(c);
    if name.is_empty() || !name.chars().all(legal) {
        return Err(wrong());
    }
    Ok(Host { name: name.to_owned(), port })
}

fn parse_options(query: &str) -> Result<BTreeMap<String, String>> {
    let mut options = BTreeMap::new();
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let name = decode(name)?;
        if options.insert(name.clone(), decode(value)?).is_some() {
            return Err(invalid(format!("the URL states option `{name}` twice")));
        }
    }
    Ok(options)
}

fn parse_ttl(text: &str) -> Result<Duration> {
    let ttl = humantime::parse_duration(text).ok();
    ttl.filter(|ttl| (MIN_TTL..=MAX_TTL).contains(ttl)).ok_or_else(|| {
        let [min, max] = [MIN_TTL, MAX_TTL].map(humantime::format_duration);
        invalid(format!("option `ttl` must be {min} to {max}, such as `10s`, got=`{text}`"))
    })
}

fn decode(text: &str) -> Result<String> {
    let decoded = percent_decode_str(text).decode_utf8();
    Ok(decoded.map_err(|_| invalid("the URL does not decode to UTF-8"))?.into_owned())
}

fn invalid(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::Invalid, message)
}

#[cfg(test)]
mod tests;

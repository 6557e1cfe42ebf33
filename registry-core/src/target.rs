//! The URL of a store.

use crate::{Error, ErrorKind, MAX_TTL, MIN_TTL, Result};
use percent_encoding::{
    AsciiSet, CONTROLS, PercentEncode, percent_decode_str, utf8_percent_encode,
};
use std::collections::BTreeMap;
use std::fmt;
use std::net::Ipv6Addr;
use std::str::FromStr;
use std::time::Duration;

/// Text that never shows in logs.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Hides `text`.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text itself. Hand it to the server, and to nobody else.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// A server, as a URL names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Host {
    name: String,
    port: Option<u16>,
}

impl Host {
    /// The name or address, an IPv6 address without brackets.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The port, if the URL states one.
    pub fn port(&self) -> Option<u16> {
        self.port
    }

    /// `host:port` to dial, with `default` where the URL states no port.
    pub fn authority(&self, default: u16) -> String {
        let port = self.port.unwrap_or(default);
        if self.name.contains(':') {
            format!("[{}]:{port}", self.name)
        } else {
            format!("{}:{port}", self.name)
        }
    }
}

/// Where a store is and how to use it, parsed from a URL.
///
/// `scheme://[user[:password]@]host[:port][,host[:port]...][/path][?option=value&...]`
///
/// `mem://` has no hosts. The option `ttl` (such as `10s` or `1m 30s`, within [`MIN_TTL`] and [`MAX_TTL`]) is
/// common to all stores: the default ttl of registrations and views. Other options are each store's to say. A password with `/`, `@`, `:` or `?` in it is written
/// percent-encoded, and shows in no `Debug`, no `Display` and no error.
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
    /// What stands before `://`, in lower case.
    pub fn scheme(&self) -> &str {
        &self.scheme
    }

    /// The user name, decoded.
    pub fn user(&self) -> Option<&str> {
        self.user.as_deref()
    }

    /// The password, decoded.
    pub fn password(&self) -> Option<&Secret> {
        self.password.as_ref()
    }

    /// The servers.
    pub fn hosts(&self) -> &[Host] {
        &self.hosts
    }

    /// What follows the hosts, decoded, without the first `/`.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The default ttl of registrations and views, if the URL states one.
    pub fn ttl(&self) -> Option<Duration> {
        self.ttl
    }

    /// The value of an option, decoded.
    pub fn option(&self, name: &str) -> Option<&str> {
        self.options.get(name).map(String::as_str)
    }

    /// Takes an option out, decoded: for who understands one that the store does not.
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

    /// Refuses options that the store does not know, so that a misspelt one is not ignored.
    ///
    /// # Errors
    ///
    /// `Invalid`, naming the option and those that are `known`.
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
            // What was given may be anything, a password too: it is not repeated.
            invalid("a store is named by a URL such as `mem://` or `redis://127.0.0.1:6379`")
        })?;
        let legal = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'-' | b'.');
        if scheme.is_empty() || !scheme.bytes().all(legal) {
            return Err(invalid("the scheme of a URL is letters, digits, `+`, `-` and `.`"));
        }
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
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

/// The URL, for people: the password is hidden. Without one, it parses to the same target.
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

/// What would be read as something else in a path.
const PATH: &AsciiSet = &CONTROLS.add(b'%').add(b'?').add(b'#');

/// What would be read as something else in the value of an option.
const VALUE: &AsciiSet = &CONTROLS.add(b'%').add(b'&').add(b'#');

/// Encodes a part that ends at the first delimiter of any kind: a user, or the name of an option.
fn encode(text: &str) -> PercentEncode<'_> {
    const PART: &AsciiSet = &PATH.add(b'/').add(b'@').add(b':').add(b'&').add(b'=');
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
    // The text is not repeated: a password that was not encoded may have ended up here.
    let wrong = || {
        invalid(
            "hosts are `host[:port][,host[:port]...]`, an IPv6 host in brackets; percent-encode `/`, `@`, `:` and `?` in a password",
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
            let is_number = port.bytes().all(|b| b.is_ascii_digit()); // `parse` takes a sign
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
            return Err(invalid(format!("option `{name}` is given twice")));
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
    Ok(decoded.map_err(|_| invalid("a URL decodes to UTF-8"))?.into_owned())
}

fn invalid(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::Invalid, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(url: &str) -> Target {
        url.parse().unwrap()
    }

    #[test]
    fn the_urls_of_all_stores_parse() {
        let mem = parse("mem://");
        assert_eq!((mem.scheme(), mem.hosts().len(), mem.path()), ("mem", 0, ""));

        let etcd = parse("etcd://h1:2379,[::1]:2380,h3/prod/eu?ttl=10s&layout=go-zero");
        let hosts: Vec<_> = etcd.hosts().iter().map(|host| host.authority(2379)).collect();
        assert_eq!(hosts, ["h1:2379", "[::1]:2380", "h3:2379"]);
        assert_eq!((etcd.path(), etcd.option("layout")), ("prod/eu", Some("go-zero")));
        assert_eq!(etcd.ttl(), Some(Duration::from_secs(10)));

        let redis = parse("Redis://us%40er:p%2Fw%3A@h:6379/0?prefix=a%26b");
        assert_eq!((redis.scheme(), redis.user()), ("redis", Some("us@er")));
        assert_eq!(redis.password().unwrap().reveal(), "p/w:");
        assert_eq!((redis.path(), redis.option("prefix")), ("0", Some("a&b")));
        assert_eq!(parse("redis+sentinel://s1:26379,s2:26379/mymaster").scheme(), "redis+sentinel");
        assert_eq!(parse("redis://:pw@h").user(), None);
    }

    #[test]
    fn a_password_is_never_displayed() {
        let target = parse("redis://app:s3cret@h");
        assert!(!format!("{target} {target:?}").contains("s3cret"), "{target:?}");
        let careless = [
            "redis://app:s3cret/x@h",
            "redis://app:s3cret?x@h",
            "app:s3cret@h",
            "r s3cret://",
            "redis://s3cret:@@h:1s3cret",
        ];
        for careless in careless {
            if let Err(error) = careless.parse::<Target>() {
                assert!(!format!("{error} {error:?}").contains("s3cret"), "{error:?}");
            }
        }
    }

    #[test]
    fn a_displayed_url_parses_to_the_same_target() {
        for url in [
            "mem://",
            "etcd://h1:2379,[::1]/prod/eu?layout=go-zero&ttl=1m 5s",
            "etcd://h//?layout=go-zero",
            "redis://us%40%2Fer@h/a%3Fb%25?a%26b%3D=c%26d=e:/",
        ] {
            assert_eq!(parse(&parse(url).to_string()), parse(url), "{url}");
        }
        let shown = "etcds://h/prod/eu?ca=/etc/ca.pem&ttl=10s";
        assert_eq!(parse(shown).to_string(), shown);
    }

    #[test]
    fn an_option_is_taken_once() {
        let mut target = parse("mem://?service=a%26b&x=1");
        assert_eq!(target.take_option("service").as_deref(), Some("a&b"));
        assert_eq!(target.take_option("service"), None);
        assert_eq!(target, parse("mem://?x=1"));
    }

    #[test]
    fn a_ttl_out_of_range_is_invalid_and_the_error_names_the_range() {
        for bad in ["0s", "99ms", "1y", "1day 1ms", "10", "x", ""] {
            let error = format!("mem://?ttl={bad}").parse::<Target>().unwrap_err();
            let message = "option `ttl` must be 100ms to 1day, such as `10s`";
            assert_eq!(error.kind(), ErrorKind::Invalid);
            assert_eq!(error.to_string(), format!("{message}, got=`{bad}`"));
        }
        assert_eq!(parse("mem://?ttl=100ms").ttl(), Some(MIN_TTL));
        assert_eq!(parse("mem://?ttl=1day").ttl(), Some(MAX_TTL));
    }

    #[test]
    fn an_error_names_the_wrong_part() {
        let bad = [
            "",
            "mem",
            "://h",
            "etcd://h:0",
            "etcd://h:x",
            "etcd://h,,i",
            "etcd://[::1",
            "etcd://[x]:1",
            "etcd://h?a=1&a=2",
        ];
        for bad in bad {
            assert_eq!(bad.parse::<Target>().unwrap_err().kind(), ErrorKind::Invalid, "{bad}");
        }
        let error = parse("redis://h?prefx=a").allow_options(&["prefix"]).unwrap_err();
        assert_eq!(error.to_string(), "unknown option `prefx` of redis://, known are: ttl, prefix");
    }
}

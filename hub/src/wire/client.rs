//! One GET, with redirects under rules.
//!
//! The rules: the token goes to the endpoint's own scheme, host and port, whatever a redirect says;
//! nothing leads from https to http; nothing leads into a private network (see `address.rs`); five
//! redirects at most. Bytes are asked for as they are, without compression, because offsets of a
//! resumed transfer count stored bytes.

use std::{io::Read, time::Duration};

use ureq::{
    Agent, Proxy,
    http::{
        HeaderMap, Response, StatusCode, Uri,
        header::{
            ACCEPT_ENCODING, AUTHORIZATION, CONTENT_ENCODING, LOCATION, RANGE, RETRY_AFTER,
            USER_AGENT,
        },
        uri::Authority,
    },
    tls::{Certificate, PemItem, RootCerts, TlsConfig, parse_pem},
    unversioned::transport::DefaultConnector,
};

use super::{
    Pace, Trouble,
    address::{GuardedResolver, RefusedAddress, Zone},
};
use crate::{
    Error, Result,
    settings::{HubSettings, Limits, Token},
};

const MOST_REDIRECTS: usize = 5;
/// The longest list of a repository's files.
const JSON_LIMIT: usize = 32 << 20;

/// What a server said: the head, and a body that is not read yet.
#[derive(Debug)]
pub struct Answer {
    response: Response<ureq::Body>,
    /// Headers of the redirects before it, where a hub says what a file is.
    pub hub_headers: HeaderMap,
    /// Who answered.
    pub host: String,
}

impl Answer {
    /// The status of the last answer.
    pub fn status(&self) -> StatusCode {
        self.response.status()
    }

    /// A header of the last answer.
    pub fn header(&self, name: &str) -> Option<&str> {
        text(self.response.headers(), name)
    }

    /// A header that the hub itself gave, before any redirect.
    pub fn hub_header(&self, name: &str) -> Option<&str> {
        text(&self.hub_headers, name)
    }

    /// The body.
    pub fn into_reader(self) -> impl Read {
        self.response.into_body().into_with_config().limit(u64::MAX).reader()
    }
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

/// A hub and the way to it.
#[derive(Debug)]
pub struct Client {
    agent: Agent,
    endpoint: Uri,
    token: Option<Token>,
    limits: Limits,
}

impl Client {
    /// Prepares; connects to nothing.
    ///
    /// # Errors
    /// A setting that makes no sense.
    pub fn new(settings: &HubSettings) -> Result<Self> {
        let HubSettings { endpoint, token, ca_bundle, proxy, no_proxy, limits, .. } = settings;
        let bad = |problem: String| Error::BadSetting { problem };
        let endpoint: Uri = endpoint
            .trim_end_matches('/')
            .parse()
            .map_err(|error| bad(format!("the endpoint `{endpoint}`: {error}")))?;
        if endpoint.host().is_none() || !matches!(endpoint.scheme_str(), Some("http" | "https")) {
            return Err(bad(format!("the endpoint `{endpoint}` is no http or https address")));
        }
        let mut trusted = vec![endpoint.clone()];
        let proxy = match proxy {
            None => None,
            Some(text) => {
                let parsed = build_proxy(text, no_proxy)
                    .map_err(|error| bad(format!("the proxy's address: {error}")))?;
                trusted.push(parsed.uri().clone());
                Some(parsed)
            }
        };
        let roots = match ca_bundle {
            None => RootCerts::WebPki,
            Some(path) => {
                let pem = std::fs::read(path).map_err(Error::disk("read", path))?;
                let certificates: Vec<Certificate<'static>> = parse_pem(&pem)
                    .filter_map(|it| match it {
                        Ok(PemItem::Certificate(it)) => Some(it),
                        _ => None,
                    })
                    .collect();
                if certificates.is_empty() {
                    return Err(bad(format!("`{}` holds no certificate", path.display())));
                }
                certificates.into()
            }
        };
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .proxy(proxy)
            .tls_config(TlsConfig::builder().root_certs(roots).build())
            .timeout_resolve(Some(limits.connect))
            .timeout_connect(Some(limits.connect))
            .timeout_send_request(Some(limits.stall))
            .timeout_recv_response(Some(limits.stall))
            .timeout_per_read(Some(limits.stall))
            .timeout_per_write(Some(limits.stall))
            .build();
        let resolver = GuardedResolver::new(trusted);
        let agent = Agent::with_parts(config, DefaultConnector::default(), resolver);
        Ok(Self { agent, endpoint, token: token.clone(), limits: *limits })
    }

    /// The hub's address with a path behind it.
    pub fn url(&self, path: &str) -> String {
        format!("{}{path}", self.endpoint.to_string().trim_end_matches('/'))
    }

    /// The hub's host.
    pub fn host(&self) -> String {
        host_of(&self.endpoint)
    }

    /// Whether requests to the hub carry a token.
    pub fn has_token(&self) -> bool {
        self.token.is_some()
    }

    /// Asks for `url`, from byte `offset` on where that is not 0. Any final status is an answer.
    ///
    /// # Errors
    /// [`Trouble`]: no connection, a refused redirect, an answer that is none.
    pub fn get(&self, url: &str, offset: u64) -> std::result::Result<Answer, Trouble> {
        let mut uri: Uri = url.parse().map_err(|error| Error::BadSetting {
            problem: format!("the address `{url}`: {error}"),
        })?;
        let mut hub_headers = HeaderMap::new();
        for _ in 0..=MOST_REDIRECTS {
            let host = host_of(&uri);
            let response = self.ask(&uri, offset)?;
            if self.is_hub(&uri) {
                for (name, value) in response.headers() {
                    hub_headers.insert(name.clone(), value.clone());
                }
            }
            let status = response.status();
            if !status.is_redirection() || status == StatusCode::NOT_MODIFIED {
                return plain(Answer { response, hub_headers, host });
            }
            let location = text(response.headers(), LOCATION.as_str()).unwrap_or_default();
            uri = self.redirected(&uri, location)?;
        }
        let problem = format!("more than {MOST_REDIRECTS} redirects");
        Err(Error::RedirectRefused { from: host_of(&uri), problem }.into())
    }

    /// Asks for a JSON document, whole.
    ///
    /// # Errors
    /// As [`Client::get`]; a body that is too long, too slow or no JSON. The status is not looked at.
    pub fn json(
        &self,
        url: &str,
    ) -> std::result::Result<(Answer, Option<serde_json::Value>), Trouble> {
        let mut answer = self.get(url, 0)?;
        if answer.status() != StatusCode::OK {
            return Ok((answer, None));
        }
        let host = answer.host.clone();
        let mut body = Vec::new();
        let mut reader = answer.response.body_mut().as_reader();
        let mut pace = Pace::new(self.limits.stall, self.limits.stall_bytes);
        let mut buffer = vec![0; 64 << 10];
        loop {
            let count =
                reader.read(&mut buffer).map_err(|error| self.read_failed(&host, &error))?;
            if count == 0 {
                break;
            }
            body.extend_from_slice(&buffer[..count]);
            if body.len() > JSON_LIMIT {
                return Err(bad_answer(&host, "a list of files without an end").into());
            }
            if !pace.keeps_up(count as u64) {
                return Err(Trouble::passing(self.stalled(&host)));
            }
        }
        match serde_json::from_slice(&body) {
            Ok(value) => Ok((answer, Some(value))),
            // A gateway's error page may be gone at the next try.
            Err(error) => Err(Trouble::passing(bad_answer(&host, &format!("no JSON: {error}")))),
        }
    }

    /// The error of a server that drips.
    pub fn stalled(&self, host: &str) -> Error {
        let Limits { stall, stall_bytes: bytes, .. } = self.limits;
        Error::Stalled { host: host.to_owned(), bytes, seconds: stall.as_secs() }
    }

    /// Trouble of a body that breaks off.
    pub fn read_failed(&self, host: &str, error: &std::io::Error) -> Trouble {
        let problem = error.to_string();
        Trouble::passing(Error::Unreachable { host: host.to_owned(), problem })
    }

    fn ask(&self, uri: &Uri, offset: u64) -> std::result::Result<Response<ureq::Body>, Trouble> {
        let mut request = self
            .agent
            .get(uri)
            .header(USER_AGENT, concat!("minicrit/", env!("CARGO_PKG_VERSION")))
            .header(ACCEPT_ENCODING, "identity");
        if offset > 0 {
            request = request.header(RANGE, format!("bytes={offset}-"));
        }
        if let Some(token) = self.token.as_ref().filter(|_| self.is_hub(uri)) {
            request = request.header(AUTHORIZATION, token.authorization());
        }
        request.call().map_err(|error| trouble_of(uri, error))
    }

    /// Same scheme, host and port as the endpoint.
    fn is_hub(&self, uri: &Uri) -> bool {
        uri.scheme() == self.endpoint.scheme()
            && uri.host().is_some_and(|it| {
                self.endpoint.host().is_some_and(|hub| hub.eq_ignore_ascii_case(it))
            })
            && port_of(uri) == port_of(&self.endpoint)
    }

    /// Where a redirect from `from` leads.
    fn redirected(&self, from: &Uri, location: &str) -> Result<Uri> {
        let refused = |problem: String| Error::RedirectRefused { from: host_of(from), problem };
        let to = absolute(from, location)
            .ok_or_else(|| refused("it leads to no http or https address".to_owned()))?;
        if from.scheme_str() == Some("https") && to.scheme_str() != Some("https") {
            return Err(refused(format!("it leads to {} without encryption", host_of(&to))));
        }
        let literal = to.host().map(|it| it.trim_matches(['[', ']']));
        if let Some(Ok(address)) = literal.map(str::parse::<std::net::IpAddr>)
            && Zone::of(address) == Zone::Never
        {
            return Err(refused(RefusedAddress(address).to_string()));
        }
        Ok(to)
    }
}

fn build_proxy(text: &str, no_proxy: &[String]) -> std::result::Result<Proxy, ureq::Error> {
    let plain = Proxy::new(text)?;
    let mut builder = Proxy::builder(plain.protocol()).host(plain.host()).port(plain.port());
    if let Some(username) = plain.username() {
        builder = builder.username(username);
    }
    if let Some(password) = plain.password() {
        builder = builder.password(password);
    }
    for host in no_proxy {
        builder = builder.no_proxy(host);
    }
    builder.build()
}

/// An answer in its stored bytes.
fn plain(answer: Answer) -> std::result::Result<Answer, Trouble> {
    match answer.header(CONTENT_ENCODING.as_str()) {
        None => Ok(answer),
        Some(it) if it.eq_ignore_ascii_case("identity") => Ok(answer),
        Some(encoding) => {
            let problem = format!("bytes in the encoding `{encoding}`, which was not asked for");
            Err(Trouble::passing(bad_answer(&answer.host, &problem)))
        }
    }
}

fn absolute(from: &Uri, location: &str) -> Option<Uri> {
    let (scheme, authority) = (from.scheme_str()?, from.authority().map(Authority::as_str)?);
    let location = location.split('#').next()?;
    let text = match location {
        "" => return None,
        _ if location.starts_with("//") => format!("{scheme}:{location}"),
        _ if location.starts_with('/') => format!("{scheme}://{authority}{location}"),
        _ => location.to_owned(),
    };
    let uri: Uri = text.parse().ok()?;
    let is_http = matches!(uri.scheme_str(), Some("http" | "https"));
    // Names and passwords before the host would be sent on.
    let no_user = !uri.authority()?.as_str().contains('@');
    (is_http && no_user && uri.host().is_some()).then_some(uri)
}

fn host_of(uri: &Uri) -> String {
    uri.authority().map_or_else(|| uri.to_string(), |it| it.to_string())
}

fn port_of(uri: &Uri) -> Option<u16> {
    uri.port_u16().or(match uri.scheme_str()? {
        "http" => Some(80),
        "https" => Some(443),
        _ => None,
    })
}

fn bad_answer(host: &str, problem: &str) -> Error {
    Error::BadAnswer { host: host.to_owned(), problem: problem.to_owned() }
}

fn trouble_of(uri: &Uri, error: ureq::Error) -> Trouble {
    let host = host_of(uri);
    if let ureq::Error::Io(io) = &error
        && let Some(refused) = io.get_ref().and_then(|it| it.downcast_ref::<RefusedAddress>())
    {
        return Error::RedirectRefused { from: host, problem: refused.to_string() }.into();
    }
    if let ureq::Error::Io(io) = &error
        && let Some(rustls::Error::InvalidCertificate(problem)) =
            io.get_ref().and_then(|it| it.downcast_ref::<rustls::Error>())
    {
        return Error::BadCertificate { host, problem: format!("{problem}") }.into();
    }
    let unreachable = Error::Unreachable { host, problem: error.to_string() };
    match error {
        ureq::Error::BadUri(_) | ureq::Error::InvalidProxyUrl | ureq::Error::Tls(_) => {
            unreachable.into()
        }
        _ => Trouble::passing(unreachable),
    }
}

/// What `Retry-After` says: seconds, as hubs write it. A date counts as not said.
pub(super) fn retry_after(answer: &Answer) -> Option<Duration> {
    answer.header(RETRY_AFTER.as_str())?.trim().parse().ok().map(Duration::from_secs)
}

impl Answer {
    /// The trouble that a status other than success is, for requests where only the hub's own
    /// meanings (gated, missing) are left to the caller.
    pub fn trouble(&self) -> Option<Trouble> {
        let host = self.host.clone();
        match self.status().as_u16() {
            429 => {
                let wait = retry_after(self);
                Some(Trouble::Passing { error: Error::RateLimited { host, wait }, wait })
            }
            status @ (408 | 425 | 500..) => {
                let wait = retry_after(self);
                Some(Trouble::Passing { error: Error::Server { host, status }, wait })
            }
            _ => None,
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn client(endpoint: &str) -> Client {
        let settings = HubSettings {
            endpoint: endpoint.to_owned(),
            token: Token::new("secret"),
            ..HubSettings::new("cache".into())
        };
        Client::new(&settings).unwrap()
    }

    #[test]
    fn redirects_are_resolved_and_judged() {
        let client = client("https://hub.example");
        let from: Uri = "https://hub.example/a/b".parse().unwrap();
        let to = |location: &str| client.redirected(&from, location).map(|it| it.to_string());
        assert_eq!(to("/c?d=1").unwrap(), "https://hub.example/c?d=1");
        assert_eq!(to("//cdn.example/c").unwrap(), "https://cdn.example/c");
        assert_eq!(to("https://cdn.example/c").unwrap(), "https://cdn.example/c");
        for location in [
            "",
            "http://cdn.example/c",
            "file:///etc/passwd",
            "ftp://cdn.example/c",
            "https://169.254.169.254/latest",
            "https://[fe80::1]/c",
            "https://me:password@cdn.example/c",
            "c/d",
            "https://",
        ] {
            assert!(to(location).is_err(), "{location}");
        }
    }

    #[test]
    fn the_token_is_for_the_hub_alone() {
        let client = client("https://hub.example");
        let is_hub = |uri: &str| client.is_hub(&uri.parse().unwrap());
        assert!(is_hub("https://hub.example/x") && is_hub("https://HUB.example:443/x"));
        for uri in
            ["http://hub.example/x", "https://hub.example:444/x", "https://hub.example.org/x"]
        {
            assert!(!is_hub(uri), "{uri}");
        }
    }

    #[test]
    fn settings_that_make_no_sense_are_named() {
        for endpoint in ["", "hub", "ftp://hub.example", "file:///x"] {
            let settings =
                HubSettings { endpoint: endpoint.into(), ..HubSettings::new("cache".into()) };
            assert!(Client::new(&settings).is_err(), "{endpoint}");
        }
    }
}

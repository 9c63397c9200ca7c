//! The fields of one line, in the order of the log type.

use super::Generator;
use super::random::Random;
use super::traffic::{Client, SITES, path};

/// A field's name in JSON, and whether plain lines quote the field.
type Column = (&'static str, bool);

/// The fields of an ALB access log line.
type AlbFields = [String; ALB_COLUMNS.len()];

const ALB: &str = "app/web/50dc6c495c0c9188";
const ACCOUNT: &str = "arn:aws:elasticloadbalancing:eu-west-1:123456789012:targetgroup";
const CERTIFICATES: &str = "arn:aws:acm:eu-west-1:123456789012:certificate";

pub(super) const ALB_COLUMNS: &[Column] = &[
    ("type", false),
    ("time", false),
    ("elb", false),
    ("client_port", false),
    ("target_port", false),
    ("request_processing_time", false),
    ("target_processing_time", false),
    ("response_processing_time", false),
    ("elb_status_code", false),
    ("target_status_code", false),
    ("received_bytes", false),
    ("sent_bytes", false),
    ("request_line", true),
    ("user_agent", true),
    ("ssl_cipher", false),
    ("ssl_protocol", false),
    ("target_group_arn", false),
    ("trace_id", true),
    ("domain_name", true),
    ("chosen_cert_arn", true),
    ("matched_rule_priority", false),
    ("request_creation_time", false),
    ("actions_executed", true),
    ("redirect_url", true),
    ("error_reason", true),
    ("target_port_list", true),
    ("target_status_code_list", true),
    ("classification", true),
    ("classification_reason", true),
    ("conn_trace_id", false),
    ("transformed_host", true),
    ("transformed_uri", true),
    ("request_transform_status", true),
    ("ip_address", false),
];

/// The outcome of a request.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Forward,
    Redirect,
    Fixed,
    Waf,
    ClientClosed,
    Malformed,
}

impl Generator {
    pub(super) fn alb(&mut self) -> AlbFields {
        let outcome = Outcome::draw(&mut self.random);
        let client = self.client();
        if outcome == Outcome::Malformed { self.malformed(&client) } else { self.request(&client, outcome) }
    }

    fn request(&mut self, client: &Client, outcome: Outcome) -> AlbFields {
        let (site, forwarded, answered) = (client.site, outcome.is_forwarded(), outcome == Outcome::Forward);
        let target = if forwarded { self.target(site.target_port) } else { dash() };
        let (took, status) = (self.random.skewed(400), outcome.status(&mut self.random).to_string());
        let (path, trace) = (path(&mut self.random), self.trace_id());
        let method = if path.starts_with("/v1/") && self.random.chance(400) { "POST" } else { "GET" };
        let url = format!("https://{}:443{path}", site.host);
        let target_status = if answered { status.clone() } else { dash() };
        [
            client.scheme.to_owned(),
            time(self.clock),
            ALB.to_owned(),
            format!("{}:{}", client.address, client.port),
            target.clone(),
            if forwarded { format!("0.00{}", self.random.skewed(4)) } else { "-1".to_owned() },
            if answered { format!("0.{took:03}") } else { "-1".to_owned() },
            if answered { "0.000".to_owned() } else { "-1".to_owned() },
            status,
            target_status.clone(),
            (180 + self.random.skewed(1_900)).to_string(),
            (150 + self.random.skewed(60_000)).to_string(),
            format!("{method} {url} {}", if client.scheme == "h2" { "HTTP/2.0" } else { "HTTP/1.1" }),
            self.agent(client),
            client.cipher.0.to_owned(),
            client.cipher.1.to_owned(),
            if forwarded { format!("{ACCOUNT}/{}", site.target_group) } else { dash() },
            trace,
            site.host.to_owned(),
            if client.resumed { "session-reused".to_owned() } else { format!("{CERTIFICATES}/{}", site.certificate) },
            (10 * (1 + site.target_port % 4)).to_string(),
            time((self.clock - 1_000 * took) / 1_000 * 1_000),
            outcome.action().to_owned(),
            if outcome == Outcome::Redirect { url } else { dash() },
            dash(),
            target,
            target_status,
            dash(),
            dash(),
            format!("TID_{}", client.connection),
            dash(),
            dash(),
            dash(),
            "203.0.113.7".to_owned(),
        ]
    }

    fn trace_id(&mut self) -> String {
        format!("Root=1-69a5{:04x}-{}", self.clock / 1_000_000 % 0x1_0000, self.random.hex(24))
    }

    /// Returns a malformed request, of which almost every field is absent.
    fn malformed(&mut self, client: &Client) -> AlbFields {
        let mut fields = std::array::from_fn(|_| dash());
        fields[0] = "http".to_owned();
        fields[2] = ALB.to_owned();
        fields[3] = format!("{}:{}", client.address, client.port);
        (fields[5], fields[6], fields[7]) = ("-1".to_owned(), "-1".to_owned(), "-1".to_owned());
        (fields[8], fields[10], fields[11]) = ("400".to_owned(), "0".to_owned(), "272".to_owned());
        fields[12] = format!("- http://{}:80- -", client.site.host);
        fields[21] = time(self.clock);
        fields[1] = time(self.clock);
        fields[29] = format!("TID_{}", self.random.hex(32));
        fields[33] = "203.0.113.7".to_owned();
        fields
    }

    pub(super) fn nlb(&mut self) -> Vec<String> {
        let client = self.client();
        let site = client.site;
        let took = self.random.skewed(9_000);
        let alpn = if client.scheme == "h2" { "h2".to_owned() } else { dash() };
        let offered = if client.scheme == "h2" { r#""h2","http/1.1""#.to_owned() } else { dash() };
        vec![
            "tls".to_owned(),
            "2.0".to_owned(),
            second(self.clock),
            "net/edge/7d2f0c41aa93be05".to_owned(),
            "3c9e51f08b27da64".to_owned(),
            format!("{}:{}", client.address, self.random.port()),
            self.target(site.target_port),
            took.to_string(),
            (4 + self.random.skewed(90)).to_string(),
            (300 + self.random.skewed(9_000)).to_string(),
            (2_000 + self.random.skewed(900_000)).to_string(),
            dash(),
            format!("{CERTIFICATES}/{}", site.certificate),
            dash(),
            client.cipher.0.to_owned(),
            if client.cipher.1 == "TLSv1.3" { "tlsv13".to_owned() } else { "tlsv12".to_owned() },
            "x25519".to_owned(),
            client.site.host.to_owned(),
            alpn.clone(),
            alpn,
            offered,
            second(self.clock - 1_000 * took),
        ]
    }

    pub(super) fn classic(&mut self) -> Vec<String> {
        let client = self.client();
        let status = Outcome::Forward.status(&mut self.random).to_string();
        vec![
            time(self.clock),
            "shop-classic".to_owned(),
            format!("{}:{}", client.address, client.port),
            self.target(80),
            format!("0.0000{:02}", 20 + self.random.below(70)),
            format!("0.{:06}", 900 + self.random.skewed(90_000)),
            format!("0.0000{:02}", 20 + self.random.below(30)),
            status.clone(),
            status,
            self.random.skewed(900).to_string(),
            self.random.skewed(60_000).to_string(),
            format!("GET https://{}:443{} HTTP/1.1", client.site.host, path(&mut self.random)),
            self.agent(&client),
            client.cipher.0.to_owned(),
            client.cipher.1.to_owned(),
        ]
    }

    pub(super) fn connection(&mut self) -> Vec<String> {
        let client = self.client();
        let certified = client.site.host == "partners.shop.example";
        let or_dash = |text: &str| if certified { text.to_owned() } else { dash() };
        vec![
            time(self.clock),
            client.address,
            self.random.port().to_string(),
            "443".to_owned(),
            client.cipher.1.to_owned(),
            client.cipher.0.to_owned(),
            format!("0.{:03}", 3 + self.random.skewed(90)),
            or_dash("CN=till-7.shop.example,OU=Tills,O=Example Shop,C=IE"),
            or_dash("NotBefore=2025-09-01T00:00:00Z;NotAfter=2026-09-01T23:59:59Z"),
            or_dash("5C19A0E47B3D82F6"),
            or_dash("Success"),
            format!("TID_{}", self.random.hex(32)),
            "X25519MLKEM768".to_owned(),
            ALB.to_owned(),
            "203.0.113.7".to_owned(),
        ]
    }

    pub(super) fn health_check(&mut self) -> Vec<String> {
        let site = &SITES[self.random.index(SITES.len())];
        let fails = self.random.chance(10);
        vec![
            "http".to_owned(),
            time(self.clock),
            format!("0.00{:07}", 900_000 + self.random.skewed(9_000_000)),
            self.target(site.target_port),
            site.target_group.split('/').next().unwrap_or_default().to_owned(),
            if fails { "FAIL".to_owned() } else { "PASS".to_owned() },
            if fails { "503".to_owned() } else { "200".to_owned() },
            if fails { "ResponseCodeMismatch".to_owned() } else { dash() },
            ALB.to_owned(),
            "203.0.113.7".to_owned(),
        ]
    }
}

impl Outcome {
    fn draw(random: &mut Random) -> Self {
        match random.below(1_000) {
            0..940 => Outcome::Forward,
            940..960 => Outcome::Redirect,
            960..988 => Outcome::Fixed,
            988..993 => Outcome::Waf,
            993..997 => Outcome::ClientClosed,
            _ => Outcome::Malformed,
        }
    }

    fn is_forwarded(self) -> bool {
        matches!(self, Outcome::Forward | Outcome::ClientClosed)
    }

    fn status(self, random: &mut Random) -> u64 {
        match self {
            Outcome::Forward => {
                [200, 200, 200, 200, 200, 200, 304, 201, 404, 500][usize::try_from(random.skewed(10)).unwrap_or(0)]
            }
            Outcome::Redirect => 301,
            Outcome::Fixed => 404,
            Outcome::Waf => 403,
            Outcome::ClientClosed => 460,
            Outcome::Malformed => 400,
        }
    }

    fn action(self) -> &'static str {
        match self {
            Outcome::Forward | Outcome::ClientClosed => "forward",
            Outcome::Redirect => "redirect",
            Outcome::Fixed => "fixed-response",
            Outcome::Waf => "waf",
            Outcome::Malformed => "-",
        }
    }
}

fn dash() -> String {
    "-".to_owned()
}

/// Formats microseconds since midnight as AWS does. Later days start again at midnight.
fn time(microseconds: u64) -> String {
    format!("{}.{:06}Z", second(microseconds), microseconds % 1_000_000)
}

fn second(microseconds: u64) -> String {
    let seconds = microseconds / 1_000_000 % 86_400;
    format!("2026-03-02T{:02}:{:02}:{:02}", seconds / 3_600, seconds / 60 % 60, seconds % 60)
}

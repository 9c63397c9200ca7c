//! Log lines as a busy site has them, made from a seed: the same seed gives the same lines.
//!
//! What matters for the figures is that lines are alike as real ones are. Traffic comes in bursts, so most lines are from a
//! client that was seen just before, over the same connection; there are few hosts, user agents and target groups.
//! Uniformly random clients would compress much worse than real logs do (7 instead of 8 to 12).
//!
//! Needs nothing but the standard library: the benches of the root package include this file.

use std::net::{Ipv4Addr, Ipv6Addr};

/// The kinds of log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Alb,
    Nlb,
    Classic,
    AlbConnection,
    AlbHealthCheck,
    /// ALB access logs as the JSON lines of a delivery through CloudWatch Logs.
    Vended,
}

/// Makes one line after the other.
#[derive(Debug)]
pub struct Generator {
    kind: Kind,
    random: Random,
    /// Microseconds since midnight.
    clock: u64,
    agents: Vec<String>,
    recent: Vec<Client>,
}

/// A client and the connection that it has open.
#[derive(Clone, Debug)]
struct Client {
    address: String,
    port: u64,
    agent: usize,
    scheme: &'static str,
    cipher: (&'static str, &'static str),
    host: &'static str,
    connection: String,
    resumed: bool,
}

/// What becomes of a request.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Forward,
    Redirect,
    Fixed,
    Waf,
    ClientClosed,
    Malformed,
}

/// A field's name in JSON, and whether plain lines quote it.
type Column = (&'static str, bool);

/// Clients whose bursts overlap.
const RECENT_CLIENTS: usize = 14;

/// Lines of a thousand that come from one of them.
const FROM_RECENT: u64 = 800;

/// Lines of a thousand for which a recent client opens a new connection.
const RECONNECT: u64 = 100;

const ALB: &str = "app/web/50dc6c495c0c9188";
const ACCOUNT: &str = "arn:aws:elasticloadbalancing:eu-west-1:123456789012:targetgroup";
const CERTIFICATES: &str = "arn:aws:acm:eu-west-1:123456789012:certificate";

/// Hosts, each with its target group, the port of its targets, and its certificate.
const SITES: [(&str, &str, u64, &str); 4] = [
    ("shop.example", "web-8080/a4c1be02977d5e63", 8080, "6f1c0a52-8d3e-4b77-9e15-c2a40d91be36"),
    ("api.shop.example", "api-9000/1d70f3c2be84a956", 9000, "6f1c0a52-8d3e-4b77-9e15-c2a40d91be36"),
    ("media.shop.example", "media-8081/5b8e13d7c04fa296", 8081, "b80e47d9-15fa-4c02-a6b3-7719ed2f5c48"),
    ("partners.shop.example", "partners-8443/e9265a0b31fc78d4", 8443, "b80e47d9-15fa-4c02-a6b3-7719ed2f5c48"),
];

const CIPHERS: [(&str, &str); 3] =
    [("TLS_AES_128_GCM_SHA256", "TLSv1.3"), ("TLS_AES_256_GCM_SHA384", "TLSv1.3"), ("ECDHE-RSA-AES128-GCM-SHA256", "TLSv1.2")];

/// `#` stands for a number.
const PATHS: [&str; 24] = [
    "/",
    "/static/site.css?v=#",
    "/static/site.js?v=#",
    "/catalogue/lamps?page=#&sort=price",
    "/catalogue/chairs?page=#&sort=newest",
    "/catalogue/tables?page=#",
    "/items/#",
    "/items/#/reviews?limit=20",
    "/items/#/availability?store=#&postcode=#",
    "/images/products/#_large.webp",
    "/images/products/#_small.webp",
    "/images/products/#_thumb.webp",
    "/v1/orders",
    "/v1/orders/#",
    "/v1/orders/#/lines",
    "/v1/basket/#?expand=items,prices,delivery",
    "/v1/sessions/#/events",
    "/v1/prices?ids=#,#,#,#&currency=EUR",
    "/v1/stock?ids=#,#,#",
    "/search?q=desk+lamp+#&from=header",
    "/search/suggest?q=la&session=#",
    "/login?next=%2Fbasket%2F#",
    "/health",
    "/feeds/partners/#.xml?since=#",
];

const ALB_COLUMNS: [Column; 34] = [
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

/// Fields that classic lines quote.
const CLASSIC_QUOTED: [usize; 2] = [11, 12];

/// The one field that connection lines quote.
const CONNECTION_QUOTED: [usize; 1] = [7];

impl Kind {
    /// Reads a kind's name; none if there is no such kind.
    pub fn named(name: &str) -> Option<Kind> {
        Some(match name {
            "alb" => Kind::Alb,
            "nlb" => Kind::Nlb,
            "classic" => Kind::Classic,
            "connection" => Kind::AlbConnection,
            "health" => Kind::AlbHealthCheck,
            "vended" => Kind::Vended,
            _ => return None,
        })
    }
}

impl Generator {
    /// Starts at a quarter past ten.
    pub fn new(kind: Kind, seed: u64) -> Self {
        let mut random = Random(seed);
        let agents = agents();
        let recent = (0..RECENT_CLIENTS).map(|_| Client::new(&mut random, agents.len())).collect();
        Generator { kind, random, clock: 36_900_000_000, agents, recent }
    }

    /// Appends one line with its line feed.
    pub fn append(&mut self, out: &mut Vec<u8>) {
        self.clock += self.random.below(2_000);
        match self.kind {
            Kind::Alb => plain(out, &self.alb(), |index| ALB_COLUMNS[index].1),
            Kind::Vended => json(out, &self.alb()),
            Kind::Nlb => plain(out, &self.nlb(), |_| false),
            Kind::Classic => plain(out, &self.classic(), |index| CLASSIC_QUOTED.contains(&index)),
            Kind::AlbConnection => plain(out, &self.connection(), |index| CONNECTION_QUOTED.contains(&index)),
            Kind::AlbHealthCheck => plain(out, &self.health_check(), |_| false),
        }
    }

    fn alb(&mut self) -> [String; 34] {
        let outcome = Outcome::draw(&mut self.random);
        let client = self.client();
        let ended = time(self.clock);
        if outcome == Outcome::Malformed {
            return self.malformed(&client, ended);
        }
        let (forwarded, answered) = (outcome.is_forwarded(), outcome == Outcome::Forward);
        let site = site_of(client.host);
        let target = if forwarded { self.target(site.2) } else { dash() };
        let took = self.random.skewed(400);
        let status = outcome.status(&mut self.random).to_string();
        let path = path(&mut self.random);
        let trace = format!("Root=1-69a5{:04x}-{}", self.clock / 1_000_000 % 0x1_0000, self.random.hex(24));
        let certificate = if client.resumed { "session-reused".to_owned() } else { format!("{CERTIFICATES}/{}", site.3) };
        let method = if path.starts_with("/v1/") && self.random.chance(400) { "POST" } else { "GET" };
        let protocol = if client.scheme == "h2" { "HTTP/2.0" } else { "HTTP/1.1" };
        let redirect = if outcome == Outcome::Redirect { format!("https://{}:443{path}", client.host) } else { dash() };
        let target_status = if answered { status.clone() } else { dash() };
        [
            client.scheme.to_owned(),
            ended,
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
            format!("{method} https://{}:443{path} {protocol}", client.host),
            self.agent(&client),
            client.cipher.0.to_owned(),
            client.cipher.1.to_owned(),
            if forwarded { format!("{ACCOUNT}/{}", site.1) } else { dash() },
            trace,
            client.host.to_owned(),
            certificate,
            (10 * (1 + site.2 % 4)).to_string(),
            time((self.clock - 1_000 * took) / 1_000 * 1_000),
            outcome.action().to_owned(),
            redirect,
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

    /// A request that was none: nearly every field is absent.
    fn malformed(&mut self, client: &Client, ended: String) -> [String; 34] {
        let mut fields = std::array::from_fn(|_| dash());
        fields[0] = "http".to_owned();
        fields[2] = ALB.to_owned();
        fields[3] = format!("{}:{}", client.address, client.port);
        (fields[5], fields[6], fields[7]) = ("-1".to_owned(), "-1".to_owned(), "-1".to_owned());
        (fields[8], fields[10], fields[11]) = ("400".to_owned(), "0".to_owned(), "272".to_owned());
        fields[12] = format!("- http://{}:80- -", client.host);
        fields[21] = ended.clone();
        fields[1] = ended;
        fields[29] = format!("TID_{}", self.random.hex(32));
        fields[33] = "203.0.113.7".to_owned();
        fields
    }

    fn nlb(&mut self) -> [String; 22] {
        let client = self.client();
        let site = site_of(client.host);
        let took = self.random.skewed(9_000);
        let alpn = if client.scheme == "h2" { "h2".to_owned() } else { dash() };
        let offered = if client.scheme == "h2" { r#""h2","http/1.1""#.to_owned() } else { dash() };
        [
            "tls".to_owned(),
            "2.0".to_owned(),
            second(self.clock),
            "net/edge/7d2f0c41aa93be05".to_owned(),
            "3c9e51f08b27da64".to_owned(),
            format!("{}:{}", client.address, self.random.port()),
            self.target(site.2),
            took.to_string(),
            (4 + self.random.skewed(90)).to_string(),
            (300 + self.random.skewed(9_000)).to_string(),
            (2_000 + self.random.skewed(900_000)).to_string(),
            dash(),
            format!("{CERTIFICATES}/{}", site.3),
            dash(),
            client.cipher.0.to_owned(),
            if client.cipher.1 == "TLSv1.3" { "tlsv13".to_owned() } else { "tlsv12".to_owned() },
            "x25519".to_owned(),
            client.host.to_owned(),
            alpn.clone(),
            alpn,
            offered,
            second(self.clock - 1_000 * took),
        ]
    }

    fn classic(&mut self) -> [String; 15] {
        let client = self.client();
        let status = Outcome::Forward.status(&mut self.random).to_string();
        [
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
            format!("GET https://{}:443{} HTTP/1.1", client.host, path(&mut self.random)),
            self.agent(&client),
            client.cipher.0.to_owned(),
            client.cipher.1.to_owned(),
        ]
    }

    fn connection(&mut self) -> [String; 15] {
        let client = self.client();
        let certified = client.host == "partners.shop.example";
        let or_dash = |text: &str| if certified { text.to_owned() } else { dash() };
        [
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

    fn health_check(&mut self) -> [String; 10] {
        let site = SITES[self.random.index(SITES.len())];
        let fails = self.random.chance(10);
        [
            "http".to_owned(),
            time(self.clock),
            format!("0.00{:07}", 900_000 + self.random.skewed(9_000_000)),
            self.target(site.2),
            site.1.split('/').next().unwrap_or_default().to_owned(),
            if fails { "FAIL".to_owned() } else { "PASS".to_owned() },
            if fails { "503".to_owned() } else { "200".to_owned() },
            if fails { "ResponseCodeMismatch".to_owned() } else { dash() },
            ALB.to_owned(),
            "203.0.113.7".to_owned(),
        ]
    }

    /// The client of the next line: mostly one of the recent ones.
    fn client(&mut self) -> Client {
        let place = self.random.index(RECENT_CLIENTS);
        if !self.random.chance(FROM_RECENT) {
            self.recent[place] = Client::new(&mut self.random, self.agents.len());
        } else if self.random.chance(RECONNECT) {
            self.recent[place].connect(&mut self.random);
        }
        self.recent[place].clone()
    }

    /// A few agents hold quotes, which AWS escapes.
    fn agent(&mut self, client: &Client) -> String {
        if self.random.chance(2) { r"Till\x22North\x22/3.2 (till 7)".to_owned() } else { self.agents[client.agent].clone() }
    }

    fn target(&mut self, port: u64) -> String {
        format!("10.0.{}.{}:{port}", 3 + self.random.below(3), 11 + self.random.below(8))
    }
}

impl Client {
    fn new(random: &mut Random, agents: usize) -> Self {
        let scheme = if random.chance(600) { "h2" } else { "https" };
        let mut client = Client {
            address: address(random),
            port: 0,
            agent: usize::try_from(random.skewed(agents as u64)).unwrap_or(0),
            scheme,
            cipher: CIPHERS[usize::try_from(random.skewed(3)).unwrap_or(0)],
            host: SITES[usize::try_from(random.skewed(4)).unwrap_or(0)].0,
            connection: String::new(),
            resumed: false,
        };
        client.connect(random);
        client
    }

    fn connect(&mut self, random: &mut Random) {
        self.port = random.port();
        self.connection = random.hex(32);
        self.resumed = random.chance(400);
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

/// A small generator of random numbers (splitmix64), so that the lines never change with a library's version.
#[derive(Debug)]
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    fn index(&mut self, length: usize) -> usize {
        usize::try_from(self.below(length as u64)).unwrap_or(0)
    }

    /// Below the bound, small numbers much more often than large ones.
    fn skewed(&mut self, bound: u64) -> u64 {
        let bound = self.below(bound) + 1;
        self.below(bound)
    }

    fn chance(&mut self, of_a_thousand: u64) -> bool {
        self.below(1_000) < of_a_thousand
    }

    fn port(&mut self) -> u64 {
        1_024 + self.below(64_000)
    }

    fn hex(&mut self, digits: usize) -> String {
        let mut text = format!("{:016x}{:016x}", self.next(), self.next());
        text.truncate(digits);
        text
    }
}

/// The clients' programs.
fn agents() -> Vec<String> {
    let systems =
        ["Windows NT 10.0; Win64; x64", "Macintosh; Intel Mac OS X 10_15_7", "X11; Linux x86_64", "Linux; Android 10; K"];
    let mut agents: Vec<String> = Vec::new();
    for version in [145, 144, 143] {
        for system in systems {
            agents.push(format!(
                "Mozilla/5.0 ({system}) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/{version}.0.0.0 Safari/537.36"
            ));
        }
        agents.push(format!("Mozilla/5.0 (X11; Linux x86_64; rv:{version}.0) Gecko/20100101 Firefox/{version}.0"));
        agents.push(format!(
            "Mozilla/5.0 (iPhone; CPU iPhone OS 18_{} like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/26.0 \
             Mobile/15E148 Safari/604.1",
            version - 140
        ));
        agents.push(format!("ShopApp/7.{}.1 (iPhone; iOS 26.3; Scale/3.00)", version - 140));
    }
    let others = ["curl/8.18.0", "okhttp/5.1.0", "python-requests/2.32.5", "grpc-go/1.78.0", "-", "Go-http-client/2.0"];
    agents.extend(others.map(str::to_owned));
    agents
}

fn address(random: &mut Random) -> String {
    if random.chance(20) {
        Ipv6Addr::from(0x2001_0db8_0000_0000_0000_0000_0000_0000 | u128::from(random.next())).to_string()
    } else {
        // The network that is set aside for measurements like this one.
        let host = u32::try_from(random.below(1 << 17)).unwrap_or(0);
        Ipv4Addr::from_bits(Ipv4Addr::new(198, 18, 0, 0).to_bits() + host).to_string()
    }
}

fn site_of(host: &str) -> (&'static str, &'static str, u64, &'static str) {
    SITES.into_iter().find(|site| site.0 == host).unwrap_or(SITES[0])
}

fn path(random: &mut Random) -> String {
    let pattern = PATHS[random.index(PATHS.len())];
    let mut path = String::with_capacity(pattern.len() + 16);
    for piece in pattern.split_inclusive('#') {
        path.push_str(piece.trim_end_matches('#'));
        if piece.ends_with('#') {
            path.push_str(&(100 + random.skewed(90_000)).to_string());
        }
    }
    path
}

fn dash() -> String {
    "-".to_owned()
}

/// Microseconds since midnight as AWS writes times; later days begin anew.
fn time(microseconds: u64) -> String {
    format!("{}.{:06}Z", second(microseconds), microseconds % 1_000_000)
}

fn second(microseconds: u64) -> String {
    let seconds = microseconds / 1_000_000 % 86_400;
    format!("2026-03-02T{:02}:{:02}:{:02}", seconds / 3_600, seconds / 60 % 60, seconds % 60)
}

fn plain(out: &mut Vec<u8>, fields: &[String], is_quoted: impl Fn(usize) -> bool) {
    for (index, field) in fields.iter().enumerate() {
        let quote: &[u8] = if is_quoted(index) { b"\"" } else { b"" };
        out.extend_from_slice(if index == 0 { b"" } else { b" " });
        out.extend_from_slice(quote);
        out.extend_from_slice(field.as_bytes());
        out.extend_from_slice(quote);
    }
    out.push(b'\n');
}

/// No field holds a quote; escapes of AWS's hold a backslash.
fn json(out: &mut Vec<u8>, fields: &[String; 34]) {
    for (index, ((name, _), field)) in ALB_COLUMNS.iter().zip(fields).enumerate() {
        let separator = if index == 0 { '{' } else { ',' };
        out.extend_from_slice(format!("{separator}\"{name}\":\"{}\"", field.replace('\\', r"\\")).as_bytes());
    }
    out.extend_from_slice(b"}\n");
}

//! Generates log lines of a busy site from a seed. The same seed gives the same lines.
//!
//! The lines must be as similar to each other as real lines are. Traffic comes in bursts: most lines are from a client that has
//! just sent a request over the same connection. There are few hosts, user agents and target groups. With uniformly random
//! clients the lines would compress much worse than real logs (by a factor of 7 instead of 8 to 12).
//!
//! Uses only the standard library, because the benches of elb-log include this folder.

mod lines;
mod random;
mod traffic;

use self::lines::ALB_COLUMNS;
use self::random::Random;
use self::traffic::{Client, agents};

/// The log types.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Alb,
    Nlb,
    Classic,
    AlbConnection,
    AlbHealthCheck,
    /// ALB access logs as JSON lines of a CloudWatch Logs delivery.
    Vended,
}

/// Generates one line after the other.
#[derive(Debug)]
pub struct Generator {
    kind: Kind,
    random: Random,
    /// Microseconds since midnight.
    clock: u64,
    agents: Vec<String>,
    recent: Vec<Client>,
}

/// Number of clients whose bursts overlap.
const RECENT_CLIENTS: usize = 14;

/// Number of lines per thousand from a recent client.
const FROM_RECENT: u64 = 800;

/// Number of lines per thousand for which a recent client opens a new connection.
const RECONNECT: u64 = 100;

/// Indexes of the fields that classic lines quote.
const CLASSIC_QUOTED: &[usize] = &[11, 12];

/// Index of the field that connection lines quote.
const CONNECTION_QUOTED: usize = 7;

impl Kind {
    /// Returns the log type of a name; none if the name is unknown.
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
    /// Makes a generator whose clock starts at 10:15.
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
            Kind::AlbConnection => plain(out, &self.connection(), |index| index == CONNECTION_QUOTED),
            Kind::AlbHealthCheck => plain(out, &self.health_check(), |_| false),
        }
    }

    /// Returns the client of the next line, which is usually a recent one.
    fn client(&mut self) -> Client {
        let index = self.random.index(RECENT_CLIENTS);
        if !self.random.chance(FROM_RECENT) {
            self.recent[index] = Client::new(&mut self.random, self.agents.len());
        } else if self.random.chance(RECONNECT) {
            self.recent[index].connect(&mut self.random);
        }
        self.recent[index].clone()
    }

    /// Returns a client's user agent. A few user agents have quotes, which AWS escapes.
    fn agent(&mut self, client: &Client) -> String {
        if self.random.chance(2) { r"Till\x22North\x22/3.2 (till 7)".to_owned() } else { self.agents[client.agent].clone() }
    }

    fn target(&mut self, port: u64) -> String {
        format!("10.0.{}.{}:{port}", 3 + self.random.below(3), 11 + self.random.below(8))
    }
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

/// Writes a JSON line. No field has a quote; AWS's escapes have a backslash.
fn json(out: &mut Vec<u8>, fields: &[String]) {
    for (index, ((name, _), field)) in ALB_COLUMNS.iter().zip(fields).enumerate() {
        let separator = if index == 0 { '{' } else { ',' };
        out.extend_from_slice(format!("{separator}\"{name}\":\"{}\"", field.replace('\\', r"\\")).as_bytes());
    }
    out.extend_from_slice(b"}\n");
}

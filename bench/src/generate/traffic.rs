//! The traffic of a busy site: few hosts and user agents, and clients with open connections.

use std::net::{Ipv4Addr, Ipv6Addr};

use super::random::Random;

/// A client and its open connection.
#[derive(Clone, Debug)]
pub(super) struct Client {
    pub(super) address: String,
    pub(super) port: u64,
    pub(super) agent: usize,
    pub(super) scheme: &'static str,
    pub(super) cipher: (&'static str, &'static str),
    pub(super) site: &'static Site,
    pub(super) connection: String,
    pub(super) resumed: bool,
}

/// A host and what its load balancer uses for it.
#[derive(Debug)]
pub(super) struct Site {
    pub(super) host: &'static str,
    pub(super) target_group: &'static str,
    pub(super) target_port: u64,
    pub(super) certificate: &'static str,
}

const SHOP_CERTIFICATE: &str = "6f1c0a52-8d3e-4b77-9e15-c2a40d91be36";
const MEDIA_CERTIFICATE: &str = "b80e47d9-15fa-4c02-a6b3-7719ed2f5c48";

const fn site(host: &'static str, target_group: &'static str, target_port: u64, certificate: &'static str) -> Site {
    Site { host, target_group, target_port, certificate }
}

pub(super) static SITES: [Site; 4] = [
    site("shop.example", "web-8080/a4c1be02977d5e63", 8080, SHOP_CERTIFICATE),
    site("api.shop.example", "api-9000/1d70f3c2be84a956", 9000, SHOP_CERTIFICATE),
    site("media.shop.example", "media-8081/5b8e13d7c04fa296", 8081, MEDIA_CERTIFICATE),
    site("partners.shop.example", "partners-8443/e9265a0b31fc78d4", 8443, MEDIA_CERTIFICATE),
];

/// TLS ciphers and versions.
const CIPHERS: [(&str, &str); 3] =
    [("TLS_AES_128_GCM_SHA256", "TLSv1.3"), ("TLS_AES_256_GCM_SHA384", "TLSv1.3"), ("ECDHE-RSA-AES128-GCM-SHA256", "TLSv1.2")];

/// Paths of requests. `#` is replaced by a number.
const PATHS: &[&str] = &[
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

impl Client {
    pub(super) fn new(random: &mut Random, agents: usize) -> Self {
        let scheme = if random.chance(600) { "h2" } else { "https" };
        let mut client = Client {
            address: address(random),
            port: 0,
            agent: usize::try_from(random.skewed(agents as u64)).unwrap_or(0),
            scheme,
            cipher: CIPHERS[usize::try_from(random.skewed(3)).unwrap_or(0)],
            site: &SITES[usize::try_from(random.skewed(4)).unwrap_or(0)],
            connection: String::new(),
            resumed: false,
        };
        client.connect(random);
        client
    }

    /// Opens a new connection.
    pub(super) fn connect(&mut self, random: &mut Random) {
        self.port = random.port();
        self.connection = random.hex(32);
        self.resumed = random.chance(400);
    }
}

/// Returns the user agents of the clients.
pub(super) fn agents() -> Vec<String> {
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
        // The network that is reserved for benchmarks (RFC 2544).
        let host = u32::try_from(random.below(1 << 17)).unwrap_or(0);
        Ipv4Addr::from_bits(Ipv4Addr::new(198, 18, 0, 0).to_bits() + host).to_string()
    }
}

/// Returns the path of a request.
pub(super) fn path(random: &mut Random) -> String {
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

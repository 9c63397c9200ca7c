//! Real peers: Redis, moto (a simulation of AWS), a server with scripted responses, and the program itself.

use std::net::{SocketAddr, TcpListener as StdListener};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aws_config::{BehaviorVersion, Region, SdkConfig};
use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::Request;
use axum::http::HeaderMap;
use axum::response::Response;
use elb_log_registry::store::{RedisAddress, RedisStore, Store};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::{Child, Command};

use super::until;

/// Returns a free port below the ephemeral range, so that no outgoing connection takes the port before the server listens.
pub(crate) fn free_port() -> u16 {
    let mut ports = std::iter::repeat_with(|| fastrand::u16(10_000..32_768));
    ports.find(|port| StdListener::bind(("127.0.0.1", *port)).is_ok()).expect("an endless iterator")
}

/// The root of the project, with `samples` and `.venv`.
pub(crate) fn project() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the registry is a directory of the project")
}

/// Debian's Redis on a separate socket, without persistence.
pub(crate) struct Redis {
    pub(crate) url: String,
    directory: TempDir,
    server: Child,
}

impl Redis {
    pub(crate) async fn start() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let server = Redis::launch(directory.path()).await;
        let url = format!("redis+unix://{}", directory.path().join("redis.sock").display());
        Redis { url, directory, server }
    }

    async fn launch(directory: &Path) -> Child {
        let socket = directory.join("redis.sock");
        let mut server = Command::new("redis-server");
        server.args(["--port", "0", "--save", "", "--appendonly", "no", "--daemonize", "no", "--unixsocket"]).arg(&socket);
        let server = server.current_dir(directory).stdin(Stdio::null()).stdout(Stdio::null()).kill_on_drop(true).spawn();
        let server = server.unwrap_or_else(|error| no_redis(&error));
        until("Redis listens", async || tokio::net::UnixStream::connect(&socket).await.ok()).await;
        server
    }

    pub(crate) fn client(&self) -> redis::Client {
        redis::Client::open(self.url.as_str()).expect("a URL of Redis")
    }

    /// A store with a time limit that is sufficient on a busy machine.
    pub(crate) fn store(&self) -> Store {
        self.store_with(Duration::from_secs(20))
    }

    pub(crate) fn store_with(&self, patience: Duration) -> Store {
        redis_store(&self.url, patience)
    }

    /// Runs a command on a separate connection.
    pub(crate) async fn command<T: redis::FromRedisValue>(&self, words: &[&str]) -> T {
        let mut connection = self.client().get_multiplexed_async_connection().await.expect("a connection");
        let mut command = redis::cmd(words[0]);
        words[1..].iter().for_each(|word| _ = command.arg(*word));
        command.query_async(&mut connection).await.unwrap_or_else(|error| panic!("{words:?}: {error}"))
    }

    pub(crate) async fn stop(&mut self) {
        self.server.kill().await.expect("stopping Redis");
        std::fs::remove_file(self.directory.path().join("redis.sock")).expect("the socket");
    }

    /// Starts it again, empty.
    pub(crate) async fn start_again(&mut self) {
        self.server = Redis::launch(self.directory.path()).await;
    }
}

/// The store at a URL in the form of `REGISTRY_STORE`.
pub(crate) fn redis_store(url: &str, patience: Duration) -> Store {
    let address = RedisAddress::parse(url).expect("a URL of Redis");
    Store::Redis(Box::new(RedisStore::new(address, patience).expect("a store")))
}

fn no_redis(error: &std::io::Error) -> ! {
    panic!("redis-server cannot be started ({error}); run tools/redis, which installs it")
}

/// Two nodes of a cluster, each with half of the slots, without persistence.
pub(crate) struct RedisCluster {
    nodes: Vec<Node>,
    directory: TempDir,
}

struct Node {
    port: u16,
    /// Port of the cluster bus.
    bus: u16,
    server: Child,
}

impl RedisCluster {
    pub(crate) async fn start() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let mut nodes = Vec::new();
        for _ in 0..2 {
            let (port, bus) = (free_port(), free_port());
            nodes.push(Node { port, bus, server: RedisCluster::launch(directory.path(), port, bus).await });
        }
        let cluster = RedisCluster { nodes, directory };
        for (number, slots) in [["0", "8191"], ["8192", "16383"]].iter().enumerate() {
            cluster.command::<String>(number, &["CLUSTER", "ADDSLOTSRANGE", slots[0], slots[1]]).await;
            cluster.command::<String>(number, &["CLUSTER", "SET-CONFIG-EPOCH", &(number + 1).to_string()]).await;
        }
        let (port, bus) = (cluster.nodes[1].port.to_string(), cluster.nodes[1].bus.to_string());
        cluster.command::<String>(0, &["CLUSTER", "MEET", "127.0.0.1", &port, &bus]).await;
        cluster.is_whole().await;
        cluster
    }

    async fn launch(directory: &Path, port: u16, bus: u16) -> Child {
        let mut server = Command::new("redis-server");
        server.args(["--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--cluster-enabled", "yes"]);
        server.args(["--cluster-node-timeout", "1000", "--cluster-config-file", &format!("nodes-{port}.conf")]);
        server.args(["--port", &port.to_string(), "--cluster-port", &bus.to_string()]);
        server.current_dir(directory).stdin(Stdio::null()).stdout(Stdio::null()).kill_on_drop(true);
        let server = server.spawn().unwrap_or_else(|error| no_redis(&error));
        until("Redis listens", async || TcpStream::connect(("127.0.0.1", port)).await.ok()).await;
        server
    }

    /// Waits until both nodes report that every slot is served.
    async fn is_whole(&self) {
        let whole = async || {
            for number in 0..2 {
                let info: String = self.command(number, &["CLUSTER", "INFO"]).await;
                (info.contains("cluster_state:ok") && info.contains("cluster_known_nodes:2")).then_some(())?;
            }
            Some(())
        };
        until("the nodes of the cluster have met", whole).await;
    }

    /// The URL of one node, in the form of `REGISTRY_STORE`.
    pub(crate) fn url(&self, number: usize) -> String {
        format!("redis+cluster://127.0.0.1:{}", self.nodes[number].port)
    }

    pub(crate) async fn command<T: redis::FromRedisValue>(&self, number: usize, words: &[&str]) -> T {
        let url = format!("redis://127.0.0.1:{}", self.nodes[number].port);
        let client = redis::Client::open(url).expect("a URL of Redis");
        let mut connection = client.get_multiplexed_async_connection().await.expect("a connection");
        let mut command = redis::cmd(words[0]);
        words[1..].iter().for_each(|word| _ = command.arg(*word));
        command.query_async(&mut connection).await.unwrap_or_else(|error| panic!("{words:?}: {error}"))
    }

    /// The node that has a key.
    pub(crate) async fn owner(&self, key: &str) -> usize {
        let slot: u16 = self.command(0, &["CLUSTER", "KEYSLOT", key]).await;
        usize::from(slot > 8_191)
    }

    pub(crate) async fn stop(&mut self, number: usize) {
        self.nodes[number].server.kill().await.expect("stopping Redis");
    }

    /// Restarts a node, empty, with the same slots.
    pub(crate) async fn start_again(&mut self, number: usize) {
        let Node { port, bus, .. } = self.nodes[number];
        self.nodes[number].server = RedisCluster::launch(self.directory.path(), port, bus).await;
        self.is_whole().await;
    }
}

/// A Redis that accepts only TLS, with an access list, and a certificate of a separate authority.
pub(crate) struct TlsRedis {
    /// With user and password.
    pub(crate) url: String,
    /// The authority's certificate.
    pub(crate) authority: PathBuf,
    directory: TempDir,
    port: u16,
    _server: Child,
}

impl TlsRedis {
    pub(crate) async fn start() -> Self {
        TlsRedis::launch("rediss", "+eval +get +set", &[]).await
    }

    /// A cluster of one node, like ElastiCache Serverless.
    pub(crate) async fn start_cluster() -> Self {
        let bus = free_port().to_string();
        let arguments = ["--cluster-enabled", "yes", "--tls-cluster", "yes", "--cluster-port", &bus];
        let redis = TlsRedis::launch("rediss+cluster", "+eval +get +set +cluster|slots", &arguments).await;
        redis.command(&["cluster", "addslotsrange", "0", "16383"]).await;
        let whole = async || redis.command(&["cluster", "info"]).await.contains("cluster_state:ok").then_some(());
        until("the cluster serves every slot", whole).await;
        redis
    }

    async fn launch(scheme: &str, commands: &str, arguments: &[&str]) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let file = |name: &str| directory.path().join(name);
        let authority_key = rcgen::KeyPair::generate().expect("a key");
        let mut authority = rcgen::CertificateParams::default();
        // OpenSSL takes a certificate whose issuer has its own name for a self-signed one.
        authority.distinguished_name.push(rcgen::DnType::CommonName, "an authority");
        authority.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let authority = rcgen::CertifiedIssuer::self_signed(authority, authority_key).expect("an authority");
        let key = rcgen::KeyPair::generate().expect("a key");
        let certificate = rcgen::CertificateParams::new(["127.0.0.1".to_owned()]).expect("a name");
        let certificate = certificate.signed_by(&key, &authority).expect("a certificate");
        let texts = [("ca.pem", authority.pem()), ("cert.pem", certificate.pem()), ("key.pem", key.serialize_pem())];
        texts.iter().for_each(|(name, text)| std::fs::write(file(name), text).expect("writing a certificate"));
        let rules =
            format!("user default off\nuser admin on >secret ~* +@all\nuser registry on >secret ~elb-registry:* {commands}\n");
        std::fs::write(file("users.acl"), rules).expect("writing the access list");
        let port = free_port();
        let mut server = Command::new("redis-server");
        server.args(["--port", "0", "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--tls-auth-clients", "no"]);
        server.arg("--tls-port").arg(port.to_string()).arg("--aclfile").arg(file("users.acl")).args(arguments);
        server.arg("--tls-ca-cert-file").arg(file("ca.pem")).arg("--tls-cert-file").arg(file("cert.pem"));
        server.arg("--tls-key-file").arg(file("key.pem")).current_dir(directory.path());
        server.stdin(Stdio::null()).stdout(Stdio::null()).kill_on_drop(true);
        let server = server.spawn().unwrap_or_else(|error| no_redis(&error));
        until("Redis listens", async || TcpStream::connect(("127.0.0.1", port)).await.ok()).await;
        let (url, authority) = (format!("{scheme}://registry:secret@127.0.0.1:{port}"), file("ca.pem"));
        TlsRedis { url, authority, directory, port, _server: server }
    }

    /// Runs a command as the administrator.
    pub(crate) async fn command(&self, words: &[&str]) -> String {
        let mut client = Command::new("redis-cli");
        client.args(["--tls", "--user", "admin", "--pass", "secret", "--no-auth-warning", "-h", "127.0.0.1", "-p"]);
        client.arg(self.port.to_string()).arg("--cacert").arg(self.directory.path().join("ca.pem")).args(words);
        let output = client.output().await.expect("redis-cli comes with redis-server");
        assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }
}

/// moto, which simulates Auto Scaling, EC2, SNS and SQS.
pub(crate) struct Moto {
    pub(crate) url: String,
    _server: Child,
}

impl Moto {
    pub(crate) async fn start() -> Self {
        let port = free_port();
        let program = project().join(".venv/bin/moto_server");
        let server = Command::new(&program)
            .args(["-H", "127.0.0.1", "-p", &port.to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .unwrap_or_else(|error| {
                panic!("{} cannot be started ({error}); run tools/venv, which installs it", program.display())
            });
        until("moto listens", async || TcpStream::connect(("127.0.0.1", port)).await.ok()).await;
        let moto = Moto { url: format!("http://127.0.0.1:{port}"), _server: server };
        moto.warm_up().await;
        moto
    }

    /// Makes moto load its services, which on a busy machine takes longer than the registry waits.
    async fn warm_up(&self) {
        let (ec2, autoscaling) = (aws_sdk_ec2::Client::new(&self.config()), aws_sdk_autoscaling::Client::new(&self.config()));
        ec2.describe_instances().send().await.expect("moto's EC2");
        autoscaling.describe_auto_scaling_groups().send().await.expect("moto's autoscaling");
    }

    pub(crate) fn config(&self) -> SdkConfig {
        aws(&self.url)
    }

    /// Creates the Auto Scaling group `logstash-eu1` with this number of instances.
    pub(crate) async fn make_group(&self, instances: i32) {
        let ec2 = aws_sdk_ec2::Client::new(&self.config());
        let images = ec2.describe_images().send().await.expect("moto's images");
        let image = images.images().first().and_then(|image| image.image_id()).expect("an image").to_owned();
        let autoscaling = aws_sdk_autoscaling::Client::new(&self.config());
        let launch = autoscaling.create_launch_configuration().launch_configuration_name("logstash").image_id(image);
        launch.instance_type("t3.micro").send().await.expect("a launch configuration");
        let group = autoscaling.create_auto_scaling_group().auto_scaling_group_name("logstash-eu1");
        let group = group.launch_configuration_name("logstash").availability_zones("eu-west-1a");
        group.min_size(0).max_size(300).desired_capacity(instances).send().await.expect("a group");
    }

    pub(crate) async fn resize_group(&self, instances: i32) {
        let autoscaling = aws_sdk_autoscaling::Client::new(&self.config());
        let resize = autoscaling.set_desired_capacity().auto_scaling_group_name("logstash-eu1").desired_capacity(instances);
        resize.send().await.expect("another size");
    }
}

/// A configuration of the SDK for a server in a test.
pub(crate) fn aws(url: &str) -> SdkConfig {
    let keys = aws_sdk_ec2::config::Credentials::new("test", "test", None, None, "test");
    SdkConfig::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new("eu-west-1"))
        .endpoint_url(url)
        .credentials_provider(aws_sdk_ec2::config::SharedCredentialsProvider::new(keys))
        .sleep_impl(aws_smithy_async::rt::sleep::SharedAsyncSleep::new(aws_smithy_async::rt::sleep::TokioSleep::new()))
        .time_source(aws_smithy_async::time::SystemTimeSource::new())
        .build()
}

/// One request that a [`Scripted`] server has seen.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: String,
}

/// A server whose answers a closure decides, by the request and its number from 0.
pub(crate) struct Scripted {
    pub(crate) url: String,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl Scripted {
    pub(crate) async fn start(answer: impl Fn(usize, &Seen) -> Response + Send + Sync + 'static) -> Self {
        let seen: Arc<Mutex<Vec<Seen>>> = Arc::default();
        let (requests, answer) = (Arc::clone(&seen), Arc::new(answer));
        let service = Router::new().fallback(move |request: Request| {
            let (requests, answer) = (Arc::clone(&requests), Arc::clone(&answer));
            async move {
                let (head, body) = request.into_parts();
                let body = to_bytes(body, usize::MAX).await.expect("reading a request");
                let body = String::from_utf8_lossy(&body).into_owned();
                let request = Seen { method: head.method.to_string(), path: head.uri.to_string(), headers: head.headers, body };
                let number = {
                    let mut requests = requests.lock().expect("no panic while holding");
                    requests.push(request.clone());
                    requests.len() - 1
                };
                answer(number, &request)
            }
        });
        Scripted { url: serve(service).await, seen }
    }

    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().expect("no panic while holding").clone()
    }

    /// Waits until it has seen so many requests.
    pub(crate) async fn saw(&self, requests: usize) -> Vec<Seen> {
        until("a request comes", async || Some(self.seen()).filter(|seen| seen.len() >= requests)).await
    }
}

/// Serves on a free port, and returns the URL without a trailing slash.
pub(crate) async fn serve(service: Router) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move { axum::serve(listener, service).await });
    format!("http://{address}")
}

pub(crate) fn answer(status: u16, body: &str) -> Response {
    Response::builder().status(status).body(Body::from(body.to_owned())).expect("a response")
}

/// The program, with only these environment variables.
pub(crate) fn program(arguments: &[&str], vars: &[(&str, &str)]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_registry"));
    command.args(arguments).env_clear().envs(vars.iter().copied()).current_dir(project());
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    command
}

/// The program, running as a server.
pub(crate) struct Server {
    pub(crate) url: String,
    pub(crate) process: Child,
    log: Arc<Mutex<Vec<String>>>,
}

impl Server {
    /// Starts the server with the AWS endpoint `aws`, and waits until it listens.
    pub(crate) async fn start(aws: &str, vars: &[(&str, &str)]) -> Self {
        let credentials = [("AWS_ACCESS_KEY_ID", "test"), ("AWS_SECRET_ACCESS_KEY", "test"), ("AWS_REGION", "eu-west-1")];
        let common = [("AWS_ENDPOINT_URL", aws), ("REGISTRY_GROUPS", super::GROUPS)];
        let vars: Vec<(&str, &str)> = credentials.into_iter().chain(common).chain(vars.iter().copied()).collect();
        let mut process = program(&["--listen", "127.0.0.1:0"], &vars).spawn().expect("starting the program");
        let log: Arc<Mutex<Vec<String>>> = Arc::default();
        let mut lines = BufReader::new(process.stderr.take().expect("piped")).lines();
        let kept = Arc::clone(&log);
        tokio::spawn(async move {
            while let Ok(Some(line)) = lines.next_line().await {
                kept.lock().expect("no panic while holding").push(line);
            }
        });
        let address = |line: &String| {
            let line: serde_json::Value = serde_json::from_str(line).ok()?;
            line.get("address")?.as_str()?.parse::<SocketAddr>().ok()
        };
        let listening = async || log.lock().expect("no panic while holding").iter().find_map(address);
        let address = tokio::time::timeout(Duration::from_secs(120), until("the registry listens", listening)).await;
        Server { url: format!("http://{}", address.expect("the registry listens")), process, log }
    }

    pub(crate) fn log(&self) -> String {
        self.log.lock().expect("no panic while holding").join("\n")
    }

    pub(crate) fn lookup(&self) -> String {
        format!("{}/logstash-ip?dcid=eu1&region=eu-west-1", self.url)
    }
}

/// A sample event.
pub(crate) fn sample(name: &str) -> serde_json::Value {
    let path: PathBuf = project().join("samples/events").join(name);
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

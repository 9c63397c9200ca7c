//! Lists in Redis, on one server or in a cluster.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use redis::aio::{ConnectionManager, ConnectionManagerConfig};
use redis::cluster::{ClusterClient, ClusterClientBuilder};
use redis::cluster_async::ClusterConnection;
use redis::{Client, Cmd, ConnectionInfo, ErrorKind, FromRedisValue, IntoConnectionInfo as _, RedisResult, ServerErrorKind};
use tokio::time::{Instant, timeout};

use super::{MAX_VALUE_BYTES, StoreError, Stored};
use crate::group::Key;

/// Time limit of a command. Redis normally responds within a millisecond, and look-ups do not wait for a slow one.
pub const STORE_TIMEOUT: Duration = Duration::from_secs(1);

/// After a failure, every command fails at once for this time, so that callers do not wait for a store that is down.
const PAUSE: Duration = Duration::from_secs(2);

/// Expiry of a list. A list that was not written for this time belongs to a data centre that no longer exists. Until then, an old list
/// is better than none.
const LIST_EXPIRY: Duration = Duration::from_hours(30 * 24);

/// Returns the value of a key atomically: its kind, then its text if it has one.
const READ: &str = "
local value = redis.pcall('GET', KEYS[1])
if value == false then return {'absent', ''} end
if type(value) == 'table' or #value > tonumber(ARGV[1]) then return {'unreadable', ''} end
return {'value', value}";

/// Replaces the value that the caller has read, atomically. `SET` replaces values of any type.
const REPLACE: &str = "
local value = redis.pcall('GET', KEYS[1])
local kind = 'value'
if value == false then kind, value = 'absent', ''
elseif type(value) == 'table' or #value > tonumber(ARGV[1]) then kind, value = 'unreadable', '' end
if kind ~= ARGV[2] or value ~= ARGV[3] then return 0 end
redis.call('SET', KEYS[1], ARGV[4], 'PX', ARGV[5])
return 1";

/// Maximum number of redirections of a command while a list moves between the nodes of a cluster, all within the time limit.
const MAX_REDIRECTIONS: u32 = 3;

/// Time between two redirections, in milliseconds.
const REDIRECTION_INTERVAL_MS: u64 = 20;

/// Address of a Redis, with user and password. Nothing is connected yet.
#[derive(Clone, Debug)]
pub enum RedisAddress {
    /// One server, or the primary of a replication group.
    Server(ConnectionInfo),
    /// A cluster. This node returns the addresses of the others. ElastiCache Serverless is always a cluster.
    Cluster(ConnectionInfo),
}

impl RedisAddress {
    /// Parses `redis://`, `rediss://` (TLS), `redis+unix://`, and for clusters `redis+cluster://` or `rediss+cluster://`. Returns `None`
    /// for any other URL.
    pub fn parse(url: &str) -> Option<Self> {
        let (scheme, rest) = url.split_once("://")?;
        let (scheme, kind): (_, fn(ConnectionInfo) -> Self) = match scheme {
            "redis" | "rediss" | "redis+unix" => (scheme, RedisAddress::Server),
            "redis+cluster" => ("redis", RedisAddress::Cluster),
            "rediss+cluster" => ("rediss", RedisAddress::Cluster),
            _ => return None,
        };
        format!("{scheme}://{rest}").into_connection_info().ok().map(kind)
    }
}

/// A store in Redis. Connections are opened when they are first needed, and again when they are lost.
pub struct RedisStore {
    connection: Connection,
    address: String,
    time_limit: Duration,
    /// The last failure, and the time until which it is returned for every command.
    failed: Mutex<Option<(Instant, StoreError)>>,
}

impl std::fmt::Debug for RedisStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RedisStore").field("address", &self.address).finish_non_exhaustive()
    }
}

enum Connection {
    Server(Box<Server>),
    Cluster(Box<Cluster>),
}

struct Server {
    client: Client,
    config: ConnectionManagerConfig,
    open: Mutex<ConnectionManager>,
}

struct Cluster {
    client: ClusterClient,
    open: tokio::sync::Mutex<Option<ClusterConnection>>,
}

impl RedisStore {
    /// Creates a store that connects later. `time_limit` is the time limit of a command.
    ///
    /// # Errors
    /// The system's certificates cannot be used, or the address does not fit a cluster.
    pub fn new(address: RedisAddress, time_limit: Duration) -> Result<RedisStore, StoreError> {
        let (RedisAddress::Server(info) | RedisAddress::Cluster(info)) = &address;
        let name = info.addr().to_string();
        match Connection::new(address, time_limit) {
            Ok(connection) => Ok(RedisStore { connection, address: name, time_limit, failed: Mutex::new(None) }),
            Err(error) => Err(StoreError { store: name, problem: format!("cannot be used ({error})") }),
        }
    }

    /// See [`super::Store::read`].
    pub async fn read(&self, key: &Key) -> Result<Stored, StoreError> {
        let mut command = redis::cmd("EVAL");
        command.arg(READ).arg(1).arg(name(key)).arg(MAX_VALUE_BYTES);
        let (kind, value): (String, Vec<u8>) = self.query(&command).await?;
        Ok(match kind.as_str() {
            "absent" => Stored::Absent,
            "value" => Stored::Value(value),
            _ => Stored::Unreadable,
        })
    }

    /// See [`super::Store::replace`].
    pub async fn replace(&self, key: &Key, expected: &Stored, value: &str) -> Result<bool, StoreError> {
        let (kind, seen): (&str, &[u8]) = match expected {
            Stored::Absent => ("absent", b""),
            Stored::Value(value) => ("value", value),
            Stored::Unreadable => ("unreadable", b""),
        };
        let mut command = redis::cmd("EVAL");
        command
            .arg(REPLACE)
            .arg(1)
            .arg(name(key))
            .arg(MAX_VALUE_BYTES)
            .arg(kind)
            .arg(seen)
            .arg(value)
            .arg(LIST_EXPIRY.as_millis() as u64);
        let replaced: u8 = self.query(&command).await?;
        Ok(replaced == 1)
    }

    /// See [`super::Store::acquire_lease`].
    pub async fn acquire_lease(&self, key: &Key, duration: Duration) -> Result<bool, StoreError> {
        let mut command = redis::cmd("SET");
        command.arg(format!("{}:turn", name(key))).arg("taken").arg("NX").arg("PX").arg(duration.as_millis() as u64);
        let taken: Option<String> = self.query(&command).await?;
        Ok(taken.is_some())
    }

    /// See [`super::Store::end_lease`].
    pub async fn end_lease(&self, key: &Key, pause: Duration) -> Result<(), StoreError> {
        let mut command = redis::cmd("SET");
        command.arg(format!("{}:turn", name(key))).arg("over").arg("PX").arg(pause.as_millis() as u64);
        self.query::<String>(&command).await.map(|_| ())
    }

    async fn query<T: FromRedisValue>(&self, command: &Cmd) -> Result<T, StoreError> {
        if let Some((until, error)) = self.failed().as_ref()
            && Instant::now() < *until
        {
            return Err(error.clone());
        }
        let problem = match timeout(self.time_limit, self.connection.query(command)).await {
            Ok(Ok(value)) => {
                *self.failed() = None;
                return Ok(value);
            }
            // The server responds, but refuses this command: a full disk, a replica, an access list. It may accept other commands.
            Ok(Err(error)) if matches!(error.kind(), ErrorKind::Server(_) | ErrorKind::Extension) => {
                if error.kind() == ErrorKind::Server(ServerErrorKind::ReadOnly) {
                    self.connection.forget();
                }
                return Err(StoreError {
                    store: self.address.clone(),
                    problem: format!("refuses the command ({error}); check REGISTRY_STORE"),
                });
            }
            Ok(Err(error)) => format!("failed ({error}); check REGISTRY_STORE"),
            Err(_) => format!("did not respond within {:?}; check REGISTRY_STORE", self.time_limit),
        };
        let error = StoreError { store: self.address.clone(), problem };
        self.connection.forget();
        *self.failed() = Some((Instant::now() + PAUSE, error.clone()));
        Err(error)
    }

    /// No code panics while it holds the lock.
    fn failed(&self) -> MutexGuard<'_, Option<(Instant, StoreError)>> {
        self.failed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Connection {
    fn new(address: RedisAddress, time_limit: Duration) -> RedisResult<Self> {
        match address {
            RedisAddress::Server(info) => {
                let config = ConnectionManagerConfig::new()
                    .set_connection_timeout(Some(time_limit))
                    .set_response_timeout(Some(time_limit))
                    // The registry responds from memory instead, and the next request tries again.
                    .set_number_of_retries(0);
                let client = Client::open(info)?;
                let open = Mutex::new(ConnectionManager::new_lazy_with_config(client.clone(), config.clone())?);
                Ok(Connection::Server(Box::new(Server { client, config, open })))
            }
            RedisAddress::Cluster(info) => {
                let client = ClusterClientBuilder::new([info])
                    .connection_timeout(time_limit)
                    .response_timeout(time_limit)
                    .retries(MAX_REDIRECTIONS)
                    .min_retry_wait(REDIRECTION_INTERVAL_MS)
                    .max_retry_wait(REDIRECTION_INTERVAL_MS)
                    .build()?;
                Ok(Connection::Cluster(Box::new(Cluster { client, open: tokio::sync::Mutex::new(None) })))
            }
        }
    }

    async fn query<T: FromRedisValue>(&self, command: &Cmd) -> RedisResult<T> {
        match self {
            Connection::Server(server) => {
                let mut connection = server.open().clone();
                command.query_async(&mut connection).await
            }
            Connection::Cluster(cluster) => command.query_async(&mut cluster.connection().await?).await,
        }
    }

    /// Drops the connection after a failure: the nodes of a cluster may have moved, and a server that has become a replica has a
    /// successor under the same name.
    fn forget(&self) {
        match self {
            Connection::Server(server) => {
                // Creating a connection cannot fail here, because it has succeeded with the same arguments before.
                if let Ok(new) = ConnectionManager::new_lazy_with_config(server.client.clone(), server.config.clone()) {
                    *server.open() = new;
                }
            }
            // The task that holds the lock is connecting already.
            Connection::Cluster(cluster) => _ = cluster.open.try_lock().map(|mut open| *open = None),
        }
    }
}

impl Server {
    /// No code panics while it holds the lock.
    fn open(&self) -> MutexGuard<'_, ConnectionManager> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Cluster {
    /// Returns the open connection, or opens one. Only one of the waiting tasks opens it.
    async fn connection(&self) -> RedisResult<ClusterConnection> {
        let mut open = self.open.lock().await;
        match open.as_ref() {
            Some(cluster) => Ok(cluster.clone()),
            None => Ok(open.insert(self.client.get_async_connection().await?).clone()),
        }
    }
}

/// Returns the name of the key. Its braces keep the keys of a list on one node of a cluster.
fn name(key: &Key) -> String {
    format!("elb-registry:{{{key}}}")
}

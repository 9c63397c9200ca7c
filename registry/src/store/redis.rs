//! Lists in Redis: on one server, or in a cluster.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use redis::aio::{ConnectionManager, ConnectionManagerConfig};
use redis::cluster::{ClusterClient, ClusterClientBuilder};
use redis::cluster_async::ClusterConnection;
use redis::{Client, Cmd, ConnectionInfo, ErrorKind, FromRedisValue, IntoConnectionInfo as _, RedisResult, ServerErrorKind};
use tokio::time::{Instant, timeout};

use super::{LONGEST_VALUE, StoreError, Stored};
use crate::group::Key;

/// Redis answers within a millisecond. Who asks for a list is not kept waiting for one that does not.
pub const STORE_PATIENCE: Duration = Duration::from_secs(1);

/// After a failure nobody waits for the store for this long: everything is answered as if it failed again.
const PAUSE: Duration = Duration::from_secs(2);

/// A list that nobody has written for so long belongs to a data centre that is no more. Until then an old list is better than
/// none.
const KEPT_FOR: Duration = Duration::from_hours(30 * 24);

/// What is kept under a key, in one step: its kind, then its text where there is one.
const READ: &str = "
local value = redis.pcall('GET', KEYS[1])
if value == false then return {'absent', ''} end
if type(value) == 'table' or #value > tonumber(ARGV[1]) then return {'unreadable', ''} end
return {'value', value}";

/// Replaces what the caller has seen, in one step. A value of any type gives way to `SET`.
const REPLACE: &str = "
local value = redis.pcall('GET', KEYS[1])
local kind = 'value'
if value == false then kind, value = 'absent', ''
elseif type(value) == 'table' or #value > tonumber(ARGV[1]) then kind, value = 'unreadable', '' end
if kind ~= ARGV[2] or value ~= ARGV[3] then return 0 end
redis.call('SET', KEYS[1], ARGV[4], 'PX', ARGV[5])
return 1";

/// As often a command follows a list that is moving from one node of a cluster to another; all within the store's patience.
const REDIRECTIONS: u32 = 3;

/// Between two of them, in milliseconds.
const BETWEEN_REDIRECTIONS_MS: u64 = 20;

/// Where a Redis is, and who asks; nothing is connected yet.
#[derive(Clone, Debug)]
pub enum RedisAddress {
    /// One server, or the primary of a replication group.
    Server(ConnectionInfo),
    /// A cluster, of which this node tells the others. ElastiCache Serverless is always one.
    Cluster(ConnectionInfo),
}

impl RedisAddress {
    /// Reads `redis://`, `rediss://` (TLS), `redis+unix://`, and for clusters `redis+cluster://` or `rediss+cluster://`. None if it
    /// is none of them.
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

/// A Redis, reached by connections that are opened when they are first needed, and again whenever they are lost.
pub struct RedisStore {
    connection: Connection,
    address: String,
    patience: Duration,
    /// The last failure, and until when it is what everybody is told.
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
    /// A store that connects later, and is given up after `patience`.
    ///
    /// # Errors
    /// The system's certificates cannot be used, or a cluster cannot be reached by such an address.
    pub fn new(address: RedisAddress, patience: Duration) -> Result<RedisStore, StoreError> {
        let (RedisAddress::Server(info) | RedisAddress::Cluster(info)) = &address;
        let name = info.addr().to_string();
        match Connection::new(address, patience) {
            Ok(connection) => Ok(RedisStore { connection, address: name, patience, failed: Mutex::new(None) }),
            Err(error) => Err(StoreError { store: name, problem: format!("cannot be used ({error})") }),
        }
    }

    /// See [`super::Store::read`].
    pub async fn read(&self, key: &Key) -> Result<Stored, StoreError> {
        let mut command = redis::cmd("EVAL");
        command.arg(READ).arg(1).arg(name(key)).arg(LONGEST_VALUE);
        let (kind, value): (String, Vec<u8>) = self.ask(&command).await?;
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
            .arg(LONGEST_VALUE)
            .arg(kind)
            .arg(seen)
            .arg(value)
            .arg(KEPT_FOR.as_millis() as u64);
        let replaced: u8 = self.ask(&command).await?;
        Ok(replaced == 1)
    }

    /// See [`super::Store::take_turn`].
    pub async fn take_turn(&self, key: &Key, turn: Duration) -> Result<bool, StoreError> {
        let mut command = redis::cmd("SET");
        command.arg(format!("{}:turn", name(key))).arg("taken").arg("NX").arg("PX").arg(turn.as_millis() as u64);
        let taken: Option<String> = self.ask(&command).await?;
        Ok(taken.is_some())
    }

    /// See [`super::Store::end_turn`].
    pub async fn end_turn(&self, key: &Key, pause: Duration) -> Result<(), StoreError> {
        let mut command = redis::cmd("SET");
        command.arg(format!("{}:turn", name(key))).arg("over").arg("PX").arg(pause.as_millis() as u64);
        self.ask::<String>(&command).await.map(|_| ())
    }

    async fn ask<T: FromRedisValue>(&self, command: &Cmd) -> Result<T, StoreError> {
        if let Some((until, error)) = self.failed().as_ref()
            && Instant::now() < *until
        {
            return Err(error.clone());
        }
        let problem = match timeout(self.patience, self.connection.query(command)).await {
            Ok(Ok(answer)) => {
                *self.failed() = None;
                return Ok(answer);
            }
            // It is there, and refuses this: a full disk, a replica, an access list. What it does not refuse it may still do.
            Ok(Err(error)) if matches!(error.kind(), ErrorKind::Server(_) | ErrorKind::Extension) => {
                if error.kind() == ErrorKind::Server(ServerErrorKind::ReadOnly) {
                    self.connection.forget();
                }
                return Err(StoreError {
                    store: self.address.clone(),
                    problem: format!("refuses ({error}); see REGISTRY_STORE"),
                });
            }
            Ok(Err(error)) => format!("failed ({error}); see REGISTRY_STORE"),
            Err(_) => format!("did not answer within {:?}; see REGISTRY_STORE", self.patience),
        };
        let error = StoreError { store: self.address.clone(), problem };
        self.connection.forget();
        *self.failed() = Some((Instant::now() + PAUSE, error.clone()));
        Err(error)
    }

    /// Nothing that holds the lock can panic.
    fn failed(&self) -> MutexGuard<'_, Option<(Instant, StoreError)>> {
        self.failed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Connection {
    fn new(address: RedisAddress, patience: Duration) -> RedisResult<Self> {
        match address {
            RedisAddress::Server(info) => {
                let config = ConnectionManagerConfig::new()
                    .set_connection_timeout(Some(patience))
                    .set_response_timeout(Some(patience))
                    // What cannot be had now is answered from elsewhere, and asked for again by the next request.
                    .set_number_of_retries(0);
                let client = Client::open(info)?;
                let open = Mutex::new(ConnectionManager::new_lazy_with_config(client.clone(), config.clone())?);
                Ok(Connection::Server(Box::new(Server { client, config, open })))
            }
            RedisAddress::Cluster(info) => {
                let client = ClusterClientBuilder::new([info])
                    .connection_timeout(patience)
                    .response_timeout(patience)
                    .retries(REDIRECTIONS)
                    .min_retry_wait(BETWEEN_REDIRECTIONS_MS)
                    .max_retry_wait(BETWEEN_REDIRECTIONS_MS)
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

    /// After a failure everything is looked for anew: no node of a cluster need be where it was, and a server that has become a
    /// replica has a successor under the same name.
    fn forget(&self) {
        match self {
            Connection::Server(server) => {
                // It could be made before, so it can be made again.
                if let Ok(anew) = ConnectionManager::new_lazy_with_config(server.client.clone(), server.config.clone()) {
                    *server.open() = anew;
                }
            }
            // Whoever holds the lock is looking for it already.
            Connection::Cluster(cluster) => _ = cluster.open.try_lock().map(|mut open| *open = None),
        }
    }
}

impl Server {
    /// Nothing that holds the lock can panic.
    fn open(&self) -> MutexGuard<'_, ConnectionManager> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Cluster {
    /// The connection that is open, or a new one: one of all who wait opens it.
    async fn connection(&self) -> RedisResult<ClusterConnection> {
        let mut open = self.open.lock().await;
        match open.as_ref() {
            Some(cluster) => Ok(cluster.clone()),
            None => Ok(open.insert(self.client.get_async_connection().await?).clone()),
        }
    }
}

/// The key's name. Its braces keep a list on one node of a cluster.
fn name(key: &Key) -> String {
    format!("elb-registry:{{{key}}}")
}

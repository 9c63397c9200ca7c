//! Lists in Redis.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use redis::aio::{ConnectionManager, ConnectionManagerConfig};
use redis::{Client, Cmd, FromRedisValue};
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

/// A Redis server, reached by one connection that is opened when it is first needed, and again whenever it is lost.
pub struct RedisStore {
    connection: ConnectionManager,
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

impl RedisStore {
    /// A store that connects later, and is given up after `patience`. `client` holds the credentials.
    ///
    /// # Errors
    /// The system's certificates cannot be used.
    pub fn new(client: Client, patience: Duration) -> Result<RedisStore, StoreError> {
        let address = client.get_connection_info().addr().to_string();
        let config = ConnectionManagerConfig::new()
            .set_connection_timeout(Some(patience))
            .set_response_timeout(Some(patience))
            // What cannot be had now is answered from elsewhere, and asked for again by the next request.
            .set_number_of_retries(0);
        match ConnectionManager::new_lazy_with_config(client, config) {
            Ok(connection) => Ok(RedisStore { connection, address, patience, failed: Mutex::new(None) }),
            Err(error) => Err(StoreError { store: address, problem: format!("cannot be used ({error})") }),
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

    async fn ask<T: FromRedisValue>(&self, command: &Cmd) -> Result<T, StoreError> {
        if let Some((until, error)) = self.failed().as_ref()
            && Instant::now() < *until
        {
            return Err(error.clone());
        }
        let mut connection = self.connection.clone();
        let problem = match timeout(self.patience, command.query_async(&mut connection)).await {
            Ok(Ok(answer)) => {
                *self.failed() = None;
                return Ok(answer);
            }
            Ok(Err(error)) => format!("failed ({error}); see REGISTRY_STORE"),
            Err(_) => format!("did not answer within {:?}; see REGISTRY_STORE", self.patience),
        };
        let error = StoreError { store: self.address.clone(), problem };
        *self.failed() = Some((Instant::now() + PAUSE, error.clone()));
        Err(error)
    }

    /// Nothing that holds the lock can panic.
    fn failed(&self) -> MutexGuard<'_, Option<(Instant, StoreError)>> {
        self.failed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The key's name. Its braces keep a list on one node of a cluster.
fn name(key: &Key) -> String {
    format!("elb-registry:{{{key}}}")
}

//! One list of endpoints: its stored form, its HTTP form, and the transitions to the next list. Nothing here does I/O.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::group::Group;

/// Maximum number of endpoints in a list. No group has more servers.
const MAX_ENDPOINTS: usize = 1_000;

/// Time for which an instance that has left is excluded. AWS may still report it for a moment, and a response may have been in flight.
const EXCLUSION_TIME: SignedDuration = SignedDuration::from_mins(10);

/// Maximum difference between the clocks of two machines. A later timestamp is invalid.
const MAX_CLOCK_SKEW: SignedDuration = SignedDuration::from_mins(1);

/// The last known good list of one data centre, as it is stored. A list is never empty.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct List {
    /// Endpoints, sorted and without duplicates.
    pub endpoints: Vec<SocketAddr>,
    /// Number that grows by one with every change. It identifies the version that a writer replaces.
    pub generation: u64,
    /// Time of the last response of AWS, or of the last event that changed the endpoints.
    pub updated_at: Timestamp,
    /// Cause of the last change.
    pub source: Source,
    /// Start of the call whose response is in the list. The list expires relative to this time; events do not extend it.
    #[serde(default)]
    pub asked_at: Timestamp,
    /// Generation that the last response of AWS created. Later generations are changes by events.
    #[serde(default)]
    pub asked_generation: u64,
    /// Auto Scaling group that the list was made of.
    #[serde(default)]
    pub group: String,
    /// Endpoint of each instance, so that an instance can be removed without calling AWS.
    #[serde(default)]
    pub instances: BTreeMap<String, SocketAddr>,
    /// Instances that have left recently, and when.
    #[serde(default)]
    pub departed: BTreeMap<String, Timestamp>,
}

/// The cause of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Source {
    /// A lifecycle event of an instance.
    Lifecycle,
    /// A client's update request.
    Update,
    /// A look-up that found no valid list.
    Fallback,
    /// The expiry of the list.
    Poll,
}

impl Source {
    /// Returns the name of the source in lists, headers and metrics.
    pub fn name(self) -> &'static str {
        match self {
            Source::Lifecycle => "lifecycle",
            Source::Update => "update",
            Source::Fallback => "fallback",
            Source::Poll => "poll",
        }
    }
}

/// A server of a group that is in service and healthy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Instance id, such as `i-0123456789abcdef0`.
    pub instance: String,
    /// Private addresses, the preferred one first.
    pub addresses: Vec<IpAddr>,
}

/// The servers of a group, as AWS returned them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Membership {
    /// Servers in service.
    pub members: Vec<Member>,
    /// Time at which AWS was called.
    pub asked_at: Timestamp,
}

/// The list made of a response of AWS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NextList {
    /// The list.
    pub list: List,
    /// Instances that are left out because none of their addresses is allowed.
    pub foreign: Vec<Member>,
}

/// Why no valid list can be made of a response of AWS.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoValidList {
    /// No instance is in service.
    #[error("AWS reports no healthy instance in service")]
    Empty,
    /// All instances are outside the allowed ranges.
    #[error("no instance has an address that REGISTRY_GROUPS allows ({})", describe(.0))]
    AllForeign(Vec<Member>),
    /// There are more instances than a list can hold.
    #[error("AWS reports {0} instances, more than the maximum of {MAX_ENDPOINTS}")]
    TooMany(usize),
}

/// The result of removing an instance from a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Removal {
    /// The next list, without the instance.
    Next(List),
    /// The instance had left already.
    AlreadyRemoved,
    /// The instance is the last one. An empty list is useless, so this list still contains the instance, and excludes it from the
    /// next list.
    LastServer(List),
}

impl List {
    /// Decodes a stored list.
    ///
    /// # Errors
    /// Describes what is wrong: the text is not the JSON of a list, or an endpoint cannot belong to this group.
    pub fn decode(text: &[u8], group: &Group) -> Result<List, String> {
        let mut list: List = serde_json::from_slice(text).map_err(|error| format!("the JSON of a list is expected ({error})"))?;
        if list.endpoints.is_empty() {
            return Err("the list is empty".to_owned());
        }
        if list.endpoints.len() > MAX_ENDPOINTS {
            return Err(format!("the list has {} endpoints, more than the maximum of {MAX_ENDPOINTS}", list.endpoints.len()));
        }
        if !list.group.is_empty() && list.group != group.name {
            let (found, configured) = (&list.group, &group.name);
            return Err(format!("the list is for the Auto Scaling group {found:?}, but REGISTRY_GROUPS has {configured:?}"));
        }
        let foreign = |endpoint: &&SocketAddr| endpoint.port() != group.port || !group.admits(endpoint.ip());
        if let Some(foreign) = list.endpoints.iter().chain(list.instances.values()).find(foreign) {
            return Err(format!("the list contains {foreign}, which REGISTRY_GROUPS does not allow"));
        }
        list.endpoints.sort_unstable();
        list.endpoints.dedup();
        Ok(list)
    }

    /// Encodes the list for the store.
    pub fn encode(&self) -> String {
        json(self)
    }

    /// Returns the body of a look-up response: a JSON array of `"ip:port"`, or `"[ip]:port"` for IPv6.
    pub fn body(&self) -> String {
        json(&self.endpoints)
    }

    /// Returns the ETag, with its quotes. Lists with equal endpoints have equal ETags, whatever their generation is.
    pub fn etag(&self) -> String {
        let digest = Sha256::digest(self.body());
        format!("\"{}\"", hex::encode(&digest[..12]))
    }

    /// Returns the age of the list in seconds, or 0 if the clocks of two machines disagree.
    pub fn age_s(&self, now: Timestamp) -> u64 {
        u64::try_from(now.duration_since(self.updated_at).as_secs()).unwrap_or(0)
    }

    /// Returns the time since AWS was called for this list. If this time is unknown or in the future, returns the maximum.
    pub fn asked_ago(&self, now: Timestamp) -> Duration {
        let ago = now.duration_since(self.asked_at);
        if ago < -MAX_CLOCK_SKEW { Duration::MAX } else { Duration::try_from(ago).unwrap_or_default() }
    }

    /// Removes an instance and excludes it for a while, even if AWS still reports it.
    pub fn without(&self, instance: &str, now: Timestamp) -> Removal {
        if self.departed.contains_key(instance) && !self.instances.contains_key(instance) {
            return Removal::AlreadyRemoved;
        }
        let mut next = List { generation: self.generation + 1, ..self.clone() };
        let is_new = next.departed.insert(instance.to_owned(), now).is_none();
        let Some(endpoint) = next.instances.remove(instance) else { return Removal::Next(next) };
        // Two instances have the same address only while AWS is reassigning it.
        if !next.instances.values().any(|other| *other == endpoint) {
            next.endpoints.retain(|other| *other != endpoint);
        }
        if next.endpoints.is_empty() {
            let List { endpoints, instances, .. } = self.clone();
            return Removal::LastServer(if is_new { List { endpoints, instances, ..next } } else { self.clone() });
        }
        (next.updated_at, next.source) = (now, Source::Lifecycle);
        Removal::Next(next)
    }

    /// Returns whether an instance is in the list. An instance that leaves and stays listed only as the last one does not count.
    pub fn contains(&self, instance: &str) -> bool {
        self.instances.contains_key(instance) && !self.departed.contains_key(instance)
    }

    /// Returns the list that no longer excludes an instance, such as one that comes back from a warm pool. Returns `None` if the
    /// instance was not excluded.
    pub fn readmit(&self, instance: &str) -> Option<List> {
        let mut next = List { generation: self.generation + 1, ..self.clone() };
        next.departed.remove(instance).map(|_| next)
    }
}

/// Makes the next list of a response of AWS. `current` is the list that it replaces, `floor` the highest known generation.
///
/// # Errors
/// Without any valid endpoint there is no next list, and the current list stays.
pub fn next_list(
    group: &Group,
    membership: &Membership,
    current: Option<&List>,
    floor: u64,
    source: Source,
    now: Timestamp,
) -> Result<NextList, NoValidList> {
    let mut departed = current.map(|list| list.departed.clone()).unwrap_or_default();
    departed.retain(|_, left| now.duration_since(*left).abs() < EXCLUSION_TIME);
    let (mut instances, mut foreign) = (BTreeMap::new(), Vec::new());
    for member in membership.members.iter().filter(|member| !departed.contains_key(&member.instance)) {
        match member.addresses.iter().find(|address| group.admits(**address)) {
            Some(address) => _ = instances.insert(member.instance.clone(), SocketAddr::new(*address, group.port)),
            None => foreign.push(member.clone()),
        }
    }
    if instances.is_empty() {
        return Err(if foreign.is_empty() { NoValidList::Empty } else { NoValidList::AllForeign(foreign) });
    }
    if instances.len() > MAX_ENDPOINTS {
        return Err(NoValidList::TooMany(instances.len()));
    }
    let mut endpoints: Vec<SocketAddr> = instances.values().copied().collect();
    endpoints.sort_unstable();
    endpoints.dedup();
    let generation = current.map_or(0, |list| list.generation).max(floor) + 1;
    let list = List {
        endpoints,
        generation,
        updated_at: now,
        source,
        asked_at: membership.asked_at,
        asked_generation: generation,
        group: group.name.clone(),
        instances,
        departed,
    };
    Ok(NextList { list, foreign })
}

/// Describes instances and their addresses for a message. At most five are named.
pub fn describe(members: &[Member]) -> String {
    let one = |member: &Member| match member.addresses.first() {
        Some(address) => format!("{} at {address}", member.instance),
        None => format!("{} without a private address", member.instance),
    };
    let named: Vec<String> = members.iter().take(5).map(one).collect();
    let more = members.len() - named.len();
    if more == 0 { named.join(", ") } else { format!("{}, and {more} more", named.join(", ")) }
}

/// Serialising numbers, texts and addresses cannot fail.
fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::group::Groups;

    fn group() -> Group {
        let groups = r#"{"groups":[{"region":"eu-west-1","dcid":"eu1","autoscaling_group":"logstash","port":8080,
            "allowed_cidrs":["10.0.0.0/8","fd12::/16"]}]}"#;
        Groups::read(groups).unwrap().select("eu-west-1", "eu1").unwrap().clone()
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + second).unwrap()
    }

    fn member(instance: &str, addresses: &[&str]) -> Member {
        Member { instance: instance.to_owned(), addresses: addresses.iter().map(|text| text.parse().unwrap()).collect() }
    }

    fn membership(members: &[Member], second: i64) -> Membership {
        Membership { members: members.to_vec(), asked_at: at(second) }
    }

    fn list_of(members: &[Member]) -> List {
        next_list(&group(), &membership(members, 0), None, 0, Source::Poll, at(0)).unwrap().list
    }

    fn two() -> List {
        list_of(&[member("i-b", &["10.0.0.2"]), member("i-a", &["10.0.0.10"])])
    }

    fn next(members: &[Member], current: &List, second: i64) -> Result<NextList, NoValidList> {
        next_list(&group(), &membership(members, second), Some(current), 0, Source::Update, at(second))
    }

    #[test]
    fn encodes_a_list_as_documented() {
        let list = list_of(&[member("i-b", &["fd12::1"]), member("i-c", &["10.0.0.10"]), member("i-a", &["10.0.0.2"])]);
        assert_eq!(list.body(), r#"["10.0.0.2:8080","10.0.0.10:8080","[fd12::1]:8080"]"#);
        let stored: serde_json::Value = serde_json::from_str(&list.encode()).unwrap();
        assert_eq!(stored["endpoints"], serde_json::json!(["10.0.0.2:8080", "10.0.0.10:8080", "[fd12::1]:8080"]));
        assert_eq!((&stored["generation"], &stored["source"]), (&1.into(), &"poll".into()));
        assert_eq!(stored["updated_at"], "2027-01-15T08:00:00Z");
        assert_eq!(List::decode(list.encode().as_bytes(), &group()), Ok(list));
    }

    #[test]
    fn decodes_a_list_with_the_four_documented_members() {
        let text = br#"{"endpoints":["10.0.0.9:8080","10.0.0.1:8080","10.0.0.9:8080"],"generation":4,"updated_at":"2027-01-15T08:00:00Z","source":"fallback"}"#;
        let list = List::decode(text, &group()).unwrap();
        assert_eq!(list.body(), r#"["10.0.0.1:8080","10.0.0.9:8080"]"#);
        assert!(list.asked_ago(at(0)) > Duration::from_hours(24), "AWS may never have been called");
    }

    #[test]
    fn rejects_values_that_cannot_be_a_list() {
        let with = |endpoints: &str| {
            format!(r#"{{"endpoints":[{endpoints}],"generation":1,"updated_at":"2027-01-15T08:00:00Z","source":"poll"}}"#)
        };
        let cases = [
            (with(""), "the list is empty"),
            (with(r#""10.0.0.1:5044""#), "the list contains 10.0.0.1:5044, which REGISTRY_GROUPS does not allow"),
            (with(r#""192.0.2.1:8080""#), "the list contains 192.0.2.1:8080, which REGISTRY_GROUPS does not allow"),
            (with(r#""169.254.169.254:8080""#), "the list contains 169.254.169.254:8080"),
            (with(r#""logstash.example:8080""#), "the JSON of a list is expected"),
            (with(&vec![r#""10.0.0.1:8080""#; 1_001].join(",")), "the list has 1001 endpoints"),
            (String::new(), "the JSON of a list is expected"),
            ("null".to_owned(), "the JSON of a list is expected"),
            ("\u{0}\u{1}".to_owned(), "the JSON of a list is expected"),
            (r#"["10.0.0.1:8080"]"#.to_owned(), "the JSON of a list is expected"),
            (
                r#"{"endpoints":["10.0.0.1:8080"],"generation":-1,"updated_at":"2027-01-15T08:00:00Z","source":"poll"}"#
                    .to_owned(),
                "the JSON of a list is expected",
            ),
        ];
        for (text, expected) in cases {
            let error = List::decode(text.as_bytes(), &group()).unwrap_err();
            assert!(error.starts_with(expected), "{text}: {error}");
        }
        let renamed = Group { name: "logstash-2".to_owned(), ..group() };
        let error = List::decode(two().encode().as_bytes(), &renamed).unwrap_err();
        assert_eq!(error, "the list is for the Auto Scaling group \"logstash\", but REGISTRY_GROUPS has \"logstash-2\"");
    }

    #[test]
    fn etag_depends_only_on_the_endpoints() {
        let list = two();
        let later = next(&[member("i-c", &["10.0.0.2"]), member("i-a", &["10.0.0.10"])], &list, 60).unwrap().list;
        assert_eq!((later.etag(), later.generation), (list.etag(), 2));
        assert_ne!(list_of(&[member("i-b", &["10.0.0.2"])]).etag(), list.etag());
        assert!(list.etag().starts_with('"') && list.etag().len() == 26);
    }

    #[test]
    fn an_empty_response_makes_no_list() {
        assert_eq!(next(&[], &two(), 1), Err(NoValidList::Empty));
    }

    #[test]
    fn uses_the_first_allowed_address_and_names_foreign_instances() {
        let members =
            [member("i-a", &["192.0.2.1", "fd12::1"]), member("i-b", &["10.0.0.2", "fd12::2"]), member("i-c", &["192.0.2.3"])];
        let NextList { list, foreign } = next_list(&group(), &membership(&members, 0), None, 0, Source::Poll, at(0)).unwrap();
        assert_eq!(list.body(), r#"["10.0.0.2:8080","[fd12::1]:8080"]"#);
        assert_eq!(describe(&foreign), "i-c at 192.0.2.3");
        let error = next_list(&group(), &membership(&members[2..], 0), None, 0, Source::Poll, at(0)).unwrap_err();
        assert_eq!(error.to_string(), "no instance has an address that REGISTRY_GROUPS allows (i-c at 192.0.2.3)");
    }

    #[test]
    fn generations_continue_from_the_highest_known_one() {
        let response = membership(&[member("i-a", &["10.0.0.1"])], 0);
        let after_a_loss = next_list(&group(), &response, None, 41, Source::Fallback, at(0)).unwrap();
        assert_eq!(after_a_loss.list.generation, 42);
    }

    #[test]
    fn excludes_an_instance_that_left_while_aws_reports_it() {
        let Removal::Next(list) = two().without("i-a", at(10)) else { panic!("it was in the list") };
        assert_eq!((list.body().as_str(), list.generation, list.source), (r#"["10.0.0.2:8080"]"#, 2, Source::Lifecycle));
        assert_eq!(list.without("i-a", at(11)), Removal::AlreadyRemoved);
        let both = [member("i-b", &["10.0.0.2"]), member("i-a", &["10.0.0.10"])];
        assert_eq!(next(&both, &list, 60).unwrap().list.body(), r#"["10.0.0.2:8080"]"#);
        assert_eq!(next(&both, &list, 10 + 600).unwrap().list.body(), two().body());
        let back = list.readmit("i-a").unwrap();
        assert_eq!(next(&both, &back, 60).unwrap().list.body(), two().body());
        assert_eq!(back.readmit("i-a"), None);
    }

    #[test]
    fn excludes_an_instance_that_was_never_listed() {
        let Removal::Next(list) = two().without("i-new", at(10)) else { panic!("it was not known") };
        assert_eq!(list.body(), two().body());
        assert_eq!((list.updated_at, list.source), (at(0), Source::Poll), "the age of the endpoints does not change");
        let three = [member("i-b", &["10.0.0.2"]), member("i-new", &["10.0.0.3"])];
        assert_eq!(next(&three, &list, 60).unwrap().list.body(), r#"["10.0.0.2:8080"]"#);
    }

    #[test]
    fn the_last_instance_stays_until_there_is_another() {
        let list = list_of(&[member("i-a", &["10.0.0.1"])]);
        let Removal::LastServer(leaving) = list.without("i-a", at(1)) else { panic!("it is the last one") };
        assert_eq!((leaving.body(), leaving.updated_at, leaving.generation), (list.body(), list.updated_at, 2));
        assert!(list.contains("i-a") && !leaving.contains("i-a"));
        assert_eq!(leaving.without("i-a", at(2)), Removal::LastServer(leaving.clone()), "repeating the removal changes nothing");
        let shown = [member("i-a", &["10.0.0.1"]), member("i-b", &["10.0.0.2"])];
        assert_eq!(next(&shown[..1], &leaving, 3), Err(NoValidList::Empty));
        assert_eq!(next(&shown, &leaving, 3).unwrap().list.body(), r#"["10.0.0.2:8080"]"#);
        assert!(leaving.readmit("i-a").unwrap().contains("i-a"));
    }

    #[test]
    fn keeps_an_address_that_another_instance_uses() {
        let list = list_of(&[member("i-a", &["10.0.0.1"]), member("i-b", &["10.0.0.1"])]);
        let Removal::Next(list) = list.without("i-a", at(1)) else { panic!("it was in the list") };
        assert_eq!(list.body(), r#"["10.0.0.1:8080"]"#);
    }

    #[test]
    fn ages_are_never_negative() {
        assert_eq!((two().age_s(at(90)), two().age_s(at(-5))), (90, 0));
    }

    #[test]
    fn events_do_not_extend_the_age_of_the_aws_response() {
        let Removal::Next(list) = two().without("i-a", at(200)) else { panic!("it was in the list") };
        assert_eq!((list.age_s(at(300)), list.asked_ago(at(300))), (100, Duration::from_secs(300)));
        assert_eq!((list.asked_generation, list.generation), (1, 2));
        assert_eq!(next(&[member("i-b", &["10.0.0.2"])], &list, 300).unwrap().list.asked_generation, 3);
    }

    #[test]
    fn future_timestamps_count_as_expired() {
        assert_eq!((two().asked_ago(at(-50)), two().asked_ago(at(-70))), (Duration::ZERO, Duration::MAX));
        let Removal::Next(list) = two().without("i-a", at(86_400)) else { panic!("it was in the list") };
        let both = [member("i-b", &["10.0.0.2"]), member("i-a", &["10.0.0.10"])];
        assert_eq!(next(&both, &list, 60).unwrap().list.body(), two().body());
    }
}

//! One list of endpoints: how it is kept, and how it becomes the next one. Nothing here does I/O.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::group::Group;

/// More servers than any group has; what holds more is no list.
const MOST_ENDPOINTS: usize = 1_000;

/// How long an instance that has left is kept out. AWS may show it for a moment longer, and an answer may have been under way.
const KEPT_OUT: SignedDuration = SignedDuration::from_mins(10);

/// The clocks of two machines may disagree by so much. What is dated later than that is dated wrongly.
const CLOCKS_DISAGREE: SignedDuration = SignedDuration::from_mins(1);

/// The last known good list of one data centre, as it is kept in the store. It is never empty.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct List {
    /// Sorted, each once.
    pub endpoints: Vec<SocketAddr>,
    /// Grows by one with every change; who replaces a list says by this which one it means.
    pub generation: u64,
    /// When AWS last answered, or an event last changed the endpoints.
    pub updated_at: Timestamp,
    /// What made it.
    pub source: Source,
    /// When the question began that AWS's last answer in it was for: the soft expiry. Events do not put it off.
    #[serde(default)]
    pub asked_at: Timestamp,
    /// The generation that AWS's last answer made. Those after it have only heeded events.
    #[serde(default)]
    pub asked_generation: u64,
    /// The autoscaling group that it was made of.
    #[serde(default)]
    pub group: String,
    /// Which instance is behind which endpoint, so that an instance leaves without a question to AWS.
    #[serde(default)]
    pub instances: BTreeMap<String, SocketAddr>,
    /// Instances that have left lately, and when.
    #[serde(default)]
    pub departed: BTreeMap<String, Timestamp>,
}

/// What made a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Source {
    /// An event of an instance's life.
    Lifecycle,
    /// Somebody asked for it.
    Update,
    /// There was no list that could be read.
    Fallback,
    /// It had become old.
    Poll,
}

impl Source {
    /// As it is written in lists, headers and metrics.
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
    /// Its id, such as `i-0123456789abcdef0`.
    pub instance: String,
    /// Its private addresses, the preferred one first.
    pub addresses: Vec<IpAddr>,
}

/// What AWS says of a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Roll {
    /// Its servers in service.
    pub members: Vec<Member>,
    /// When it was asked for.
    pub asked_at: Timestamp,
}

/// A list made of what AWS says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refreshed {
    /// The next list.
    pub list: List,
    /// Instances that are left out because no address of theirs is allowed.
    pub foreign: Vec<Member>,
}

/// Why no list can be made of what AWS says.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoList {
    /// Nobody is in service.
    #[error("AWS shows no healthy instance in service")]
    Empty,
    /// There are servers, all of them where none may be.
    #[error("no instance has an address that REGISTRY_GROUPS allows ({})", describe(.0))]
    AllForeign(Vec<Member>),
    /// More than any group has.
    #[error("AWS shows {0} instances, more than the {MOST_ENDPOINTS} that a list holds")]
    TooMany(usize),
}

/// What an instance's leaving makes of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Departure {
    /// The next list, without it.
    Next(List),
    /// It had left already.
    Known,
    /// It is the last one. A list of none is of no use to anybody, so this one has it still, and keeps it out of the next.
    Last(List),
}

impl List {
    /// Reads a list as it is kept.
    ///
    /// # Errors
    /// What is wrong with it: it is no such JSON, or it holds what cannot be in a list of this group.
    pub fn decode(text: &[u8], group: &Group) -> Result<List, String> {
        let mut list: List = serde_json::from_slice(text).map_err(|error| format!("it is no list ({error})"))?;
        if list.endpoints.is_empty() {
            return Err("it is empty".to_owned());
        }
        if list.endpoints.len() > MOST_ENDPOINTS {
            return Err(format!("it has {} endpoints", list.endpoints.len()));
        }
        if !list.group.is_empty() && list.group != group.name {
            return Err(format!("it is of the autoscaling group {:?}, and REGISTRY_GROUPS has {:?}", list.group, group.name));
        }
        let foreign = |endpoint: &&SocketAddr| endpoint.port() != group.port || !group.admits(endpoint.ip());
        if let Some(foreign) = list.endpoints.iter().chain(list.instances.values()).find(foreign) {
            return Err(format!("it holds {foreign}, which REGISTRY_GROUPS does not allow"));
        }
        list.endpoints.sort_unstable();
        list.endpoints.dedup();
        Ok(list)
    }

    /// The list as it is kept.
    pub fn encode(&self) -> String {
        json(self)
    }

    /// The list as it is answered: a JSON array of `"ip:port"`, `"[ip]:port"` for IPv6.
    pub fn body(&self) -> String {
        json(&self.endpoints)
    }

    /// Equal for equal endpoints, whatever the generation; with its quotes.
    pub fn etag(&self) -> String {
        let digest = Sha256::digest(self.body());
        digest.iter().take(12).fold(String::from("\""), |mut tag, byte| {
            // Writing into a string cannot fail.
            let _ = write!(tag, "{byte:02x}");
            tag
        }) + "\""
    }

    /// How long ago the list was made, in seconds; 0 where the clocks of two machines disagree.
    pub fn age_s(&self, now: Timestamp) -> u64 {
        u64::try_from(now.duration_since(self.updated_at).as_secs()).unwrap_or(0)
    }

    /// How long ago AWS was asked for what is in it: for ever where that is not known, or dated in the future.
    pub fn asked_ago(&self, now: Timestamp) -> Duration {
        let ago = now.duration_since(self.asked_at);
        if ago < -CLOCKS_DISAGREE { Duration::MAX } else { Duration::try_from(ago).unwrap_or_default() }
    }

    /// The list without an instance, which is kept out for a while even if AWS still shows it.
    pub fn without(&self, instance: &str, now: Timestamp) -> Departure {
        if self.departed.contains_key(instance) && !self.instances.contains_key(instance) {
            return Departure::Known;
        }
        let mut next = List { generation: self.generation + 1, ..self.clone() };
        let is_news = next.departed.insert(instance.to_owned(), now).is_none();
        let Some(endpoint) = next.instances.remove(instance) else { return Departure::Next(next) };
        // Two instances never have one address, except while AWS has given it away anew.
        if !next.instances.values().any(|other| *other == endpoint) {
            next.endpoints.retain(|other| *other != endpoint);
        }
        if next.endpoints.is_empty() {
            let List { endpoints, instances, .. } = self.clone();
            return Departure::Last(if is_news { List { endpoints, instances, ..next } } else { self.clone() });
        }
        (next.updated_at, next.source) = (now, Source::Lifecycle);
        Departure::Next(next)
    }

    /// Whether an instance is in the list, and not only because it is the last one that leaves.
    pub fn lists(&self, instance: &str) -> bool {
        self.instances.contains_key(instance) && !self.departed.contains_key(instance)
    }

    /// The list that no longer keeps an instance out, which comes back from a warm pool; none if it was not kept out.
    pub fn readmitting(&self, instance: &str) -> Option<List> {
        let mut next = List { generation: self.generation + 1, ..self.clone() };
        next.departed.remove(instance).map(|_| next)
    }
}

/// What AWS says to the next list. `current` is the list that it replaces, and `floor` the highest generation that is known.
///
/// # Errors
/// An answer of which no list can be made never replaces one.
pub fn refreshed(
    group: &Group,
    roll: &Roll,
    current: Option<&List>,
    floor: u64,
    source: Source,
    now: Timestamp,
) -> Result<Refreshed, NoList> {
    let mut departed = current.map(|list| list.departed.clone()).unwrap_or_default();
    departed.retain(|_, left| now.duration_since(*left).abs() < KEPT_OUT);
    let (mut instances, mut foreign) = (BTreeMap::new(), Vec::new());
    for member in roll.members.iter().filter(|member| !departed.contains_key(&member.instance)) {
        match member.addresses.iter().find(|address| group.admits(**address)) {
            Some(address) => _ = instances.insert(member.instance.clone(), SocketAddr::new(*address, group.port)),
            None => foreign.push(member.clone()),
        }
    }
    if instances.is_empty() {
        return Err(if foreign.is_empty() { NoList::Empty } else { NoList::AllForeign(foreign) });
    }
    if instances.len() > MOST_ENDPOINTS {
        return Err(NoList::TooMany(instances.len()));
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
        asked_at: roll.asked_at,
        asked_generation: generation,
        group: group.name.clone(),
        instances,
        departed,
    };
    Ok(Refreshed { list, foreign })
}

/// Instances and their addresses, for a message.
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

    fn roll(members: &[Member], second: i64) -> Roll {
        Roll { members: members.to_vec(), asked_at: at(second) }
    }

    fn list_of(members: &[Member]) -> List {
        refreshed(&group(), &roll(members, 0), None, 0, Source::Poll, at(0)).unwrap().list
    }

    fn two() -> List {
        list_of(&[member("i-b", &["10.0.0.2"]), member("i-a", &["10.0.0.10"])])
    }

    fn next(members: &[Member], current: &List, second: i64) -> Result<Refreshed, NoList> {
        refreshed(&group(), &roll(members, second), Some(current), 0, Source::Update, at(second))
    }

    #[test]
    fn a_list_is_kept_and_answered_as_documented() {
        let list = list_of(&[member("i-b", &["fd12::1"]), member("i-c", &["10.0.0.10"]), member("i-a", &["10.0.0.2"])]);
        assert_eq!(list.body(), r#"["10.0.0.2:8080","10.0.0.10:8080","[fd12::1]:8080"]"#);
        let kept: serde_json::Value = serde_json::from_str(&list.encode()).unwrap();
        assert_eq!(kept["endpoints"], serde_json::json!(["10.0.0.2:8080", "10.0.0.10:8080", "[fd12::1]:8080"]));
        assert_eq!((&kept["generation"], &kept["source"]), (&1.into(), &"poll".into()));
        assert_eq!(kept["updated_at"], "2027-01-15T08:00:00Z");
        assert_eq!(List::decode(list.encode().as_bytes(), &group()), Ok(list));
    }

    #[test]
    fn the_four_documented_members_are_enough() {
        let text = br#"{"endpoints":["10.0.0.9:8080","10.0.0.1:8080","10.0.0.9:8080"],"generation":4,"updated_at":"2027-01-15T08:00:00Z","source":"fallback"}"#;
        let list = List::decode(text, &group()).unwrap();
        assert_eq!(list.body(), r#"["10.0.0.1:8080","10.0.0.9:8080"]"#);
        assert!(list.asked_ago(at(0)) > Duration::from_hours(24), "AWS may never have been asked");
    }

    #[test]
    fn what_cannot_be_a_list_is_none() {
        let with = |endpoints: &str| {
            format!(r#"{{"endpoints":[{endpoints}],"generation":1,"updated_at":"2027-01-15T08:00:00Z","source":"poll"}}"#)
        };
        let cases = [
            (with(""), "it is empty"),
            (with(r#""10.0.0.1:5044""#), "it holds 10.0.0.1:5044, which REGISTRY_GROUPS does not allow"),
            (with(r#""192.0.2.1:8080""#), "it holds 192.0.2.1:8080, which REGISTRY_GROUPS does not allow"),
            (with(r#""169.254.169.254:8080""#), "it holds 169.254.169.254:8080"),
            (with(r#""logstash.example:8080""#), "it is no list"),
            (with(&vec![r#""10.0.0.1:8080""#; 1_001].join(",")), "it has 1001 endpoints"),
            (String::new(), "it is no list"),
            ("null".to_owned(), "it is no list"),
            ("\u{0}\u{1}".to_owned(), "it is no list"),
            (r#"["10.0.0.1:8080"]"#.to_owned(), "it is no list"),
            (
                r#"{"endpoints":["10.0.0.1:8080"],"generation":-1,"updated_at":"2027-01-15T08:00:00Z","source":"poll"}"#
                    .to_owned(),
                "it is no list",
            ),
        ];
        for (text, expected) in cases {
            let error = List::decode(text.as_bytes(), &group()).unwrap_err();
            assert!(error.starts_with(expected), "{text}: {error}");
        }
        let renamed = Group { name: "logstash-2".to_owned(), ..group() };
        let error = List::decode(two().encode().as_bytes(), &renamed).unwrap_err();
        assert_eq!(error, "it is of the autoscaling group \"logstash\", and REGISTRY_GROUPS has \"logstash-2\"");
    }

    #[test]
    fn an_etag_depends_on_the_endpoints_alone() {
        let list = two();
        let later = next(&[member("i-c", &["10.0.0.2"]), member("i-a", &["10.0.0.10"])], &list, 60).unwrap().list;
        assert_eq!((later.etag(), later.generation), (list.etag(), 2));
        assert_ne!(list_of(&[member("i-b", &["10.0.0.2"])]).etag(), list.etag());
        assert!(list.etag().starts_with('"') && list.etag().len() == 26);
    }

    #[test]
    fn an_empty_answer_makes_no_list() {
        assert_eq!(next(&[], &two(), 1), Err(NoList::Empty));
    }

    #[test]
    fn the_first_allowed_address_of_an_instance_counts_and_foreign_instances_are_named() {
        let members =
            [member("i-a", &["192.0.2.1", "fd12::1"]), member("i-b", &["10.0.0.2", "fd12::2"]), member("i-c", &["192.0.2.3"])];
        let Refreshed { list, foreign } = refreshed(&group(), &roll(&members, 0), None, 0, Source::Poll, at(0)).unwrap();
        assert_eq!(list.body(), r#"["10.0.0.2:8080","[fd12::1]:8080"]"#);
        assert_eq!(describe(&foreign), "i-c at 192.0.2.3");
        let error = refreshed(&group(), &roll(&members[2..], 0), None, 0, Source::Poll, at(0)).unwrap_err();
        assert_eq!(error.to_string(), "no instance has an address that REGISTRY_GROUPS allows (i-c at 192.0.2.3)");
    }

    #[test]
    fn generations_go_on_from_the_highest_that_is_known() {
        let answer = roll(&[member("i-a", &["10.0.0.1"])], 0);
        let after_a_loss = refreshed(&group(), &answer, None, 41, Source::Fallback, at(0)).unwrap();
        assert_eq!(after_a_loss.list.generation, 42);
    }

    #[test]
    fn an_instance_that_left_stays_away_while_aws_still_shows_it() {
        let Departure::Next(list) = two().without("i-a", at(10)) else { panic!("it was in the list") };
        assert_eq!((list.body().as_str(), list.generation, list.source), (r#"["10.0.0.2:8080"]"#, 2, Source::Lifecycle));
        assert_eq!(list.without("i-a", at(11)), Departure::Known);
        let both = [member("i-b", &["10.0.0.2"]), member("i-a", &["10.0.0.10"])];
        assert_eq!(next(&both, &list, 60).unwrap().list.body(), r#"["10.0.0.2:8080"]"#);
        assert_eq!(next(&both, &list, 10 + 600).unwrap().list.body(), two().body());
        let back = list.readmitting("i-a").unwrap();
        assert_eq!(next(&both, &back, 60).unwrap().list.body(), two().body());
        assert_eq!(back.readmitting("i-a"), None);
    }

    #[test]
    fn an_instance_that_is_not_listed_yet_is_kept_out_too() {
        let Departure::Next(list) = two().without("i-new", at(10)) else { panic!("it was not known") };
        assert_eq!(list.body(), two().body());
        assert_eq!((list.updated_at, list.source), (at(0), Source::Poll), "its endpoints are as old as before");
        let three = [member("i-b", &["10.0.0.2"]), member("i-new", &["10.0.0.3"])];
        assert_eq!(next(&three, &list, 60).unwrap().list.body(), r#"["10.0.0.2:8080"]"#);
    }

    #[test]
    fn the_last_one_stays_until_there_is_another() {
        let list = list_of(&[member("i-a", &["10.0.0.1"])]);
        let Departure::Last(leaving) = list.without("i-a", at(1)) else { panic!("it is the last one") };
        assert_eq!((leaving.body(), leaving.updated_at, leaving.generation), (list.body(), list.updated_at, 2));
        assert!(list.lists("i-a") && !leaving.lists("i-a"));
        assert_eq!(leaving.without("i-a", at(2)), Departure::Last(leaving.clone()), "once more is no change");
        let shown = [member("i-a", &["10.0.0.1"]), member("i-b", &["10.0.0.2"])];
        assert_eq!(next(&shown[..1], &leaving, 3), Err(NoList::Empty));
        assert_eq!(next(&shown, &leaving, 3).unwrap().list.body(), r#"["10.0.0.2:8080"]"#);
        assert!(leaving.readmitting("i-a").unwrap().lists("i-a"));
    }

    #[test]
    fn an_address_that_another_instance_has_by_now_stays() {
        let list = list_of(&[member("i-a", &["10.0.0.1"]), member("i-b", &["10.0.0.1"])]);
        let Departure::Next(list) = list.without("i-a", at(1)) else { panic!("it was in the list") };
        assert_eq!(list.body(), r#"["10.0.0.1:8080"]"#);
    }

    #[test]
    fn ages_are_never_below_zero() {
        assert_eq!((two().age_s(at(90)), two().age_s(at(-5))), (90, 0));
    }

    #[test]
    fn events_do_not_make_what_aws_said_any_newer() {
        let Departure::Next(list) = two().without("i-a", at(200)) else { panic!("it was in the list") };
        assert_eq!((list.age_s(at(300)), list.asked_ago(at(300))), (100, Duration::from_secs(300)));
        assert_eq!((list.asked_generation, list.generation), (1, 2));
        assert_eq!(next(&[member("i-b", &["10.0.0.2"])], &list, 300).unwrap().list.asked_generation, 3);
    }

    #[test]
    fn what_is_dated_in_the_future_counts_as_old_and_keeps_nobody_out_for_long() {
        assert_eq!((two().asked_ago(at(-50)), two().asked_ago(at(-70))), (Duration::ZERO, Duration::MAX));
        let Departure::Next(list) = two().without("i-a", at(86_400)) else { panic!("it was in the list") };
        let both = [member("i-b", &["10.0.0.2"]), member("i-a", &["10.0.0.10"])];
        assert_eq!(next(&both, &list, 60).unwrap().list.body(), two().body());
    }
}

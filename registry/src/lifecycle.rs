//! Events of instances' lives to what they mean. Nothing here does I/O.
//!
//! They come from SNS (lifecycle hooks, and plain notifications of a group) and from EventBridge (the same two kinds), each in an
//! envelope of its own. See "Amazon EC2 Auto Scaling lifecycle hooks" in AWS's documentation.

use serde::Deserialize;
use serde_json::Value;

use crate::fleet::Hook;

/// What an event means to the registry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// An instance waits at a hook until it is let go on.
    Waiting {
        /// Which way it goes.
        transition: Transition,
        /// Where it waits.
        hook: Hook,
    },
    /// Something has happened to an instance.
    Happened {
        /// Which way it went.
        transition: Transition,
        /// The group's region.
        region: String,
        /// The autoscaling group.
        group: String,
        /// The instance.
        instance: String,
    },
    /// A schedule asks for lists that have become old to be made anew.
    Scheduled,
    /// Nothing to act on, and why.
    Nothing(&'static str),
}

/// Which way an instance goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transition {
    /// Into service.
    Launch,
    /// Into a warm pool, which is not in service.
    Warm,
    /// Out of service, be it into a warm pool.
    Terminate,
}

/// Why an event is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EventError {
    /// It is none of those that are known.
    #[error(
        "the event is neither an HTTP request, nor of SNS, nor of EventBridge for autoscaling; connect only these to the function"
    )]
    Unknown,
    /// Something in it is missing or wrong.
    #[error("the event cannot be understood: {0}")]
    Malformed(String),
    /// Anybody can have a topic.
    #[error("the topic {0:?} is not in REGISTRY_TOPICS")]
    ForeignTopic(String),
}

/// Reads the event that the function is invoked with. SNS can hand over several at once, of which one that is refused does not hold
/// up the others. Only `topics` are obeyed.
///
/// # Errors
/// An event that is not known; of each, that it is not complete, or of another topic.
pub fn parse(event: &Value, topics: &[String]) -> Result<Vec<Result<Event, EventError>>, EventError> {
    if let Some(records) = event.get("Records").and_then(Value::as_array) {
        return Ok(records.iter().map(|record| from_sns(record, topics)).collect());
    }
    match event.get("source").and_then(Value::as_str) {
        Some("aws.autoscaling") => Ok(vec![from_eventbridge(event)]),
        Some("aws.events") => Ok(vec![Ok(Event::Scheduled)]),
        _ => Err(EventError::Unknown),
    }
}

#[derive(Deserialize)]
struct SnsRecord {
    #[serde(rename = "Sns")]
    sns: SnsMessage,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct SnsMessage {
    topic_arn: String,
    message: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct EventBridge {
    region: String,
    detail_type: String,
    detail: Detail,
}

/// What all envelopes hold in the end; which members there are depends on the kind of event.
#[derive(Deserialize)]
struct Detail {
    #[serde(rename = "AutoScalingGroupName")]
    group: String,
    #[serde(rename = "EC2InstanceId")]
    instance: Option<String>,
    #[serde(rename = "LifecycleTransition")]
    transition: Option<String>,
    #[serde(rename = "LifecycleHookName")]
    hook: Option<String>,
    #[serde(rename = "LifecycleActionToken")]
    token: Option<String>,
    #[serde(rename = "Destination")]
    destination: Option<String>,
    #[serde(rename = "Event")]
    event: Option<String>,
}

fn from_sns(record: &Value, topics: &[String]) -> Result<Event, EventError> {
    if record.get("EventSource").and_then(Value::as_str) != Some("aws:sns") {
        return Err(EventError::Unknown);
    }
    let record = SnsRecord::deserialize(record).map_err(malformed)?;
    let SnsMessage { topic_arn, message } = record.sns;
    if !topics.contains(&topic_arn) {
        return Err(EventError::ForeignTopic(topic_arn));
    }
    let detail: Detail = serde_json::from_str(&message).map_err(malformed)?;
    // A group notifies a topic of its own region only.
    let region = topic_arn.split(':').nth(3).unwrap_or_default().to_owned();
    match (detail.event.as_deref(), detail.transition.clone()) {
        (Some("autoscaling:TEST_NOTIFICATION"), _) => Ok(Event::Nothing("a test notification")),
        (Some("autoscaling:EC2_INSTANCE_LAUNCH"), _) => happened(Transition::Launch, region, detail),
        (Some("autoscaling:EC2_INSTANCE_TERMINATE"), _) => happened(Transition::Terminate, region, detail),
        (Some("autoscaling:EC2_INSTANCE_LAUNCH_ERROR" | "autoscaling:EC2_INSTANCE_TERMINATE_ERROR"), _) => {
            Ok(Event::Nothing("a launch or termination that failed"))
        }
        (None, Some(transition)) => waiting(&transition, region, detail),
        (Some(other), _) => Err(EventError::Malformed(format!("the notification {other:?} is not known"))),
        (None, None) => Err(EventError::Malformed("it has neither Event nor LifecycleTransition".to_owned())),
    }
}

fn from_eventbridge(event: &Value) -> Result<Event, EventError> {
    // Other events of the service have no instance in them.
    if !event.get("detail-type").and_then(Value::as_str).is_some_and(|kind| kind.starts_with("EC2 Instance")) {
        return Ok(Event::Nothing("an event that is not about an instance"));
    }
    let EventBridge { region, detail_type, detail } = EventBridge::deserialize(event).map_err(malformed)?;
    match detail_type.as_str() {
        "EC2 Instance-launch Lifecycle Action" => waiting("autoscaling:EC2_INSTANCE_LAUNCHING", region, detail),
        "EC2 Instance-terminate Lifecycle Action" => waiting("autoscaling:EC2_INSTANCE_TERMINATING", region, detail),
        "EC2 Instance Launch Successful" => happened(Transition::Launch, region, detail),
        "EC2 Instance Terminate Successful" => happened(Transition::Terminate, region, detail),
        "EC2 Instance Launch Unsuccessful" | "EC2 Instance Terminate Unsuccessful" => {
            Ok(Event::Nothing("a launch or termination that failed"))
        }
        _ => Ok(Event::Nothing("an event that changes no list")),
    }
}

fn waiting(transition: &str, region: String, detail: Detail) -> Result<Event, EventError> {
    let transition = match transition {
        "autoscaling:EC2_INSTANCE_LAUNCHING" if is_to_warm_pool(&detail) => Transition::Warm,
        "autoscaling:EC2_INSTANCE_LAUNCHING" => Transition::Launch,
        "autoscaling:EC2_INSTANCE_TERMINATING" => Transition::Terminate,
        other => return Err(EventError::Malformed(format!("the transition {other:?} is not known"))),
    };
    let instance = instance_id(detail.instance)?;
    let name = detail.hook.filter(|name| is_hook_name(name));
    let name = name.ok_or_else(|| EventError::Malformed("LifecycleHookName is missing or no name of a hook".to_owned()))?;
    if detail.token.as_deref().is_some_and(|token| !is_token(token)) {
        return Err(EventError::Malformed("LifecycleActionToken is no token".to_owned()));
    }
    Ok(Event::Waiting { transition, hook: Hook { region, group: detail.group, instance, name, token: detail.token } })
}

fn happened(transition: Transition, region: String, detail: Detail) -> Result<Event, EventError> {
    let transition = match transition {
        Transition::Launch if is_to_warm_pool(&detail) => Transition::Warm,
        other => other,
    };
    Ok(Event::Happened { transition, region, instance: instance_id(detail.instance)?, group: detail.group })
}

fn is_to_warm_pool(detail: &Detail) -> bool {
    detail.destination.as_deref() == Some("WarmPool")
}

/// Whether this can be an instance's id, such as `i-0123456789abcdef0`.
pub fn is_instance_id(id: &str) -> bool {
    let digits = id.strip_prefix("i-").unwrap_or_default();
    (8..=17).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_hexdigit())
}

fn instance_id(id: Option<String>) -> Result<String, EventError> {
    id.filter(|id| is_instance_id(id))
        .ok_or_else(|| EventError::Malformed("EC2InstanceId is missing or no id of an instance".to_owned()))
}

fn is_hook_name(name: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'/');
    (1..=255).contains(&name.len()) && name.bytes().all(allowed)
}

fn is_token(token: &str) -> bool {
    (1..=64).contains(&token.len()) && token.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}

fn malformed(error: serde_json::Error) -> EventError {
    EventError::Malformed(error.to_string())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const TOPIC: &str = "arn:aws:sns:eu-west-1:123456789012:logstash-lifecycle";

    fn topics() -> Vec<String> {
        vec![TOPIC.to_owned()]
    }

    fn sns(message: &Value) -> Value {
        json!({"Records": [{"EventSource": "aws:sns", "Sns": {"TopicArn": TOPIC, "Message": message.to_string()}}]})
    }

    fn hook_message(transition: &str, destination: &str) -> Value {
        json!({"Origin": "EC2", "Destination": destination, "LifecycleHookName": "to-registry", "AccountId": "123456789012",
            "LifecycleTransition": format!("autoscaling:EC2_INSTANCE_{transition}"), "AutoScalingGroupName": "logstash-eu1",
            "EC2InstanceId": "i-0123456789abcdef0", "LifecycleActionToken": "71514b9d-6a40-4b26-8523-05e7ee35fa40"})
    }

    fn eventbridge(kind: &str, destination: &str) -> Value {
        json!({"source": "aws.autoscaling", "detail-type": kind, "region": "eu-west-1", "detail": hook_message("LAUNCHING", destination)})
    }

    fn one(event: &Value) -> Event {
        let mut events = parse(event, &topics()).unwrap_or_else(|error| panic!("{event}: {error}"));
        assert_eq!(events.len(), 1, "{event}");
        events.remove(0).unwrap_or_else(|error| panic!("{event}: {error}"))
    }

    #[track_caller]
    fn refusal(event: &Value, topics: &[String]) -> EventError {
        match parse(event, topics) {
            Ok(mut events) => events.remove(0).expect_err("it is refused"),
            Err(error) => error,
        }
    }

    #[track_caller]
    fn waits(event: &Value, expected: Transition) {
        let Event::Waiting { transition, hook } = one(event) else { panic!("{event} is about no hook") };
        assert_eq!(transition, expected);
        let expected = Hook {
            region: "eu-west-1".to_owned(),
            group: "logstash-eu1".to_owned(),
            instance: "i-0123456789abcdef0".to_owned(),
            name: "to-registry".to_owned(),
            token: Some("71514b9d-6a40-4b26-8523-05e7ee35fa40".to_owned()),
        };
        assert_eq!(hook, expected);
    }

    #[track_caller]
    fn has_happened(event: &Value, expected: Transition) {
        let Event::Happened { transition, region, group, instance } = one(event) else { panic!("{event} is about no instance") };
        let found = (transition, region.as_str(), group.as_str(), instance.as_str());
        assert_eq!(found, (expected, "eu-west-1", "logstash-eu1", "i-0123456789abcdef0"));
    }

    #[test]
    fn hooks_are_read_from_sns_and_from_eventbridge() {
        waits(&sns(&hook_message("LAUNCHING", "AutoScalingGroup")), Transition::Launch);
        waits(&sns(&hook_message("TERMINATING", "EC2")), Transition::Terminate);
        waits(&eventbridge("EC2 Instance-launch Lifecycle Action", "AutoScalingGroup"), Transition::Launch);
        waits(&eventbridge("EC2 Instance-terminate Lifecycle Action", "EC2"), Transition::Terminate);
    }

    #[test]
    fn what_goes_into_a_warm_pool_is_not_in_service_and_what_leaves_for_one_leaves() {
        waits(&sns(&hook_message("LAUNCHING", "WarmPool")), Transition::Warm);
        waits(&sns(&hook_message("TERMINATING", "WarmPool")), Transition::Terminate);
        has_happened(&eventbridge("EC2 Instance Launch Successful", "WarmPool"), Transition::Warm);
        has_happened(&eventbridge("EC2 Instance Terminate Successful", "WarmPool"), Transition::Terminate);
    }

    #[test]
    fn older_notifications_have_no_destination_and_no_token() {
        let mut message = hook_message("LAUNCHING", "");
        for member in ["Origin", "Destination", "LifecycleActionToken"] {
            message.as_object_mut().unwrap().remove(member);
        }
        let Event::Waiting { transition: Transition::Launch, hook } = one(&sns(&message)) else { panic!("it is a launch") };
        assert_eq!(hook.token, None);
    }

    #[test]
    fn plain_notifications_are_read_from_sns() {
        let message = |event: &str| json!({"Event": format!("autoscaling:{event}"), "AutoScalingGroupName": "logstash-eu1", "EC2InstanceId": "i-0123456789abcdef0"});
        has_happened(&sns(&message("EC2_INSTANCE_LAUNCH")), Transition::Launch);
        has_happened(&sns(&message("EC2_INSTANCE_TERMINATE")), Transition::Terminate);
        has_happened(&eventbridge("EC2 Instance Launch Successful", "AutoScalingGroup"), Transition::Launch);
        for error in ["EC2_INSTANCE_LAUNCH_ERROR", "EC2_INSTANCE_TERMINATE_ERROR"] {
            assert!(matches!(one(&sns(&message(error))), Event::Nothing(_)));
        }
        assert!(matches!(one(&eventbridge("EC2 Instance Terminate Unsuccessful", "EC2")), Event::Nothing(_)));
    }

    #[test]
    fn a_test_notification_has_no_instance_and_asks_for_nothing() {
        let message = json!({"AccountId": "123456789012", "AutoScalingGroupARN": "arn:aws:autoscaling:eu-west-1:123456789012:x",
            "AutoScalingGroupName": "logstash-eu1", "Service": "AWS Auto Scaling", "Event": "autoscaling:TEST_NOTIFICATION"});
        assert_eq!(one(&sns(&message)), Event::Nothing("a test notification"));
    }

    #[test]
    fn other_events_of_the_service_ask_for_nothing_and_a_schedule_for_a_poll() {
        let other =
            json!({"source": "aws.autoscaling", "detail-type": "EC2 Auto Scaling Instance Refresh Started", "detail": {}});
        assert!(matches!(one(&other), Event::Nothing(_)));
        assert_eq!(one(&json!({"source": "aws.events", "detail-type": "Scheduled Event", "detail": {}})), Event::Scheduled);
    }

    #[test]
    fn only_topics_that_are_named_are_obeyed() {
        let event = sns(&hook_message("TERMINATING", "EC2"));
        let error = refusal(&event, &["arn:aws:sns:eu-west-1:999999999999:logstash-lifecycle".to_owned()]);
        assert_eq!(error.to_string(), format!("the topic {TOPIC:?} is not in REGISTRY_TOPICS"));
        assert!(matches!(refusal(&event, &[]), EventError::ForeignTopic(_)));
    }

    #[test]
    fn a_record_that_is_refused_does_not_hold_up_the_others() {
        let mut event = sns(&hook_message("TERMINATING", "EC2"));
        let records = event["Records"].as_array_mut().unwrap();
        let mut foreign = records[0].clone();
        foreign["Sns"]["TopicArn"] = "arn:aws:sns:eu-west-1:999999999999:theirs".into();
        records.insert(0, foreign);
        let events = parse(&event, &topics()).unwrap();
        assert!(matches!(events.as_slice(), [Err(EventError::ForeignTopic(_)), Ok(Event::Waiting { .. })]), "{events:?}");
    }

    #[test]
    fn what_is_wrong_is_said() {
        let with = |member: &str, value: Value| {
            let mut message = hook_message("TERMINATING", "EC2");
            message[member] = value;
            refusal(&sns(&message), &topics()).to_string()
        };
        for id in ["", "i-", "i-1", "i-0123456789abcdef0/x", "0123456789abcdef0", "i-0123\r\n4567"] {
            assert!(with("EC2InstanceId", json!(id)).contains("EC2InstanceId"), "{id:?}");
        }
        assert!(with("LifecycleHookName", json!("a b")).contains("LifecycleHookName"));
        assert!(with("LifecycleActionToken", json!("a\nb")).contains("LifecycleActionToken"));
        assert!(with("LifecycleTransition", json!("autoscaling:EC2_INSTANCE_DANCING")).contains("DANCING"));
        assert!(with("AutoScalingGroupName", json!(7)).contains("cannot be understood"));
        assert!(with("Event", json!("autoscaling:SOMETHING")).contains("SOMETHING"));
        for event in
            [json!({}), json!(null), json!([]), json!({"source": "aws.s3"}), json!({"Records": [{"eventSource": "aws:s3"}]})]
        {
            assert_eq!(refusal(&event, &topics()), EventError::Unknown, "{event}");
        }
        let no_json = json!({"Records": [{"EventSource": "aws:sns", "Sns": {"TopicArn": TOPIC, "Message": "hello"}}]});
        assert!(refusal(&no_json, &topics()).to_string().contains("cannot be understood"));
    }
}

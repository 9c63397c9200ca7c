//! Parses lifecycle events of instances. Nothing here does I/O.
//!
//! Events come from SNS (lifecycle hooks, and notifications of a group) and from EventBridge (the same two kinds), each in a different
//! envelope. See "Amazon EC2 Auto Scaling lifecycle hooks" in AWS's documentation.

use serde::Deserialize;
use serde_json::Value;

use crate::fleet::Hook;

/// An event, as the registry handles it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// An instance waits at a hook until its lifecycle action is completed.
    Waiting {
        /// Direction of the change.
        transition: Transition,
        /// The instance and its hook.
        hook: Hook,
    },
    /// An instance was launched or terminated.
    Happened {
        /// Direction of the change.
        transition: Transition,
        /// Region of the group.
        region: String,
        /// Auto Scaling group.
        group: String,
        /// Id of the instance.
        instance: String,
    },
    /// A schedule: expired lists are refreshed.
    Scheduled,
    /// An event that needs no action, and why.
    Nothing(&'static str),
}

/// The direction in which an instance changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transition {
    /// Into service.
    Launch,
    /// Into a warm pool, whose instances are not in service.
    Warm,
    /// Out of service, also into a warm pool.
    Terminate,
}

/// Why an event is rejected.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EventError {
    /// The event is of an unknown kind.
    #[error(
        "the event is neither an HTTP request, nor an SNS message, nor an EventBridge event of Auto Scaling; connect only these sources to the function"
    )]
    Unknown,
    /// A member of the event is missing or invalid.
    #[error("cannot parse the event: {0}")]
    Malformed(String),
    /// The topic is not configured. Anyone can create a topic and subscribe the function to it.
    #[error("the topic {0:?} is not in REGISTRY_TOPICS; add it, or remove the subscription")]
    ForeignTopic(String),
}

/// Parses the event of an invocation. SNS can deliver several events at once; a rejected one does not affect the others. Events from
/// other topics than `topics` are rejected.
///
/// # Errors
/// The event is of an unknown kind. For each event: a member is missing or invalid, or the topic is not configured.
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

/// The common content of all envelopes. Which members are present depends on the kind of event.
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
    // A group notifies only topics in its own region.
    let region = topic_arn.split(':').nth(3).unwrap_or_default().to_owned();
    match (detail.event.as_deref(), detail.transition.clone()) {
        (Some("autoscaling:TEST_NOTIFICATION"), _) => Ok(Event::Nothing("a test notification")),
        (Some("autoscaling:EC2_INSTANCE_LAUNCH"), _) => happened(Transition::Launch, region, detail),
        (Some("autoscaling:EC2_INSTANCE_TERMINATE"), _) => happened(Transition::Terminate, region, detail),
        (Some("autoscaling:EC2_INSTANCE_LAUNCH_ERROR" | "autoscaling:EC2_INSTANCE_TERMINATE_ERROR"), _) => {
            Ok(Event::Nothing("a failed launch or termination"))
        }
        (None, Some(transition)) => waiting(&transition, region, detail),
        (Some(other), _) => Err(EventError::Malformed(format!("the notification {other:?} is unknown"))),
        (None, None) => Err(EventError::Malformed("it has neither Event nor LifecycleTransition".to_owned())),
    }
}

fn from_eventbridge(event: &Value) -> Result<Event, EventError> {
    // Other events of Auto Scaling contain no instance.
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
            Ok(Event::Nothing("a failed launch or termination"))
        }
        _ => Ok(Event::Nothing("an event that changes no list")),
    }
}

fn waiting(transition: &str, region: String, detail: Detail) -> Result<Event, EventError> {
    let transition = match transition {
        "autoscaling:EC2_INSTANCE_LAUNCHING" if is_to_warm_pool(&detail) => Transition::Warm,
        "autoscaling:EC2_INSTANCE_LAUNCHING" => Transition::Launch,
        "autoscaling:EC2_INSTANCE_TERMINATING" => Transition::Terminate,
        other => return Err(EventError::Malformed(format!("the transition {other:?} is unknown"))),
    };
    let instance = instance_id(detail.instance)?;
    let name = detail.hook.filter(|name| is_hook_name(name));
    let name = name.ok_or_else(|| EventError::Malformed("LifecycleHookName is missing or invalid".to_owned()))?;
    if detail.token.as_deref().is_some_and(|token| !is_token(token)) {
        return Err(EventError::Malformed("LifecycleActionToken is invalid".to_owned()));
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

/// Returns whether this is a valid instance id, such as `i-0123456789abcdef0`.
pub fn is_instance_id(id: &str) -> bool {
    let digits = id.strip_prefix("i-").unwrap_or_default();
    (8..=17).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_hexdigit())
}

fn instance_id(id: Option<String>) -> Result<String, EventError> {
    id.filter(|id| is_instance_id(id)).ok_or_else(|| EventError::Malformed("EC2InstanceId is missing or invalid".to_owned()))
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
    fn rejection(event: &Value, topics: &[String]) -> EventError {
        match parse(event, topics) {
            Ok(mut events) => events.remove(0).expect_err("a rejected event"),
            Err(error) => error,
        }
    }

    #[track_caller]
    fn assert_waits(event: &Value, expected: Transition) {
        let Event::Waiting { transition, hook } = one(event) else { panic!("{event} is not about a hook") };
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
    fn assert_happened(event: &Value, expected: Transition) {
        let Event::Happened { transition, region, group, instance } = one(event) else {
            panic!("{event} is not about an instance")
        };
        let found = (transition, region.as_str(), group.as_str(), instance.as_str());
        assert_eq!(found, (expected, "eu-west-1", "logstash-eu1", "i-0123456789abcdef0"));
    }

    #[test]
    fn parses_hooks_from_sns_and_eventbridge() {
        assert_waits(&sns(&hook_message("LAUNCHING", "AutoScalingGroup")), Transition::Launch);
        assert_waits(&sns(&hook_message("TERMINATING", "EC2")), Transition::Terminate);
        assert_waits(&eventbridge("EC2 Instance-launch Lifecycle Action", "AutoScalingGroup"), Transition::Launch);
        assert_waits(&eventbridge("EC2 Instance-terminate Lifecycle Action", "EC2"), Transition::Terminate);
    }

    #[test]
    fn tells_warm_pools_from_service() {
        assert_waits(&sns(&hook_message("LAUNCHING", "WarmPool")), Transition::Warm);
        assert_waits(&sns(&hook_message("TERMINATING", "WarmPool")), Transition::Terminate);
        assert_happened(&eventbridge("EC2 Instance Launch Successful", "WarmPool"), Transition::Warm);
        assert_happened(&eventbridge("EC2 Instance Terminate Successful", "WarmPool"), Transition::Terminate);
    }

    #[test]
    fn parses_older_notifications_without_token() {
        let mut message = hook_message("LAUNCHING", "");
        for member in ["Origin", "Destination", "LifecycleActionToken"] {
            message.as_object_mut().unwrap().remove(member);
        }
        let Event::Waiting { transition: Transition::Launch, hook } = one(&sns(&message)) else { panic!("it is a launch") };
        assert_eq!(hook.token, None);
    }

    #[test]
    fn parses_plain_notifications() {
        let message = |event: &str| json!({"Event": format!("autoscaling:{event}"), "AutoScalingGroupName": "logstash-eu1", "EC2InstanceId": "i-0123456789abcdef0"});
        assert_happened(&sns(&message("EC2_INSTANCE_LAUNCH")), Transition::Launch);
        assert_happened(&sns(&message("EC2_INSTANCE_TERMINATE")), Transition::Terminate);
        assert_happened(&eventbridge("EC2 Instance Launch Successful", "AutoScalingGroup"), Transition::Launch);
        for error in ["EC2_INSTANCE_LAUNCH_ERROR", "EC2_INSTANCE_TERMINATE_ERROR"] {
            assert!(matches!(one(&sns(&message(error))), Event::Nothing(_)));
        }
        assert!(matches!(one(&eventbridge("EC2 Instance Terminate Unsuccessful", "EC2")), Event::Nothing(_)));
    }

    #[test]
    fn test_notifications_need_no_action() {
        let message = json!({"AccountId": "123456789012", "AutoScalingGroupARN": "arn:aws:autoscaling:eu-west-1:123456789012:x",
            "AutoScalingGroupName": "logstash-eu1", "Service": "AWS Auto Scaling", "Event": "autoscaling:TEST_NOTIFICATION"});
        assert_eq!(one(&sns(&message)), Event::Nothing("a test notification"));
    }

    #[test]
    fn parses_schedules_and_ignores_other_events() {
        let other =
            json!({"source": "aws.autoscaling", "detail-type": "EC2 Auto Scaling Instance Refresh Started", "detail": {}});
        assert!(matches!(one(&other), Event::Nothing(_)));
        assert_eq!(one(&json!({"source": "aws.events", "detail-type": "Scheduled Event", "detail": {}})), Event::Scheduled);
    }

    #[test]
    fn rejects_topics_that_are_not_configured() {
        let event = sns(&hook_message("TERMINATING", "EC2"));
        let error = rejection(&event, &["arn:aws:sns:eu-west-1:999999999999:logstash-lifecycle".to_owned()]);
        assert_eq!(
            error.to_string(),
            format!("the topic {TOPIC:?} is not in REGISTRY_TOPICS; add it, or remove the subscription")
        );
        assert!(matches!(rejection(&event, &[]), EventError::ForeignTopic(_)));
    }

    #[test]
    fn a_rejected_record_does_not_affect_the_others() {
        let mut event = sns(&hook_message("TERMINATING", "EC2"));
        let records = event["Records"].as_array_mut().unwrap();
        let mut foreign = records[0].clone();
        foreign["Sns"]["TopicArn"] = "arn:aws:sns:eu-west-1:999999999999:theirs".into();
        records.insert(0, foreign);
        let events = parse(&event, &topics()).unwrap();
        assert!(matches!(events.as_slice(), [Err(EventError::ForeignTopic(_)), Ok(Event::Waiting { .. })]), "{events:?}");
    }

    #[test]
    fn errors_name_the_invalid_member() {
        let with = |member: &str, value: Value| {
            let mut message = hook_message("TERMINATING", "EC2");
            message[member] = value;
            rejection(&sns(&message), &topics()).to_string()
        };
        for id in ["", "i-", "i-1", "i-0123456789abcdef0/x", "0123456789abcdef0", "i-0123\r\n4567"] {
            assert!(with("EC2InstanceId", json!(id)).contains("EC2InstanceId"), "{id:?}");
        }
        assert!(with("LifecycleHookName", json!("a b")).contains("LifecycleHookName"));
        assert!(with("LifecycleActionToken", json!("a\nb")).contains("LifecycleActionToken"));
        assert!(with("LifecycleTransition", json!("autoscaling:EC2_INSTANCE_DANCING")).contains("DANCING"));
        assert!(with("AutoScalingGroupName", json!(7)).contains("cannot parse the event"));
        assert!(with("Event", json!("autoscaling:SOMETHING")).contains("SOMETHING"));
        for event in
            [json!({}), json!(null), json!([]), json!({"source": "aws.s3"}), json!({"Records": [{"eventSource": "aws:s3"}]})]
        {
            assert_eq!(rejection(&event, &topics()), EventError::Unknown, "{event}");
        }
        let no_json = json!({"Records": [{"EventSource": "aws:sns", "Sns": {"TopicArn": TOPIC, "Message": "hello"}}]});
        assert!(rejection(&no_json, &topics()).to_string().contains("cannot parse the event"));
    }
}

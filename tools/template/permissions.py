"""What each function's role is for: the calls that the code makes, and what AWS's services do by the role."""

from dataclasses import dataclass
from typing import Callable


@dataclass(frozen=True)
class Need:
    """An IAM action on resources that roles need, for a reason, in some modes."""

    action: str
    roles: tuple[str, ...]
    # Of a role in a mode, as the template names them.
    resources: Callable[[str, dict], list[str]]
    reason: str
    when: Callable[[dict], bool] = lambda parameters: True


def queue(parameters):
    return parameters.get("Trigger", "queue") == "queue"


def direct(parameters):
    return not queue(parameters)


def dead_letters(parameters):
    return parameters.get("DeadLetters", "true") == "true"


def secret(parameters):
    return bool(parameters.get("LogstashSecretArn"))


def bucket_key(parameters):
    return bool(parameters.get("LogBucketKmsKeyArn"))


def vpc(parameters):
    return bool(parameters.get("VpcSubnetIds"))


def at(resource):
    return lambda role, parameters: [resource]


def parameter(name):
    return lambda role, parameters: [parameters[name]]


def bucket(role, parameters):
    name = parameters.get("ExistingBucketName", "elb-access-logs-${AWS::AccountId}-${AWS::Region}")
    return [f"arn:${{AWS::Partition}}:s3:::{name}"]


def logs(role, parameters):
    prefix = parameters.get("LogPrefix", "elb")
    start = f"{prefix}/" if prefix else ""
    return [f"{name}/{start}AWSLogs/*" for name in bucket(role, parameters)]


def own_log(role, parameters):
    return [role.replace("Role", "LogGroup.Arn")]


def topic(role, parameters):
    return [parameters.get("AlarmTopicArn", "AlarmTopic")]


def groups(role, parameters):
    names = parameters["RegistryAutoScalingGroups"].split(",")
    return [f"arn:*:autoscaling:*:*:autoScalingGroup:*:autoScalingGroupName/{name}" for name in names]


ANY = at("*")
DEAD_LETTERS = at("${OperationsBucket.Arn}/dead-letters/*")
CHECKPOINTS = at("${OperationsBucket.Arn}/dead-letters/checkpoints/*")
BACKFILL = at("${OperationsBucket.Arn}/backfill/*")
INTERFACES = at("arn:${AWS::Partition}:ec2:${AWS::Region}:${AWS::AccountId}:*/*")
QUEUE = at("NotificationQueue.Arn")
DEAD_LETTER_QUEUE = at("DeadLetterQueue.Arn")

SHIPPERS = ("ShipperRole", "BackfillRole")
FUNCTIONS = ("ShipperRole", "BackfillRole", "RegistryRole")

# Every operation of an AWS SDK that the source calls.
CALLS = {
    "get_object": Need("s3:GetObject", SHIPPERS, logs, "a log object"),
    "put_object": Need("s3:PutObject", SHIPPERS, DEAD_LETTERS, "dead letters and, below them, checkpoints", dead_letters),
    "delete_object": Need("s3:DeleteObject", SHIPPERS, CHECKPOINTS, "the checkpoint of a shipped object", dead_letters),
    "get_secret_value": Need(
        "secretsmanager:GetSecretValue", SHIPPERS, parameter("LogstashSecretArn"), "user and password", secret
    ),
    "change_message_visibility": Need(
        "sqs:ChangeMessageVisibility", ("ShipperRole",), QUEUE, "when a failed message comes again", queue
    ),
    "send_message": Need(
        "sqs:SendMessage", ("ShipperRole",), DEAD_LETTER_QUEUE, "a message whose object can never be read", queue
    ),
    "list_objects_v2": Need(
        "s3:ListBucket", (), bucket, "elbship lists by the permissions of whoever runs it, the functions never do"
    ),
    "describe_auto_scaling_groups": Need(
        "autoscaling:DescribeAutoScalingGroups", ("RegistryRole",), ANY, "the instances of a group"
    ),
    "describe_instances": Need("ec2:DescribeInstances", ("RegistryRole",), ANY, "their addresses"),
    "complete_lifecycle_action": Need(
        "autoscaling:CompleteLifecycleAction", ("RegistryRole",), groups, "an instance at a hook goes on"
    ),
    "publish": Need("sns:Publish", ("RegistryRole",), topic, "alerts"),
}

# What no line of the source calls, and other resources of a call.
SERVICES = [
    Need("s3:GetObject", SHIPPERS, CHECKPOINTS, "where an object continues that needs several invocations", dead_letters),
    Need("sqs:ReceiveMessage", ("ShipperRole",), QUEUE, "the event source mapping polls by the function's role", queue),
    Need("sqs:DeleteMessage", ("ShipperRole",), QUEUE, "the event source mapping deletes what is done", queue),
    Need("sqs:GetQueueAttributes", ("ShipperRole",), QUEUE, "the event source mapping reads the queue's settings", queue),
    Need("sqs:SendMessage", ("ShipperRole",), DEAD_LETTER_QUEUE, "Lambda sends failed invocations on", direct),
    Need("sqs:SendMessage", ("RegistryRole",), at("RegistryDeadLetterQueue.Arn"), "Lambda sends failed invocations on"),
    Need("s3:ListBucket", SHIPPERS, bucket, "without it S3 answers 403 instead of 404 for an object that is not there"),
    Need(
        "kms:Decrypt",
        SHIPPERS,
        parameter("LogBucketKmsKeyArn"),
        "S3 decrypts an object for its reader only if the reader may",
        bucket_key,
    ),
    Need("logs:CreateLogStream", FUNCTIONS, own_log, "Lambda writes the function's log by its role"),
    Need("logs:PutLogEvents", FUNCTIONS, own_log, "Lambda writes the function's log by its role"),
    *(
        Need(f"ec2:{action}", FUNCTIONS, resources, "Lambda connects the function to its subnets by its role", vpc)
        for action, resources in (
            ("CreateNetworkInterface", INTERFACES),
            ("DeleteNetworkInterface", INTERFACES),
            ("AssignPrivateIpAddresses", INTERFACES),
            ("UnassignPrivateIpAddresses", INTERFACES),
            ("DescribeNetworkInterfaces", ANY),
            ("DescribeSubnets", ANY),
        )
    ),
    Need("lambda:InvokeFunction", ("BackfillJobRole",), at("BackfillFunction.Arn"), "S3 Batch Operations invokes the backfill"),
    Need("s3:GetObject", ("BackfillJobRole",), BACKFILL, "S3 Batch Operations reads the manifest"),
    Need("s3:PutObject", ("BackfillJobRole",), BACKFILL, "S3 Batch Operations writes the report"),
]

# The only resources with a star in them, each for its reason. A pattern is held against "ACTION RESOURCE".
STARS = {
    r"(ec2|autoscaling):Describe\w+ \*": "Describe actions know no resources",
    r"s3:GetObject arn:[^*]+:s3:::[^*/]+/([^*]+/)?AWSLogs/\*": "every log object of one bucket and prefix",
    r"s3:PutObject \$\{OperationsBucket\.Arn\}/dead-letters/\*": "every dead letter",
    r"s3:(Get|Delete)Object \$\{OperationsBucket\.Arn\}/dead-letters/checkpoints/\*": "every checkpoint",
    r"s3:(Get|Put)Object \$\{OperationsBucket\.Arn\}/backfill/\*": "every manifest and report",
    r"ec2:\w+ arn:[^*]+:ec2:\$\{AWS::Region\}:\$\{AWS::AccountId\}:\*/\*": "interfaces and subnets that nobody knows before",
    r"autoscaling:CompleteLifecycleAction arn:\*:autoscaling:\*:\*:autoScalingGroup:\*:autoScalingGroupName/[^*]+": "one group",
}


def needed(role, parameters):
    """The actions that a role needs in a mode, each with a resource."""
    needs = [need for need in [*CALLS.values(), *SERVICES] if role in need.roles and need.when(parameters)]
    return sorted({(need.action, resource) for need in needs for resource in need.resources(role, parameters)})

"""What each function's role is for: the calls that the code makes, and what AWS's services do by the role."""

from dataclasses import dataclass
from typing import Callable


@dataclass(frozen=True)
class Need:
    """An IAM action that roles need, for a reason, in some modes."""

    action: str
    roles: tuple[str, ...]
    reason: str
    when: Callable[[dict], bool] = lambda parameters: True


def queue(parameters):
    return parameters.get("Trigger", "queue") == "queue"


def dead_letters(parameters):
    return parameters.get("DeadLetters", "true") == "true"


def secret(parameters):
    return bool(parameters.get("LogstashSecretArn"))


def bucket_key(parameters):
    return bool(parameters.get("LogBucketKmsKeyArn"))


def vpc(parameters):
    return bool(parameters.get("VpcSubnetIds"))


SHIPPERS = ("ShipperRole", "BackfillRole")
FUNCTIONS = ("ShipperRole", "BackfillRole", "RegistryRole")

# Every operation of an AWS SDK that the source calls.
CALLS = {
    "get_object": Need("s3:GetObject", SHIPPERS, "a log object"),
    "put_object": Need("s3:PutObject", SHIPPERS, "dead letters", dead_letters),
    "get_secret_value": Need("secretsmanager:GetSecretValue", SHIPPERS, "user and password", secret),
    "change_message_visibility": Need("sqs:ChangeMessageVisibility", ("ShipperRole",), "when a failed message comes again", queue),
    "send_message": Need("sqs:SendMessage", ("ShipperRole",), "a message whose object can never be read", queue),
    "list_objects_v2": Need("s3:ListBucket", (), "elbship lists by the permissions of whoever runs it, the functions never do"),
    "describe_auto_scaling_groups": Need("autoscaling:DescribeAutoScalingGroups", ("RegistryRole",), "the instances of a group"),
    "describe_instances": Need("ec2:DescribeInstances", ("RegistryRole",), "their addresses"),
    "complete_lifecycle_action": Need("autoscaling:CompleteLifecycleAction", ("RegistryRole",), "an instance at a hook goes on"),
    "publish": Need("sns:Publish", ("RegistryRole",), "alerts"),
}

# What no line of the source calls.
SERVICES = [
    Need("sqs:ReceiveMessage", ("ShipperRole",), "the event source mapping polls by the function's role", queue),
    Need("sqs:DeleteMessage", ("ShipperRole",), "the event source mapping deletes what is done", queue),
    Need("sqs:GetQueueAttributes", ("ShipperRole",), "the event source mapping reads the queue's settings", queue),
    Need("sqs:SendMessage", ("ShipperRole",), "Lambda sends failed invocations on", lambda parameters: not queue(parameters)),
    Need("sqs:SendMessage", ("RegistryRole",), "Lambda sends failed invocations on"),
    Need("s3:ListBucket", SHIPPERS, "without it S3 answers 403 instead of 404 for an object that is not there"),
    Need("kms:Decrypt", SHIPPERS, "S3 decrypts an object for its reader only if the reader may", bucket_key),
    Need("logs:CreateLogStream", FUNCTIONS, "Lambda writes the function's log by its role"),
    Need("logs:PutLogEvents", FUNCTIONS, "Lambda writes the function's log by its role"),
    *(
        Need(f"ec2:{action}", FUNCTIONS, "Lambda connects the function to its subnets by its role", vpc)
        for action in (
            "CreateNetworkInterface",
            "DeleteNetworkInterface",
            "DescribeNetworkInterfaces",
            "DescribeSubnets",
            "AssignPrivateIpAddresses",
            "UnassignPrivateIpAddresses",
        )
    ),
    Need("lambda:InvokeFunction", ("BackfillJobRole",), "S3 Batch Operations invokes the backfill"),
    Need("s3:GetObject", ("BackfillJobRole",), "S3 Batch Operations reads the manifest"),
    Need("s3:PutObject", ("BackfillJobRole",), "S3 Batch Operations writes the report"),
]


def needed(role, parameters):
    """The actions that a role needs in a mode."""
    needs = [*CALLS.values(), *SERVICES]
    return sorted({need.action for need in needs if role in need.roles and need.when(parameters)})

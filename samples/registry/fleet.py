"""An autoscaling group in moto, for trying the registry without AWS.

fleet.py make N      makes the group logstash-eu1 of N instances
fleet.py leave       prints the event of EventBridge that says that the group's first instance has been terminated
"""

import json
import sys

import boto3


def make(size):
    image = boto3.client("ec2").describe_images()["Images"][0]["ImageId"]
    autoscaling = boto3.client("autoscaling")
    autoscaling.create_launch_configuration(LaunchConfigurationName="logstash", ImageId=image, InstanceType="t3.micro")
    autoscaling.create_auto_scaling_group(
        AutoScalingGroupName="logstash-eu1",
        LaunchConfigurationName="logstash",
        AvailabilityZones=["eu-west-1a"],
        MinSize=0,
        MaxSize=100,
        DesiredCapacity=size,
    )


def leave():
    groups = boto3.client("autoscaling").describe_auto_scaling_groups(AutoScalingGroupNames=["logstash-eu1"])
    instance = groups["AutoScalingGroups"][0]["Instances"][0]["InstanceId"]
    return {
        "source": "aws.autoscaling",
        "detail-type": "EC2 Instance Terminate Successful",
        "region": "eu-west-1",
        "detail": {"AutoScalingGroupName": "logstash-eu1", "EC2InstanceId": instance, "Destination": "EC2"},
    }


match sys.argv[1:]:
    case ["make", size]:
        make(int(size))
    case ["leave"]:
        print(json.dumps(leave()))
    case _:
        sys.exit(__doc__)

"""Every way in which the template can be deployed."""

from itertools import product

SECRET = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:logstash-AbCdEf"
KEY = "arn:aws:kms:eu-west-1:123456789012:key/0a1b2c3d-1111-2222-3333-444455556666"
TOPIC = "arn:aws:sns:eu-west-1:123456789012:alarms"
VPC = {"VpcSubnetIds": "subnet-0a1b2c3d,subnet-1a2b3c4d", "VpcSecurityGroupIds": "sg-0a1b2c3d"}
GROUPS = {
    "RegistryGroups": '{"groups":[{"region":"eu-west-1","dcid":"eu1","autoscaling_group":"logstash-eu1","port":8080}]}',
    "RegistryAutoScalingGroups": "logstash-eu1,logstash-eu2",
}
SERVER = {"RegistryUpdateUrl": "https://registry.internal:8081/update-ip-list", "RegistryToken": "0123456789abcdef"}
CACHE = {"RegistryCacheNodeType": "cache.t4g.micro", "RegistryCachePassword": "0123456789abcdef"}

# These decide which resources there are and what roles may do: all of their combinations are looked at.
DECIDING = {
    "bucket": [{}, {"ExistingBucketName": "central-logs"}, {"ExistingBucketName": "central-logs", "LogBucketKmsKeyArn": KEY}],
    "trigger": [{"Trigger": "queue"}, {"Trigger": "direct"}],
    "vpc": [{}, VPC],
    "dead letters": [{"DeadLetters": "true"}, {"DeadLetters": "false"}],
    "backfill": [{"Backfill": "false"}, {"Backfill": "true"}],
    "registry": [
        {},
        {**GROUPS, "RegistryStoreUrl": "rediss+cluster://user:password@store.internal:6379", "RegistryToken": "0123456789abcdef"},
        {**GROUPS, **SERVER},
        {**GROUPS, **CACHE},
    ],
    "secret": [{}, {"LogstashSecretArn": SECRET}],
    "topic": [{}, {"AlarmTopicArn": TOPIC}],
}

# These only decide about values, each by itself: they take turns in the combinations, at different paces, so that each of them
# meets each of the others.
TURNS = {
    "target": [{"LogstashUrl": "https://logstash.internal:8443/"}, {"RegistryUrl": "http://10.0.0.5:8081/logstash-ip?dcid=eu1"}],
    "prefix": [{}, {"LogPrefix": ""}, {"LogPrefix": "team-a/logs"}],
    "silence": [{}, {"NoObjectsHours": 0}],
    "mail": [{}, {"AlarmEmail": "ops@example.org"}, {}],
    "options": [
        {},
        {
            "RegistryEndpoint": "https://logstash.internal:{port}/",
            "RegistryAllowedCidrs": "10.20.0.0/16",
            "LogstashCa": "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n",
            "LogstashClientIdentity": "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n",
            "Labels": "env=prod,team=web",
            "SendConcurrency": "8",
            "BatchEvents": "1000",
            "BatchBytes": "1MiB",
            "RequestTimeout": "60s",
            "RetryBudget": "3m",
            "RegistryAlertWebhook": "https://hooks.example.org/alerts",
        },
    ],
}
USER = {"LogstashUser": "shipper", "LogstashPassword": "0123456789"}

# A region in which load balancers deliver as an account, and one in which they do not.
REGIONS = ["eu-west-1", "ap-southeast-4", "us-gov-west-1"]


def modes():
    """The choice on each axis by its number, the parameters, and the region."""
    pace = [1, 2, 5, 7, 3]
    for turn, choice in enumerate(product(*(range(len(options)) for options in DECIDING.values()))):
        chosen = dict(zip(DECIDING, choice))
        chosen |= {axis: turn // step % len(options) for step, (axis, options) in zip(pace, TURNS.items())}
        parameters = {}
        for axis, options in (DECIDING | TURNS).items():
            parameters |= options[chosen[axis]]
        # The Rules say so: a new Redis needs subnets.
        if "RegistryCacheNodeType" in parameters and "VpcSubnetIds" not in parameters:
            continue
        if "LogstashSecretArn" not in parameters and turn % 3:
            parameters |= USER
        yield chosen, parameters, REGIONS[turn % len(REGIONS)]

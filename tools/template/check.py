"""Checks template.yaml, samconfig.toml and docs/operations.md against each other and against the source.

check.py          every mode is rendered and checked, and cfn-lint sees any three choices together, and each resource in every form
                  and region that it takes: less than a hundred modes of some hundreds
check.py --all    cfn-lint sees every mode
"""

import gzip
import json
import re
import subprocess
import sys
import tempfile
import tomllib
import unittest
from functools import cache
from itertools import combinations
from multiprocessing import Pool
from pathlib import Path

from modes import modes
from permissions import CALLS, SERVICES, STARS, needed
from render import PROJECT, Renderer, load, references
from source import (
    DIMENSION,
    METRICS,
    NAMESPACE,
    REGISTRY_VARIABLES,
    SHIPPER,
    SHIPPER_VARIABLES,
    alert_members,
    calls,
    operations,
    seconds,
    store_schemes,
)

TEMPLATE = load()
TEXT = (PROJECT / "template.yaml").read_text()
RUNBOOK = (PROJECT / "docs/operations.md").read_text()
# Every document that a person reads.
DOCUMENTS = [
    path
    for pattern in ("*.md", "docs/*.md", "samples/*.md", "registry/*.md", "crates/*/*.md", "bench/*.md", "fuzz/regressions/*.md")
    for path in sorted(PROJECT.glob(pattern))
]

# AWS's own metrics that the alarms and the dashboard use, with their one dimension.
AWS_METRICS = {
    ("AWS/Lambda", "FunctionName"): {"Invocations", "Errors", "Throttles", "Duration"},
    ("AWS/SQS", "QueueName"): {
        "ApproximateAgeOfOldestMessage",
        "ApproximateNumberOfMessagesVisible",
        "ApproximateNumberOfMessagesNotVisible",
    },
}

# Variables that are read and that no parameter sets, each for its reason.
NOT_IN_TEMPLATE = {
    "CONNECT_TIMEOUT": "follows from the network",
    "DEADLINE_RESERVE": "follows from the function's time limit",
    "MAX_LINE_BYTES": "follows from the log formats",
    "POISON_LIMIT": "more poison than that is no poison",
    "OBJECT_STORE": "for replaying from files",
    "AWS_ENDPOINT_URL_S3": "for tests",
    "AWS_ENDPOINT_URL": "for tests",
    "REGISTRY_POLL": "goes with the schedule",
}

# As which AWS account load balancers deliver, from "Enable access logs for your Application Load Balancer" in AWS's documentation.
ELB_ACCOUNTS = {
    "af-south-1": "098369216593",
    "ap-east-1": "754344448648",
    "ap-northeast-1": "582318560864",
    "ap-northeast-2": "600734575887",
    "ap-northeast-3": "383597477331",
    "ap-south-1": "718504428378",
    "ap-southeast-1": "114774131450",
    "ap-southeast-2": "783225319266",
    "ap-southeast-3": "589379963580",
    "ca-central-1": "985666609251",
    "cn-north-1": "638102146993",
    "cn-northwest-1": "037604701340",
    "eu-central-1": "054676820928",
    "eu-north-1": "897822967062",
    "eu-south-1": "635631232127",
    "eu-west-1": "156460612806",
    "eu-west-2": "652711504416",
    "eu-west-3": "009996457667",
    "me-south-1": "076674570225",
    "sa-east-1": "507241528517",
    "us-east-1": "127311923021",
    "us-east-2": "033677994240",
    "us-gov-east-1": "190560391635",
    "us-gov-west-1": "048591011584",
    "us-west-1": "027434742980",
    "us-west-2": "797873946194",
}

# What the documents leave to the reader.
IN_THE_SHELL = {"STACK", "ARN", "BUCKET", "ACCOUNT", "JOB", "GROUP", "HOOK", "INSTANCE", "PASSWORD", "PATH", "PWD"}
IN_THE_SHELL |= {"INTERNAL_ALB", "GOOD_COMMIT", "NAME"}
# What other programs read. The last two are of Logstash's keystore.
OTHER_VARIABLES = {"CLICOLOR_FORCE", "ELASTICSEARCH_URL", "HTTPS_PROXY", "NO_COLOR", "UPDATE_GOLDEN"} | {"ELASTICSEARCH_USER", "ELASTICSEARCH_PASSWORD"}


@cache
def rendered():
    """Each mode's choices, parameters, region and template."""
    return [(chosen, given, region, Renderer(TEMPLATE, given, region).render()) for chosen, given, region in modes()]


def of_type(template, kind):
    return {name: entry for name, entry in template["Resources"].items() if entry["Type"] == kind}


@cache
def lint_rules():
    """Reading them takes longer than using them, so each process does it once."""
    from cfnlint.api import Runner
    from cfnlint.config import ConfigMixIn

    return Runner(ConfigMixIn()).rules


def lint(job):
    # Here, because it takes a second.
    from cfnlint.config import ConfigMixIn
    from cfnlint.decode.decode import decode_str
    from cfnlint.runner import run_template_by_data

    words, region, template = job
    decoded, errors = decode_str(json.dumps(template))
    found = errors or run_template_by_data(decoded, ConfigMixIn(regions=[region]), lint_rules())
    return [f"{words}: {match}" for match in found]


def shown(chosen, region, template):
    """What a mode shows: its choices in threes, and its resources and outputs as they are there."""
    forms = {(region, name, json.dumps(entry)) for part in ("Resources", "Outputs") for name, entry in template[part].items()}
    return forms | set(combinations(sorted(chosen.items()), 3))


def to_lint(every_mode):
    """The modes that cfn-lint sees: all of them, or as few as show everything that any of them shows."""
    jobs = [(shown(chosen, region, template), (str(chosen), region, template)) for chosen, _, region, template in rendered()]
    if every_mode:
        return [job for _, job in jobs]
    left, found = set().union(*(these for these, _ in jobs)), []
    while left:
        these, job = max(jobs, key=lambda job: len(job[0] & left))
        left -= these
        found.append(job)
    return found


class Modes(unittest.TestCase):
    def test_nothing_refers_to_what_is_not_made(self):
        for words, _, _, template in rendered():
            made = template["Resources"].keys()
            missing = {name for name in references([template["Resources"], template["Outputs"]]) if name not in made}
            self.assertEqual({name for name in missing if not name.startswith("AWS::")}, set(), words)

    def test_cfn_lint_finds_nothing(self):
        with Pool() as pool:
            # Several of a region at once, so that its schemas are not read anew for each.
            jobs = sorted(to_lint("--all" in OPTIONS), key=lambda job: job[1])
            found = [line for lines in pool.imap_unordered(lint, jobs, chunksize=8) for line in lines]
        self.assertEqual(found, [])

    def test_good_parameters_break_no_rule(self):
        for words, given, region, _ in rendered():
            self.assertEqual(Renderer(TEMPLATE, given, region).broken_rules(), [], words)

    def test_bad_parameters_break_a_rule(self):
        url = {"LogstashUrl": "https://logstash.internal/"}
        registry = {"RegistryGroups": "x", "RegistryAutoScalingGroups": "x"}
        for bad in [
            {},
            url | {"RegistryUrl": "http://10.0.0.5/"},
            url | {"LogstashUser": "shipper"},
            url | {"LogstashPassword": "x"},
            url | {"LogstashUser": "shipper", "LogstashPassword": "x", "LogstashSecretArn": "arn"},
            url | {"VpcSubnetIds": "subnet-1"},
            url | {"LogBucketKmsKeyArn": "arn"},
            url | {"RegistryGroups": "x", "RegistryStoreUrl": "redis://store"},
            url | registry,
            url | registry | {"RegistryUpdateUrl": "https://registry/"},
            url | registry | {"RegistryStoreUrl": "redis://store", "RegistryUpdateUrl": "https://registry/", "RegistryToken": "x"},
            url | registry | {"RegistryCacheNodeType": "cache.t4g.micro", "RegistryCachePassword": "x"},
        ]:
            self.assertNotEqual(Renderer(TEMPLATE, bad).broken_rules(), [], bad)

    def test_no_dead_letter_can_cause_an_invocation(self):
        for words, _, _, template in rendered():
            resources = template["Resources"]
            prefixes = []
            if "LogBucket" in resources:
                (configurations,) = resources["LogBucket"]["Properties"]["NotificationConfiguration"].values()
                prefixes += [rule["Value"] for each in configurations for rule in each["Filter"]["S3Key"]["Rules"]]
            if "ExistingBucketRule" in resources:
                detail = resources["ExistingBucketRule"]["Properties"]["EventPattern"]["detail"]
                prefixes += [key["prefix"] for key in detail["object"]["key"]]
            self.assertEqual(len(prefixes), 1, words)
            self.assertRegex(prefixes[0], r"(^|/)AWSLogs/$", words)
            if "OperationsBucket" in resources:
                self.assertNotIn("NotificationConfiguration", resources["OperationsBucket"]["Properties"], words)
            for name in ("ShipperFunction", "BackfillFunction"):
                environment = resources.get(name, resources["ShipperFunction"])["Properties"]["Environment"]["Variables"]
                place = environment.get("DEAD_LETTER_URL", {"Fn::Sub": "s3://${OperationsBucket}/dead-letters"})["Fn::Sub"]
                # What follows is a file of hexadecimal digits, without another slash.
                self.assertEqual(place, "s3://${OperationsBucket}/dead-letters", words)
                self.assertFalse("dead-letters/0".startswith(prefixes[0]), words)

    def test_a_creation_that_fails_leaves_nothing_that_takes_a_name(self):
        for name, entry in TEMPLATE["Resources"].items():
            self.assertIn(entry.get("DeletionPolicy"), (None, "Delete", "RetainExceptOnCreate"), name)
            if entry["Type"] in ("AWS::S3::Bucket", "AWS::S3::BucketPolicy"):
                self.assertEqual((entry["DeletionPolicy"], entry["UpdateReplacePolicy"]), ("RetainExceptOnCreate", "Retain"), name)

    def test_two_regions_of_an_account_can_have_the_same_stack(self):
        # Of what the stack gives a name to, the names of these are not the region's own.
        for kind, name in [("AWS::S3::Bucket", "BucketName"), ("AWS::CloudWatch::Dashboard", "DashboardName")]:
            for resource in of_type(TEMPLATE, kind).values():
                given = resource["Properties"].get(name, {"Fn::Sub": "${AWS::Region}"})
                self.assertIn("${AWS::Region}", given["Fn::Sub"], f"{kind}: {name}")
        for kind in ("AWS::IAM::Role", "AWS::IAM::ManagedPolicy"):
            for name, resource in of_type(TEMPLATE, kind).items():
                self.assertFalse({"RoleName", "ManagedPolicyName"} & resource["Properties"].keys(), name)

    def test_events_of_the_registry_are_repeated_while_somebody_waits_and_then_kept(self):
        for words, given, _, template in rendered():
            resources = template["Resources"]
            if "RegistryFunction" not in resources:
                self.assertEqual([name for name in resources if name.startswith("Registry")], [], words)
                continue
            invocations = resources["RegistryInvocations"]["Properties"]
            self.assertEqual(invocations["FunctionName"], {"Ref": "RegistryFunction"}, words)
            # An hour is the heartbeat of a lifecycle hook that names none.
            numbers = (invocations["MaximumRetryAttempts"], invocations["MaximumEventAgeInSeconds"])
            self.assertEqual(numbers, (2, 3600), words)
            destination = invocations["DestinationConfig"]["OnFailure"]["Destination"]
            self.assertEqual(destination, {"Fn::GetAtt": ["RegistryDeadLetterQueue", "Arn"]}, words)
            queue = resources["RegistryDeadLetterQueue"]["Properties"]
            self.assertEqual(queue, {"MessageRetentionPeriod": 14 * 24 * 3600, "SqsManagedSseEnabled": True}, words)

    def test_the_registry_polls_where_it_keeps_the_lists(self):
        for words, given, _, template in rendered():
            polls = "RegistryGroups" in given and "RegistryUpdateUrl" not in given
            for name in ("PollRule", "PollRuleInvokesRegistry"):
                self.assertEqual(name in template["Resources"], polls, words)

    def test_the_registry_gets_every_token_that_is_given(self):
        for words, given, _, template in rendered():
            if "RegistryFunction" in template["Resources"]:
                variables = template["Resources"]["RegistryFunction"]["Properties"]["Environment"]["Variables"]
                self.assertEqual(variables.get("REGISTRY_TOKEN"), given.get("RegistryToken"), words)

    def test_every_redis_of_another_machine_can_be_the_store(self):
        for scheme in store_schemes() | {"redis", "rediss", "redis+cluster", "rediss+cluster"}:
            self.assertRegex(f"{scheme}://store", TEMPLATE["Parameters"]["RegistryStoreUrl"]["AllowedPattern"])

    def test_the_queues_numbers_fit_together(self):
        for words, given, _, template in rendered():
            resources = template["Resources"]
            timeout = template["Globals"]["Function"]["Timeout"]
            self.assertEqual(timeout, 300, words)
            if "NotificationQueue" not in resources:
                self.assertNotIn("QueueInvokesShipper", resources, words)
                self.assertIn("DirectInvocations", resources, words)
                continue
            queue = resources["NotificationQueue"]["Properties"]
            mapping = resources["QueueInvokesShipper"]["Properties"]
            self.assertEqual(queue["VisibilityTimeout"], 6 * timeout, words)
            self.assertEqual((mapping["BatchSize"], mapping["ScalingConfig"]["MaximumConcurrency"]), (1, 5), words)
            self.assertEqual(mapping["FunctionResponseTypes"], ["ReportBatchItemFailures"], words)
            two_weeks = 14 * 24 * 3600
            dead = resources["DeadLetterQueue"]["Properties"]["MessageRetentionPeriod"]
            self.assertEqual((queue["MessageRetentionPeriod"], dead), (two_weeks, two_weeks), words)
            times = queue["RedrivePolicy"]["maxReceiveCount"]
            self.assertEqual(times, 200, words)
            self.assertGreater(times * seconds(SHIPPER, "MAX_DELAY"), 24 * 3600, "a day's outage stays in the queue")


def timeout(template, function):
    return template["Resources"][function]["Properties"].get("Timeout", template["Globals"]["Function"]["Timeout"])


class Promises(unittest.TestCase):
    """What is said of every deployment, held against each mode."""

    def test_functions_have_their_time(self):
        for words, _, _, template in rendered():
            expected = {"ShipperFunction": 300, "BackfillFunction": 300, "RegistryFunction": 60}
            for name in of_type(template, "AWS::Serverless::Function"):
                self.assertEqual(timeout(template, name), expected[name], f"{name}: {words}")

    def test_a_message_stays_hidden_for_six_times_the_functions_time(self):
        for words, _, _, template in rendered():
            for mapping in of_type(template, "AWS::Lambda::EventSourceMapping").values():
                function = mapping["Properties"]["FunctionName"]["Ref"]
                queue, _ = mapping["Properties"]["EventSourceArn"]["Fn::GetAtt"]
                hidden = template["Resources"][queue]["Properties"]["VisibilityTimeout"]
                self.assertGreaterEqual(hidden, 6 * timeout(template, function), words)

    def test_a_backfill_has_two_invocations_at_a_time(self):
        for words, _, _, template in rendered():
            for name, function in of_type(template, "AWS::Serverless::Function").items():
                reserved = function["Properties"].get("ReservedConcurrentExecutions")
                self.assertEqual(reserved, 2 if name == "BackfillFunction" else None, f"{name}: {words}")

    def test_without_a_queue_lambda_repeats_and_then_keeps(self):
        for words, given, _, template in rendered():
            settings = template["Resources"].get("DirectInvocations")
            self.assertEqual(settings is not None, given["Trigger"] == "direct", words)
            if settings:
                expected = {
                    "FunctionName": {"Ref": "ShipperFunction"},
                    "Qualifier": "$LATEST",
                    "MaximumRetryAttempts": 2,
                    "MaximumEventAgeInSeconds": 6 * 3600,
                    "DestinationConfig": {"OnFailure": {"Destination": {"Fn::GetAtt": ["DeadLetterQueue", "Arn"]}}},
                }
                self.assertEqual(settings["Properties"], expected, words)

    def policies(self, template, bucket):
        for policy in of_type(template, "AWS::S3::BucketPolicy").values():
            if policy["Properties"]["Bucket"] == {"Ref": bucket}:
                yield from policy["Properties"]["PolicyDocument"]["Statement"]

    def test_buckets_refuse_plain_http(self):
        for words, _, _, template in rendered():
            for bucket in of_type(template, "AWS::S3::Bucket"):
                denied = [statement for statement in self.policies(template, bucket) if statement["Effect"] == "Deny"]
                expected = {
                    "Sid": "RefusePlainHttp",
                    "Effect": "Deny",
                    "Principal": "*",
                    "Action": "s3:*",
                    "Resource": [{"Fn::GetAtt": [bucket, "Arn"]}, {"Fn::Sub": f"${{{bucket}.Arn}}/*"}],
                    "Condition": {"Bool": {"aws:SecureTransport": "false"}},
                }
                self.assertEqual(denied, [expected], f"{bucket}: {words}")

    def test_buckets_are_closed_to_the_public(self):
        flags = ("BlockPublicAcls", "BlockPublicPolicy", "IgnorePublicAcls", "RestrictPublicBuckets")
        for words, _, _, template in rendered():
            for name, bucket in of_type(template, "AWS::S3::Bucket").items():
                block = bucket["Properties"]["PublicAccessBlockConfiguration"]
                self.assertEqual(block, dict.fromkeys(flags, True), f"{name}: {words}")

    def test_logs_and_dead_letters_expire_as_the_parameters_say(self):
        for words, _, _, template in rendered():
            found = {}
            for bucket in of_type(template, "AWS::S3::Bucket").values():
                for rule in bucket["Properties"]["LifecycleConfiguration"]["Rules"]:
                    self.assertEqual(rule["Status"], "Enabled", words)
                    found[rule["Id"]] = (rule.get("Prefix"), rule.get("ExpirationInDays"))
            defaults = {name: TEMPLATE["Parameters"][name]["Default"] for name in ("LogExpiryDays", "DeadLetterExpiryDays")}
            if "LogBucket" in template["Resources"]:
                self.assertEqual(found.pop("ExpireLogs"), (None, defaults["LogExpiryDays"]), words)
            if "OperationsBucket" in template["Resources"]:
                self.assertEqual(found.pop("ExpireDeadLetters"), ("dead-letters/", defaults["DeadLetterExpiryDays"]), words)
                self.assertEqual(found.pop("ExpireCheckpoints"), ("dead-letters/checkpoints/", 14), words)
                self.assertEqual(found.pop("ExpireBackfills"), ("backfill/", 90), words)
                self.assertEqual(found.pop("AbortUploads"), (None, None), words)
            self.assertEqual(found, {}, words)

    def test_load_balancers_may_deliver_in_every_region(self):
        mapping = {region: entry["Id"] for region, entry in TEMPLATE["Mappings"]["ElbAccounts"].items()}
        self.assertEqual(mapping, ELB_ACCOUNTS)
        for region in [*ELB_ACCOUNTS, "ap-southeast-4", "il-central-1", "eu-south-2"]:
            for prefix in ("", "elb"):
                given = {"LogstashUrl": "https://logstash.internal/", "LogPrefix": prefix}
                statements = list(self.policies(Renderer(TEMPLATE, given, region).render(), "LogBucket"))
                allowed = {}
                for statement in statements:
                    if statement["Effect"] == "Allow":
                        ((kind, principal),) = statement["Principal"].items()
                        who = written(principal), statement["Action"]
                        allowed[who] = written(statement["Resource"]), statement.get("Condition")
                below = "${LogBucket.Arn}/" + (f"{prefix}/" if prefix else "") + "AWSLogs/${AWS::AccountId}/*"
                own = {
                    "StringEquals": {"aws:SourceAccount": {"Ref": "AWS::AccountId"}},
                    "ArnLike": {"aws:SourceArn": {"Fn::Sub": "arn:${AWS::Partition}:logs:${AWS::Region}:${AWS::AccountId}:*"}},
                }
                writes = own | {"StringEquals": own["StringEquals"] | {"s3:x-amz-acl": "bucket-owner-full-control"}}
                expected = {
                    ("logdelivery.elasticloadbalancing.amazonaws.com", "s3:PutObject"): (below, None),
                    ("delivery.logs.amazonaws.com", "s3:PutObject"): (below, writes),
                    ("delivery.logs.amazonaws.com", "s3:GetBucketAcl"): ("LogBucket.Arn", own),
                }
                if region in ELB_ACCOUNTS:
                    account = "arn:${AWS::Partition}:iam::ElbAccounts.AWS::Region.Id:root"
                    expected[account, "s3:PutObject"] = (below, None)
                self.assertEqual(allowed, expected, region)


class Policies(unittest.TestCase):
    def test_the_list_of_calls_is_that_of_the_source(self):
        self.assertIn("get_object", operations(), "the SDKs' crates are not where this test looks")
        self.assertEqual(set(calls()), set(CALLS), f"change tools/template/permissions.py with the source: {calls()}")

    def test_every_reason_is_of_a_role_that_there_is(self):
        roles = {name for _, _, _, template in rendered() for name in of_type(template, "AWS::IAM::Role")}
        named = {role for need in [*CALLS.values(), *SERVICES] for role in need.roles}
        self.assertEqual(roles, named)

    def statements(self, template, role):
        resources = template["Resources"]
        policies = list(resources[role]["Properties"]["Policies"])
        for reference in resources[role]["Properties"].get("ManagedPolicyArns", []):
            policies.append(resources[reference["Ref"]]["Properties"])
        return [statement for policy in policies for statement in policy["PolicyDocument"]["Statement"]]

    def allowed(self, template, role):
        """What a role may do: actions, each with a resource."""
        for statement in self.statements(template, role):
            self.assertEqual(set(statement), {"Effect", "Action", "Resource"}, role)
            self.assertEqual(statement["Effect"], "Allow", role)
            actions, resources = statement["Action"], statement["Resource"]
            for action in [actions] if isinstance(actions, str) else actions:
                for resource in resources if isinstance(resources, list) else [resources]:
                    yield action, written(resource)

    def test_roles_allow_what_is_needed_and_no_more(self):
        for words, given, _, template in rendered():
            for role in of_type(template, "AWS::IAM::Role"):
                self.assertEqual(sorted(self.allowed(template, role)), needed(role, given), f"{role}: {words}")

    def test_a_star_in_a_resource_has_its_reason(self):
        used = set()
        for words, _, _, template in rendered():
            for role in of_type(template, "AWS::IAM::Role"):
                for action, resource in self.allowed(template, role):
                    self.assertNotIn("*", action, words)
                    reasons = [pattern for pattern in STARS if re.fullmatch(pattern, f"{action} {resource}")]
                    self.assertEqual(len(reasons), "*" in resource, f"{role}: {action} {resource}: {words}")
                    used.update(reasons)
        self.assertEqual(used, set(STARS))

    def test_each_function_has_a_role_of_its_own(self):
        for words, _, _, template in rendered():
            functions = of_type(template, "AWS::Serverless::Function")
            roles = [function["Properties"]["Role"]["Fn::GetAtt"][0] for function in functions.values()]
            self.assertEqual(roles, [name.replace("Function", "Role") for name in functions], words)

    def test_a_star_alone_stands_below_its_reason(self):
        lines = TEXT.splitlines()
        stars = [at for at, line in enumerate(lines) if re.fullmatch(r"\s*(- )?(Resource: )?['\"]\*['\"]", line)]
        self.assertTrue(stars)
        for at in stars:
            self.assertTrue(lines[at - 1].strip().startswith("# "), f"template.yaml:{at + 1}: say why AWS allows nothing else")
        with_star = {
            name
            for _, _, _, template in rendered()
            for name, entry in template["Resources"].items()
            if entry["Type"].startswith("AWS::IAM::") and '"Resource": "*"' in json.dumps(entry)
        }
        self.assertEqual(with_star, {"UseVpcPolicy", "RegistryRole"})


class Variables(unittest.TestCase):
    def variables(self, function):
        return TEMPLATE["Resources"][function]["Properties"]["Environment"]["Variables"]

    def test_functions_get_only_variables_that_they_read(self):
        self.assertLessEqual(set(self.variables("ShipperFunction")), set(SHIPPER_VARIABLES))
        self.assertLessEqual(set(self.variables("RegistryFunction")), set(REGISTRY_VARIABLES))

    def test_what_the_template_does_not_set_is_left_out_for_a_reason(self):
        left = {*SHIPPER_VARIABLES, *REGISTRY_VARIABLES} - {*self.variables("ShipperFunction"), *self.variables("RegistryFunction")}
        self.assertEqual(left, set(NOT_IN_TEMPLATE))

    def test_the_backfill_ships_as_the_shipper_does(self):
        shipper = dict(self.variables("ShipperFunction"))
        del shipper["DEAD_LETTER_QUEUE_URL"]
        self.assertEqual(self.variables("BackfillFunction"), shipper)

    def test_the_documents_name_only_variables_that_are_read(self):
        known = {*SHIPPER_VARIABLES, *REGISTRY_VARIABLES, *OTHER_VARIABLES}
        for document in [*DOCUMENTS, PROJECT / "samconfig.toml", *PROJECT.glob("samples/**/*.conf")]:
            text = document.read_text()
            set_here = set(re.findall(r"(?<![\w$-])([A-Z][A-Z0-9_]*)=", text))
            named = set(re.findall(r"(?<![/\w.$-])\$?\{?([A-Z][A-Z0-9]*_[A-Z0-9_]+)\b(?!-)", text))
            used = set(re.findall(r"\$\{?([A-Z][A-Z0-9_]*)", text))
            unknown = (named | set_here | used) - known - IN_THE_SHELL
            unknown = {name for name in unknown if not name.startswith(("AWS_", "CAPABILITY_"))}
            self.assertEqual(unknown, set(), document.name)

    def test_every_parameter_has_a_description_a_label_and_a_group(self):
        interface = TEMPLATE["Metadata"]["AWS::CloudFormation::Interface"]
        grouped = [name for group in interface["ParameterGroups"] for name in group["Parameters"]]
        parameters = TEMPLATE["Parameters"]
        self.assertEqual(sorted(grouped), sorted(parameters))
        self.assertEqual(sorted(interface["ParameterLabels"]), sorted(parameters))
        for name, entry in parameters.items():
            self.assertTrue(entry.get("Description"), name)
            limited = {"AllowedPattern", "AllowedValues", "MinValue", "MinLength", "NoEcho"} & entry.keys()
            self.assertTrue(limited or name == "RegistryGroups", f"{name} takes anything")


class Nothing(unittest.TestCase):
    """A hyphen says that there is none, as an empty value does."""

    def optional(self):
        parameters = TEMPLATE["Parameters"]
        return {name: entry for name, entry in parameters.items() if entry.get("Default") in ("", "-") or name == "LogPrefix"}

    def test_the_guided_deployment_can_be_answered(self):
        # For a secret it shows no default and takes no empty answer.
        for name, entry in TEMPLATE["Parameters"].items():
            if entry.get("NoEcho"):
                self.assertEqual(entry["Default"], "-", name)
                self.assertRegex(f"{entry['Description']} ", r"(\s-|\(-\)) (for none|if )", f"{name}: say what a hyphen means")
        for name, entry in self.optional().items():
            for value in ("", "-"):
                self.assertRegex(value, entry.get("AllowedPattern", "^"), name)

    def test_a_hyphen_is_the_same_as_nothing(self):
        for words, given, region, _ in rendered():
            same = []
            for none in ("", "-"):
                parameters = {name: none for name in self.optional() if name != "LogPrefix"} | given
                if given.get("LogPrefix") == "":
                    parameters["LogPrefix"] = none
                renderer = Renderer(TEMPLATE, parameters, region)
                self.assertEqual(renderer.broken_rules(), [], words)
                same.append(renderer.render())
            self.assertEqual(*same, words)
            for name, function in of_type(same[1], "AWS::Serverless::Function").items():
                for variable, value in function["Properties"]["Environment"]["Variables"].items():
                    self.assertNotIn(value, ("", "-"), f"{name}: {variable}: {words}")


class Alarms(unittest.TestCase):
    def check_metric(self, namespace, name, dimensions, words):
        if namespace == NAMESPACE:
            self.assertIn(name, METRICS, words)
            ((dimension, of),) = dimensions
            self.assertEqual(dimension, DIMENSION, words)
            self.assertIn(of, ("ShipperFunction", "BackfillFunction"), words)
        else:
            ((dimension, of),) = dimensions
            self.assertIn(name, AWS_METRICS[namespace, dimension], words)
            known = ("ShipperFunction", "RegistryFunction", "NotificationQueue", "DeadLetterQueue", "RegistryDeadLetterQueue")
            self.assertIn(of, known, words)

    def metrics_of(self, alarm):
        if "MetricName" in alarm:
            yield alarm, alarm["Period"]
        for query in alarm.get("Metrics", []):
            if "MetricStat" in query:
                yield query["MetricStat"]["Metric"], query["MetricStat"]["Period"]

    def test_alarms_are_about_metrics_that_there_are(self):
        for words, _, _, template in rendered():
            filters = of_type(template, "AWS::Logs::MetricFilter").values()
            counted = [each for entry in filters for each in entry["Properties"]["MetricTransformations"]]
            counted = [(each["MetricNamespace"], each["MetricName"]) for each in counted]
            for name, entry in of_type(template, "AWS::CloudWatch::Alarm").items():
                for metric, period in self.metrics_of(entry["Properties"]):
                    if isinstance(metric["Namespace"], dict):
                        self.assertIn((metric["Namespace"], metric["MetricName"]), counted, f"{name}: {words}")
                        self.assertNotIn("Dimensions", metric, f"{name}: {words}")
                        continue
                    dimensions = [(each["Name"], next(references(each["Value"]))) for each in metric["Dimensions"]]
                    self.check_metric(metric["Namespace"], metric["MetricName"], dimensions, f"{name}: {words}")
                    self.assertLessEqual(period * entry["Properties"]["EvaluationPeriods"], 24 * 3600, f"{name}: {words}")

    def test_the_filter_counts_the_alerts_that_the_registry_writes(self):
        pattern = TEMPLATE["Resources"]["RegistryAlertFilter"]["Properties"]["FilterPattern"]
        conditions = dict(re.findall(r'\$\.(\w+) = "([^"]+)"', pattern))
        self.assertEqual(pattern, "{ " + " && ".join(f'$.{name} = "{value}"' for name, value in conditions.items()) + " }")
        members, states = alert_members()
        self.assertLessEqual({"problem", "state"}, set(members))
        self.assertEqual(conditions, {"level": "ERROR", "state": "raised"})
        self.assertIn(conditions["state"], states)
        asked = re.findall(r'\$\.state = "(\w+)"', RUNBOOK)
        self.assertEqual(sorted(asked), sorted(states))

    def test_expressions_use_their_metrics_alone(self):
        for name, entry in of_type(rendered()[0][3], "AWS::CloudWatch::Alarm").items():
            queries = {query["Id"]: query for query in entry["Properties"].get("Metrics", [])}
            for query in queries.values():
                used = set(re.findall(r"\b[a-z]\w*", query.get("Expression", "")))
                self.assertLessEqual(used, set(queries), name)
            shown = [query for query in queries.values() if query.get("ReturnData", True)]
            self.assertEqual(len(shown), 1 if queries else 0, f"{name} is about one number")

    def rings(self, alarm, **numbers):
        """Whether these numbers of an alarm's metrics are beyond its threshold."""
        (expression,) = (query["Expression"] for query in alarm["Metrics"] if "Expression" in query)
        # Metric math's IF and FILL in Python.
        expression = re.sub(r"FILL\((\w+), 0\)", r"\1", expression)
        expression = re.sub(r"^IF\((.+), (.+), (.+)\)$", r"(\2) if (\1) else (\3)", expression)
        value = eval(expression, {"__builtins__": {}}, numbers)
        beyond = {"GreaterThanThreshold": value > alarm["Threshold"], "GreaterThanOrEqualToThreshold": value >= alarm["Threshold"]}
        return beyond[alarm["ComparisonOperator"]]

    def test_a_share_rings_from_its_threshold_on(self):
        alarms = of_type(rendered()[0][3], "AWS::CloudWatch::Alarm")
        of = {"Unparsed": "EventsUnparsed", "ShortLines": "ShortLines"}
        of |= {"InvalidFields": "FieldsInvalid", "ExtraFields": "FieldsExtra"}
        shares = {name for name, entry in alarms.items() if "Threshold" in entry["Properties"] and "Metrics" in entry["Properties"]}
        self.assertEqual(shares, {f"{name}Alarm" for name in of} | {"QueueAgeAlarm", "DurationAlarm"})
        for name, odd in of.items():
            alarm = alarms[f"{name}Alarm"]["Properties"]
            counted = {query["Id"]: query["MetricStat"] for query in alarm["Metrics"] if "MetricStat" in query}
            names = {key: each["Metric"]["MetricName"] for key, each in counted.items()}
            self.assertEqual(names, {"odd": odd, "lines": "LinesRead"}, name)
            self.assertEqual({(each["Stat"], each["Period"]) for each in counted.values()}, {("Sum", 3600)}, name)
            # One in a hundred, unless the parameter says otherwise.
            self.assertFalse(self.rings(alarm, odd=99, lines=10_000), name)
            self.assertTrue(self.rings(alarm, odd=100, lines=10_000), name)
            self.assertFalse(self.rings(alarm, odd=0, lines=0), name)

    def test_the_age_of_the_queue_is_in_minutes(self):
        alarm = rendered()[0][3]["Resources"]["QueueAgeAlarm"]["Properties"]
        self.assertFalse(self.rings(alarm, age=3600))
        self.assertTrue(self.rings(alarm, age=3661))

    def test_an_object_that_continues_raises_no_alarm_about_its_duration(self):
        alarm = rendered()[0][3]["Resources"]["DurationAlarm"]["Properties"]
        self.assertTrue(self.rings(alarm, duration=290_000, continued=0))
        self.assertFalse(self.rings(alarm, duration=260_000, continued=0))
        self.assertFalse(self.rings(alarm, duration=290_000, continued=1))

    def test_the_dashboard_is_about_metrics_that_there_are(self):
        for words, given, _, template in rendered():
            body = template["Resources"]["Dashboard"]["Properties"]["DashboardBody"]["Fn::Sub"]
            body = body if isinstance(body, str) else body[0]
            for widget in json.loads(body)["widgets"]:
                for namespace, name, dimension, of, *_ in widget["properties"]["metrics"]:
                    of = re.sub(r"[${}]|\..*", "", of)
                    self.assertIn(of, template["Resources"], words)
                    self.check_metric(namespace, name, [(dimension, of)], words)

    def test_a_retry_that_succeeds_raises_no_alarm(self):
        longest = seconds(SHIPPER, "MAX_DELAY")
        for name, entry in of_type(rendered()[0][3], "AWS::CloudWatch::Alarm").items():
            alarm = entry["Properties"]
            if alarm.get("Namespace") == "AWS/Lambda":
                self.assertGreater(alarm["Period"], longest, name)
                self.assertGreaterEqual(alarm["EvaluationPeriods"], 3, name)
            for metric, _ in self.metrics_of(alarm):
                self.assertNotIn(metric["MetricName"], ("SendRetries", "ObjectsFailed", "EventsUndelivered"), name)

    def test_every_function_that_ships_has_an_alarm_for_dead_letters(self):
        for words, given, _, template in rendered():
            watched = set()
            for entry in of_type(template, "AWS::CloudWatch::Alarm").values():
                if entry["Properties"].get("MetricName") == "EventsDeadLettered":
                    watched |= {each["Value"]["Ref"] for each in entry["Properties"]["Dimensions"]}
            functions = {"ShipperFunction", "BackfillFunction"} & template["Resources"].keys()
            self.assertEqual(watched, functions if given["DeadLetters"] == "true" else set(), words)

    def test_silence_is_an_alarm_by_itself_and_can_be_switched_off(self):
        for words, given, _, template in rendered():
            alarm = template["Resources"].get("SilenceAlarm")
            self.assertEqual(alarm is None, given.get("NoObjectsHours") == 0, words)
            if alarm:
                self.assertEqual(alarm["Properties"]["TreatMissingData"], "breaching", words)

    def test_each_alarm_has_its_paragraph_and_each_paragraph_its_alarm(self):
        chapter = RUNBOOK.split("\n## Alarms\n")[1].split("\n## ")[0]
        paragraphs = {anchor(title) for title in re.findall(r"^### (.+)$", chapter, re.M)}
        alarms = {}
        for name, entry in TEMPLATE["Resources"].items():
            if entry["Type"] == "AWS::CloudWatch::Alarm":
                description = entry["Properties"]["AlarmDescription"]["Fn::Sub"]
                alarms[name] = re.fullmatch(r".+\. \$\{Runbook\}#([\w-]+)", description)[1]
                self.assertEqual(entry["Properties"]["AlarmActions"], entry["Properties"]["OKActions"], name)
                self.assertIn(f"`{name}`", chapter, f"the paragraph does not name {name}")
        self.assertEqual(sorted(alarms.values()), sorted(paragraphs))


class Documents(unittest.TestCase):
    def test_names_of_the_template_in_the_runbook_are_right(self):
        known = {*TEMPLATE["Parameters"], *TEMPLATE["Outputs"], *TEMPLATE["Resources"], *METRICS}
        known |= {name for names in AWS_METRICS.values() for name in names}
        known |= {"BucketOwnerEnforced", "RegistryTopicArn"}
        for name in re.findall(r"`([A-Z][a-z]+(?:[A-Z][a-z]+)+)(?:=[^`]*)?`", RUNBOOK):
            self.assertIn(name, known, "docs/operations.md names what is not in the template")
        for name in re.findall(r"\$\(out (\w+)\)", RUNBOOK):
            self.assertIn(name, TEMPLATE["Outputs"], "docs/operations.md asks for an output that there is not")

    def test_parameters_in_commands_are_in_the_template(self):
        commands = 0
        for document in DOCUMENTS:
            # A command may be continued on the next line.
            text = document.read_text().replace("\\\n", " ")
            for pairs in re.findall(r"--parameter-overrides +((?:\w+=\S+ *)+)", text):
                commands += 1
                for override in pairs.split():
                    self.assertIn(override.split("=")[0], TEMPLATE["Parameters"], document.name)
        self.assertGreater(commands, 0)

    def test_links_lead_somewhere(self):
        for document in DOCUMENTS:
            for link in re.findall(r"\]\(([^)\s]+)\)", document.read_text()):
                if "://" in link:
                    continue
                path, _, place = link.partition("#")
                target = document.parent / path if path else document
                self.assertTrue(target.exists(), f"{document.name}: {link}")
                if place:
                    titles = re.findall(r"^#+ (.+)$", target.read_text(), re.M)
                    self.assertIn(place, map(anchor, titles), f"{document.name}: {link}")

    def test_json_of_the_documents_is_json(self):
        for document in DOCUMENTS:
            for block in re.findall(r"```json\n(.*?)```", document.read_text(), re.S):
                if "…" not in block:
                    json.loads(block)

    def test_a_jobs_report_becomes_the_next_manifest(self):
        script = re.search(r"<<'EOF'\n(import csv.*?)\nEOF\n", RUNBOOK, re.S)[1]
        report = (
            'logs,elb/AWSLogs/1/a.log.gz,,failed,TemporaryFailure,200,"{""error"":""no answer,\nno connection""}"\n'
            'logs,elb/AWSLogs/1/b.log.gz,,succeeded,,200,""\n'
            'logs,team%20a%2Bb/AWSLogs/1/c.log.gz,,failed,PermanentFailure,200,"corrupt"\n'
        )
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "report.csv"
            path.write_text(report)
            run = subprocess.run([sys.executable, "-", path], input=script, capture_output=True, text=True, check=True)
        self.assertEqual(run.stdout, "logs,elb/AWSLogs/1/a.log.gz\nlogs,team%20a%2Bb/AWSLogs/1/c.log.gz\n")
        self.assertIn("no answer,\nno connection", run.stderr)

    def test_who_waits_for_messages_waits_long_enough(self):
        for command in re.findall(r"aws sqs receive-message (?:[^\n]*\\\n)*[^\n]*", RUNBOOK):
            self.assertIn("--wait-time-seconds 20", command, "SQS asks only some of its servers otherwise, and shows nothing")

    def test_the_smoke_test_counts_right(self):
        chapter = RUNBOOK.split("\n### Smoke test\n")[1].split("\n### ")[0]
        day, include = re.search(r"^day=(\S+)$", chapter, re.M)[1], re.search(r"--include '([^']+)'", chapter)[1]
        (sample,) = (PROJECT / "samples/buckets/example-elb-logs/AWSLogs" / day).glob(include)
        lines = len(gzip.decompress(sample.read_bytes()).splitlines())
        self.assertEqual(re.findall(r'"(lines|delivered)":(\d+)', chapter), [("lines", str(lines)), ("delivered", str(lines))])
        words = {4: "four", 5: "five"}
        self.assertEqual(chapter.count(f"{words[lines]} lines") + chapter.count(f"{words[lines]} events"), 2)


class Environments(unittest.TestCase):
    def check_value(self, parameter, value, words):
        self.assertIn(parameter, TEMPLATE["Parameters"], words)
        entry = TEMPLATE["Parameters"][parameter]
        self.assertRegex(value, entry.get("AllowedPattern", "^"), f"{words}: {parameter}")
        if "AllowedValues" in entry:
            self.assertIn(value, map(str, entry["AllowedValues"]), f"{words}: {parameter}")

    def test_examples_in_comments_can_be_given(self):
        examples = re.findall(r'^ *# +"(\w+)=(.*)",$', (PROJECT / "samconfig.toml").read_text(), re.M)
        self.assertIn(("LogPrefix", "-"), examples)
        for parameter, value in examples:
            self.check_value(parameter, value, "a comment")

    def test_each_environment_can_be_deployed(self):
        environments = tomllib.loads((PROJECT / "samconfig.toml").read_text())
        del environments["version"], environments["default"]
        deployed = {name: entry["deploy"]["parameters"] for name, entry in environments.items()}
        self.assertEqual(set(deployed), {"dev", "staging", "prod"})
        for name, settings in deployed.items():
            given = dict(pair.split("=", 1) for pair in settings["parameter_overrides"])
            for parameter, value in given.items():
                self.check_value(parameter, value, name)
            self.assertEqual(Renderer(TEMPLATE, given).broken_rules(), [], name)
            self.assertIn(f"environment={name}", settings["tags"])
            self.assertEqual(settings["capabilities"], "CAPABILITY_IAM")
        for unique in (lambda settings: settings["stack_name"], lambda settings: settings["s3_prefix"]):
            self.assertEqual(len(set(map(unique, deployed.values()))), len(deployed))
        buckets = {pair for settings in deployed.values() for pair in settings["parameter_overrides"] if "BucketNamePrefix" in pair}
        self.assertEqual(len(buckets), len(deployed), "each environment needs a BucketNamePrefix of its own")


def written(node):
    """A rendered value in one way of writing: X for a Ref, X.Arn for a GetAtt, and ${X} within a text."""
    if isinstance(node, str):
        return node
    ((function, value),) = node.items()
    if function == "Ref":
        return value
    if function == "Fn::GetAtt":
        return ".".join(value)
    if function == "Fn::FindInMap":
        return ".".join(map(written, value))
    assert function == "Fn::Sub", node
    text, variables = (value, {}) if isinstance(value, str) else value
    for name, variable in variables.items():
        text = text.replace(f"${{{name}}}", written(variable))
    return text


def anchor(title):
    """As GitHub makes it."""
    return re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")


OPTIONS = [option for option in sys.argv[1:] if option == "--all"]

if __name__ == "__main__":
    unittest.main(argv=[argument for argument in sys.argv if argument not in OPTIONS])

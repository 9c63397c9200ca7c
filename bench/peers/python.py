"""Does the work of a typical Lambda function in Python on one object: a regular expression parses the line, json writes the event,
gzip compresses the request body. Bodies are discarded instead of sent.

The code is optimised as usual: one compiled expression, a streamed file, and events that are joined batch by batch.
"""

import gzip
import json
import re
import sys

BATCH_EVENTS = 2000

WHOLE = "client_port target_port elb_status_code target_status_code received_bytes sent_bytes matched_rule_priority"
DECIMAL = "request_processing_time target_processing_time response_processing_time"
CONVERT = {**dict.fromkeys(WHOLE.split(), int), **dict.fromkeys(DECIMAL.split(), float)}

LINE = re.compile(
    r"(?P<type>[^ ]+) (?P<time>[^ ]+) (?P<id>[^ ]+) (?P<client_ip>[^ ]+):(?P<client_port>\d+)"
    r" (?:(?P<target_ip>[^ ]+):(?P<target_port>\d+)|-)"
    r" (?P<request_processing_time>[-.\d]+) (?P<target_processing_time>[-.\d]+) (?P<response_processing_time>[-.\d]+)"
    r" (?P<elb_status_code>[-\d]+) (?P<target_status_code>[-\d]+) (?P<received_bytes>[-\d]+) (?P<sent_bytes>[-\d]+)"
    r' "(?P<method>[^ "]+) (?P<url>[^"]*?) (?P<protocol>[^ "]*)" "(?P<user_agent>[^"]*)"'
    r" (?P<ssl_cipher>[^ ]+) (?P<ssl_protocol>[^ ]+) (?P<target_group_arn>[^ ]+)"
    r' "(?P<trace_id>[^"]*)" "(?P<domain_name>[^"]*)" "(?P<chosen_cert_arn>[^"]*)"'
    r" (?P<matched_rule_priority>[-\d]+) (?P<request_creation_time>[^ ]+)"
    r' "(?P<actions_executed>[^"]*)" "(?P<redirect_url>[^"]*)" "(?P<error_reason>[^"]*)" "(?P<target_port_list>[^"]*)"'
    r' "(?P<target_status_code_list>[^"]*)" "(?P<classification>[^"]*)" "(?P<classification_reason>[^"]*)"'
    r' (?P<conn_trace_id>[^ ]+) "(?P<transformed_host>[^"]*)" "(?P<transformed_uri>[^"]*)"'
    r' "(?P<request_transform_status>[^"]*)"(?: (?P<ip_address>[^ ]+))?'
)
# By position, because Match.groups is faster than Match.groupdict.
COLUMNS = [(name, CONVERT.get(name)) for name in LINE.groupindex]
ABSENT = (None, "-", "-1")


def event(line: str, offset: int) -> dict:
    """Returns the event of one line. A line that does not match keeps its text."""
    match = LINE.match(line)
    if match is None:
        return {"message": line, "offset": offset, "tags": ["_elbparsefailure"]}
    values = zip(COLUMNS, match.groups())
    elb = {name: convert(text) if convert else text for (name, convert), text in values if text not in ABSENT}
    return {"@timestamp": match["time"], "log": {"offset": offset}, "elb": elb}


def body(events: list[str]) -> bytes:
    """Returns the body of a request."""
    return gzip.compress(f"[{','.join(events)}]".encode(), compresslevel=1)


def ship(path: str) -> dict:
    """Does everything except sending."""
    encode = json.JSONEncoder(ensure_ascii=False, check_circular=False, separators=(",", ":")).encode
    lines = rejected = offset = size = 0
    events: list[str] = []
    with gzip.open(path, "rt", encoding="utf-8", newline="\n") as text:
        for line in text:
            made = event(line.rstrip("\n"), offset)
            lines += 1
            rejected += "tags" in made
            offset += len(line)
            events.append(encode(made))
            if len(events) == BATCH_EVENTS:
                size += len(body(events))
                events.clear()
    if events:
        size += len(body(events))
    return {"lines": lines, "rejected": rejected, "bytes": size}


print(json.dumps(ship(sys.argv[1])))

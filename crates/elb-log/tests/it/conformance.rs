//! Every rule for reading load balancer lines, and every known mistake of other parsers, as one named case each.
//!
//! A case has a line and members of its event's `elb` (other members may exist too), or the error message. The lines are made up
//! and have AWS's format.

use elb_log::buffer::Buffer;
use elb_log::event::{EventSettings, EventWriter, Schema, Scratch};
use elb_log::format::Kind;
use elb_log::lines::Line;
use elb_log::origin::{ObjectName, Origin};
use serde_json::{Value, json};

fn event(schema: Schema, line: &str) -> Value {
    let origin = Origin::Bucket(ObjectName { bucket: "logs".to_owned(), key: "key".to_owned() });
    let settings = EventSettings { schema, ..EventSettings::default() };
    let writer = EventWriter::new(&settings, &origin, jiff::Timestamp::UNIX_EPOCH);
    let mut out = Buffer::default();
    writer.write(&mut out, &Line { text: line.as_bytes(), offset: 0, truncated: false }, &mut Scratch::default());
    serde_json::from_slice(&out).unwrap_or_else(|error| panic!("{error} in {}", out.escape_ascii()))
}

/// Asserts that `found` has every member of `expected`. A null in `expected` means that the member is missing.
#[track_caller]
fn assert_holds(path: &str, found: &Value, expected: &Value) {
    match expected {
        Value::Object(members) => {
            for (name, expected) in members {
                assert_holds(&format!("{path}.{name}"), found.get(name).unwrap_or(&Value::Null), expected);
            }
        }
        expected => assert_eq!(found, expected, "{path}"),
    }
}

/// Returns an ALB line with the given request, user agent, and fields after the certificate's ARN.
fn alb(request: &str, user_agent: &str, rest: &str) -> String {
    format!(
        "https 2026-03-02T10:15:04.318467Z app/web/50dc6c495c0c9188 192.0.2.61:33870 10.0.4.9:9000 0.002 0.187 0.000 201 201 1893 624 \
         \"{request}\" \"{user_agent}\" TLS_AES_128_GCM_SHA256 TLSv1.3 \
         arn:aws:elasticloadbalancing:eu-west-1:123456789012:targetgroup/web/a4c1be02977d5e63 \"Root=1-69a56328-246adb36420e01d6e4e6e9ec\" \
         \"shop.example\" \"-\"{rest}"
    )
}

/// The fields after the certificate's ARN in today's format.
const REST: &str = " 10 2026-03-02T10:15:04.131000Z \"forward\" \"-\" \"-\" \"10.0.4.9:9000\" \"201\" \"-\" \"-\" \
    TID_404949171d49ad4b4d1357fbcff0262c \"-\" \"-\" \"-\" 203.0.113.7 \"-\" \"-\"";

/// Returns an ALB line with some of its first twelve fields replaced. Fields are counted from 1.
fn alb_head(fields: &[(usize, &str)]) -> String {
    let line = alb("GET https://shop.example:443/ HTTP/1.1", "-", REST);
    let mut words: Vec<&str> = line.split(' ').collect();
    for (number, field) in fields {
        words[number - 1] = field;
    }
    words.join(" ")
}

fn classic(request: &str, rest: &str) -> String {
    format!(
        "2026-03-02T10:15:08.441207Z shop 198.51.100.54:40412 10.0.8.4:80 0.000048 0.003912 0.000031 200 200 0 5120 \"{request}\"{rest}"
    )
}

fn nlb(rest: &str) -> String {
    format!(
        "tls 2.0 2026-03-02T10:15:46 net/edge/7d2f0c41aa93be05 3c9e51f08b27da64 198.51.100.201:44372 10.0.9.11:8443 2041 14 1873 40962 - \
         arn:aws:acm:eu-west-1:123456789012:certificate/6f1c0a52 - TLS_AES_128_GCM_SHA256 tlsv13 x25519 edge.example{rest}"
    )
}

fn connection(rest: &str) -> String {
    format!("2026-03-02T10:15:11.604882Z 192.0.2.61 33870 443 TLSv1.2 ECDHE-RSA-AES128-GCM-SHA256 4.036 {rest}")
}

macro_rules! reads {
    ($($name:ident: $line:expr => $elb:tt;)*) => {
        $(#[test] fn $name() {
            let event = event(Schema::Native, &$line);
            assert_eq!(event.get("error"), None, "the line was not parsed");
            assert_holds("elb", &event["elb"], &json!($elb));
        })*
    };
}

macro_rules! rejects {
    ($($name:ident: $line:expr => $message:literal;)*) => {
        $(#[test] fn $name() {
            let event = event(Schema::Native, &$line);
            assert_eq!((&event["error"]["message"], &event["event"]["original"]), (&json!($message), &json!($line)));
            assert_eq!(event.get("elb"), None);
        })*
    };
}

macro_rules! reads_ecs {
    ($($name:ident: $line:expr => $event:tt;)*) => {
        $(#[test] fn $name() { assert_holds("event", &event(Schema::Ecs, &$line), &json!($event)); })*
    };
}

mod kinds {
    use super::*;

    reads! {
        http_alb: alb_head(&[(1, "http")]) => {"kind": "alb", "type": "http"};
        grpcs_alb: alb_head(&[(1, "grpcs")]) => {"kind": "alb", "type": "grpcs"};
        alb_with_an_unknown_type: alb_head(&[(1, "h3")]) => {"kind": "alb", "type": "h3"};
        alb_with_a_name_without_slashes: alb_head(&[(3, "my-loadbalancer")]) => {"kind": "alb", "id": "my-loadbalancer"};
        alb_without_a_client: alb_head(&[(4, "-")]) => {"kind": "alb", "client_ip": null};
        classic_http: classic("GET http://h:80/ HTTP/1.1", " \"curl\" - -") => {"kind": "classic", "id": "shop"};
        classic_with_a_name_of_digits: classic("- - - ", "").replace("shop", "12345") => {"kind": "classic", "id": "12345"};
        classic_without_a_client: classic("- - - ", "").replace("198.51.100.54:40412", "-") => {"kind": "classic"};
        classic_without_fraction_and_zone: classic("- - - ", "").replace("08.441207Z", "08") => {"kind": "classic"};
        connection_from_an_ipv4_client: connection("- - - - TID_1") => {"kind": "alb_connection", "client_ip": "192.0.2.61", "client_port": 33870};
        connection_from_an_ipv6_client: connection("- - - - TID_1").replace("192.0.2.61", "2001:db8::1") => {"kind": "alb_connection", "client_ip": "2001:db8::1"};
        connection_without_ports: connection("- - - - TID_1").replace("33870 443", "- -") => {"kind": "alb_connection", "client_port": null};
        health_check: "https 2026-03-02T10:15:07.560481Z 5.000214930 10.0.4.12:9000 api FAIL - TimedOut" =>
            {"kind": "alb_health_check", "status": "FAIL", "status_code": null, "reason_code": "TimedOut"};
        health_check_without_latency: "h2 2026-03-02T10:15:07.560481Z - 10.0.4.12:9000 api FAIL - TimedOut" => {"kind": "alb_health_check", "latency": null};
        health_check_of_a_lambda_target: "lambda 2026-03-02T10:15:07.560481Z 0.1 arn:aws:lambda:eu-west-1:123456789012:function:f:7 f PASS 200 -" =>
            {"kind": "alb_health_check", "target_arn": "arn:aws:lambda:eu-west-1:123456789012:function:f:7", "target_ip": null};
        nlb_of_a_tcp_listener: nlb("").replace("tls 2.0", "tcp 2.0") => {"kind": "nlb", "type": "tcp", "version": "2.0", "client_ip": "198.51.100.201"};
        nlb_of_a_udp_listener: nlb("").replace("tls 2.0", "udp 1.0") => {"kind": "nlb", "type": "udp"};
        nlb_of_a_quic_listener: nlb("").replace("tls 2.0", "quic 2.0") => {"kind": "nlb", "type": "quic"};
        nlb_version_2: nlb("") => {"kind": "nlb", "version": "2.0"};
        nlb_future_version: nlb("").replace("tls 2.0", "tls 10.12") => {"kind": "nlb", "version": "10.12"};
    }

    rejects! {
        a_dead_letter_outside_of_a_replay: r#"{"elbship":"dead-letter/1","id":"aa-07","status":422,"event":{}}"# => "a dead letter, not a log line; replay it (byte 0)";
        text_that_is_not_a_log_line: "hello world" => "no known kind of log line: expected a time at byte 6";
        only_spaces: "  " => "no known kind of log line: expected a time, or a type such as https at byte 2";
        type_in_upper_case: "HTTPS 2026-03-02T10:15:04Z x 1.2.3.4:5" => "no known kind of log line: expected a time, or a type such as https at byte 0";
        month_out_of_range: "https 2026-13-02T10:15:04Z x 1.2.3.4:5" => "no known kind of log line: expected a time at byte 6";
        truncated_after_the_name: "https 2026-03-02T10:15:04Z app/x/1" => "no known kind of log line: expected the client's ip:port at byte 34";
        year_zero: "https 0000-03-02T10:15:04Z app/x/1 1.2.3.4:5" => "no known kind of log line: expected a time at byte 6";
        classic_with_a_client_that_is_not_an_address: "2026-03-02T10:15:04Z shop worker:7 10.0.8.4:80 0.1 0.1 0.1 200 200 0 5120 \"-\"" =>
            "no known kind of log line: expected the client's ip:port of a classic log, or a port of a connection log at byte 26";
        nlb_without_a_time: nlb("").replace("2026-03-02T10:15:46", "yesterday") => "no known kind of log line: expected a time at byte 8";
        control_line: "Enable AccessLog for ELB: app/x/1 at 2026-03-02T10:15:04Z" =>
            "control line, written by AWS when logging is switched on; no request (byte 0)";
        connection_control_line: "Enable ConnectionLog for ELB: app/x/1 at 2026-03-02T10:15:04Z" =>
            "control line, written by AWS when logging is switched on; no request (byte 0)";
        w3c_header_line: "#Fields: time elb" => "W3C header line in an object that does not begin with one (byte 0)";
        unclosed_quote: "https 2026-03-02T10:15:04Z app/x/1 192.0.2.1:80 \"GET" => "alb: the quote at byte 48 never closes";
        broken_json: "{\"type\":" => "JSON, not a log line: EOF while parsing a value at line 1 column 8 (byte 7)";
    }
}

mod splitting {
    use super::*;

    reads! {
        skips_repeated_leading_and_trailing_spaces: format!("  {}  ", alb_head(&[]).replacen(' ', "    ", 3)) => {"type": "https", "ip_address": "203.0.113.7"};
        a_digit_may_follow_a_closing_quote: alb("-", "-", &REST.replacen(' ', "", 1)) => {"chosen_cert_arn": null, "matched_rule_priority": 10, "ip_address": "203.0.113.7"};
        an_escaped_quote_does_not_end_a_field: classic("GET http://h:80/ HTTP/1.1", r#" "Optional(\"a b\")" - -"#) => {"user_agent": "Optional(\"a b\")"};
        an_escaped_backslash_before_the_closing_quote: classic("GET http://h:80/ HTTP/1.1", r#" "a\\" - TLSv1.2"#) => {"user_agent": r"a\", "ssl_protocol": "TLSv1.2"};
        an_unescaped_quote_inside_does_not_end_a_field: classic("GET http://h:80/\"x HTTP/1.1", " \"a\" - -") => {"request": {"path": "/\"x"}, "user_agent": "a"};
        an_empty_quoted_field_keeps_its_position: alb("-", "", REST) => {"user_agent": null, "ssl_protocol": "TLSv1.3", "ip_address": "203.0.113.7"};
        keeps_a_leading_space_in_a_domain_name: alb("-", "-", REST).replace("\"shop.example\"", "\" shop.example\"") => {"domain_name": " shop.example"};
        keeps_spaces_in_a_redirect_url: alb("-", "-", &REST.replacen("\"-\"", "\"https://h/a b?c d\"", 1)) => {"redirect_url": "https://h/a b?c d", "ip_address": "203.0.113.7"};
        reads_unquoted_target_lists: alb("-", "-", &REST.replace("\"10.0.4.9:9000\" \"201\"", "10.0.4.9:9000 201")) =>
            {"target_port_list": ["10.0.4.9:9000"], "target_status_code_list": [201]};
        reads_a_quoted_node_address: alb("-", "-", &REST.replace("203.0.113.7", "\"203.0.113.8\"")) => {"ip_address": "203.0.113.8"};
        reads_a_quoted_nlb_list_as_one_field: nlb(r#" h2 h2 "h2","http/1.1" 2026-03-02T10:15:44"#) =>
            {"alpn_client_preference_list": ["h2", "http/1.1"], "tls_connection_creation_time": "2026-03-02T10:15:44Z"};
        reads_an_nlb_list_with_escaped_quotes: nlb(r#" h2 h2 \"h2\",\"http/1.1\" 2026-03-02T10:15:44"#) => {"alpn_client_preference_list": ["h2", "http/1.1"]};
        reads_a_truncated_nlb_list: nlb(r#" h2 h2 "h2","http/1 2026-03-02T10:15:44"#) => {"alpn_client_preference_list": ["h2", "http/1"]};
        reads_a_quoted_dash_as_absent: nlb(r#" - - "-" -"#) => {"alpn_client_preference_list": null, "alpn_fe_protocol": null};
    }
}

mod escapes {
    use super::*;

    reads! {
        decodes_hex_quotes: alb("-", r"\x22SweetAgent/\x22", REST) => {"user_agent": "\"SweetAgent/\""};
        decodes_a_hex_backslash_once: alb("-", r"a\x5Cx22b", REST) => {"user_agent": r"a\x22b"};
        decodes_eight_digits_in_old_classic_lines: classic("GET http://h:80/ HTTP/1.1", r#" "a\x00000022b" - -"#) => {"user_agent": "a\"b"};
        decodes_two_digits_before_hex_like_text: alb("-", r"\x22deadbeef", REST) => {"user_agent": "\"deadbeef"};
        keeps_unknown_escapes: alb("-", r"a\nb", REST) => {"user_agent": r"a\nb"};
        keeps_escapes_of_invalid_utf8: alb("-", r"caf\xE9", REST) => {"user_agent": r"caf\xE9"};
        decodes_utf8_escapes: alb("-", r"caf\xC3\xA9", REST) => {"user_agent": "café"};
        keeps_percent_encoding: alb("GET https://h:443/%20%22 HTTP/1.1", "-", REST) => {"request": {"path": "/%20%22"}};
        decodes_only_after_splitting: alb(r"GET https://h:443/a\x20b\x3Fc HTTP/1.1", "-", REST) => {"request": {"path": "/a b?c", "query": null}};
        keeps_lookup_expressions_as_text: alb("-", "${jndi:ldap://scanner.example/x}", REST) => {"user_agent": "${jndi:ldap://scanner.example/x}"};
        keeps_a_numeric_user_agent_as_text: alb("-", "1", REST) => {"user_agent": "1"};
    }
}

mod addresses {
    use super::*;

    reads! {
        ipv6_client_without_brackets: alb_head(&[(4, "2001:db8:85a3:0:0:8a2e:370:7334:2817")]) => {"client_ip": "2001:db8:85a3:0:0:8a2e:370:7334", "client_port": 2817};
        ipv6_client_with_brackets: alb_head(&[(4, "[2001:db8::1]:2817")]) => {"client_ip": "2001:db8::1", "client_port": 2817};
        ipv6_client_in_upper_case: alb_head(&[(4, "2001:DB8::AB:2817")]) => {"client_ip": "2001:DB8::AB"};
        ipv6_client_of_an_nlb: nlb("").replace("198.51.100.201:44372", "2001:db8:9::4:61055") => {"client_ip": "2001:db8:9::4", "client_port": 61055};
        absent_target: alb_head(&[(5, "-")]) => {"target_ip": null, "target_port": null};
        target_host_name: alb_head(&[(5, "web.internal:80")]) => {"target_address": "web.internal", "target_ip": null, "target_port": 80};
        absent_target_port: alb_head(&[(5, "10.0.0.1:-")]) => {"target_ip": "10.0.0.1", "target_port": null};
        target_without_colon_is_invalid: alb_head(&[(5, "target")]) => {"invalid": {"target": "target"}};
    }
}

mod values {
    use super::*;

    reads! {
        processing_times_of_minus_one_are_absent: alb_head(&[(6, "0.003"), (7, "-1"), (8, "-1.000"), (9, "460"), (10, "-")]) =>
            {"request_processing_time": 0.003, "target_processing_time": null, "response_processing_time": null, "elb_status_code": 460};
        rule_priority_of_minus_one_is_a_value: alb("-", "-", &REST.replace(" 10 2026", " -1 2026")) => {"matched_rule_priority": -1};
        sizes_of_minus_one_are_values: alb_head(&[(11, "-1"), (12, "-1")]) => {"received_bytes": -1, "sent_bytes": -1};
        status_000_is_zero: alb_head(&[(9, "000")]) => {"elb_status_code": 0};
        absent_status_codes: alb_head(&[(9, "-"), (10, "-")]) => {"elb_status_code": null, "target_status_code": null};
        absent_rule_priority: alb("-", "-", &REST.replace(" 10 2026", " - 2026")) => {"kind": "alb", "matched_rule_priority": null, "conn_trace_id": "TID_404949171d49ad4b4d1357fbcff0262c"};
        several_targets_and_status_codes: alb("-", "-", &REST.replace("\"10.0.4.9:9000\" \"201\"", "\"10.0.4.9:9000 [2001:db8::2]:80\" \"502 -\"")) =>
            {"target_port_list": ["10.0.4.9:9000", "[2001:db8::2]:80"], "target_status_code_list": [502, null]};
        several_actions: alb("-", "-", &REST.replace("\"forward\"", "\"waf,authenticate,forward\"")) => {"actions_executed": ["waf", "authenticate", "forward"]};
        empty_actions: alb("-", "-", &REST.replace("\"forward\"", "\"\"")) => {"actions_executed": null};
        rewrite_action_and_error_reason: alb("-", "-", &REST.replace("\"forward\" \"-\" \"-\"", "\"rewrite,forward\" \"-\" \"JWTHeaderNotPresent2\"")) =>
            {"actions_executed": ["rewrite", "forward"], "error_reason": "JWTHeaderNotPresent2"};
        trace_id_of_another_length: alb("-", "-", &REST.replace("TID_404949171d49ad4b4d1357fbcff0262c", "TID_dc57cebed65b444ebc8177bb698fe166ab")) =>
            {"conn_trace_id": "TID_dc57cebed65b444ebc8177bb698fe166ab"};
        certificate_validity: connection("\"CN=a b,O=c\" NotBefore=2025-09-01T00:00:00Z;NotAfter=2026-09-01T23:59:59Z 5C19 Success TID_1") =>
            {"leaf_client_cert_subject": "CN=a b,O=c", "leaf_client_cert_not_before": "2025-09-01T00:00:00Z", "leaf_client_cert_not_after": "2026-09-01T23:59:59Z"};
        malformed_certificate_validity_is_invalid: connection("- soon 5C19 Success TID_1") => {"invalid": {"leaf_client_cert_validity": "soon"}};
        absent_certificate_quoted_and_unquoted: connection("\"-\" - - - TID_1") => {"leaf_client_cert_subject": null, "tls_verify_status": null};
        nlb_line_of_a_failed_handshake: nlb("").replace(" 2041 14 ", " 31 - ") => {"tls_handshake_time": null, "connection_time": 31};
        status_of_letters_is_invalid: alb_head(&[(9, "abc")]) => {"elb_status_code": null, "invalid": {"elb_status_code": "abc"}};
    }

    #[test]
    fn an_invalid_time_of_a_json_line_is_replaced_by_the_object_time() {
        let event = event(Schema::Native, r#"{"type":"tls","time":"yesterday"}"#);
        assert_eq!(
            (&event["@timestamp"], &event["elb"]["invalid"]),
            (&json!("1970-01-01T00:00:00Z"), &json!({"time": "yesterday"}))
        );
    }

    /// Elasticsearch rejects dates with more than nine digits of a second's fraction.
    #[test]
    fn times_are_cut_to_nanoseconds() {
        let exact = [
            alb_head(&[(2, "2026-03-02T10:15:04.123456789Z")]),
            alb_head(&[(2, "2026-03-02T10:15:04.1234567890Z")]),
            alb_head(&[(2, "2026-03-02T10:15:04.1234567899999")]),
        ];
        for line in exact {
            assert_eq!(event(Schema::Native, &line)["@timestamp"], "2026-03-02T10:15:04.123456789Z", "{line}");
            let ecs = event(Schema::Ecs, &line);
            let cut = json!("2026-03-02T10:15:04.123456789Z");
            assert_eq!((&ecs["@timestamp"], &ecs["event"]["end"]), (&cut, &cut), "{line}");
        }
    }

    #[test]
    fn every_date_is_cut_to_nanoseconds() {
        let long = "2026-03-02T10:15:04.1234567891";
        let cut = json!("2026-03-02T10:15:04.123456789Z");
        let created = alb("-", "-", &REST.replace("2026-03-02T10:15:04.131000Z", long));
        assert_eq!(event(Schema::Native, &created)["elb"]["request_creation_time"], cut);
        assert_eq!(event(Schema::Ecs, &created)["event"]["start"], cut);
        let connected = nlb(&format!(" - - - {long}"));
        assert_eq!(event(Schema::Native, &connected)["elb"]["tls_connection_creation_time"], cut);
        let valid = connection(&format!("- NotBefore={long};NotAfter={long}Z 5C19 Success TID_1"));
        assert_eq!(event(Schema::Native, &valid)["elb"]["leaf_client_cert_not_after"], cut);
        assert_eq!(event(Schema::Ecs, &valid)["aws"]["elb"]["leaf_client_cert_not_before"], cut);
        let exported = format!("{long}Z {}", connection("- - - - TID_1"));
        assert_eq!(event(Schema::Native, &exported)["elb"]["ingest_time"], cut);
    }
}

mod requests {
    use super::*;

    reads! {
        spaces_in_the_url: alb("GET https://h:443/price list/a.pdf HTTP/1.1", "-", REST) => {"request": {"path": "/price list/a.pdf", "protocol": "HTTP/1.1"}};
        missing_protocol: alb("GET https://h:443/x", "-", REST) => {"request": {"method": "GET", "path": "/x", "protocol": null}};
        tcp_listener_has_no_request: classic("- - - ", " \"-\" - -") => {"request": null};
        malformed_request: alb("- http://h:80- -", "-", REST) => {"request": {"method": null, "url": "http://h:80-", "host": "h", "port": 80, "path": null}};
        malformed_request_with_a_path: alb("- http://h:80-/ ", "-", REST) => {"request": {"port": 80, "path": "/"}};
        unusual_method: alb("--location https://h:443/ HTTP/1.1", "-", REST) => {"request": {"method": "--location"}};
        ipv6_host: alb("GET http://[2001:db8::80]:80/ HTTP/1.1", "-", REST) => {"request": {"host": "2001:db8::80", "port": 80}};
        single_word_is_kept_as_the_line: alb(r"\x16\x03\x01", "-", REST) => {"request": {"line": "\u{16}\u{3}\u{1}", "method": null}};
        http_scheme_on_an_https_listener: alb("GET http://h:443/ HTTP/1.1", "-", REST) => {"type": "https", "request": {"scheme": "http", "port": 443}};
    }
}

/// Lines behind the timestamp that an export of CloudWatch Logs writes.
mod exports {
    use super::*;

    const TIME: &str = "2026-08-19T21:34:48.000Z";

    reads! {
        alb_line: format!("{TIME} {}", alb_head(&[])) =>
            {"kind": "alb", "type": "https", "client_ip": "192.0.2.61", "elb_error_code": null, "extra": null, "ingest_time": TIME};
        alb_line_without_a_client: format!("{TIME} {}", alb_head(&[(4, "-")])) => {"kind": "alb", "client_ip": null, "ingest_time": TIME};
        health_check_line: format!("{TIME} h2 2026-03-02T10:15:07.5Z 0.1 10.0.4.12:9000 api PASS 200 -") => {"kind": "alb_health_check", "ingest_time": TIME};
        nlb_line: format!("{TIME} {}", nlb("")) => {"kind": "nlb", "listener": "3c9e51f08b27da64", "ingest_time": TIME};
        connection_line: format!("{TIME} {}", connection("- - - - TID_1")) => {"kind": "alb_connection", "client_ip": "192.0.2.61", "ingest_time": TIME};
        connection_line_whose_client_looks_like_one_with_a_port: format!("{TIME} {}", connection("- - - - TID_1").replace("192.0.2.61", "2001:db8::5:6")) =>
            {"kind": "alb_connection", "client_ip": "2001:db8::5:6", "client_port": 33870, "ingest_time": TIME};
        classic_line: format!("{TIME} {}", classic("GET http://h:80/ HTTP/1.1", " \"curl\" - -")) => {"kind": "classic", "id": "shop", "ingest_time": TIME};
        json_line: format!("{TIME} {}", r#"{"listener_port":443,"tls_cipher":"x"}"#) => {"kind": "alb_connection", "listener_port": 443, "ingest_time": TIME};
        line_of_tabs: format!("{TIME} {}", connection("- - - - TID_1").replace(' ', "\t")) => {"kind": "alb_connection", "listener_port": 443, "ingest_time": TIME};
        spaces_around_the_timestamp: format!("  {TIME}   {}", nlb("")) => {"kind": "nlb", "type": "tls", "ingest_time": TIME};
        line_without_a_timestamp: nlb("") => {"ingest_time": null};
    }

    rejects! {
        log_of_a_program: "2026-08-19T21:34:48.000Z ERROR worker:7 something" =>
            "no known kind of log line: expected the client's ip:port of a classic log, or a port of a connection log at byte 31";
        log_of_a_program_with_times: "2026-08-19T21:34:48.000Z info 2026-08-19T21:34:48.000Z main worker:7 started" =>
            "no known kind of log line: expected the client's ip:port of a classic log, or a port of a connection log at byte 30";
        log_of_a_program_with_two_times: "2026-08-19T21:34:48.000Z 2026-08-19T21:34:48.000Z main - started" =>
            "no known kind of log line: expected a load balancer's name at byte 25";
        two_timestamps: "2026-08-19T21:34:48.000Z 2026-08-19T21:34:48.000Z 2026-03-02T10:15:08.4Z shop 198.51.100.54:40412 - -1 -1 -1 503 0 0 0 \"-\"" =>
            "no known kind of log line: expected a load balancer's name at byte 25";
    }

    reads_ecs! {
        ingested: format!("{TIME} {}", connection("- - - - TID_1")) => {"event": {"ingested": TIME, "end": "2026-03-02T10:15:11.604882Z"}};
        not_ingested: connection("- - - - TID_1") => {"event": {"ingested": null}};
    }

    #[test]
    fn the_time_of_an_exported_line_is_its_own() {
        let line = format!("{TIME} {}", alb_head(&[]));
        assert_eq!(event(Schema::Native, &line)["@timestamp"], "2026-03-02T10:15:04.318467Z");
    }
}

/// Lines of deliveries through CloudWatch Logs with another field delimiter, or with chosen fields.
mod chosen {
    use super::*;

    /// A connection line of fifteen fields, some of them with spaces.
    fn fields() -> Vec<String> {
        let rest = ["\"CN=a b,O=c\"", "NotBefore=2025-09-01T00:00:00Z;NotAfter=2026-09-01T23:59:59Z", "5C19", "Success", "TID_1"];
        let head = connection("");
        let last = ["x25519", "app/web/50dc6c495c0c9188", "203.0.113.7"];
        head.trim_end().split(' ').chain(rest).chain(last).map(str::to_owned).collect()
    }

    fn line(delimiter: &str) -> String {
        fields().join(delimiter)
    }

    /// The line without the field of this number, from 1.
    fn line_without(number: usize) -> String {
        let mut fields = fields();
        fields.remove(number - 1);
        fields.join(" ")
    }

    reads! {
        tabs: line("\t") => {"kind": "alb_connection", "client_port": 33870, "leaf_client_cert_subject": "CN=a b,O=c", "tls_keyexchange": "x25519", "ip_address": "203.0.113.7"};
        commas: line(",") => {"kind": "alb_connection", "client_port": 33870, "leaf_client_cert_subject": "CN=a b,O=c", "tls_keyexchange": "x25519", "ip_address": "203.0.113.7"};
        alb_line_of_tabs: alb("GET https://h:443/a b HTTP/1.1", "a\tb", "").replace("\" \"", "\"\t\"").replace(" 192", "\t192").replace(" TLS", "\tTLS").replace(" arn", "\tarn")
            .replace("https 2026-03-02T10:15:04.318467Z app/web/50dc6c495c0c9188", "https\t2026-03-02T10:15:04.318467Z\tapp/web/50dc6c495c0c9188")
            .replace(" 10.0.4.9:9000 0.002 0.187 0.000 201 201 1893 624 ", "\t10.0.4.9:9000\t0.002\t0.187\t0.000\t201\t201\t1893\t624\t").replace("\" TLS", "\"\tTLS").replace(" \"Root", "\t\"Root") =>
            {"kind": "alb", "request": {"path": "/a b"}, "user_agent": "a\tb", "sent_bytes": 624, "domain_name": "shop.example"};
        nlb_line_of_tabs: nlb(r#" h2 h2 "h2","http/1.1" 2026-03-02T10:15:44"#).replace(' ', "\t") =>
            {"kind": "nlb", "alpn_client_preference_list": ["h2", "http/1.1"], "tls_connection_creation_time": "2026-03-02T10:15:44Z"};
        an_empty_field_between_tabs: line("\t").replace("TLSv1.2", "") => {"tls_protocol": null, "tls_cipher": "ECDHE-RSA-AES128-GCM-SHA256"};
        connection_line_without_key_exchange: line_without(13) =>
            {"tls_keyexchange": null, "id": null, "invalid": {"tls_keyexchange": "app/web/50dc6c495c0c9188", "id": "203.0.113.7"}};
        connection_line_without_trace_id: line_without(12) => {"tls_keyexchange": null, "invalid": {"tls_keyexchange": "app/web/50dc6c495c0c9188", "id": "203.0.113.7"}};
        connection_line_without_protocol: line_without(5) => {"invalid": {"tls_verify_status": "TID_1"}};
        access_log_line_without_type: alb_head(&[]).replacen("https ", "", 1) => {"invalid": {"id": "app/web/50dc6c495c0c9188"}};
        access_log_line_without_load_balancer: alb_head(&[]).replace("app/web/50dc6c495c0c9188 ", "") => {"id": null, "invalid": {"id": "192.0.2.61:33870"}};
        access_log_line_without_classification: alb("-", "-", &REST.replace("\"-\" \"-\" TID_", "\"-\" TID_")) =>
            {"invalid": {"classification_reason": "TID_404949171d49ad4b4d1357fbcff0262c", "request_transform_status": "203.0.113.7"}};
        access_log_line_without_transformed_host: alb("-", "-", &REST.replace("\"-\" \"-\" \"-\" 203", "\"-\" \"-\" 203")) =>
            {"ip_address": null, "invalid": {"request_transform_status": "203.0.113.7"}};
    }

    #[test]
    fn lines_with_a_gap_are_tagged() {
        for number in [3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14] {
            let event = event(Schema::Native, &line_without(number));
            assert!(event["tags"].is_array(), "without field {number}: {event}");
        }
    }

    #[test]
    fn other_delimiters_are_named() {
        for (line, at) in [
            (line("|"), 27),
            (line(";"), 27),
            (line(" | "), 27),
            (line(", "), 27),
            (line("\t").replace("\t443\t", " 443 "), 44),
            (line("\t").replace("\t4.036\t", " 4.036\t"), 84),
            (alb_head(&[]).replacen(" app", "\tapp", 1), 5),
            (line(",").replace(",443,", " 443,"), 44),
            (format!("2026-08-19T21:34:48.000Z {}", line("|")), 52),
        ] {
            let event = event(Schema::Native, &line);
            let message = event["error"]["message"].as_str().unwrap_or_else(|| panic!("{line} was parsed: {event}"));
            assert!(message.contains("fieldDelimiter") && message.contains(&format!("(byte {at})")), "{line}: {message}");
        }
    }

    #[test]
    fn text_between_tabs_is_not_a_log_line() {
        for line in
            ["info\t2026-03-02T10:15:04Z\tmain\tworker:7", "2026-03-02T10:15:04Z,web,-,started", "a,2026-03-02T10:15:04Z,5,b"]
        {
            let message = event(Schema::Native, line)["error"]["message"].clone();
            assert!(message.as_str().is_some_and(|message| message.starts_with("no known kind")), "{line}: {message}");
        }
    }
}

mod widths {
    use super::*;

    reads! {
        alb_with_thirty_six_fields: alb("-", "-", &REST.replace("203.0.113.7 \"-\"", "203.0.113.7 \"TargetResetConnection\"")) =>
            {"ip_address": "203.0.113.7", "target_error_code": "TargetResetConnection", "elb_error_code": null, "extra": null};
        alb_with_thirty_four_fields: alb("-", "-", REST.trim_end_matches(" \"-\" \"-\"")) => {"ip_address": "203.0.113.7", "extra": null};
        classic_with_twelve_fields: classic("GET http://h:80/ HTTP/1.1", "") => {"sent_bytes": 5120, "user_agent": null};
        classic_with_two_extra_fields: classic("GET http://h:80/ HTTP/1.1", " \"a\" - - one \"two three\"") => {"extra": ["one", "two three"]};
        connection_with_eleven_fields: connection("- - - -") => {"conn_trace_id": null, "extra": null};
        connection_with_fifteen_fields: connection("- - - - TID_1 x25519 app/web/1 203.0.113.7") => {"tls_keyexchange": "x25519", "id": "app/web/1", "ip_address": "203.0.113.7"};
        nlb_with_eighteen_fields: nlb("") => {"domain_name": "edge.example", "extra": null};
        nlb_with_one_extra_field: nlb(" - - - 2026-03-02T10:15:44 new") => {"extra": ["new"]};
        an_absent_extra_field_is_ignored: alb("-", "-", &format!("{REST} -")) => {"extra": null};
        two_extra_fields_are_kept: alb("-", "-", &format!("{REST} \"zone a\" 17")) => {"extra": ["zone a", "17"]};
    }

    #[test]
    fn tags_two_lines_without_a_line_feed_between_them() {
        let health_check = "h2 2026-03-02T10:15:07Z 0.1 10.0.4.12:9000 api PASS 200 - app/web/1 203.0.113.7";
        for line in [
            alb_head(&[]),
            nlb(" - - - 2026-03-02T10:15:44"),
            connection("- - - - TID_1 x25519 app/web/1 203.0.113.7"),
            health_check.to_owned(),
        ] {
            let tags = event(Schema::Native, &format!("{line}{line}"))["tags"].clone();
            assert!(tags.as_array().is_some_and(|tags| tags.contains(&json!("_elbextrafields"))), "{line}: {tags}");
        }
    }

    #[test]
    fn tags_more_than_eight_unknown_fields() {
        for (fields, tags) in [(8, Value::Null), (9, json!(["_elbextrafields"]))] {
            let line = alb("-", "-", &format!("{REST}{}", " -".repeat(fields)));
            assert_eq!(event(Schema::Native, &line).get("tags").unwrap_or(&Value::Null), &tags, "{fields} unknown fields");
        }
    }

    #[test]
    fn tags_a_line_with_fewer_fields_than_aws_ever_wrote() {
        for (line, kind) in [
            (alb("-", "-", "").split(" \"Root").next().unwrap().to_owned(), Kind::Alb),
            (classic("x", "").replace(" \"x\"", ""), Kind::Classic),
            (connection("- - -"), Kind::AlbConnection),
            ("h2 2026-03-02T10:15:07Z 0.1 10.0.4.12:9000 api PASS 200".to_owned(), Kind::AlbHealthCheck),
            (nlb("").replace(" edge.example", ""), Kind::Nlb),
        ] {
            let short = event(Schema::Native, &line);
            assert_eq!((&short["elb"]["kind"], &short["tags"]), (&json!(kind.name()), &json!(["_elbshortline"])), "{line}");
            let whole = event(Schema::Native, &format!("{line} -"));
            assert_eq!(whole.get("tags"), None, "{line} -");
        }
    }
}

mod ecs {
    use super::*;

    reads_ecs! {
        constants: alb_head(&[]) => {"ecs": {"version": "8.11.0"}, "event": {"kind": "event", "category": ["web"]}, "cloud": {"provider": "aws"}, "elb": null};
        numbers_and_keywords: alb_head(&[]) => {"http": {"response": {"status_code": 201, "body": {"bytes": 624}}, "request": {"body": {"bytes": 1893}}},
            "aws": {"elb": {"backend": {"ip": "10.0.4.9", "port": "9000", "http": {"response": {"status_code": 201}}}, "matched_rule_priority": "10"}}};
        status_below_400_is_success: alb_head(&[(9, "399")]) => {"event": {"outcome": "success"}};
        status_400_is_failure: alb_head(&[(9, "400")]) => {"event": {"outcome": "failure"}};
        no_outcome_without_a_status: alb_head(&[(9, "-")]) => {"event": {"outcome": null}};
        duration: alb_head(&[]) => {"event": {"start": "2026-03-02T10:15:04.131000Z", "end": "2026-03-02T10:15:04.318467Z", "duration": 187_467_000}};
        no_duration_without_a_start: classic("- - - ", "") => {"event": {"start": null, "duration": null, "end": "2026-03-02T10:15:08.441207Z"}};
        no_duration_if_the_start_is_after_the_end: alb_head(&[(2, "2026-03-02T10:15:04.000000Z")]) => {"event": {"duration": null}};
        request: alb("GET https://shop.example:443/a?b=c HTTP/2.0", "curl", REST) => {"http": {"version": "2.0", "request": {"method": "GET"}},
            "url": {"original": "https://shop.example:443/a?b=c", "scheme": "https", "domain": "shop.example", "port": 443, "path": "/a", "query": "b=c"},
            "user_agent": {"original": "curl"}};
        tls: alb_head(&[]) => {"tls": {"cipher": "TLS_AES_128_GCM_SHA256", "version": "1.3", "version_protocol": "tls"}, "aws": {"elb": {"ssl_protocol": "TLSv1.3"}}};
        trace: alb("-", "-", REST).replace("\"Root=", "\"Self=1-2-3;Root=") => {"trace": {"id": "1-69a56328-246adb36420e01d6e4e6e9ec"},
            "aws": {"elb": {"trace_id": "Self=1-2-3;Root=1-69a56328-246adb36420e01d6e4e6e9ec"}}};
        tcp_listener_of_a_classic_load_balancer: classic("- - - ", " \"-\" - -").replace("200 200 0 5120", "- - 7 5120") =>
            {"event": {"category": ["network"]}, "source": {"bytes": 7}, "destination": {"bytes": 5120}, "http": null, "aws": {"elb": {"protocol": "tcp"}}};
        http_listener_of_a_classic_load_balancer: classic("GET http://h:80/ HTTP/1.1", " \"-\" - -") =>
            {"event": {"category": ["web"]}, "source": {"bytes": null}, "http": {"response": {"body": {"bytes": 5120}}}, "aws": {"elb": {"protocol": "http"}}};
        nlb_line: nlb(r#" h2 - "h2" 2026-03-02T10:15:44"#) => {"event": {"category": ["network"]}, "source": {"ip": "198.51.100.201", "bytes": 1873},
            "destination": {"ip": "10.0.9.11", "port": 8443, "bytes": 40962, "domain": "edge.example"}, "tls": {"version": "1.3"},
            "aws": {"elb": {"connection_time": {"ms": 2041}, "tls_handshake_time": {"ms": 14}, "ssl_named_group": "x25519", "alpn_client_preference_list": ["h2"]}}};
        connection_line: connection("- - - Failed:ClientCertExpired TID_1") => {"event": {"category": ["network"], "outcome": "failure"},
            "client": {"ip": "192.0.2.61", "port": 33870}, "aws": {"elb": {"listener": "443", "tls_error_code": "ClientCertExpired", "tls_handshake_latency": 4.036}}};
        health_check_line: "https 2026-03-02T10:15:07.560481Z 5.0 10.0.4.12:9000 api FAIL 503 ResponseCodeMismatch" => {"event": {"outcome": "failure"},
            "destination": {"ip": "10.0.4.12", "port": 9000},
            "aws": {"elb": {"health_check": {"latency": 5.0, "status": "FAIL", "status_code": 503, "reason_code": "ResponseCodeMismatch", "target_group_id": "api"}}}};
        invalid_and_extra: format!("{} new", alb_head(&[(9, "abc")])) => {"aws": {"elb": {"invalid": {"elb_status_code": "abc"}, "extra": ["new"]}}, "tags": ["_elbfieldfailure"]};
        unparsed_lines_are_the_same_as_in_native: "hello" => {"event": {"original": "hello", "kind": null}, "tags": ["_elbparsefailure"], "ecs": null};
    }
}

mod vended {
    use super::*;

    reads! {
        chosen_members_of_a_health_check: r#"{"type":"http","status":"PASS"}"# => {"kind": "alb_health_check", "status": "PASS"};
        chosen_members_of_an_nlb: r#"{"type":"tcp","version":"2.0","client_port":"192.0.2.1:80"}"# => {"kind": "nlb", "type": "tcp", "client_ip": "192.0.2.1"};
        arrays_are_lists: r#"{"actions_executed":["waf","forward"],"target_port_list":["10.0.4.9:9000"],"target_status_code_list":[502,null]}"# =>
            {"kind": "alb", "actions_executed": ["waf", "forward"], "target_port_list": ["10.0.4.9:9000"], "target_status_code_list": [502, null]};
        array_of_protocols: r#"{"type":"tls","alpn_client_preference_list":["h2","http/1.1"]}"# => {"alpn_client_preference_list": ["h2", "http/1.1"]};
        empty_array: r#"{"type":"tls","alpn_client_preference_list":[]}"# => {"alpn_client_preference_list": null};
        alb_line: r#"{"type":"h2","time":"2026-03-02T10:15:04.3Z","client_port":"192.0.2.1:80","request_line":"GET https://h:443/ HTTP/2.0"}"# =>
            {"kind": "alb", "client_ip": "192.0.2.1", "client_port": 80, "request": {"host": "h"}};
        nlb_line: r#"{"type":"tls","destination_port":"10.0.0.1:443","tls_named_group":"x25519"}"# => {"kind": "nlb", "destination_ip": "10.0.0.1", "tls_keyexchange": "x25519"};
        health_check_line: r#"{"target_group_id":"api","target_addr":"10.0.0.1:80"}"# => {"kind": "alb_health_check", "target_ip": "10.0.0.1"};
        connection_line: r#"{"listener_port":443,"client_port":5}"# => {"kind": "alb_connection", "listener_port": 443, "client_port": 5};
        values_follow_the_rules_of_plain_lines: r#"{"type":"http","elb_status_code":"abc","user_agent":null,"request_processing_time":-1}"# =>
            {"invalid": {"elb_status_code": "abc"}, "user_agent": null, "request_processing_time": null};
        keeps_unknown_members: r#"{"type":"http","a":1,"b":"x\"y","c":null,"d":"-"}"# => {"extra": ["a=1", "b=x\"y"]};
    }

    #[test]
    fn a_json_line_is_never_short_and_gets_the_object_time() {
        let event = event(Schema::Native, r#"{"type":"http"}"#);
        assert_eq!((event.get("tags"), &event["@timestamp"]), (None, &json!("1970-01-01T00:00:00Z")));
    }
}

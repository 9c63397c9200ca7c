//! Splits the request field, `METHOD url PROTOCOL`, and its URL.
//!
//! Clients send arbitrary requests, and the load balancer logs them as they are. So splitting never fails: a text that cannot be
//! split is kept whole.

use memchr::{memchr, memchr2, memrchr};

/// The parts of a request line. Every part is as logged, its escapes not decoded; a missing part is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Request<'a> {
    /// The whole field, only if it is a single word and cannot be split.
    pub line: Option<&'a [u8]>,
    /// The text before the first space.
    pub method: Option<&'a [u8]>,
    /// The text between method and protocol, spaces included.
    pub url: Option<&'a [u8]>,
    /// `HTTP/1.1`.
    pub protocol: Option<&'a [u8]>,
    /// The parts of the URL, as far as it splits.
    pub parts: Url<'a>,
}

/// The parts of a URL of the form `scheme://host:port/path?query` or `/path?query`; all none for any other form.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Url<'a> {
    /// `https`.
    pub scheme: Option<&'a [u8]>,
    /// The host without user information, port, or the brackets of an IPv6 address.
    pub host: Option<&'a [u8]>,
    /// Decimal digits, at most 65535.
    pub port: Option<&'a [u8]>,
    /// The text from the first slash.
    pub path: Option<&'a [u8]>,
    /// The text after the first question mark.
    pub query: Option<&'a [u8]>,
}

impl<'a> Request<'a> {
    /// Returns whether a field says that there is no request: `- - - `.
    pub fn is_absent(field: &[u8]) -> bool {
        // Nearly every request begins with its method.
        !field.first().is_some_and(u8::is_ascii_alphabetic) && Request::split(field).is_none()
    }

    /// Splits a request field; none if it says that there is no request.
    pub fn split(field: &'a [u8]) -> Option<Request<'a>> {
        let field = trim_end(field);
        let Some(first_space) = first(b' ', field) else {
            let line = Some(present(field)?);
            return Some(Request { line, ..Request::default() });
        };
        let (method, rest) = (&field[..first_space], &field[first_space..]);
        let (url, protocol) = split_protocol(rest);
        let url = present(url);
        let request = Request {
            line: None,
            method: present(method),
            url,
            protocol: protocol.and_then(present),
            parts: url.and_then(Url::split).unwrap_or_default(),
        };
        (request != Request::default()).then_some(request)
    }
}

impl<'a> Url<'a> {
    fn split(url: &'a [u8]) -> Option<Url<'a>> {
        if url.first() == Some(&b'/') {
            let (path, query) = split_query(url);
            return Some(Url { path, query, ..Url::default() });
        }
        let (scheme, rest) = split_scheme(url)?;
        let end = memchr2(b'/', b'?', rest).unwrap_or(rest.len());
        let (host, port) = split_authority(&rest[..end])?;
        let (path, query) = split_query(&rest[end..]);
        Some(Url { scheme: Some(scheme), host, port, path, query })
    }
}

/// Finds a byte that is likely to be near the start of the text. A vectorised search takes longer to start.
fn first(byte: u8, text: &[u8]) -> Option<usize> {
    text.iter().position(|&other| other == byte)
}

/// Finds a byte that is likely to be near the end of the text.
pub(super) fn last(byte: u8, text: &[u8]) -> Option<usize> {
    (0..text.len()).rev().find(|&at| text[at] == byte)
}

fn trim_end(text: &[u8]) -> &[u8] {
    let spaces = text.iter().rev().take_while(|&&byte| byte == b' ').count();
    &text[..text.len() - spaces]
}

fn present(text: &[u8]) -> Option<&[u8]> {
    (!text.is_empty() && text != b"-").then_some(text)
}

/// Splits the protocol off. `rest` begins with the space after the method.
fn split_protocol(rest: &[u8]) -> (&[u8], Option<&[u8]>) {
    let last_space = last(b' ', rest).unwrap_or(0);
    let last_word = &rest[last_space + 1..];
    if last_word == b"-" || last_word.starts_with(b"HTTP/") {
        (rest.get(1..last_space).unwrap_or_default(), Some(last_word))
    } else {
        (&rest[1..], None)
    }
}

fn split_scheme(url: &[u8]) -> Option<(&[u8], &[u8])> {
    let colon = first(b':', url)?;
    let (scheme, rest) = (&url[..colon], url[colon..].strip_prefix(b"://")?);
    let valid = matches!(scheme, [first, others @ ..] if first.is_ascii_alphabetic()
        && others.iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.')));
    valid.then_some((scheme, rest))
}

/// Splits host and port; none where the text after the last colon is not a port.
#[expect(clippy::type_complexity, reason = "the only caller destructures the pair")]
fn split_authority(authority: &[u8]) -> Option<(Option<&[u8]>, Option<&[u8]>)> {
    let authority = memrchr(b'@', authority).map_or(authority, |at| &authority[at + 1..]);
    let colon = last(b':', authority).filter(|&colon| memchr(b']', &authority[colon..]).is_none());
    let Some(colon) = colon else { return Some((non_empty(unbracketed(authority)), None)) };
    let port = &authority[colon + 1..];
    let port = port.strip_suffix(b"-").unwrap_or(port);
    is_port(port).then(|| (non_empty(unbracketed(&authority[..colon])), Some(port)))
}

/// Returns whether `text` is the digits of a number up to 65535.
pub(super) fn is_port(text: &[u8]) -> bool {
    let significant = text.iter().position(|&byte| byte != b'0').map_or(&text[text.len()..], |at| &text[at..]);
    !text.is_empty()
        && significant.len() <= 5
        && significant
            .iter()
            .try_fold(0_u32, |port, byte| byte.is_ascii_digit().then(|| port * 10 + u32::from(byte - b'0')))
            .is_some_and(|port| port <= 65535)
}

/// Returns an IPv6 address without its brackets, and any other text as it is.
pub(super) fn unbracketed(host: &[u8]) -> &[u8] {
    host.strip_prefix(b"[").and_then(|host| host.strip_suffix(b"]")).unwrap_or(host)
}

fn split_query(text: &[u8]) -> (Option<&[u8]>, Option<&[u8]>) {
    match memchr(b'?', text) {
        Some(at) => (non_empty(&text[..at]), non_empty(&text[at + 1..])),
        None => (non_empty(text), None),
    }
}

fn non_empty(text: &[u8]) -> Option<&[u8]> {
    (!text.is_empty()).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Shows the parts as `name=value` words, in the order of the event.
    fn show(field: &str) -> String {
        let request = Request::split(field.as_bytes());
        assert_eq!(Request::is_absent(field.as_bytes()), request.is_none(), "{field:?}");
        let Some(request) = request else { return "none".to_owned() };
        let Url { scheme, host, port, path, query } = request.parts;
        let parts = [
            ("line", request.line),
            ("method", request.method),
            ("url", request.url),
            ("protocol", request.protocol),
            ("scheme", scheme),
            ("host", host),
            ("port", port),
            ("path", path),
            ("query", query),
        ];
        let shown = parts.into_iter().filter_map(|(name, part)| Some(format!("{name}=<{}>", str::from_utf8(part?).unwrap())));
        shown.collect::<Vec<_>>().join(" ")
    }

    macro_rules! requests {
        ($($name:ident: $field:literal => $expected:literal,)*) => {
            $(#[test] fn $name() { assert_eq!(show($field), $expected, "request {:?}", $field); })*
        };
    }

    requests! {
        usual: "GET https://shop.example:443/cart?id=7 HTTP/2.0" =>
            "method=<GET> url=<https://shop.example:443/cart?id=7> protocol=<HTTP/2.0> scheme=<https> host=<shop.example> port=<443> path=</cart> query=<id=7>",
        nothing: "" => "none",
        dash: "-" => "none",
        three_dashes: "- - -" => "none",
        three_dashes_and_a_space: "- - - " => "none",
        two_dashes: "- -" => "none",
        one_word: "\\x16\\x03" => "line=<\\x16\\x03>",
        no_method: "- http://h:80- -" => "url=<http://h:80-> scheme=<http> host=<h> port=<80>",
        no_method_no_protocol: "- http://h:8080- " => "url=<http://h:8080-> scheme=<http> host=<h> port=<8080>",
        dash_port_and_slash: "- http://h:80-/ " => "url=<http://h:80-/> scheme=<http> host=<h> port=<80> path=</>",
        dash_for_the_protocol: "GET http://h:80- -" => "method=<GET> url=<http://h:80-> scheme=<http> host=<h> port=<80>",
        no_protocol: "GET http://h/p" => "method=<GET> url=<http://h/p> scheme=<http> host=<h> path=</p>",
        space_behind_the_protocol: "GET http://h/p HTTP/1.0 " =>
            "method=<GET> url=<http://h/p> protocol=<HTTP/1.0> scheme=<http> host=<h> path=</p>",
        relative: "GET /relative HTTP/1.1" => "method=<GET> url=</relative> protocol=<HTTP/1.1> path=</relative>",
        relative_with_query: "GET /a?b?c HTTP/1.1" => "method=<GET> url=</a?b?c> protocol=<HTTP/1.1> path=</a> query=<b?c>",
        odd_method: "SSTP_DUPLEX_POST https://h:443/ HTTP/1.1" =>
            "method=<SSTP_DUPLEX_POST> url=<https://h:443/> protocol=<HTTP/1.1> scheme=<https> host=<h> port=<443> path=</>",
        option_for_a_method: "--location /x HTTP/1.1" => "method=<--location> url=</x> protocol=<HTTP/1.1> path=</x>",
        lower_case_method: "get /x HTTP/1.1" => "method=<get> url=</x> protocol=<HTTP/1.1> path=</x>",
        lower_case_protocol_is_url: "GET /x http/1.1" => "method=<GET> url=</x http/1.1> path=</x http/1.1>",
        spaces_in_the_url: "GET http://h:80/a b c HTTP/1.1" =>
            "method=<GET> url=<http://h:80/a b c> protocol=<HTTP/1.1> scheme=<http> host=<h> port=<80> path=</a b c>",
        method_and_protocol_alone: "GET HTTP/1.1" => "method=<GET> protocol=<HTTP/1.1>",
        ipv6_host: "GET http://[2001:db8::1]:80/ HTTP/1.1" =>
            "method=<GET> url=<http://[2001:db8::1]:80/> protocol=<HTTP/1.1> scheme=<http> host=<2001:db8::1> port=<80> path=</>",
        ipv6_host_without_port: "GET http://[2001:db8::1]/ HTTP/1.1" =>
            "method=<GET> url=<http://[2001:db8::1]/> protocol=<HTTP/1.1> scheme=<http> host=<2001:db8::1> path=</>",
        user_information: "GET http://u:p@x@h:80/ HTTP/1.1" =>
            "method=<GET> url=<http://u:p@x@h:80/> protocol=<HTTP/1.1> scheme=<http> host=<h> port=<80> path=</>",
        at_sign_in_the_path: "GET http://h:80/@x HTTP/1.1" =>
            "method=<GET> url=<http://h:80/@x> protocol=<HTTP/1.1> scheme=<http> host=<h> port=<80> path=</@x>",
        query_without_path: "GET http://h?a=/b HTTP/1.1" =>
            "method=<GET> url=<http://h?a=/b> protocol=<HTTP/1.1> scheme=<http> host=<h> query=<a=/b>",
        empty_query: "GET http://h/p? HTTP/1.1" =>
            "method=<GET> url=<http://h/p?> protocol=<HTTP/1.1> scheme=<http> host=<h> path=</p>",
        fragment_stays: "GET http://h/p#a?b HTTP/1.1" =>
            "method=<GET> url=<http://h/p#a?b> protocol=<HTTP/1.1> scheme=<http> host=<h> path=</p#a> query=<b>",
        port_too_large: "GET http://h:65536/ HTTP/1.1" => "method=<GET> url=<http://h:65536/> protocol=<HTTP/1.1>",
        largest_port: "GET http://h:65535/ HTTP/1.1" =>
            "method=<GET> url=<http://h:65535/> protocol=<HTTP/1.1> scheme=<http> host=<h> port=<65535> path=</>",
        port_of_letters: "GET http://h:x/ HTTP/1.1" => "method=<GET> url=<http://h:x/> protocol=<HTTP/1.1>",
        empty_port: "GET http://h:/ HTTP/1.1" => "method=<GET> url=<http://h:/> protocol=<HTTP/1.1>",
        two_dashes_behind_the_port: "GET http://h:80--/ HTTP/1.1" => "method=<GET> url=<http://h:80--/> protocol=<HTTP/1.1>",
        host_and_port_for_connect: "CONNECT h:443 HTTP/1.1" => "method=<CONNECT> url=<h:443> protocol=<HTTP/1.1>",
        asterisk: "OPTIONS * HTTP/1.1" => "method=<OPTIONS> url=<*> protocol=<HTTP/1.1>",
        odd_host: "GET http://a b|c(]:80/ HTTP/1.1" =>
            "method=<GET> url=<http://a b|c(]:80/> protocol=<HTTP/1.1> scheme=<http> host=<a b|c(]> port=<80> path=</>",
        jndi_in_the_host: "GET http://${jndi:ldap://x/a}:80/ HTTP/1.1" =>
            "method=<GET> url=<http://${jndi:ldap://x/a}:80/> protocol=<HTTP/1.1>",
        percent_encoding_stays: "GET http://h/%%32%65 HTTP/1.1" =>
            "method=<GET> url=<http://h/%%32%65> protocol=<HTTP/1.1> scheme=<http> host=<h> path=</%%32%65>",
        only_a_scheme: "GET http:// HTTP/1.1" => "method=<GET> url=<http://> protocol=<HTTP/1.1> scheme=<http>",
    }
}

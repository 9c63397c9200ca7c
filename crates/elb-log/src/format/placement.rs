//! Finds fields that are not in their place, because the line lacks a field before them.
//!
//! Nothing in a line says which fields it has, and a delivery through CloudWatch Logs can leave out any of them. The fields after a
//! gap would be taken for others. Some fields have a shape of their own, though, such as a trace ID. Where one of them is in its
//! place, all fields before it are. This is so for nearly every line, and only the fields after it have to be looked at.

use super::shape::Shape;
use super::time::is_time;
use super::{Field, Format, Token, Type};

/// Number of fields at most that are looked at to know that the fields before them are in their place.
const MOST_ANCHORS: usize = 2;

/// The indexes of the last fields of a table that have a shape of their own, last to first.
#[derive(Clone, Copy, Debug)]
pub struct Anchors([Option<usize>; MOST_ANCHORS]);

impl Anchors {
    /// Finds the anchors of a table.
    pub(super) const fn of(fields: &[Field]) -> Self {
        let (mut anchors, mut count, mut index) = ([None; MOST_ANCHORS], 0, fields.len());
        while index > 0 && count < MOST_ANCHORS {
            index -= 1;
            if matches!(fields[index].ty, Type::NodeIp | Type::ConnectionTraceId | Type::LoadBalancerId | Type::Time) {
                anchors[count] = Some(index);
                count += 1;
            }
        }
        Anchors(anchors)
    }
}

/// Returns a bit for each known field of a line that has the text of another field.
#[inline]
pub(super) fn misplaced(format: &Format, tokens: &[Token<'_>]) -> u64 {
    let is_in_place = |&index: &usize| tokens.get(index).is_some_and(|token| format.fields[index].ty.is_shape_of(token.raw));
    let checked = format.anchors.0.into_iter().flatten().find(is_in_place).map_or(0, |index| index + 1);
    // Behind the last anchor there is often nothing.
    if tokens.len() <= checked { 0 } else { misplaced_from(checked, format, tokens) }
}

/// Returns the same for the fields from `start` on.
fn misplaced_from(start: usize, format: &Format, tokens: &[Token<'_>]) -> u64 {
    let fields = format.fields.iter().zip(tokens).enumerate().skip(start);
    let misplaced = fields.filter(|(_, (field, token))| !token.is_absent() && !field.ty.allows(token.raw));
    misplaced.fold(0, |bits, (index, _)| bits | 1 << index)
}

impl Type {
    /// Returns whether a text has the shape that only fields of this type have.
    #[inline]
    fn is_shape_of(self, text: &[u8]) -> bool {
        match self {
            // The first digit is enough: what a line with a gap has here begins with a letter.
            Type::NodeIp => text.first().is_some_and(u8::is_ascii_digit),
            Type::ConnectionTraceId => Shape::of(text) == Shape::ConnectionTrace,
            Type::LoadBalancerId => Shape::of(text) == Shape::LoadBalancer,
            Type::Time => is_time(text),
            _ => false,
        }
    }

    /// Returns whether a text may be a field of this type, and is not in the shape of another one. Texts of clients may be anything.
    /// Other types are checked when they are read.
    fn allows(self, text: &[u8]) -> bool {
        match self {
            Type::Word | Type::LoadBalancerName | Type::WordList | Type::AlpnList => Shape::of(text) == Shape::Other,
            Type::Arn => matches!(Shape::of(text), Shape::Arn | Shape::Other),
            Type::LoadBalancerId => matches!(Shape::of(text), Shape::LoadBalancer | Shape::Arn | Shape::Other),
            Type::ConnectionTraceId => matches!(Shape::of(text), Shape::ConnectionTrace | Shape::Other),
            Type::TargetList => !matches!(Shape::of(text), Shape::LoadBalancer | Shape::ConnectionTrace | Shape::Time),
            _ => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::Kind;

    macro_rules! allows {
        ($($name:ident: $ty:ident $text:literal => $expected:literal,)*) => {
            $(#[test] fn $name() { assert_eq!(Type::$ty.allows($text.as_bytes()), $expected, "{:?}", $text); })*
        };
    }

    allows! {
        cipher: Word "TLS_AES_128_GCM_SHA256" => true,
        trace_id_for_a_word: Word "TID_404949171d49ad4b" => false,
        load_balancer_for_a_word: Word "app/web/50dc6c495c0c9188" => false,
        address_for_a_word: Word "203.0.113.7" => false,
        arn_for_a_word: Word "arn:aws:acm:eu-west-1:123456789012:certificate/6f1c0a52" => false,
        arn: Arn "arn:aws:acm:eu-west-1:123456789012:certificate/6f1c0a52" => true,
        word_for_an_arn: Arn "session-reused" => true,
        trace_header_for_an_arn: Arn "Root=1-69a56328-246adb36420e01d6e4e6e9ec" => false,
        load_balancer_id: LoadBalancerId "app/web/50dc6c495c0c9188" => true,
        load_balancer_id_without_slashes: LoadBalancerId "my-loadbalancer" => true,
        client_for_a_load_balancer_id: LoadBalancerId "192.0.2.1:80" => false,
        load_balancer_name: LoadBalancerName "12345" => true,
        load_balancer_id_for_a_name: LoadBalancerName "app/web/50dc6c495c0c9188" => false,
        connection_trace_id: ConnectionTraceId "TID_404949171d49ad4b" => true,
        connection_trace_id_of_another_form: ConnectionTraceId "c-7" => true,
        load_balancer_for_a_connection_trace_id: ConnectionTraceId "app/web/50dc6c495c0c9188" => false,
        words: WordList "waf,forward" => true,
        address_for_words: WordList "10.0.4.9:9000" => false,
        targets: TargetList "10.0.4.9:9000 [2001:db8::2]:80 web.internal:80 -" => true,
        trace_id_for_targets: TargetList "TID_404949171d49ad4b" => false,
        protocols: AlpnList "\"h2\",\"http/1.1\"" => true,
        time_for_protocols: AlpnList "2026-03-02T10:15:44" => false,
        any_text_of_a_client: Text "TID_404949171d49ad4b" => true,
    }

    #[test]
    fn the_last_fields_with_a_shape_of_their_own_are_anchors() {
        for (kind, expected) in [
            (Kind::Alb, vec!["ip_address", "conn_trace_id"]),
            (Kind::AlbConnection, vec!["ip_address", "elb"]),
            (Kind::AlbHealthCheck, vec!["ip_address", "elb"]),
            (Kind::Nlb, vec!["tls_connection_creation_time", "elb"]),
            (Kind::Classic, vec![]),
        ] {
            let format = kind.format();
            let anchors: Vec<&str> = format.anchors.0.into_iter().flatten().map(|index| format.fields[index].aws).collect();
            assert_eq!(anchors, expected, "{kind}");
        }
    }
}

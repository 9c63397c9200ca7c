//! Why an object is not shipped, as one word of a closed list: equal causes have equal reasons, so that a query can group by them.

use serde::Serialize;

/// Defines the reasons from one list: the enum, its names, and the table in `docs/delivery.md`. To add a reason, add it to this
/// list and run `UPDATE_GOLDEN=1 cargo test --lib lists_all_reasons`.
macro_rules! define_reasons {
    ($($(#[doc = $doc:literal])+ $reason:ident = $name:literal;)*) => {
        /// Why an object is not shipped, or not yet.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
        pub enum Reason {
            $($(#[doc = $doc])+ #[serde(rename = $name)] $reason,)*
        }

        impl Reason {
            /// All reasons, with their meanings.
            pub const ALL: &[(Reason, &str)] = &[$((Reason::$reason, concat!($($doc),+)),)*];

            /// Returns the reason's name in log lines and reports.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Reason::$reason => $name,)*
                }
            }
        }
    };
}

define_reasons! {
    /// No response of Logstash: no connection, a lost connection, a timeout, or no endpoint.
    Unreachable = "unreachable";
    /// Logstash is busy or fails: 408, 429, 5xx, or every endpoint asked to wait.
    Busy = "busy";
    /// Logstash, or something in front of it, refuses every request: a wrong URL, wrong credentials, a firewall, a proxy.
    Refused = "refused";
    /// The shipper and Logstash do not agree on TLS, or one does not accept the other's certificate.
    Tls = "tls";
    /// Logstash rejects single events, and they are too many or there is no `DEAD_LETTER_URL`.
    Rejected = "rejected";
    /// Rejected events cannot be written to `DEAD_LETTER_URL`.
    DeadLetter = "dead_letter";
    /// The credentials for Logstash cannot be read.
    Credentials = "credentials";
    /// Standard output cannot be written.
    Output = "output";
    /// The bucket or the object does not exist.
    NotFound = "not_found";
    /// Reading the object is not allowed.
    Denied = "denied";
    /// The bucket is in another region.
    WrongRegion = "wrong_region";
    /// The object cannot be decrypted: its KMS key is not usable, or it has a key of the customer (SSE-C).
    Encrypted = "encrypted";
    /// The object is in an archive.
    Archived = "archived";
    /// The object changed while it was read.
    Changed = "changed";
    /// The object's data is corrupt.
    Corrupt = "corrupt";
    /// The object's format is not supported.
    UnsupportedFormat = "unsupported_format";
    /// The name is not that of a readable object or file.
    InvalidName = "invalid_name";
    /// S3 or the file system did not send the object, or not to its end.
    Unreadable = "unreadable";
    /// The objects cannot be listed (command line).
    Listing = "listing";
    /// The notification cannot be read.
    UnknownEvent = "unknown_event";
    /// The object needs more than one invocation, and the next one continues it.
    Continued = "continued";
    /// No time was left in the invocation.
    OutOfTime = "out_of_time";
    /// Ctrl-C or SIGTERM has ended the run (command line).
    Interrupted = "interrupted";
    /// A bug of the shipper.
    Internal = "internal";
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fs;

    use super::*;

    /// `UPDATE_GOLDEN=1 cargo test --lib lists_all_reasons` writes the table.
    #[test]
    fn the_delivery_page_lists_all_reasons() {
        const HEAD: &str = "| reason | meaning |\n| --- | --- |\n";
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/delivery.md");
        let page = fs::read_to_string(path).expect("the page");
        let (before, rest) = page.split_once(HEAD).expect("the table of reasons");
        let (table, after) = rest.split_at(rest.find("\n\n").map_or(0, |end| end + 1));
        let row = |(reason, meaning): &(Reason, &str)| format!("| `{}` | {} |\n", reason.name(), meaning.trim());
        let expected: String = Reason::ALL.iter().map(row).collect();
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            fs::write(path, [before, HEAD, &expected, after].concat()).expect("writing the page");
        } else {
            assert_eq!(table, expected, "docs/delivery.md is stale; run this test with UPDATE_GOLDEN=1");
        }
    }

    #[test]
    fn every_reason_has_a_name_of_its_own() {
        let names: BTreeSet<&str> = Reason::ALL.iter().map(|(reason, _)| reason.name()).collect();
        assert_eq!(names.len(), Reason::ALL.len());
        for (reason, _) in Reason::ALL {
            assert_eq!(serde_json::to_value(reason).unwrap(), reason.name());
        }
    }
}

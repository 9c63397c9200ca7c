//! The ARNs that a job needs.

/// An ARN: `arn:PARTITION:SERVICE:REGION:ACCOUNT:RESOURCE`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Arn {
    /// The complete ARN.
    pub text: String,
    /// The partition: `aws`, or that of China or of AWS GovCloud (US).
    pub partition: String,
    /// The region; empty for a role.
    pub region: String,
    /// The account id, twelve digits.
    pub account: String,
}

impl Arn {
    /// Parses the ARN of a Lambda function, with or without a version or an alias.
    ///
    /// # Errors
    /// The text is not the ARN of a function.
    pub fn parse_function(text: &str) -> Result<Arn, String> {
        let arn = Arn::parse(text, "lambda", "function:").filter(|arn| !arn.region.is_empty());
        arn.ok_or_else(|| "expected arn:aws:lambda:REGION:ACCOUNT:function:NAME".to_owned())
    }

    /// Parses the ARN of an IAM role.
    ///
    /// # Errors
    /// The text is not the ARN of a role.
    pub fn parse_role(text: &str) -> Result<Arn, String> {
        Arn::parse(text, "iam", "role/").ok_or_else(|| "expected arn:aws:iam::ACCOUNT:role/NAME".to_owned())
    }

    fn parse(text: &str, service: &str, resource_type: &str) -> Option<Arn> {
        let mut parts = text.splitn(6, ':');
        let mut next = || parts.next();
        let (arn, partition, found, region, account) = (next()?, next()?, next()?, next()?, next()?);
        let has_name = next()?.strip_prefix(resource_type).is_some_and(|name| !name.is_empty());
        let is_account = account.len() == 12 && account.bytes().all(|byte| byte.is_ascii_digit());
        let is_valid = arn == "arn" && partition.starts_with("aws") && found == service && has_name && is_account;
        is_valid.then(|| Arn {
            text: text.to_owned(),
            partition: partition.to_owned(),
            region: region.to_owned(),
            account: account.to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_arns_and_rejects_other_text() {
        let china = Arn::parse_role("arn:aws-cn:iam::123456789012:role/elb").unwrap();
        assert_eq!((china.partition.as_str(), china.account.as_str()), ("aws-cn", "123456789012"));
        for wrong in [
            "shipper",
            "arn:aws:lambda:eu-west-1:1234:function:f",
            "arn:aws:lambda::123456789012:function:f",
            "arn:aws:lambda:eu-west-1:123456789012:function:",
        ] {
            assert!(Arn::parse_function(wrong).is_err(), "{wrong}");
        }
        assert!(Arn::parse_role("arn:aws:iam::123456789012:user/elb").is_err());
    }
}

//! What S3's errors mean: an error of the SDK comes in; whether a retry helps, and one line of text with what to do, go out.
//!
//! <https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html>

use std::error::Error;

use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use elb_common::aws::explain_error;
use elb_log::origin::ObjectName;

use super::error::{ObjectError, Refusal};

/// The header in which S3 names the region of a bucket that was requested in another one.
const REGION_HEADER: &str = "x-amz-bucket-region";

/// Codes of errors about the credentials of the request. Other credentials can succeed, so they are not about the object.
const CREDENTIALS_CODES: [&str; 7] = [
    "ExpiredToken",
    "InvalidAccessKeyId",
    "InvalidToken",
    "NotSignedUp",
    "RequestTimeTooSkewed",
    "SignatureDoesNotMatch",
    "TokenRefreshRequired",
];

/// Codes of errors of KMS that end by themselves, after the prefix `KMS.`.
const TEMPORARY_KMS_CODES: [&str; 4] =
    ["DependencyTimeoutException", "InternalException", "KMSInternalException", "ThrottlingException"];

/// The kinds of access policy, as the messages of AWS name them, and what to do if one denies a request.
///
/// <https://docs.aws.amazon.com/IAM/latest/UserGuide/troubleshoot_access-denied.html>
const POLICIES: [(&str, &str); 6] = [
    ("service control policy", "allow it in the service control policy of the AWS organization"),
    ("resource control policy", "allow it in the resource control policy of the AWS organization"),
    ("VPC endpoint policy", "allow it in the policy of the VPC endpoint of S3"),
    ("permissions boundary", "allow it in the permissions boundary of the role"),
    ("session policy", "allow it in the session policy of the credentials"),
    ("identity-based policy", "allow it in the role"),
];

/// A call of S3.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum S3Call {
    /// GetObject.
    Get,
    /// ListObjectsV2.
    List,
    /// PutObject.
    Put,
    /// DeleteObject.
    Delete,
}

/// What an error of S3 means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Meaning {
    NoObject,
    NoBucket,
    Archived,
    Denied,
    /// The bucket is in another region.
    WrongRegion,
    /// S3 redirects requests of a new bucket until its name is known everywhere.
    NewBucket,
    /// The KMS key of the object cannot be used.
    Key,
    /// The object has a key of the customer (SSE-C).
    CustomerKey,
    /// S3 never accepts such a request for this name.
    Request,
    /// The credentials are invalid or have expired.
    Credentials,
    /// Anything else: a later attempt may succeed.
    Temporary,
}

/// The parts of S3's response that tell what it means.
#[derive(Clone, Copy, Debug, Default)]
struct Response<'a> {
    status: u16,
    code: &'a str,
    message: &'a str,
    /// The value of [`REGION_HEADER`].
    region: Option<&'a str>,
}

/// Returns why an object cannot be opened.
pub(super) fn open_error<E: ProvideErrorMetadata + Error + 'static>(name: &ObjectName, error: &SdkError<E>) -> ObjectError {
    let name = name.clone();
    let refused = |refusal, name| ObjectError::Refused { name, refusal, detail: describe_s3_error(S3Call::Get, error) };
    match response(error).map_or(Meaning::Temporary, |response| response.meaning()) {
        Meaning::NoObject => ObjectError::NotFound { name },
        Meaning::NoBucket => ObjectError::NoBucket { name },
        Meaning::Archived => ObjectError::Archived { name },
        Meaning::Denied => refused(Refusal::Denied, name),
        Meaning::WrongRegion => refused(Refusal::WrongRegion, name),
        Meaning::Key | Meaning::CustomerKey => refused(Refusal::Encrypted, name),
        Meaning::Request => refused(Refusal::InvalidRequest, name),
        Meaning::NewBucket | Meaning::Credentials | Meaning::Temporary => {
            ObjectError::Unreadable { name, at: 0, detail: describe_s3_error(S3Call::Get, error) }
        }
    }
}

/// Describes an error in one line: code, message, status and request ID of S3, or why there is no response, and what to do.
pub(crate) fn describe_s3_error<E: ProvideErrorMetadata + Error + 'static>(call: S3Call, error: &SdkError<E>) -> String {
    if let (SdkError::TimeoutError(_), Some(timeout)) = (error, error.source()) {
        return format!("S3 does not respond: {timeout}; check the network path to S3, for example the VPC endpoint");
    }
    let text = explain_error(error);
    match response(error).and_then(|response| response.advice(call)) {
        Some(advice) => format!("{text}; {advice}"),
        None => text,
    }
}

/// Returns S3's response, if it is that of an error.
fn response<E: ProvideErrorMetadata>(error: &SdkError<E>) -> Option<Response<'_>> {
    let SdkError::ServiceError(service) = error else { return None };
    Some(Response {
        status: service.raw().status().as_u16(),
        code: service.err().code().unwrap_or_default(),
        message: service.err().message().unwrap_or_default(),
        region: service.raw().headers().get(REGION_HEADER),
    })
}

impl<'a> Response<'a> {
    fn meaning(&self) -> Meaning {
        match (self.status, self.code) {
            (_, "NoSuchKey") => Meaning::NoObject,
            (_, "NoSuchBucket") => Meaning::NoBucket,
            (_, "InvalidObjectState") => Meaning::Archived,
            (_, "AccessDenied" | "AllAccessDisabled" | "AccountProblem") => Meaning::Denied,
            (_, "PermanentRedirect" | "IllegalLocationConstraintException") | (301, _) => Meaning::WrongRegion,
            (_, "AuthorizationHeaderMalformed") if self.bucket_region().is_some() => Meaning::WrongRegion,
            (_, "AuthorizationHeaderMalformed") => Meaning::Credentials,
            (_, "TemporaryRedirect") | (307, _) => Meaning::NewBucket,
            (_, "InvalidRequest") if self.message.contains("Server Side Encryption") => Meaning::CustomerKey,
            (_, "MethodNotAllowed" | "InvalidBucketName" | "InvalidURI" | "KeyTooLongError") | (405, _) => Meaning::Request,
            (_, code) if CREDENTIALS_CODES.contains(&code) => Meaning::Credentials,
            (_, code) => match code.strip_prefix("KMS.") {
                Some(code) if !TEMPORARY_KMS_CODES.contains(&code) => Meaning::Key,
                _ => Meaning::Temporary,
            },
        }
    }

    /// Returns the region of the bucket, if the response names it: in a header, or in the message of one of two errors.
    fn bucket_region(&self) -> Option<&'a str> {
        let is_region = |text: &&str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
        let expected = || self.message.split_once("expecting '")?.1.split('\'').next();
        let constraint = || self.message.strip_prefix("The ")?.split_once(" location constraint").map(|(region, _)| region);
        self.region.or_else(expected).or_else(constraint).filter(is_region)
    }

    /// Returns what to do.
    fn advice(&self, call: S3Call) -> Option<String> {
        match self.meaning() {
            Meaning::Denied => Some(self.advice_if_denied(call)),
            Meaning::WrongRegion => Some(match self.bucket_region() {
                Some(region) => {
                    format!("the bucket is in {region}; set AWS_REGION={region}, or deploy the function in that region")
                }
                None => "the bucket is in another region; set AWS_REGION to it, or deploy the function there".to_owned(),
            }),
            Meaning::NewBucket => Some("S3 does so for some hours after a bucket was created; try again later".to_owned()),
            Meaning::Key => Some("make the KMS key of the object usable: enable it, or cancel its deletion".to_owned()),
            Meaning::CustomerKey => {
                Some("the object has a key of the customer (SSE-C); copy it with another encryption, then replay it".to_owned())
            }
            Meaning::Credentials => Some("renew the AWS credentials, and check the clock of this computer".to_owned()),
            Meaning::Request => Some("check that the bucket and the key name an object that is not deleted".to_owned()),
            Meaning::NoObject | Meaning::NoBucket | Meaning::Archived | Meaning::Temporary => None,
        }
    }

    fn advice_if_denied(&self, call: S3Call) -> String {
        let (permission, resource) = match call {
            S3Call::Get => ("s3:GetObject", "it"),
            S3Call::List => ("s3:ListBucket", "the bucket"),
            S3Call::Put => ("s3:PutObject", "it"),
            S3Call::Delete => ("s3:DeleteObject", "it"),
        };
        let action = self.message.split_once("not authorized to perform: ").and_then(|(_, rest)| rest.split_whitespace().next());
        let policy = POLICIES.iter().find(|(policy, _)| self.message.contains(policy)).map(|(_, advice)| *advice);
        match (action, policy) {
            (Some(action), None | Some("allow it in the role")) if action.starts_with("kms:") => {
                format!("allow {action} on the key, in the role (LogBucketKmsKeyArn) and in the policy of the key")
            }
            // S3 does not tell whether an object exists if its bucket cannot be listed.
            (Some("s3:ListBucket"), _) if call == S3Call::Get => {
                "the object does not exist; allow s3:ListBucket on the bucket, so that S3 says so".to_owned()
            }
            (_, Some(policy)) => format!("{policy}: {}", action.unwrap_or(permission)),
            (_, None) => format!("allow {permission} on {resource}, in the role and in the bucket policy"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const USER: &str = "User: arn:aws:sts::123456789012:assumed-role/shipper/f is not authorized to perform: ";

    fn meaning(status: u16, code: &str, message: &str) -> Meaning {
        Response { status, code, message, region: None }.meaning()
    }

    #[test]
    fn a_code_has_one_meaning() {
        for (status, code, expected) in [
            (404, "NoSuchKey", Meaning::NoObject),
            (404, "NoSuchBucket", Meaning::NoBucket),
            (403, "InvalidObjectState", Meaning::Archived),
            (403, "AccessDenied", Meaning::Denied),
            (301, "PermanentRedirect", Meaning::WrongRegion),
            (301, "", Meaning::WrongRegion),
            (400, "IllegalLocationConstraintException", Meaning::WrongRegion),
            (400, "AuthorizationHeaderMalformed", Meaning::Credentials),
            (307, "TemporaryRedirect", Meaning::NewBucket),
            (307, "", Meaning::NewBucket),
            (400, "KMS.DisabledException", Meaning::Key),
            (400, "KMS.KMSInvalidStateException", Meaning::Key),
            (400, "KMS.ThrottlingException", Meaning::Temporary),
            (405, "MethodNotAllowed", Meaning::Request),
            (405, "", Meaning::Request),
            (400, "ExpiredToken", Meaning::Credentials),
            (503, "SlowDown", Meaning::Temporary),
            (500, "InternalError", Meaning::Temporary),
            (403, "", Meaning::Temporary),
        ] {
            assert_eq!(meaning(status, code, ""), expected, "{status} {code}");
        }
        let message = "The object was stored using a form of Server Side Encryption. The correct parameters must be provided to retrieve the object.";
        assert_eq!(meaning(400, "InvalidRequest", message), Meaning::CustomerKey);
        assert_eq!(meaning(400, "InvalidRequest", "Missing required header"), Meaning::Temporary);
    }

    #[test]
    fn a_wrong_region_is_named_with_the_right_one() {
        let expecting = "The authorization header is malformed; the region 'us-east-1' is wrong; expecting 'eu-west-1'";
        let constraint =
            "The eu-west-1 location constraint is incompatible for the region specific endpoint this request was sent to.";
        for (code, message, region) in [
            ("AuthorizationHeaderMalformed", expecting, None),
            ("IllegalLocationConstraintException", constraint, None),
            ("PermanentRedirect", "must be addressed using the specified endpoint", Some("eu-west-1")),
        ] {
            let response = Response { status: 400, code, message, region };
            assert_eq!(response.meaning(), Meaning::WrongRegion, "{code}");
            assert_eq!(
                response.advice(S3Call::Get).as_deref(),
                Some("the bucket is in eu-west-1; set AWS_REGION=eu-west-1, or deploy the function in that region"),
                "{code}"
            );
        }
        let unnamed = Response { status: 301, code: "PermanentRedirect", ..Response::default() };
        assert!(unnamed.advice(S3Call::List).is_some_and(|advice| advice.contains("in another region; set AWS_REGION to it")));
    }

    #[test]
    fn a_denial_says_where_to_allow_what() {
        for (call, message, expected) in [
            (S3Call::Get, "Access Denied", "allow s3:GetObject on it, in the role and in the bucket policy"),
            (S3Call::List, "Access Denied", "allow s3:ListBucket on the bucket, in the role and in the bucket policy"),
            (S3Call::Put, "Access Denied", "allow s3:PutObject on it, in the role and in the bucket policy"),
            (
                S3Call::Get,
                "s3:ListBucket on resource: \"arn:aws:s3:::logs\" because no identity-based policy allows it",
                "the object does not exist; allow s3:ListBucket on the bucket, so that S3 says so",
            ),
            (
                S3Call::Get,
                "kms:Decrypt on resource: arn:aws:kms:eu-west-1:1:key/k because no identity-based policy allows the action",
                "allow kms:Decrypt on the key, in the role (LogBucketKmsKeyArn) and in the policy of the key",
            ),
            (
                S3Call::Put,
                "kms:GenerateDataKey on this resource because the resource does not exist in this Region",
                "allow kms:GenerateDataKey on the key, in the role (LogBucketKmsKeyArn) and in the policy of the key",
            ),
            (
                S3Call::Get,
                "s3:GetObject on resource: x with an explicit deny in a service control policy",
                "allow it in the service control policy of the AWS organization: s3:GetObject",
            ),
            (
                S3Call::Get,
                "s3:GetObject on resource: x because no VPC endpoint policy allows the s3:GetObject action",
                "allow it in the policy of the VPC endpoint of S3: s3:GetObject",
            ),
            (
                S3Call::Get,
                "kms:Decrypt on resource: x with an explicit deny in a service control policy",
                "allow it in the service control policy of the AWS organization: kms:Decrypt",
            ),
            (
                S3Call::Get,
                "s3:GetObject on resource: x because no resource-based policy allows the s3:GetObject action",
                "allow s3:GetObject on it, in the role and in the bucket policy",
            ),
        ] {
            let message =
                if message.contains(':') || message.contains("kms:") { format!("{USER}{message}") } else { message.to_owned() };
            let response = Response { status: 403, code: "AccessDenied", message: &message, region: None };
            assert_eq!(response.advice(call).as_deref(), Some(expected), "{message}");
        }
    }
}

//! Describes errors of the AWS SDK in plain words.

use std::error::Error;

use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use aws_smithy_runtime_api::client::result::SdkError;
use aws_smithy_types::error::metadata::ProvideErrorMetadata;

use super::profile;

/// Headers in which AWS's services return the ID of a request, which AWS's support asks for.
const REQUEST_ID_HEADERS: [&str; 2] = ["x-amzn-requestid", "x-amz-request-id"];

/// Maximum length of a service's message, in characters.
const MAX_MESSAGE_CHARS: usize = 1_000;

/// Describes why a call of AWS failed: code and message of the service with HTTP status and request ID, or why no valid
/// response arrived.
///
/// The SDK's own `DisplayErrorContext` adds Rust's debug form of all structures, and with it the whole response, which may contain
/// a secret.
pub fn explain_error<E>(error: &SdkError<E, HttpResponse>) -> String
where
    E: Error + ProvideErrorMetadata + 'static,
{
    let cause = error.source();
    match error {
        SdkError::ServiceError(service) => {
            let response = describe(service.raw());
            let message = error.message().map(one_line);
            match (error.code(), message) {
                (Some(code), Some(message)) => format!("{code}: {message} ({response})"),
                (Some(code), None) => format!("{code} ({response})"),
                (None, Some(message)) => format!("{message} ({response})"),
                (None, None) => {
                    let is_success = service.raw().status().is_success();
                    let what = if is_success { "invalid response" } else { "an error without a description" };
                    // The service error itself says only that the program does not know it.
                    with_causes(&format!("{what} ({response})"), cause.and_then(Error::source))
                }
            }
        }
        SdkError::ResponseError(invalid) => with_causes(&format!("invalid response ({})", describe(invalid.raw())), cause),
        SdkError::TimeoutError(_) => with_causes("no response in time", cause),
        // The connector's error only names a class of errors.
        SdkError::DispatchFailure(_) => with_causes("no response", cause.and_then(Error::source)),
        _ => with_causes("cannot make the request", cause),
    }
}

/// Describes an error of the AWS SDK that is not about a call, such as a body that breaks, by its message and its causes.
pub fn explain_causes(error: &(dyn Error + 'static)) -> String {
    with_causes("", Some(error))
}

/// Returns a service's message in one line, without what exceeds the maximum length.
fn one_line(message: &str) -> String {
    let line = message.split_whitespace().collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(MAX_MESSAGE_CHARS) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line,
    }
}

fn describe(response: &HttpResponse) -> String {
    let status = format!("HTTP {}", response.status().as_u16());
    match REQUEST_ID_HEADERS.into_iter().find_map(|name| response.headers().get(name)) {
        Some(id) => format!("{status}, request ID {id}"),
        None => status,
    }
}

/// Appends the messages of the causes. Messages that repeat the one before are left out, and so are those in debug form, which can
/// contain pieces of a response.
fn with_causes(what: &str, mut cause: Option<&(dyn Error + 'static)>) -> String {
    if let Some(advice) = cause.and_then(profile::advice) {
        return advice.to_owned();
    }
    let mut texts = vec![what.to_owned()];
    while let Some(error) = cause {
        let text = error.to_string();
        let is_repeated = texts.last().is_some_and(|last| last.contains(&text));
        // `Error` is an error of a service without code and message.
        if !is_repeated && !text.contains(['{', '}']) && text != "Error" {
            texts.push(text);
        }
        cause = error.source();
    }
    texts.retain(|text| !text.is_empty());
    texts.join(": ")
}

#[cfg(test)]
mod tests {
    use std::io;

    use aws_smithy_runtime_api::client::result::ConnectorError;
    use aws_smithy_runtime_api::http::StatusCode;
    use aws_smithy_types::body::SdkBody;
    use aws_smithy_types::error::ErrorMetadata;

    use super::*;

    type TestError = SdkError<ErrorMetadata, HttpResponse>;

    fn response(status: u16, id: Option<(&'static str, &'static str)>) -> HttpResponse {
        let mut response = HttpResponse::new(StatusCode::try_from(status).unwrap(), SdkBody::from("hunter2"));
        if let Some((name, value)) = id {
            response.headers_mut().insert(name, value);
        }
        response
    }

    fn service_error(meta: ErrorMetadata, id: Option<(&'static str, &'static str)>) -> TestError {
        SdkError::service_error(meta, response(403, id))
    }

    #[test]
    fn an_error_of_a_service_has_code_message_and_request_id() {
        let meta = ErrorMetadata::builder().code("AccessDenied").message("Access Denied").build();
        for id in [("x-amz-request-id", "4Z2"), ("x-amzn-requestid", "4Z2")] {
            let error = service_error(meta.clone(), Some(id));
            assert_eq!(explain_error(&error), "AccessDenied: Access Denied (HTTP 403, request ID 4Z2)");
        }
        let code_only = service_error(ErrorMetadata::builder().code("NoSuchKey").build(), None);
        assert_eq!(explain_error(&code_only), "NoSuchKey (HTTP 403)");
        let nothing = service_error(ErrorMetadata::builder().build(), None);
        assert_eq!(explain_error(&nothing), "an error without a description (HTTP 403)");
    }

    #[test]
    fn a_message_is_one_line_of_limited_length() {
        let message = "is not authorized\n  to perform: s3:GetObject\r\n";
        let error = service_error(ErrorMetadata::builder().code("AccessDenied").message(message).build(), None);
        assert_eq!(explain_error(&error), "AccessDenied: is not authorized to perform: s3:GetObject (HTTP 403)");
        let long = service_error(ErrorMetadata::builder().message("é".repeat(5_000)).build(), None);
        assert_eq!(explain_error(&long), format!("{}… (HTTP 403)", "é".repeat(1_000)));
    }

    #[test]
    fn an_error_without_a_response_has_its_causes() {
        let refused = io::Error::other("connection refused");
        let refused: TestError = SdkError::dispatch_failure(ConnectorError::io(refused.into()));
        assert_eq!(explain_error(&refused), "no response: connection refused");
        let late: TestError = SdkError::timeout_error("operation timeout occurred after 10s");
        assert_eq!(explain_error(&late), "no response in time: operation timeout occurred after 10s");
        let unmade: TestError = SdkError::construction_failure("no region");
        assert_eq!(explain_error(&unmade), "cannot make the request: no region");
    }

    #[test]
    fn an_invalid_response_is_never_shown() {
        let cause = r#"unexpected Element { text: "hunter2" }"#;
        let error: TestError = SdkError::response_error(cause, response(200, None));
        assert_eq!(explain_error(&error), "invalid response (HTTP 200)");
        let error: TestError = SdkError::response_error("unexpected end of stream", response(200, None));
        assert_eq!(explain_error(&error), "invalid response (HTTP 200): unexpected end of stream");
    }

    #[test]
    fn causes_are_not_repeated() {
        let inner = io::Error::other("connection reset");
        let outer = io::Error::other(io::Error::other(inner));
        assert_eq!(explain_causes(&outer), "connection reset");
    }
}

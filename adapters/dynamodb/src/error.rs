//! Converts errors of the SDK.

use std::{error::Error as StdError, io, iter};

use aws_credential_types::provider::error::CredentialsError;
use aws_sdk_dynamodb::error::{BuildError, ConnectorError, ProvideErrorMetadata, SdkError};
use hyper_util::client::legacy::Error as HttpError;
use larder_core::{
    Error,
    ErrorKind::{InvalidConfig, Other, PermissionDenied, Timeout, TooLarge, Unavailable},
};

/// The code of the error if the condition of a change does not hold.
const CONFLICT: &str = "ConditionalCheckFailedException";
/// The code of the error if the table does not exist.
pub(crate) const NOT_FOUND: &str = "ResourceNotFoundException";

/// Converts an error of the SDK. Its own message may quote a key or a value, so only the code remains.
pub(crate) fn from_sdk<E>(error: SdkError<E>) -> Error
where
    E: ProvideErrorMetadata + StdError + 'static,
{
    match &error {
        SdkError::ServiceError(_) => {
            let status = error.raw_response().map_or(0, |response| response.status().as_u16());
            from_service(error.code().unwrap_or("none"), error.message().unwrap_or_default(), status)
        }
        SdkError::ConstructionFailure(_) => Error::new(InvalidConfig, CANNOT_SEND).not_applied(),
        SdkError::TimeoutError(_) => no_answer(),
        SdkError::DispatchFailure(failure) => from_dispatch(&error, failure.as_connector_error()),
        _ => Error::new(Unavailable, "cannot read the answer: does the endpoint belong to DynamoDB?"),
    }
}

const CANNOT_SEND: &str = "the SDK cannot send requests: check the region, the endpoint and the credentials";

/// Converts an answer of DynamoDB with this code, message and HTTP status.
fn from_service(code: &str, message: &str, status: u16) -> Error {
    let (kind, text) = match code {
        "ProvisionedThroughputExceededException" | "ThrottlingException" | "RequestLimitExceeded" => (
            Unavailable,
            "the table is throttled: its capacity or quota, or that of one partition, is exhausted",
        ),
        "TransactionConflictException" | "ReplicatedWriteConflictException" => {
            (Unavailable, "another program is changing the same item: try again")
        }
        "LimitExceededException" | "ResourceInUseException" => {
            (Unavailable, "the table, or too many others, are being created or changed: try again")
        }
        NOT_FOUND => (InvalidConfig, NO_SUCH_TABLE),
        "AccessDeniedException" => {
            (PermissionDenied, "these credentials do not have the required permission on the table")
        }
        "ExpiredTokenException"
        | "IncompleteSignatureException"
        | "InvalidSignatureException"
        | "MissingAuthenticationTokenException"
        | "NotAuthorizedException"
        | "OptInRequired"
        | "UnrecognizedClientException" => (
            PermissionDenied,
            "AWS rejected the credentials: check them, the region and this machine's clock",
        ),
        "ValidationException" if message.contains("exceeded the maximum allowed size") => {
            (TooLarge, "the item is larger than DynamoDB's 400 KB")
        }
        _ if status >= 500 => (Unavailable, "DynamoDB cannot do this now"),
        _ => (Other, "DynamoDB rejected the request"),
    };
    let error = Error::new(kind, text).with_source(format!("{code} (HTTP status {status})"));
    // Status 400 is a rejection. After others, such as 500 or 503, a write may have been done.
    if status == REJECTED { error.not_applied() } else { error }
}

/// The HTTP status of a request that DynamoDB has rejected.
pub(crate) const REJECTED: u16 = 400;

pub(crate) const NO_SUCH_TABLE: &str =
    "the table does not exist: check its name and the region, connect with `setup=true`, or create it";

/// Converts the error of a request that received no answer.
fn from_dispatch(error: &(dyn StdError + 'static), failed: Option<&ConnectorError>) -> Error {
    let chain = || iter::successors(Some(error), |error| (**error).source());
    let cause = chain().last().map(ToString::to_string).unwrap_or_default();
    if let Some(provider) = chain().find_map(<dyn StdError>::downcast_ref::<CredentialsError>) {
        let (kind, text) = match provider {
            CredentialsError::ProviderTimedOut(_) | CredentialsError::ProviderError(_) => {
                (Unavailable, "the SDK's credential chain failed")
            }
            _ => (PermissionDenied, "the SDK's credential chain has no credentials"),
        };
        // Its causes are not shown: they may quote the output of a program that provides credentials.
        return Error::new(kind, text).with_source(provider.to_string()).not_applied();
    }
    let http = || chain().filter_map(<dyn StdError>::downcast_ref::<HttpError>);
    // Nothing was sent if there was no connection. The pool itself repeats a request that it could not send on a
    // connection that was closed.
    if http().any(HttpError::is_connect) {
        let (kind, text) = if chain().any(is_tls) {
            (InvalidConfig, "the TLS handshake failed: the certificate of the endpoint is not trusted")
        } else {
            (Unavailable, "cannot connect to DynamoDB")
        };
        return Error::new(kind, text).with_source(cause).not_applied();
    }
    if failed.is_some_and(ConnectorError::is_timeout) {
        no_answer()
    } else if failed.is_some_and(ConnectorError::is_other) && http().next().is_none() {
        // From the SDK before its HTTP client, or from an HTTP client of the caller, which may have sent the request.
        // The cause is not shown: it may quote the endpoint.
        Error::new(Unavailable, CANNOT_SEND)
    } else {
        Error::new(Unavailable, "the connection was lost").with_source(cause)
    }
}

/// Returns whether it is an error of TLS. An I/O error hides the errors that it contains from the chain.
fn is_tls(error: &(dyn StdError + 'static)) -> bool {
    let inner = error.downcast_ref().and_then(io::Error::get_ref);
    error.is::<rustls::Error>() || inner.is_some_and(|inner| is_tls(inner))
}

fn no_answer() -> Error {
    Error::new(Timeout, "DynamoDB did not answer in time")
}

/// The error of the part of a request that DynamoDB did not process in time.
pub(crate) fn unprocessed() -> Error {
    Error::new(Unavailable, "DynamoDB did not process a part of the request: the table is probably throttled")
}

/// The error of a request that lacks a required part, which is a mistake of this crate.
pub(crate) fn incomplete(_: BuildError) -> Error {
    Error::new(Other, "the request is incomplete").not_applied()
}

/// Returns the answer to a conditional change; `None` if its condition does not hold.
pub(crate) fn met<T, E>(answer: Result<T, SdkError<E>>) -> Result<Option<T>, Error>
where
    E: ProvideErrorMetadata + StdError + 'static,
{
    match answer {
        Ok(output) => Ok(Some(output)),
        Err(error) if error.code() == Some(CONFLICT) => Ok(None),
        Err(error) => Err(from_sdk(error)),
    }
}

#[cfg(test)]
mod tests {
    use larder_core::Outcome;

    use super::*;

    #[test]
    fn codes_have_kinds() {
        for (code, kind) in [
            ("ProvisionedThroughputExceededException", Unavailable),
            ("ThrottlingException", Unavailable),
            ("TransactionConflictException", Unavailable),
            ("ResourceNotFoundException", InvalidConfig),
            ("AccessDeniedException", PermissionDenied),
            ("ExpiredTokenException", PermissionDenied),
            ("UnrecognizedClientException", PermissionDenied),
            ("ValidationException", Other),
        ] {
            let error = from_service(code, "", 400);
            assert_eq!((error.kind(), error.outcome()), (kind, Outcome::NotApplied), "{code}");
        }
        for message in [
            "Item size has exceeded the maximum allowed size",
            "Item size to update has exceeded the maximum allowed size",
        ] {
            assert_eq!(from_service("ValidationException", message, 400).kind(), TooLarge, "{message}");
        }
    }

    #[test]
    fn only_a_rejection_proves_that_nothing_was_done() {
        for (code, status) in [
            ("InternalServerError", 500),
            ("ServiceUnavailable", 503),
            ("none", 502),
            ("ThrottlingException", 503),
        ] {
            let error = from_service(code, "", status);
            assert_eq!((error.kind(), error.outcome()), (Unavailable, Outcome::Unknown), "{code}");
        }
        let unclear = from_service("none", "", 408);
        assert_eq!((unclear.kind(), unclear.outcome()), (Other, Outcome::Unknown));
    }

    #[test]
    fn messages_of_the_service_are_not_shown() {
        let error = from_service("ValidationException", "hunter2 is not valid", 400);
        assert!(!format!("{error:?} {error}").contains("hunter2"));
    }
}

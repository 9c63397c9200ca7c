//! Profiles that this build of the AWS SDK cannot sign in with.

use std::error::Error;

/// How the SDK's error begins that a profile needs a cargo feature. It names the feature, which means nothing to users.
const MISSING_FEATURE: &str = "This behavior requires following cargo feature(s) enabled: ";

/// What to do about it.
const ADVICE: &str = "the AWS profile signs in with IAM Identity Center (SSO) or aws login, which this build cannot do; run \
    eval \"$(aws configure export-credentials --format env)\" and repeat the command, or build the program with --features sso";

/// Returns what to do if an error, or one of its causes, is that the profile needs a cargo feature.
pub(super) fn advice(error: &(dyn Error + 'static)) -> Option<&'static str> {
    if error.to_string().contains(MISSING_FEATURE) { Some(ADVICE) } else { advice(error.source()?) }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[test]
    fn a_missing_feature_is_explained_by_a_command() {
        let feature = io::Error::other(format!("could not be built: {MISSING_FEATURE}sso. "));
        let outer = io::Error::other(feature);
        assert!(advice(&outer).is_some_and(|advice| advice.contains("aws configure export-credentials --format env")));
        assert_eq!(advice(&io::Error::other("connection refused")), None);
    }
}

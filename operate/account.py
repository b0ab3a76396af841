"""The AWS account and the Region of a command."""

import boto3
import botocore.exceptions

from operate.error import CommandError


def session(environment):
    """A session of the AWS SDK that has a Region and credentials."""
    try:
        found = boto3.Session(region_name=environment.region, profile_name=environment.profile)
        if not found.region_name:
            raise CommandError(
                "No Region is set. Export AWS_REGION, for example AWS_REGION=eu-west-1, or add region to "
                f"[{environment.name}.deploy.parameters] in samconfig.toml."
            )
        if not found.get_credentials():
            raise CommandError(
                "No AWS credentials were found. Export AWS_PROFILE with the name of a profile, or AWS_ACCESS_KEY_ID and "
                "AWS_SECRET_ACCESS_KEY. `aws configure` and `aws configure sso` create a profile."
            )
    except botocore.exceptions.ProfileNotFound as error:
        raise CommandError(
            f"There is no AWS profile {error.kwargs['profile']}. `aws configure list-profiles` lists the profiles of this "
            "machine. Set AWS_PROFILE to one of them."
        ) from None
    return found


def explanation(error):
    """The message for an error of the AWS SDK: the cause and the next step."""
    if isinstance(error, botocore.exceptions.ClientError):
        return explanation_of_answer(error.operation_name, **error.response["Error"])
    if isinstance(error, SIGN_IN_EXPIRED):
        return f"The sign-in to AWS has expired. Run `aws sso login` or `aws login`, then the command again. ({error})"
    if isinstance(error, CREDENTIALS_UNUSABLE):
        return f"The AWS credentials cannot be used: {error} Fix the profile or the variables that contain them."
    if isinstance(error, UNREACHABLE):
        return f"AWS could not be reached. Check the network and the Region, then run the command again. ({error})"
    return f"The AWS SDK failed. Correct the cause that it names, then run the command again. ({error})"


SIGN_IN_EXPIRED = (
    botocore.exceptions.LoginError,
    botocore.exceptions.SSOError,
    botocore.exceptions.TokenRetrievalError,
)
CREDENTIALS_UNUSABLE = (
    botocore.exceptions.NoCredentialsError,
    botocore.exceptions.PartialCredentialsError,
    botocore.exceptions.CredentialRetrievalError,
    botocore.exceptions.ConfigParseError,
    botocore.exceptions.InvalidConfigError,
)
UNREACHABLE = (botocore.exceptions.ConnectionError, botocore.exceptions.HTTPClientError)

# Codes of errors in AWS's answers.
EXPIRED = {"ExpiredToken", "ExpiredTokenException", "RequestExpired"}
INVALID = {
    "AuthFailure",
    "IncompleteSignature",
    "InvalidAccessKeyId",
    "InvalidClientTokenId",
    "InvalidSignatureException",
    "MissingAuthenticationToken",
    "SignatureDoesNotMatch",
    "UnrecognizedClientException",
}
DENIED = {"AccessDenied", "AccessDeniedException", "UnauthorizedOperation", "AuthorizationError"}
THROTTLED = {"Throttling", "ThrottlingException", "TooManyRequestsException", "RequestLimitExceeded"}


def explanation_of_answer(operation, Code="", Message="", **_):
    """The message for an error with which AWS answered an operation."""
    if Code in EXPIRED:
        return "The AWS credentials have expired. Sign in again, then run the command again."
    if Code in INVALID:
        return (
            f"AWS does not accept the credentials ({Code}). Check AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY."
        )
    if Code in DENIED:
        return (
            f"AWS denied {operation}: {Message} Sign in with a role that has this permission. docs/operating.md says "
            "which policies contain it."
        )
    if Code in THROTTLED:
        return f"AWS received too many requests ({operation}). Run the command again in a minute."
    if Code == "ResourceNotFoundException":
        return (
            f"AWS cannot find a resource of the stack ({operation}): {Message} It was deleted without CloudFormation. To create it "
            "again, run `make delete`, `make deploy` and `make key`. This also creates another token URL."
        )
    return f"AWS answered {operation} with {Code}: {Message} Correct the cause, or run the command again later."

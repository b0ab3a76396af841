"""The actions of AWS that each command calls, from which a policy for operators can be made.

A deployment without DEPLOY_ROLE_ARN also needs the right to create and change every resource of the template: CloudFormation
acts with the operator's own rights then. Policies must allow codedeploy:StopDeployment on "*", since it knows no resource.
"""

STACK = ("cloudformation:DescribeStacks",)
VERSIONS = (
    *STACK,
    "cloudformation:DescribeStackResources",
    "lambda:GetAlias",
    "lambda:ListVersionsByFunction",
)
# Reads the version from which a release starts.
BASE = (*VERSIONS, "cloudformation:GetTemplate", "lambda:GetFunctionConfiguration")
CHANGE_SET = (
    "cloudformation:CreateChangeSet",
    "cloudformation:DeleteChangeSet",
    "cloudformation:DescribeChangeSet",
    "cloudformation:DescribeStackEvents",
    "cloudformation:ExecuteChangeSet",
    # Downloads the code of the live version, and uploads it for CloudFormation, which reads it with the operator's rights.
    "lambda:GetFunction",
    "s3:GetObject",
    "s3:PutObject",
)
# `sam deploy` calls these, and no command of this package does.
OF_SAM = ("cloudformation:GetTemplateSummary", "s3:GetObject")

ACTIONS = {
    "deploy": (*BASE, *CHANGE_SET, *OF_SAM),
    "set": (*BASE, *CHANGE_SET),
    "key": (*STACK, "secretsmanager:GetSecretValue", "secretsmanager:PutSecretValue"),
    "caller": (*STACK, "secretsmanager:GetSecretValue"),
    "block": (*STACK, "secretsmanager:GetSecretValue", "secretsmanager:PutSecretValue"),
    "unblock": (*STACK, "secretsmanager:GetSecretValue", "secretsmanager:PutSecretValue"),
    "versions": VERSIONS,
    "update-code": (
        *BASE,
        "lambda:GetFunction",
        "lambda:PublishVersion",
        "lambda:UpdateAlias",
        "lambda:UpdateFunctionCode",
        "lambda:UpdateFunctionConfiguration",
    ),
    "rollback": (
        *VERSIONS,
        "cloudformation:CancelUpdateStack",
        "cloudformation:DescribeStackEvents",
        "codedeploy:ListDeployments",
        "codedeploy:StopDeployment",
        "lambda:UpdateAlias",
    ),
    "pause": (*STACK, "lambda:PutFunctionConcurrency"),
    "resume": (*STACK, "lambda:DeleteFunctionConcurrency", "lambda:PutFunctionConcurrency"),
}

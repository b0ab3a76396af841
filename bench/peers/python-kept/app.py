"""A mint in Python that reads the key once, at the cold start, and keeps its connection to OpenAI."""

import json
import os

import boto3
import requests

REQUEST = {
    "expires_after": {"anchor": "created_at", "seconds": 3600},
    "session": {"type": "realtime", "model": "gpt-realtime-2.1", "audio": {"output": {"voice": "alloy"}}},
}

secret = boto3.client("secretsmanager").get_secret_value(SecretId=os.environ["OPENAI_SECRET_ARN"])
openai = requests.Session()
openai.headers["Authorization"] = f"Bearer {json.loads(secret['SecretString'])['OPENAI_API_KEY']}"


def handler(_event, context):
    try:
        answer = openai.post(f"{os.environ['OPENAI_BASE_URL']}/realtime/client_secrets", json=REQUEST, timeout=10)
        answer.raise_for_status()
        token = answer.json()
    except requests.RequestException as error:
        return reply(context, 502, {"success": False, "error": "Failed to create OpenAI session"}, repr(error))
    session = token["session"]
    body = {
        "success": True,
        "ephemeralToken": token["value"],
        "sessionId": session["id"],
        "expiresAt": token["expires_at"],
        "model": session["model"],
        "voice": session["audio"]["output"]["voice"],
        "message": "Ephemeral token created successfully",
        "value": token["value"],
        "expires_at": token["expires_at"],
    }
    return reply(context, 200, body)


def reply(context, status, body, error=None):
    print(json.dumps({"requestId": context.aws_request_id, "status": status, "error": error}))
    headers = {"content-type": "application/json", "cache-control": "no-store"}
    return {"statusCode": status, "headers": headers, "body": json.dumps(body), "isBase64Encoded": False}

"""A mint as the function's predecessor made it, with a new connection for each token."""

import json
import os

import requests

REQUEST = {
    "expires_after": {"anchor": "created_at", "seconds": 3600},
    "session": {"type": "realtime", "model": "gpt-realtime-2.1", "audio": {"output": {"voice": "alloy"}}},
}


def handler(_event, context):
    try:
        answer = requests.post(
            f"{os.environ['OPENAI_BASE_URL']}/realtime/client_secrets",
            headers={"Authorization": f"Bearer {os.environ['OPENAI_API_KEY']}"},
            json=REQUEST,
            timeout=10,
        )
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

"""For Schemathesis: how an offer is sent, and offers that the simulated OpenAI answers."""

import schemathesis
from hypothesis import strategies

from docs.openapi import offer

schemathesis.openapi.format("sdp-offer", strategies.sampled_from([offer(channel=True), offer(channel=False)]))


@schemathesis.serializer("application/sdp")
def serialize_sdp(_context, value):
    return value if isinstance(value, bytes) else str(value).encode()


@schemathesis.deserializer("application/sdp")
def deserialize_sdp(_context, response):
    return response.content.decode()

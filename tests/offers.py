"""SDP offers as a browser makes them, for tests without a browser. No call with them ever connects."""

TRANSPORT = (
    "c=IN IP4 0.0.0.0\r\na=ice-ufrag:abcd\r\na=ice-pwd:abcdefghijklmnopqrstuvwx\r\n"
    f"a=fingerprint:sha-256 {':'.join(['AB'] * 32)}\r\na=setup:actpass\r\n"
)
AUDIO = f"m=audio 9 UDP/TLS/RTP/SAVPF 111\r\n{TRANSPORT}a=mid:0\r\na=sendrecv\r\na=rtcp-mux\r\na=rtpmap:111 opus/48000/2\r\n"
DATA = f"m=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\n{TRANSPORT}a=mid:1\r\na=sctp-port:5000\r\n"
START = "v=0\r\no=- 1 2 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=group:BUNDLE "

# An offer with audio alone, and one with a data channel.
OFFERS = {"locked": f"{START}0\r\n{AUDIO}", "open": f"{START}0 1\r\n{AUDIO}{DATA}"}

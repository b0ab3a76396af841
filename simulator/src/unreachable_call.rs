//! A call that never connects: a planned fault, and every brokered call in a build without the cargo feature `calls`.
//!
//! It is a correct answer to the offer and a timer. It holds no socket, so a thousand of them cost next to nothing.

use std::time::Duration;

use tokio::{sync::oneshot, time};

use crate::{call_register::EndReason, id::random};

/// An address of TEST-NET-2, which is unreachable.
const ADDRESS: &str = "198.51.100.1";

/// The SDP of the answer, with the same media lines as the offer; `None` if the offer has no audio line that accepts Opus,
/// or is not SDP.
pub(crate) fn answer(offer: &str) -> Option<String> {
    let is_line =
        |line: &str| line.as_bytes().first().is_some_and(u8::is_ascii_lowercase) && line.get(1..2) == Some("=");
    if !offer.starts_with("v=0\r\n") || !offer.lines().all(is_line) {
        return None;
    }
    let media = Media::read(offer);
    if !media.iter().any(|media| media.kind == "audio" && media.format.is_some()) {
        return None;
    }
    let mut answer = format!("v=0\r\no=- {} 1 IN IP4 {ADDRESS}\r\ns=-\r\nt=0 0\r\n", fastrand::u32(..));
    if offer.contains("\r\na=group:BUNDLE ") {
        let accepted = media.iter().filter(|media| media.format.is_some()).filter_map(|media| media.attribute("mid"));
        answer += &format!("a=group:BUNDLE {}\r\n", accepted.collect::<Vec<_>>().join(" "));
    }
    answer += "a=ice-lite\r\n";
    let transport = transport(offer);
    answer.extend(media.iter().map(|media| media.answer(&transport)));
    Some(answer)
}

/// Waits for the end of the call. Sending to the other end of `hang_up`, or dropping it, ends it.
pub(crate) async fn run(hang_up: oneshot::Receiver<()>, limit: Duration, connect_timeout: Duration) -> EndReason {
    tokio::select! {
        _ = hang_up => EndReason::HungUp,
        () = time::sleep(connect_timeout), if connect_timeout < limit => EndReason::NeverConnected,
        () = time::sleep(limit) => EndReason::Limit,
    }
}

/// The lines that all accepted media share, since they are bundled.
fn transport(offer: &str) -> String {
    let fingerprint: Vec<String> = std::iter::repeat_with(|| format!("{:02X}", fastrand::u8(..))).take(32).collect();
    let setup = if offer.contains("\r\na=setup:passive") { "active" } else { "passive" };
    format!(
        "c=IN IP4 {ADDRESS}\r\na=candidate:1 1 udp 2130706175 {ADDRESS} 9 typ host\r\na=end-of-candidates\r\n\
         a=ice-ufrag:{}\r\na=ice-pwd:{}\r\na=fingerprint:sha-256 {}\r\na=setup:{setup}\r\n",
        random(8),
        random(24),
        fingerprint.join(":")
    )
}

/// A media line of an offer, with the lines below it.
struct Media<'a> {
    kind: &'a str,
    protocol: &'a str,
    /// All formats of the media line.
    formats: &'a str,
    /// The format that the answer accepts; `None` rejects the media.
    format: Option<&'a str>,
    lines: Vec<&'a str>,
}

impl<'a> Media<'a> {
    fn read(offer: &'a str) -> Vec<Self> {
        let lines: Vec<&str> = offer.lines().collect();
        let sections = lines.split_inclusive(|line| line.starts_with("m="));
        // Each section but the last ends with the media line of the next one.
        let bodies = sections.clone().skip(1);
        let heads = sections.filter_map(|section| section.last()?.strip_prefix("m="));
        let read = |(head, body): (&'a str, &[&'a str])| {
            let mut words = head.splitn(4, ' ');
            let (kind, port) = (words.next()?, words.next()?);
            let (protocol, formats) = (words.next()?, words.next()?);
            let lines: Vec<&str> = body.iter().copied().filter(|line| !line.starts_with("m=")).collect();
            let mut media = Self { kind, protocol, formats, format: None, lines };
            let is_active = port != "0" || media.lines.contains(&"a=bundle-only");
            media.format = match kind {
                "audio" if is_active => media.opus(),
                "application" if is_active => Some(formats),
                _ => None,
            };
            Some(media)
        };
        heads.zip(bodies).filter_map(read).collect()
    }

    fn attribute(&self, name: &str) -> Option<&'a str> {
        self.lines.iter().find_map(|line| line.strip_prefix("a=")?.strip_prefix(name)?.strip_prefix(':'))
    }

    /// The payload type of Opus.
    fn opus(&self) -> Option<&'a str> {
        let maps = self.lines.iter().filter_map(|line| line.strip_prefix("a=rtpmap:")?.split_once(' '));
        let is_opus = |codec: &str| codec.to_ascii_lowercase().starts_with("opus/");
        maps.filter(|(format, _)| self.formats.split(' ').any(|listed| listed == *format))
            .find(|(_, codec)| is_opus(codec))
            .map(|(format, _)| format)
    }

    fn answer(&self, transport: &str) -> String {
        let Self { kind, protocol, .. } = self;
        let mid = self.attribute("mid").map(|mid| format!("a=mid:{mid}\r\n")).unwrap_or_default();
        match self.format {
            None => format!("m={kind} 0 {protocol} {}\r\nc=IN IP4 0.0.0.0\r\n{mid}a=inactive\r\n", self.formats),
            Some(format) if *kind == "application" => {
                format!(
                    "m={kind} 9 {protocol} {format}\r\n{transport}{mid}a=sctp-port:5000\r\na=max-message-size:262144\r\n"
                )
            }
            Some(format) => {
                let direction = self.direction();
                format!(
                    "m={kind} 9 {protocol} {format}\r\n{transport}{mid}a=rtcp-mux\r\na={direction}\r\n\
                     a=msid:simulator audio\r\na=rtpmap:{format} opus/48000/2\r\na=fmtp:{format} minptime=10;useinbandfec=1\r\n"
                )
            }
        }
    }

    /// The direction of the answer, which mirrors the offer's.
    fn direction(&self) -> &'static str {
        let offered = |direction| self.lines.contains(&direction);
        if offered("a=inactive") {
            "inactive"
        } else if offered("a=sendonly") {
            "recvonly"
        } else if offered("a=recvonly") {
            "sendonly"
        } else {
            "sendrecv"
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = "v=0\r\no=- 1 2 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=group:BUNDLE 0 1 2\r\n";
    const AUDIO: &str = "m=audio 9 UDP/TLS/RTP/SAVPF 63 111\r\na=mid:0\r\na=sendrecv\r\na=rtpmap:63 red/48000/2\r\n\
                         a=rtpmap:111 OPUS/48000/2\r\na=setup:actpass\r\n";
    const VIDEO: &str = "m=video 9 UDP/TLS/RTP/SAVPF 96\r\na=mid:1\r\na=rtpmap:96 VP8/90000\r\n";
    const CHANNEL: &str =
        "m=application 0 UDP/DTLS/SCTP webrtc-datachannel\r\na=mid:2\r\na=bundle-only\r\na=sctp-port:5000\r\n";

    fn lines(answer: &str, prefix: &str) -> Vec<String> {
        answer.lines().filter(|line| line.starts_with(prefix)).map(str::to_owned).collect()
    }

    #[test]
    fn an_answer_has_the_media_lines_of_its_offer() {
        let answered = answer(&[HEAD, AUDIO, VIDEO, CHANNEL].concat()).unwrap();
        let media = [
            "m=audio 9 UDP/TLS/RTP/SAVPF 111",
            "m=video 0 UDP/TLS/RTP/SAVPF 96",
            "m=application 9 UDP/DTLS/SCTP webrtc-datachannel",
        ];
        assert_eq!(lines(&answered, "m="), media);
        assert_eq!(lines(&answered, "a=mid:"), ["a=mid:0", "a=mid:1", "a=mid:2"]);
        assert_eq!(lines(&answered, "a=group:"), ["a=group:BUNDLE 0 2"]);
        assert_eq!(lines(&answered, "a=setup:"), ["a=setup:passive", "a=setup:passive"]);
        assert!(answered.ends_with("\r\n") && !answered.replace("\r\n", "").contains('\n'));
        let audio_only = answer(&[HEAD, AUDIO].concat().replace("a=sendrecv", "a=sendonly")).unwrap();
        assert_eq!(lines(&audio_only, "m="), media[..1]);
        assert_eq!(audio_only.matches("a=recvonly\r\n").count(), 1);
    }

    #[test]
    fn an_offer_without_opus_has_no_answer() {
        for offer in [
            String::new(),
            HEAD.to_owned(),
            [HEAD, VIDEO, CHANNEL].concat(),
            [HEAD, &AUDIO.replace("OPUS", "PCMU")].concat(),
            [HEAD, &AUDIO.replace(" 111\r", "\r")].concat(),
            [HEAD, &AUDIO.replace("audio 9", "audio 0")].concat(),
            [HEAD, AUDIO, "nonsense\r\n"].concat(),
            AUDIO.to_owned(),
        ] {
            assert_eq!(answer(&offer), None, "{offer}");
        }
    }

    #[tokio::test]
    async fn a_call_ends_by_hang_up_or_when_its_time_is_up() {
        let ms = Duration::from_millis;
        for (limit, connect, reason) in [(60_000, 20, EndReason::NeverConnected), (20, 20, EndReason::Limit)] {
            let (_hang_up, hung_up) = oneshot::channel();
            assert_eq!(run(hung_up, ms(limit), ms(connect)).await, reason);
        }
        let (hang_up, hung_up) = oneshot::channel();
        drop(hang_up);
        assert_eq!(run(hung_up, ms(60_000), ms(30_000)).await, EndReason::HungUp);
    }
}

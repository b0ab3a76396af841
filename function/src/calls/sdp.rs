//! What a call's offer and answer may contain.
//!
//! An offer with one line of audio and no other cannot open a data channel, over which the browser would change the session.
//! The rules are those of OpenAI's own example of a call that the server controls (`examples/realtime-server-controlled` of
//! openai-agents-js, 2026-08-27). The lines are read strictly, so that no text has a line here and another one at OpenAI.

use crate::profile::CallMode;

/// The rule that an offer or an answer breaks, as a sentence for the caller.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
pub enum Broken {
    #[error("the SDP is not text")]
    NotText,
    #[error("the SDP does not begin with v=0")]
    NotSdp,
    #[error("a line of the SDP is not a letter, an equals sign and a value, with CRLF at its end")]
    Line,
    #[error("exactly one line m=audio is allowed")]
    Audio,
    #[error("the line m=audio is not active")]
    InactiveAudio,
    #[error("the line m=audio is not RTP")]
    OtherProtocol,
    #[error("a locked call has audio only: create no data channel, and add no other track")]
    MoreThanAudio,
    #[error(
        "exactly one line m=application is required beside m=audio: create the data channel, and add no other track"
    )]
    Application,
    #[error("the line m=application is not active")]
    InactiveApplication,
}

/// A section of the SDP, from its line `m=` on.
#[derive(Debug, Default)]
struct Section<'a> {
    media: &'a str,
    port: &'a str,
    protocol: &'a str,
    /// Without a port of its own, it uses the one of the group (RFC 9143, 6).
    bundle_only: bool,
    inactive: bool,
}

impl Section<'_> {
    /// A data channel has SCTP, under whatever name.
    fn is_rtp(&self) -> bool {
        self.protocol.split('/').any(|layer| layer == "RTP") && !self.protocol.contains("SCTP")
    }

    fn is_active(&self) -> bool {
        !self.inactive && (self.port != "0" || self.bundle_only)
    }
}

/// Checks the offer of a browser for a call in this mode.
///
/// # Errors
/// The rule that it breaks.
pub fn check(sdp: &[u8], mode: CallMode) -> Result<(), Broken> {
    let text = std::str::from_utf8(sdp).map_err(|_| Broken::NotText)?;
    if !text.starts_with("v=0\r\n") {
        return Err(if text.starts_with("v=0") { Broken::Line } else { Broken::NotSdp });
    }
    let lines = text.strip_suffix("\r\n").ok_or(Broken::Line)?;
    check_sections(&sections(lines.split("\r\n"))?, mode)
}

/// Checks the answer to such an offer, which is already a call. Its lines may end with LF or CR alone, the last one with nothing,
/// and empty lines are skipped: whichever of them the browser takes for the end of a line, it finds no other section.
///
/// # Errors
/// The rule that it breaks.
pub fn check_answer(sdp: &str, mode: CallMode) -> Result<(), Broken> {
    let mut lines = sdp.split(['\r', '\n']).filter(|line| !line.is_empty()).peekable();
    if lines.peek() != Some(&"v=0") {
        return Err(Broken::NotSdp);
    }
    check_sections(&sections(lines)?, mode)
}

fn check_sections(sections: &[Section<'_>], mode: CallMode) -> Result<(), Broken> {
    let of = |media: &str| sections.iter().filter(|section| section.media == media).collect::<Vec<_>>();
    let (audio, application) = (of("audio"), of("application"));
    let [audio] = audio.as_slice() else { return Err(Broken::Audio) };
    match mode {
        CallMode::Locked if sections.len() > 1 => return Err(Broken::MoreThanAudio),
        CallMode::Locked => {}
        CallMode::Open => match application.as_slice() {
            [application] if sections.len() == 2 => {
                if !application.is_active() {
                    return Err(Broken::InactiveApplication);
                }
            }
            _ => return Err(Broken::Application),
        },
    }
    if !audio.is_rtp() {
        return Err(Broken::OtherProtocol);
    }
    if audio.is_active() { Ok(()) } else { Err(Broken::InactiveAudio) }
}

fn sections<'a>(lines: impl Iterator<Item = &'a str>) -> Result<Vec<Section<'a>>, Broken> {
    let mut sections: Vec<Section<'_>> = Vec::new();
    for line in lines {
        let is_line = line.as_bytes().first().is_some_and(u8::is_ascii_lowercase) && line.get(1..2) == Some("=");
        // A line break of another kind, or a character that a lenient reader may take for one.
        let breaks =
            |letter: char| (letter.is_control() && letter != '\t') || matches!(letter, '\u{2028}' | '\u{2029}');
        if !is_line || line.contains(breaks) {
            return Err(Broken::Line);
        }
        if let Some(section) = line.strip_prefix("m=") {
            let mut words = section.split(' ');
            let mut word = || words.next().unwrap_or_default();
            let (media, port, protocol) = (word(), word(), word());
            sections.push(Section { media, port, protocol, ..Section::default() });
        } else if let Some(section) = sections.last_mut() {
            section.bundle_only |= line == "a=bundle-only";
            section.inactive |= line == "a=inactive";
        }
    }
    Ok(sections)
}

#[cfg(test)]
mod tests {
    use super::*;

    const AUDIO: &str = "m=audio 9 UDP/TLS/RTP/SAVPF 111\r\na=sendrecv\r\n";
    const DATA: &str = "m=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\na=sctp-port:5000\r\n";

    fn sdp(sections: &[&str]) -> String {
        format!("v=0\r\no=- 1 2 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\n{}", sections.concat())
    }

    fn locked(sections: &[&str]) -> Result<(), Broken> {
        check(sdp(sections).as_bytes(), CallMode::Locked)
    }

    fn open(sections: &[&str]) -> Result<(), Broken> {
        check(sdp(sections).as_bytes(), CallMode::Open)
    }

    #[test]
    fn a_locked_call_has_one_active_line_of_audio_and_no_other() {
        assert_eq!(locked(&[AUDIO]), Ok(()));
        for direction in ["sendonly", "recvonly", "sendrecv"] {
            assert_eq!(locked(&[&AUDIO.replace("sendrecv", direction)]), Ok(()), "{direction}");
        }
        assert_eq!(locked(&[]), Err(Broken::Audio));
        assert_eq!(locked(&[DATA]), Err(Broken::Audio));
        assert_eq!(locked(&[AUDIO, AUDIO]), Err(Broken::Audio));
        for more in [
            DATA,
            "m=video 9 UDP/TLS/RTP/SAVPF 96\r\n",
            &DATA.replace(" 9 ", " 0 "),
            "m=x\r\n",
            "m=\r\n",
            "m=Audio 9\r\n",
        ] {
            assert_eq!(locked(&[AUDIO, more]), Err(Broken::MoreThanAudio), "{more}");
            assert_eq!(locked(&[more, AUDIO]), Err(Broken::MoreThanAudio), "{more}");
        }
        assert_eq!(locked(&[&AUDIO.replace(" 9 ", " 0 ")]), Err(Broken::InactiveAudio));
        assert_eq!(locked(&[&AUDIO.replace("sendrecv", "inactive")]), Err(Broken::InactiveAudio));
    }

    #[test]
    fn a_data_channel_does_not_pass_as_audio() {
        for protocol in ["UDP/DTLS/SCTP", "DTLS/SCTP", "TCP/DTLS/SCTP", "SCTP/RTP", "udp", ""] {
            let audio = AUDIO.replace("UDP/TLS/RTP/SAVPF", protocol);
            assert_eq!(locked(&[&audio]), Err(Broken::OtherProtocol), "{protocol}");
        }
        // The protocols that every answerer accepts (RFC 8829, 5.1.2).
        for protocol in ["RTP/SAVPF", "RTP/AVP", "TCP/TLS/RTP/SAVPF", "UDP/TLS/RTP/SAVP"] {
            assert_eq!(locked(&[&AUDIO.replace("UDP/TLS/RTP/SAVPF", protocol)]), Ok(()), "{protocol}");
        }
    }

    #[test]
    fn an_open_call_has_one_line_of_audio_and_one_data_channel() {
        assert_eq!(open(&[AUDIO, DATA]), Ok(()));
        assert_eq!(open(&[DATA, AUDIO]), Ok(()));
        // The policy max-bundle of browsers.
        let bundled = format!("{}a=bundle-only\r\n", DATA.replace(" 9 ", " 0 "));
        assert_eq!(open(&[AUDIO, &bundled]), Ok(()));
        assert_eq!(open(&[AUDIO]), Err(Broken::Application));
        assert_eq!(open(&[AUDIO, DATA, DATA]), Err(Broken::Application));
        assert_eq!(open(&[AUDIO, DATA, "m=video 9 UDP/TLS/RTP/SAVPF 96\r\n"]), Err(Broken::Application));
        assert_eq!(open(&[DATA]), Err(Broken::Audio));
        assert_eq!(open(&[AUDIO, &DATA.replace(" 9 ", " 0 ")]), Err(Broken::InactiveApplication));
        assert_eq!(open(&[&AUDIO.replace("sendrecv", "inactive"), DATA]), Err(Broken::InactiveAudio));
    }

    #[test]
    fn no_line_is_hidden_from_the_check() {
        for hidden in [
            "a=x\nm=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\n",
            "a=x\rm=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\n",
            "a=x\u{2028}m=application 9\r\n",
            "a=x\u{85}m=application 9\r\n",
            "a=x\0m=application 9\r\n",
            " m=application 9\r\n",
            "M=application 9\r\n",
            "m =application 9\r\n",
            "\r\n",
            "a\r\n",
            "a=x",
            "a=x\n",
        ] {
            assert_eq!(locked(&[AUDIO, hidden]), Err(Broken::Line), "{hidden:?}");
        }
        assert_eq!(check(b"v=0\r\n\xff=1\r\n", CallMode::Locked), Err(Broken::NotText));
        for text in ["", "{}", "\r\nv=0\r\n", "V=0\r\n"] {
            assert_eq!(check(text.as_bytes(), CallMode::Locked), Err(Broken::NotSdp), "{text:?}");
        }
        assert_eq!(check(b"v=0\nm=audio 9 UDP/TLS/RTP/SAVPF 111\n", CallMode::Locked), Err(Broken::Line));
    }

    #[test]
    fn the_lines_of_an_answer_may_end_otherwise() {
        let answer = |text: &str| check_answer(text, CallMode::Locked);
        let text = sdp(&[AUDIO]);
        for text in [
            text.clone(),
            text.replace("\r\n", "\n"),
            text.replace("\r\n", "\r"),
            text.trim_end().to_owned(),
            text.replace("\r\n", "\n").trim_end().to_owned(),
            format!("{text}\r\n"),
        ] {
            assert_eq!(answer(&text), Ok(()), "{text:?}");
            assert_eq!(check(text.as_bytes(), CallMode::Locked).is_ok(), text == sdp(&[AUDIO]), "{text:?}");
            for end in ["\r\n", "\n", "\r", "\n\r", "\r\n\r\n"] {
                for hidden in ["m=application 9 UDP/DTLS/SCTP x", "m=video 9 UDP/TLS/RTP/SAVPF 96", "m=x"] {
                    assert_eq!(answer(&format!("{text}{end}{hidden}")), Err(Broken::MoreThanAudio), "{text:?} {end:?}");
                    let within = text.replace("t=0 0", &format!("t=0 0{end}{hidden}"));
                    assert_eq!(answer(&within), Err(Broken::MoreThanAudio), "{within:?}");
                }
            }
            let inactive = text.replace("sendrecv", "inactive");
            assert_eq!(answer(&inactive), Err(Broken::InactiveAudio), "{inactive:?}");
        }
        for hidden in ["\u{2028}m=x", "\u{85}m=x", "\u{b}m=x", "\0m=x", "\n m=x", "\nM=x", "\nm =x"] {
            assert_eq!(answer(&text.replace("t=0 0", &format!("t=0 0{hidden}"))), Err(Broken::Line), "{hidden:?}");
        }
        for text in ["", "\n", "{}", "<html>", "v=01\n", " v=0\n", "s=-\nv=0\n"] {
            assert_eq!(answer(text), Err(Broken::NotSdp), "{text:?}");
        }
    }

    #[test]
    fn the_first_lines_of_a_section_do_not_change_another() {
        assert_eq!(open(&["a=inactive\r\n", AUDIO, DATA]), Ok(()), "of the session, before the first section");
        assert_eq!(open(&[AUDIO, &format!("{DATA}a=inactive\r\n")]), Err(Broken::InactiveApplication));
    }

    proptest::proptest! {
        /// However leniently the lines are split and read, a locked call has one section.
        #[test]
        fn no_reader_finds_another_section_in_a_locked_call(
            parts in proptest::collection::vec(
                proptest::sample::select(vec![
                    "a=x", "m=audio 9 UDP/TLS/RTP/SAVPF 111", "m=application 9 UDP/DTLS/SCTP webrtc-datachannel", "m=video 9 x",
                    "M=application 9 x", "m =application", " m=application", "\r\n", "\r", "\n", "\u{b}", "\u{c}", "\u{85}",
                    "\u{2028}", "\0", "\t", " ", "=", "a=inactive",
                ]),
                0..12,
            ),
        ) {
            let offer = sdp(&[AUDIO, &parts.concat(), "\r\n"]);
            for text in [offer, sdp(&[AUDIO, &parts.concat()])] {
                // An offer that passes is an answer that passes.
                let is_answer = check_answer(&text, CallMode::Locked).is_ok();
                proptest::prop_assert!(is_answer || check(text.as_bytes(), CallMode::Locked).is_err(), "{:?}", text);
                if is_answer {
                    let breaks = |letter: char| letter.is_control() && letter != '\t' || "\u{2028}\u{2029}".contains(letter);
                    let lines = text.split(breaks).map(|line| line.trim().to_ascii_lowercase());
                    let media = lines.filter(|line| line.starts_with('m') && line[1..].trim_start().starts_with('=')).count();
                    proptest::prop_assert_eq!(media, 1, "{:?}", text);
                }
            }
        }
    }
}

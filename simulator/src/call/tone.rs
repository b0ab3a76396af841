//! The simulator's speech: one tone per word, so that a listener hears when it speaks and for how long.

/// Samples per second, as Opus has them over WebRTC.
const RATE: f32 = 48_000.0;
/// A fifth of full scale: as loud as a voice at a normal distance.
const LOUDNESS: f32 = 0.2;

/// The samples of one word: 160 ms and 15 more for each letter, at the voice's pitch, and a pause of 60 ms.
pub(super) fn word_samples(word: &str, voice: &str) -> Vec<f32> {
    let letters = word.chars().filter(|letter| letter.is_alphanumeric()).take(12);
    let (length, sum) =
        letters.fold((0.160, 0_u32), |(length, sum), letter| (length + 0.015, sum.wrapping_add(u32::from(letter))));
    // Each word gets a step of a scale, so that a sentence is a melody.
    let step = f32::from(u8::try_from(sum % 8).unwrap_or_default());
    let pitch = pitch(voice) * f32::powf(2.0, step / 12.0);
    let samples = time().take_while(|at| *at < length).map(|at| {
        let swell = f32::min(1.0, f32::min(at, length - at) / 0.02);
        let phase = std::f32::consts::TAU * pitch * at;
        LOUDNESS * swell * (phase.sin() + 0.5 * (2.0 * phase).sin())
    });
    let pause = time().take_while(|at| *at < 0.06).map(|_| 0.0);
    samples.chain(pause).collect()
}

fn time() -> impl Iterator<Item = f32> {
    (0_u16..).map(|sample| f32::from(sample) / RATE)
}

/// The pitch of a voice in hertz, by which a listener tells voices apart.
fn pitch(voice: &str) -> f32 {
    match voice {
        "alloy" => 220.0,
        "ash" => 131.0,
        "ballad" => 147.0,
        "cedar" => 117.0,
        "coral" => 262.0,
        "echo" => 165.0,
        "marin" => 247.0,
        "sage" => 233.0,
        "shimmer" => 277.0,
        "verse" => 175.0,
        _ => 196.0,
    }
}

#[cfg(test)]
mod tests {
    use super::{super::audio::level, *};

    #[test]
    fn a_word_is_loud_and_a_longer_one_lasts_longer() {
        let (short, long) = (word_samples("I", "alloy"), word_samples("simulator", "alloy"));
        assert!(short.len() < long.len());
        assert!((11_000..13_000).contains(&short.len()), "{}", short.len());
        assert!(level(&long) > 0.05);
        assert!(long.iter().all(|sample| sample.abs() < 0.5));
    }

    #[test]
    fn voices_sound_different() {
        assert_ne!(word_samples("I", "alloy"), word_samples("I", "cedar"));
        assert_eq!(word_samples("", "alloy").len(), word_samples("...", "no one").len());
    }
}

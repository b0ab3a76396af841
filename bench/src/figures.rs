//! The figures of a process that a leak makes grow.

use std::{fs, io};

/// The names, and the growth that is tolerated. In the shortest soak, 512 KiB are 500 bytes for each request.
const NAMES: [(&str, u64); 3] = [("KiB of memory", 512), ("open files", 1), ("threads", 0)];

/// Resident memory, open files and threads of a process between two requests.
#[derive(Clone, Copy)]
pub struct Figures([u64; 3]);

impl Figures {
    /// Those of a process now.
    pub fn of(process: u32) -> io::Result<Self> {
        let status = fs::read_to_string(format!("/proc/{process}/status"))?;
        let number = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
            line.trim().trim_end_matches(" kB").parse().map_err(io::Error::other)
        };
        let files = fs::read_dir(format!("/proc/{process}/fd"))?.count();
        Ok(Self([number("VmRSS:")?, u64::try_from(files).unwrap_or(u64::MAX), number("Threads:")?]))
    }

    /// The most of the first tenth of the rounds and the least of the last, as a sentence for each figure, and whether it
    /// grew.
    pub fn compare(rounds: &[Self]) -> [(String, bool); 3] {
        let tenth = rounds.len().div_ceil(10);
        [0, 1, 2].map(|at| {
            let ((name, tolerated), figure) = (NAMES[at], |round: &Self| round.0[at]);
            let before = rounds.iter().take(tenth).map(figure).max().unwrap_or_default();
            let after = rounds.iter().rev().take(tenth).map(figure).min().unwrap_or_default();
            (format!("{name}: {before} at first, {after} at the end"), after > before.saturating_add(tolerated))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grown<const ROUNDS: usize>(rounds: [[u64; 3]; ROUNDS]) -> [bool; 3] {
        Figures::compare(&rounds.map(Figures)).map(|(_, grew)| grew)
    }

    #[test]
    fn a_figure_grows_if_the_end_is_above_the_first_tenth() {
        assert_eq!(grown([[7000, 11, 1], [9000, 20, 4], [7500, 12, 1]]), [false; 3], "the middle does not count");
        assert_eq!(grown([[7000, 11, 1], [7000, 11, 1], [7513, 11, 1]]), [true, false, false]);
        assert_eq!(grown([[7000, 11, 1], [7000, 11, 1], [7000, 13, 2]]), [false, true, true]);
        let mut rounds = [[7000, 11, 1]; 20];
        rounds[1] = [7000, 13, 1];
        rounds[18] = [9000, 13, 2];
        rounds[19] = [7000, 13, 3];
        assert_eq!(grown(rounds), [false, false, true], "the peak of the first two, the least of the last two");
    }
}

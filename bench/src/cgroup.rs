//! A Linux control group: counts the CPU time of a process with all its threads, and limits it.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

/// Lambda's scheduling period: at 128 MB a process gets 1.44 ms of every 20.
const PERIOD: Duration = Duration::from_millis(20);

/// Removed when dropped. Its processes must have ended by then.
#[derive(Debug)]
pub enum Cgroup {
    /// cgroup v1, with a hierarchy for each controller.
    V1 { cpu: PathBuf, cpuacct: PathBuf },
    /// cgroup v2, with one hierarchy.
    V2(PathBuf),
}

impl Cgroup {
    /// Creates a group.
    ///
    /// # Errors
    /// Without the right to create one. Root has it; containers often do not.
    pub fn new(name: &str) -> io::Result<Self> {
        let root = Path::new("/sys/fs/cgroup");
        if root.join("cgroup.controllers").exists() {
            fs::write(root.join("cgroup.subtree_control"), "+cpu")?;
            let group = root.join(name);
            fs::create_dir(&group)?;
            return Ok(Self::V2(group));
        }
        let (cpu, cpuacct) = (root.join("cpu").join(name), root.join("cpuacct").join(name));
        fs::create_dir(&cpu)?;
        fs::create_dir(&cpuacct)?;
        Ok(Self::V1 { cpu, cpuacct })
    }

    /// Whether CPU can be limited on this machine, which the waits at 128 MB require.
    pub fn can_limit() -> bool {
        let name = format!("token-mint-bench-{}-probe", std::process::id());
        Self::new(&name).and_then(|group| group.limit(1.0)).is_ok()
    }

    /// The files to which a process writes its ID to join the group.
    pub fn procs_files(&self) -> Vec<PathBuf> {
        match self {
            Self::V1 { cpu, cpuacct } => vec![cpu.join("cgroup.procs"), cpuacct.join("cgroup.procs")],
            Self::V2(group) => vec![group.join("cgroup.procs")],
        }
    }

    /// CPU time of all processes that ever ran in the group.
    ///
    /// # Errors
    /// If the kernel's file cannot be read.
    pub fn cpu(&self) -> io::Result<Duration> {
        let number = |text: &str| text.trim().parse::<u64>().map_err(io::Error::other);
        match self {
            Self::V1 { cpuacct, .. } => {
                Ok(Duration::from_nanos(number(&fs::read_to_string(cpuacct.join("cpuacct.usage"))?)?))
            }
            Self::V2(group) => {
                let stat = fs::read_to_string(group.join("cpu.stat"))?;
                let usage = stat.lines().find_map(|line| line.strip_prefix("usage_usec"));
                Ok(Duration::from_micros(number(usage.unwrap_or_default())?))
            }
        }
    }

    /// Limits the group to this share of one CPU.
    ///
    /// # Errors
    /// If the kernel's file cannot be written.
    pub fn limit(&self, share: f64) -> io::Result<()> {
        let (quota, period) = (PERIOD.mul_f64(share).as_micros(), PERIOD.as_micros());
        match self {
            Self::V1 { cpu, .. } => {
                fs::write(cpu.join("cpu.cfs_period_us"), period.to_string())?;
                fs::write(cpu.join("cpu.cfs_quota_us"), quota.to_string())
            }
            Self::V2(group) => fs::write(group.join("cpu.max"), format!("{quota} {period}")),
        }
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        let groups = match self {
            Self::V1 { cpu, cpuacct } => vec![cpu, cpuacct],
            Self::V2(group) => vec![group],
        };
        for group in groups {
            let _ = fs::remove_dir(group);
        }
    }
}

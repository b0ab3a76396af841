//! A control group: what a process and all its threads cost, and how much CPU it may have.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

/// Lambda's own period: at 128 MB a process gets 1.44 ms of every 20.
const PERIOD: Duration = Duration::from_millis(20);

/// Removed when it is dropped, by which time its processes have to have ended.
#[derive(Debug)]
pub enum Cgroup {
    /// One hierarchy per controller (Linux's older form).
    V1 { cpu: PathBuf, cpuacct: PathBuf },
    /// One for all.
    V2(PathBuf),
}

impl Cgroup {
    /// A new group.
    ///
    /// # Errors
    /// Without the right to make one, which root has and a container often has not.
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

    /// Whether this machine lets a group's CPU be limited, as the waits at 128 MB need it.
    pub fn can_limit() -> bool {
        let name = format!("token-mint-bench-{}-probe", std::process::id());
        Self::new(&name).and_then(|group| group.limit(1.0)).is_ok()
    }

    /// The files that a process writes its own ID to in order to join.
    pub fn doors(&self) -> Vec<PathBuf> {
        match self {
            Self::V1 { cpu, cpuacct } => vec![cpu.join("cgroup.procs"), cpuacct.join("cgroup.procs")],
            Self::V2(group) => vec![group.join("cgroup.procs")],
        }
    }

    /// CPU time of all that ever ran in it.
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

    /// From now on no more than this share of one CPU.
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

//! Which device files are on, and of what kind it is.

use std::path::Path;

use super::root::FileIdentity;

/// A device that files are on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Device {
    /// The system's number for it; of a partition, that of its disk.
    pub number: u64,
    /// Whether reading here and there is slower on it than reading in order; also if that is not known.
    pub seeks: bool,
}

impl Device {
    /// The one that something is on, or will be on once it is made; blocks.
    pub(crate) fn of(path: &Path) -> Option<Device> {
        // A relative path begins with one that is empty, which stands for the folder that we are in.
        let there = path.ancestors().find_map(|path| {
            let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
            FileIdentity::at(path).ok()
        });
        let disk = there.map(|found| disk_of(found.dev()));
        disk.map(|number| Device { number, seeks: device_seeks(number) })
    }
}

/// The disk that a partition is on, whose folder is around the partition's: its heads serve all of them. What is no partition stands for itself.
#[cfg(target_os = "linux")]
fn disk_of(device: u64) -> u64 {
    let folder = format!("/sys/dev/block/{}:{}", rustix::fs::major(device), rustix::fs::minor(device));
    let disk = Path::new(&folder).join("partition").exists().then(|| {
        let text = std::fs::read_to_string(format!("{folder}/../dev")).ok()?;
        let (major, minor) = text.trim().split_once(':')?;
        Some(rustix::fs::makedev(major.parse().ok()?, minor.parse().ok()?))
    });
    disk.flatten().unwrap_or(device)
}

#[cfg(not(target_os = "linux"))]
fn disk_of(device: u64) -> u64 {
    device
}

/// Whether reading here and there is slower on this device than reading in order; also if that is not known. Many virtual disks say so,
/// though they are not.
#[cfg(target_os = "linux")]
fn device_seeks(device: u64) -> bool {
    let (major, minor) = (rustix::fs::major(device), rustix::fs::minor(device));
    let flag = std::fs::read_to_string(format!("/sys/dev/block/{major}:{minor}/queue/rotational"));
    flag.map_or(true, |flag| flag.trim() != "0")
}

/// Whether reading here and there is slower on this device than reading in order: that is not known here.
#[cfg(not(target_os = "linux"))]
fn device_seeks(_: u64) -> bool {
    true
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_there_yet_is_on_the_device_of_the_folder_above_it() {
        let folder = tempfile::tempdir().unwrap();
        let here = Device::of(folder.path()).unwrap();
        assert_eq!(here.number, disk_of(FileIdentity::at(folder.path()).unwrap().dev()));
        assert_eq!(Device::of(&folder.path().join("new/deep")), Some(here));
        assert!(Device::of(Path::new("no such folder/below")).is_some());
        assert_ne!(Device::of(Path::new("/proc/self")).unwrap().number, here.number);
        assert!(device_seeks(u64::MAX), "nobody knows");
    }

    #[test]
    fn the_partitions_of_a_disk_are_on_one_device() {
        assert_eq!(disk_of(u64::MAX), u64::MAX);
        let number = |path: &Path| -> Option<u64> {
            let text = std::fs::read_to_string(path.join("dev")).ok()?;
            let (major, minor) = text.trim().split_once(':')?;
            Some(rustix::fs::makedev(major.parse().ok()?, minor.parse().ok()?))
        };
        // As far as this machine has any.
        for disk in std::fs::read_dir("/sys/block").into_iter().flatten().flatten() {
            let Some(whole) = number(&disk.path()) else { continue };
            assert_eq!(disk_of(whole), whole);
            let parts = std::fs::read_dir(disk.path()).into_iter().flatten().flatten();
            for part in parts.filter(|part| part.path().join("partition").exists()) {
                assert_eq!(number(&part.path()).map(disk_of), Some(whole), "{}", part.path().display());
            }
        }
    }
}
